"""API keys on a real database: made, shown, refused, bounded."""

from typing import Any

import pytest

from entobot.audit.events import AuditEvent, Outcome
from entobot.core.errors import Code, Problem
from entobot.core.permissions import ALL_SCOPES, DEFAULT_DEVICE_SCOPES, Scope
from entobot.core.principal import Principal
from entobot.devices.api_keys import parse_key, write_key
from entobot.devices.key_authentication import FAILURES_AT_ONCE
from entobot.devices.key_desk import CreatedKey
from entobot.devices.model import ConnectionRefused, Platform, Refusal
from entobot.devices.search import Search
from entobot.web.authentication import Presented
from tests.devices.conftest import House

FOREIGN = write_key("0" * 26, "A" * 43)


def show(key: str, address: str = "192.0.2.7", scheme: str = "Bearer", **more: Any) -> Presented:
    return Presented("GET", "/api/v1/devices", f"{scheme} {key}", (), more.get("has_cookie", False), address)


async def make(house: House, **wanted: Any) -> CreatedKey:
    return await house.devices.create_api_key(await house.devices.local_owner(), "Thermometer", **wanted)


async def refused(house: House, shown: Presented) -> Code:
    with pytest.raises(Problem) as caught:
        await house.devices.authenticate(shown)
    return caught.value.code


async def refused_connection(house: House, key: str, address: str = "192.0.2.7") -> Refusal:
    with pytest.raises(ConnectionRefused) as caught:
        await house.devices.authenticate_key_connection(key, address)
    return caught.value.reason


async def test_nodes_together_allow_an_address_the_failures_that_one_would(house: House) -> None:
    """Each of several nodes used to allow all of them: an address that asked them in turn had so many times more."""
    house.devices.scale(4)
    told = [await refused(house, show(FOREIGN)) for _ in range(FAILURES_AT_ONCE)]
    assert told.count(Code.UNAUTHENTICATED) == FAILURES_AT_ONCE // 4
    assert told[-1] is Code.RATE_LIMITED
    house.devices.scale(1)
    assert await refused(house, show(FOREIGN, "192.0.2.8")) is Code.UNAUTHENTICATED


async def test_who_failed_too_often_is_told_when_to_come_back_and_that_is_enough(house: House) -> None:
    for _ in range(FAILURES_AT_ONCE):
        await refused(house, show(FOREIGN))
    with pytest.raises(Problem) as caught:
        await house.devices.authenticate(show(FOREIGN))
    with pytest.raises(ConnectionRefused) as connecting:
        await house.devices.authenticate_key_connection(FOREIGN, "192.0.2.7")
    wait_s = caught.value.retry_after_s
    assert wait_s is not None
    assert 0 < wait_s == connecting.value.retry_after_s
    house.clock.advance(wait_s)
    assert await refused(house, show(FOREIGN)) is Code.UNAUTHENTICATED


async def test_a_key_lets_its_device_in_with_its_scopes(house: House) -> None:
    made = await make(house, scopes=frozenset({Scope.CHAT, Scope.NOTIFY}), platform=Platform.DESKTOP)
    owner = await house.owner()
    expected = Principal(
        owner.user_id,
        frozenset({Scope.CHAT, Scope.NOTIFY}),
        made.device.device_id,
        1,
        None,
        None,
        credential_id=parse_key(made.secret),
    )
    assert await house.devices.authenticate(show(made.secret)) == expected
    found = await house.devices.authenticate_key_connection(made.secret, "192.0.2.7")
    assert (found.principal, found.expires_at_ms) == (expected, None)
    device = await house.device(made.device.device_id)
    assert (device.platform, device.jwk, device.thumbprint) == (Platform.DESKTOP, None, None)
    assert device.first_used_at_ms == device.last_seen_at_ms == house.now_ms


async def test_two_devices_without_a_key_pair_live_side_by_side_and_are_listed(house: House) -> None:
    made = [await make(house), await make(house)]
    page = await house.devices.directory.find_page(await house.devices.local_owner(), Search())
    assert {row.device_id for row in page.rows} == {one.device.device_id for one in made}


async def test_a_key_is_stored_as_a_keyed_digest_only(house: House) -> None:
    made = await make(house)
    for path in house.folder.iterdir():
        content = path.read_bytes()
        assert made.secret.encode() not in content
        assert made.secret[35:78].encode() not in content
    assert any(event is AuditEvent.API_KEY_CREATED for event in house.audit.events())


@pytest.mark.parametrize("scope", [Scope.APPROVE, Scope.PAIR, Scope.SETTINGS, Scope.USERS_MANAGE])
async def test_scopes_that_no_key_may_hold_are_refused(house: House, scope: Scope) -> None:
    with pytest.raises(Problem) as caught:
        await make(house, scopes=frozenset({Scope.CHAT, scope}))
    assert caught.value.code is Code.INVALID
    assert await house.count("devices") == 0


async def test_a_key_is_given_no_more_than_its_maker_holds(house: House) -> None:
    manager, _ = await house.pair("Manager", scopes=frozenset({Scope.CHAT, Scope.DEVICES_MANAGE}))
    maker = await house.devices.authenticate(manager.ask("/api/v1/devices", house.now_ms))
    with pytest.raises(Problem) as caught:
        await house.devices.create_api_key(maker, "Probe", scopes=frozenset({Scope.AUDIT}))
    assert caught.value.code is Code.FORBIDDEN
    plain, _ = await house.pair("Plain", scopes=DEFAULT_DEVICE_SCOPES)
    with pytest.raises(Problem) as caught:
        await house.devices.create_api_key(await house.devices.authenticate(plain.ask("/x", house.now_ms)), "Probe")
    assert caught.value.code is Code.FORBIDDEN


async def test_a_key_that_manages_devices_makes_keys_no_wider_than_itself(house: House) -> None:
    made = await make(house, scopes=frozenset({Scope.DEVICES_MANAGE}))
    maker = await house.devices.authenticate(show(made.secret))
    with pytest.raises(Problem):
        await house.devices.create_api_key(maker, "Child", scopes=frozenset({Scope.CHAT}))
    child = await house.devices.create_api_key(maker, "Child", scopes=frozenset({Scope.DEVICES_MANAGE}))
    assert child.device.paired_by == made.device.device_id


async def test_a_maker_that_was_suspended_meanwhile_makes_nothing(house: House) -> None:
    made = await make(house, scopes=frozenset({Scope.DEVICES_MANAGE}))
    maker = await house.devices.authenticate(show(made.secret))
    await house.devices.suspend(await house.devices.local_owner(), made.device.device_id)
    with pytest.raises(Problem) as caught:
        await house.devices.create_api_key(maker, "Child", scopes=frozenset({Scope.DEVICES_MANAGE}))
    assert caught.value.code is Code.DEVICE_SUSPENDED


async def test_phones_are_not_given_keys_and_a_life_has_bounds(house: House) -> None:
    for wanted in (
        {"platform": Platform.IOS},
        {"platform": Platform.WEB},
        {"expires_in_s": 0},
        {"expires_in_s": 2**40},
        {"scopes": frozenset[Scope]()},
    ):
        with pytest.raises(Problem) as caught:
            await make(house, **wanted)
        assert caught.value.code is Code.INVALID


async def test_a_key_ends_at_its_expiry_to_the_millisecond(house: House) -> None:
    made = await make(house, expires_in_s=60)
    house.clock.advance(59.999)
    principal = await house.devices.authenticate(show(made.secret))
    assert principal.expires_at_ms == made.expires_at_ms
    house.clock.advance(0.001)
    assert await refused(house, show(made.secret)) is Code.UNAUTHENTICATED
    assert await refused_connection(house, made.secret) is Refusal.EXPIRED


async def test_suspend_reactivate_and_revoke_hold_for_keys(house: House) -> None:
    owner, made = await house.devices.local_owner(), await make(house)
    before = await house.devices.authenticate(show(made.secret))
    await house.devices.suspend(owner, made.device.device_id)
    assert await refused(house, show(made.secret)) is Code.DEVICE_SUSPENDED
    assert await refused_connection(house, made.secret) is Refusal.SUSPENDED
    await house.devices.reactivate(owner, made.device.device_id)
    after = await house.devices.authenticate(show(made.secret))
    assert after.epoch == before.epoch + 2
    with pytest.raises(Problem):  # what was authenticated before the suspension stays out
        await house.database.read(lambda tx: house.devices.guard(tx, before))
    await house.devices.revoke(owner, made.device.device_id)
    assert await refused(house, show(made.secret)) is Code.UNAUTHENTICATED
    assert await refused_connection(house, made.secret) is Refusal.REVOKED
    assert house.rung == [made.device.device_id] * 3
    again = await house.reopened()
    assert await refused(again, show(made.secret)) is Code.UNAUTHENTICATED
    await again.database.stop()
    await house.database.start()


async def test_a_key_outlives_a_restart(house: House) -> None:
    made = await make(house)
    again = await house.reopened()
    assert (await again.devices.authenticate(show(made.secret))).device_id == made.device.device_id
    await again.database.stop()
    await house.database.start()


async def test_a_key_is_a_bearer_credential_and_nothing_else(house: House) -> None:
    made = await make(house)
    assert await refused(house, show(made.secret, scheme="DPoP")) is Code.UNAUTHENTICATED
    assert await refused(house, show(made.secret, has_cookie=True)) is Code.UNAUTHENTICATED
    assert (await house.devices.authenticate(show(made.secret, scheme="bearer"))).device_id == made.device.device_id


async def test_another_secret_under_a_known_id_is_refused_and_audited_once_a_minute(house: House) -> None:
    made = await make(house)
    forged = write_key(made.secret[8:34], "A" * 43)
    for _ in range(3):
        assert await refused(house, show(forged)) is Code.UNAUTHENTICATED
    assert await refused_connection(house, forged) is Refusal.BAD_CREDENTIALS
    told = [heard for heard in house.audit.heard if heard[0] is AuditEvent.AUTH_REFUSED]
    assert told == [(AuditEvent.AUTH_REFUSED, Outcome.DENIED, made.device.device_id, {"reason": "wrong_secret"})]
    assert (await house.devices.authenticate(show(made.secret))).device_id == made.device.device_id


async def test_a_malformed_key_is_refused_without_asking_the_database(house: House) -> None:
    made = await make(house)
    await house.database.stop()
    wrong = made.secret[:40] + ("B" if made.secret[40] == "A" else "A") + made.secret[41:]
    assert await refused(house, show(wrong)) is Code.UNAUTHENTICATED
    assert await refused_connection(house, wrong) is Refusal.BAD_CREDENTIALS
    await house.database.start()


async def test_an_address_that_goes_on_guessing_is_told_to_wait_unread(house: House) -> None:
    made, fresh = await make(house), await make(house)
    await house.devices.authenticate(show(made.secret))
    for _ in range(FAILURES_AT_ONCE):
        assert await refused(house, show("ent_key_nonsense")) is Code.UNAUTHENTICATED
        assert await refused(house, show(FOREIGN)) is Code.UNAUTHENTICATED
    assert await refused(house, show(FOREIGN)) is Code.RATE_LIMITED
    assert await refused_connection(house, fresh.secret) is Refusal.RATE_LIMITED
    # A key that was good before, and every other address, are not shut out by it.
    assert (await house.devices.authenticate(show(made.secret))).device_id == made.device.device_id
    assert (await house.devices.authenticate(show(fresh.secret, "192.0.2.8"))).device_id == fresh.device.device_id
    assert await refused(house, show(FOREIGN, "192.0.2.9")) is Code.UNAUTHENTICATED
    house.clock.advance(6.1)
    assert await refused(house, show(FOREIGN)) is Code.UNAUTHENTICATED
    assert await refused(house, show(FOREIGN)) is Code.RATE_LIMITED


async def test_a_revoked_key_that_is_tried_again_and_again_counts_as_no_guess(house: House) -> None:
    made = await make(house)
    await house.devices.revoke(await house.devices.local_owner(), made.device.device_id)
    for _ in range(FAILURES_AT_ONCE + 5):
        assert await refused(house, show(made.secret)) is Code.UNAUTHENTICATED


async def test_a_device_with_a_key_is_given_no_tokens_and_signs_nothing(house: House) -> None:
    made = await make(house)
    with pytest.raises(Problem) as caught:
        await house.database.write(lambda tx: house.devices.issue(tx, made.device.device_id, house.now_ms))
    assert caught.value.code is Code.INVALID
    with pytest.raises(Problem) as caught:
        await house.database.read(lambda tx: house.devices.public_key(tx, made.device.device_id))
    assert caught.value.code is Code.FORBIDDEN


async def test_most_uses_of_a_key_write_nothing(house: House) -> None:
    made = await make(house)
    await house.devices.authenticate(show(made.secret))
    seen = (await house.device(made.device.device_id)).last_seen_at_ms
    house.clock.advance(59)
    await house.devices.authenticate(show(made.secret))
    assert (await house.device(made.device.device_id)).last_seen_at_ms == seen
    house.clock.advance(2)
    await house.devices.authenticate(show(made.secret))
    assert (await house.device(made.device.device_id)).last_seen_at_ms == house.now_ms


def test_the_scopes_of_a_key_are_part_of_all_scopes() -> None:
    from entobot.devices.api_keys import API_KEY_SCOPES, DEFAULT_API_KEY_SCOPES

    assert DEFAULT_API_KEY_SCOPES <= API_KEY_SCOPES < ALL_SCOPES
