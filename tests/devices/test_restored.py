"""The tables are an older copy: devices come back by what they hold, and by nothing else."""

from collections.abc import Callable

import pytest
from sqlalchemy import insert, select, update

from entobot.audit.events import AuditEvent
from entobot.core.errors import Code, Problem
from entobot.devices import store
from entobot.devices.restored import settle_credentials
from entobot.storage.database import Transaction
from tests.devices.conftest import House
from tests.devices.phone import Phone

ON_EVERY_STORE = True

PATH = "/api/v1/devices"
DAY_S = 86_400

Unit = Callable[[Transaction], None]


async def copied(house: House) -> Unit:
    """Sets the only family back to what it is now."""
    columns = [column.name for column in store.families.columns]

    def read(tx: Transaction) -> dict[str, object]:
        row = tx.first(select(store.families))
        assert row is not None
        return {name: row[name] for name in columns}

    kept = await house.database.read(read)

    def put_back(tx: Transaction) -> None:
        if tx.first(select(store.families)) is None:
            tx.run(insert(store.families), kept)
        else:
            tx.run(update(store.families).values(**kept))

    return put_back


async def refused(house: House, phone: Phone, token: str | None = None) -> Problem:
    with pytest.raises(Problem) as caught:
        await house.refresh(phone, token)
    return caught.value


async def test_a_token_newer_than_the_store_is_taken_once_recorded_and_rotated_on(house: House) -> None:
    phone, device_id = await house.pair()
    put_back = await copied(house)
    for _ in range(4):
        await house.refresh(phone)
    newest = phone.refresh_token
    await house.database.write(put_back)
    await house.refresh(phone)
    assert phone.refresh_token != newest
    assert house.audit.events() == [AuditEvent.TOKEN_FAMILY_CAUGHT_UP]
    successor = phone.refresh_token
    await house.refresh(phone, newest)  # the answer was lost
    assert phone.refresh_token == successor
    await house.refresh(phone)
    assert await house.devices.authenticate(phone.ask(PATH, house.now_ms))
    assert house.audit.events() == [AuditEvent.TOKEN_FAMILY_CAUGHT_UP]
    assert device_id


async def test_after_catching_up_a_stolen_older_token_still_ends_the_family(house: House) -> None:
    phone, _ = await house.pair()
    put_back = await copied(house)
    await house.refresh(phone)
    older = phone.refresh_token
    for _ in range(3):
        await house.refresh(phone)
    await house.database.write(put_back)
    await house.refresh(phone)
    assert (await refused(house, phone, older)).code is Code.REFRESH_INVALID
    assert house.audit.events() == [AuditEvent.TOKEN_FAMILY_CAUGHT_UP, AuditEvent.TOKEN_FAMILY_REVOKED]


async def test_a_newer_token_is_worth_nothing_without_the_devices_key(house: House) -> None:
    phone, _ = await house.pair()
    put_back = await copied(house)
    for _ in range(3):
        await house.refresh(phone)
    await house.database.write(put_back)
    thief = Phone(credentials=phone.credentials)
    assert (await refused(house, thief)).code is Code.REFRESH_INVALID
    assert house.audit.events() == [AuditEvent.TOKEN_REFRESH_REFUSED]
    await house.refresh(phone)


async def test_a_newer_token_of_a_revoked_device_or_of_a_family_that_is_over_is_refused(house: House) -> None:
    phone, device_id = await house.pair()
    put_back = await copied(house)
    for _ in range(3):
        await house.refresh(phone)
    await house.database.write(put_back)
    house.clock.advance(90 * DAY_S)
    assert (await refused(house, phone)).code is Code.REFRESH_INVALID
    house.clock.advance(-90 * DAY_S)
    await house.devices.revoke(await house.devices.local_owner(), device_id)
    await house.database.write(put_back)
    assert (await refused(house, phone)).code is Code.REFRESH_INVALID


async def test_settling_voids_access_tokens_and_does_not_count_the_time_away_as_idle(house: House) -> None:
    phone, _ = await house.pair()
    copied_at_ms = house.now_ms
    await house.devices.authenticate(phone.ask(PATH, house.now_ms))
    house.clock.advance(60)
    await house.database.write(lambda tx: settle_credentials(tx, copied_at_ms=copied_at_ms, now_ms=house.now_ms))
    again = await house.reopened()
    with pytest.raises(Problem) as caught:
        await again.devices.authenticate(phone.ask(PATH, house.now_ms))
    assert caught.value.code is Code.UNAUTHENTICATED
    await again.database.stop()


async def test_a_copy_of_three_weeks_ago_signs_nobody_out_but_who_was_idle_then(house: House) -> None:
    phone, _ = await house.pair()
    copied_at_ms = house.now_ms
    house.clock.advance(21 * DAY_S)
    await house.database.write(lambda tx: settle_credentials(tx, copied_at_ms=copied_at_ms, now_ms=house.now_ms))
    await house.refresh(phone)
    idle_at_ms = house.now_ms + 15 * DAY_S * 1000  # a copy of when this family was over
    house.clock.advance(16 * DAY_S)
    await house.database.write(lambda tx: settle_credentials(tx, copied_at_ms=idle_at_ms, now_ms=house.now_ms))
    assert (await refused(house, phone)).code is Code.REFRESH_INVALID
