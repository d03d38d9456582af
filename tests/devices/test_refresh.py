"""Renewing credentials: a lost answer is harmless, a stolen token ends the family."""

import asyncio
from pathlib import Path

import pytest

from entobot.audit.events import AuditEvent
from entobot.core.errors import Code, Problem
from entobot.core.permissions import DEFAULT_DEVICE_SCOPES
from entobot.devices.model import Credentials
from tests.devices.conftest import House
from tests.devices.phone import Phone, show

ON_EVERY_STORE = True

PATH = "/api/v1/devices"
DAY_S = 86_400


def everything_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


async def refused(house: House, phone: Phone, token: str | None = None) -> Problem:
    with pytest.raises(Problem) as caught:
        await house.refresh(phone, token)
    return caught.value


async def test_first_credentials_are_complete(house: House) -> None:
    phone, device_id = await house.pair()
    credentials = phone.credentials
    assert credentials is not None
    assert credentials.device_id == device_id
    assert credentials.scopes == DEFAULT_DEVICE_SCOPES
    assert (credentials.token_type, credentials.expires_in) == ("DPoP", 300)
    assert credentials.refresh_expires_in == 14 * DAY_S


async def test_credentials_may_be_collected_again_until_one_is_used_and_each_time_voids_the_last(house: House) -> None:
    phone, device_id = await house.pair()
    first = phone.credentials
    phone.credentials = await house.database.write(lambda tx: house.devices.issue(tx, device_id, house.now_ms))
    stale = Phone(key=phone.key, credentials=first)
    with pytest.raises(Problem) as caught:
        await house.devices.authenticate(stale.ask(PATH, house.now_ms))
    assert caught.value.code is Code.UNAUTHENTICATED
    assert (await refused(house, stale)).code is Code.REFRESH_INVALID
    assert not await house.devices_used(device_id)
    await house.devices.authenticate(phone.ask(PATH, house.now_ms))
    assert await house.devices_used(device_id)
    with pytest.raises(Problem) as again:
        await house.database.write(lambda tx: house.devices.issue(tx, device_id, house.now_ms))
    assert again.value.code is Code.INVITE_USED
    assert await house.devices.authenticate(phone.ask(PATH, house.now_ms))


async def test_a_refresh_is_a_use_of_the_credentials(house: House) -> None:
    phone, device_id = await house.pair()
    await house.refresh(phone)
    assert await house.devices_used(device_id)


async def test_a_lost_answer_gets_the_same_refresh_token_again(house: House) -> None:
    phone, _ = await house.pair()
    before = phone.refresh_token
    await house.refresh(phone)
    after = phone.refresh_token
    for _ in range(3):
        house.clock.advance(3600)
        await house.refresh(phone, before)
        assert phone.refresh_token == after
        assert await house.devices.authenticate(phone.ask(PATH, house.now_ms))


async def test_fifty_concurrent_refreshes_get_one_successor(house: House) -> None:
    phone, _ = await house.pair()
    asked = [phone.ask_refresh(house.now_ms) for _ in range(50)]
    answers = await asyncio.gather(*(house.devices.refresh(phone.refresh_token, shown) for shown in asked))
    assert len({answer.refresh_token for answer in answers}) == 1


async def test_a_refresh_proof_is_good_once(house: House) -> None:
    phone, _ = await house.pair()
    shown, token = phone.ask_refresh(house.now_ms), phone.refresh_token
    await house.devices.refresh(token, shown)
    with pytest.raises(Problem) as caught:
        await house.devices.refresh(token, shown)
    assert caught.value.code is Code.PROOF_INVALID


async def test_a_refresh_wants_a_proof_for_itself(house: House) -> None:
    phone, _ = await house.pair()
    path = "/api/v1/auth/refresh"
    for shown, code in (
        (show(path, None, method="POST"), Code.PROOF_REQUIRED),
        (show(path, None, phone.proof(path, house.now_ms, "GET"), method="POST"), Code.PROOF_INVALID),
        (show(path, None, phone.proof(path, house.now_ms - 61_000, "POST"), method="POST"), Code.PROOF_STALE),
    ):
        with pytest.raises(Problem) as caught:
            await house.devices.refresh(phone.refresh_token, shown)
        assert caught.value.code is code


async def test_a_replaced_token_within_ten_seconds_is_superseded_and_later_ends_the_family(house: House) -> None:
    phone, device_id = await house.pair()
    first = phone.refresh_token
    await house.refresh(phone)
    await house.refresh(phone)
    house.clock.advance(10)
    assert (await refused(house, phone, first)).code is Code.REFRESH_SUPERSEDED
    assert await house.devices.authenticate(phone.ask(PATH, house.now_ms))
    house.clock.advance(0.001)
    assert (await refused(house, phone, first)).code is Code.REFRESH_INVALID
    assert house.audit.events() == [AuditEvent.TOKEN_FAMILY_REVOKED]
    assert house.rung == [device_id]
    assert (await refused(house, phone)).code is Code.REFRESH_INVALID
    with pytest.raises(Problem) as caught:
        await house.devices.authenticate(phone.ask(PATH, house.now_ms))
    assert caught.value.code is Code.UNAUTHENTICATED


async def test_an_older_token_ends_the_family_at_once(house: House) -> None:
    phone, _ = await house.pair()
    first = phone.refresh_token
    for _ in range(3):
        await house.refresh(phone)
    assert (await refused(house, phone, first)).code is Code.REFRESH_INVALID
    assert house.audit.events() == [AuditEvent.TOKEN_FAMILY_REVOKED]


async def test_a_token_by_another_key_raises_an_alert_and_the_family_stays(house: House) -> None:
    phone, _ = await house.pair()
    thief = Phone(credentials=phone.credentials)
    for _ in range(3):
        assert (await refused(house, thief)).code is Code.REFRESH_INVALID
    assert house.audit.events() == [AuditEvent.TOKEN_REFRESH_REFUSED]
    await house.refresh(phone)
    assert (await refused(house, thief)).code is Code.REFRESH_INVALID
    await house.refresh(phone)


async def test_refresh_ends_after_fourteen_idle_days(house: House) -> None:
    phone, _ = await house.pair()
    house.clock.advance(14 * DAY_S - 1)
    await house.refresh(phone)
    house.clock.advance(14 * DAY_S)
    assert (await refused(house, phone)).code is Code.REFRESH_INVALID


async def test_refresh_ends_after_ninety_days_however_busy(house: House) -> None:
    phone, _ = await house.pair()
    for _ in range(8):
        house.clock.advance(11 * DAY_S)
        await house.refresh(phone)
    assert isinstance(phone.credentials, Credentials)
    assert phone.credentials.refresh_expires_in == 2 * DAY_S
    house.clock.advance(2 * DAY_S)
    assert (await refused(house, phone)).code is Code.REFRESH_INVALID


async def test_a_refresh_survives_a_restart(house: House) -> None:
    phone, _ = await house.pair()
    before = phone.refresh_token
    await house.refresh(phone)
    after = phone.refresh_token
    again = await house.reopened()
    await again.refresh(phone, before)
    assert phone.refresh_token == after
    await again.refresh(phone)
    await again.database.stop()


async def test_a_refresh_after_the_signing_keys_moved_gives_tokens_of_the_new_key(house: House) -> None:
    phone, _ = await house.pair()
    assert await house.devices.rotate_keys_if_due(force=True)
    assert await house.devices.authenticate(phone.ask(PATH, house.now_ms))
    await house.refresh(phone)
    assert await house.devices.authenticate(phone.ask(PATH, house.now_ms))
    assert house.audit.events() == [AuditEvent.KEY_ROTATED]
    assert not await house.devices.rotate_keys_if_due()


async def test_no_token_ever_stands_in_the_database(house: House, tmp_path: Path, store_kind: str) -> None:
    if store_kind != "sqlite":
        pytest.skip("reads the files of SQLite; the rows are the same")
    phone, _ = await house.pair()
    secrets: list[str] = []
    for _ in range(3):
        secrets += [phone.access_token, phone.refresh_token]
        await house.devices.authenticate(phone.ask(PATH, house.now_ms))
        await house.refresh(phone)
    secrets += [phone.access_token, phone.refresh_token]
    await house.devices.rename(await house.devices.local_owner(), phone.credentials_device, "findable name")
    parts = [part for secret in secrets for part in (secret, secret[-43:])]
    content = everything_in(tmp_path)
    assert b"findable name" in content
    assert not [part for part in parts if part.encode() in content]
