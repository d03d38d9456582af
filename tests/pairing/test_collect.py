"""The device gets its credentials: once confirmed, by its own key, in time."""

import asyncio

import pytest

from entobot.core.errors import Code, Problem
from entobot.core.permissions import DEFAULT_DEVICE_SCOPES
from entobot.devices.model import Credentials, Status
from entobot.pairing.model import State
from entobot.pairing.requests import Pending
from tests.devices.phone import show
from tests.pairing.gatehouse import DeafBus, Gatehouse, minutes, refused
from tests.pairing.phones import NewPhone

ON_EVERY_STORE = True


async def works(gate: Gatehouse, phone: NewPhone) -> bool:
    """Whether the phone's access token lets it in."""
    try:
        await gate.devices.authenticate(phone.ask("/api/v1/conversations", gate.now_ms))
    except Problem:
        return False
    return True


async def test_before_the_confirmation_there_is_nothing(gate: Gatehouse, phone: NewPhone) -> None:
    claimed = await gate.claim(phone, await gate.invite())
    answer = await gate.pairing.collect(claimed.claim_id, phone.collect(claimed.claim_id, gate.now_ms))
    assert answer == Pending(claimed.expires_at_ms)
    assert await gate.all_devices() == []


async def test_the_credentials_let_the_device_in(gate: Gatehouse, phone: NewPhone) -> None:
    _, _, credentials = await gate.pair(phone)
    assert credentials.scopes == DEFAULT_DEVICE_SCOPES
    assert credentials.user_id == gate.owner.user_id
    [device] = await gate.all_devices()
    assert (device.device_id, device.name, device.thumbprint, device.status) == (
        credentials.device_id,
        phone.name,
        phone.thumbprint,
        Status.ACTIVE,
    )
    assert await works(gate, phone)


async def test_tokens_are_not_in_the_database(gate: Gatehouse, phone: NewPhone) -> None:
    _, _, credentials = await gate.pair(phone)
    for secret in (credentials.refresh_token, credentials.access_token):
        assert secret.encode() not in gate.bytes_on_disk()
        assert secret not in str(gate.audit.heard)


async def test_another_key_finds_nothing(gate: Gatehouse, phone: NewPhone, thief: NewPhone) -> None:
    created = await gate.invite()
    claimed = await gate.claim(phone, created)
    await gate.confirm(created, claimed)
    with refused(Code.INVITE_NOT_FOUND):
        await gate.collect(thief, claimed)
    await gate.collect(phone, claimed)
    with refused(Code.INVITE_NOT_FOUND):
        await gate.collect(thief, claimed)


@pytest.mark.parametrize("claim_id", ["clm_00000000000000000000000000", "", "../x", "clm_\udcff"])
async def test_a_claim_that_does_not_exist_is_not_found(gate: Gatehouse, phone: NewPhone, claim_id: str) -> None:
    with refused(Code.INVITE_NOT_FOUND):
        await gate.pairing.collect(claim_id, phone.collect(claim_id, gate.now_ms))


async def test_collecting_needs_a_fresh_proof_for_this_claim(gate: Gatehouse, phone: NewPhone) -> None:
    created, other = await gate.invite(), await gate.invite()
    claimed, others = await gate.claim(phone, created), await gate.claim(phone, other)
    path = f"/api/v1/auth/pair/{claimed.claim_id}/collect"
    with refused(Code.PROOF_REQUIRED):
        await gate.pairing.collect(claimed.claim_id, show(path, None, method="POST"))
    with refused(Code.PROOF_INVALID):
        foreign = phone.collect(others.claim_id, gate.now_ms).proofs
        await gate.pairing.collect(claimed.claim_id, show(path, None, *foreign, method="POST"))
    with refused(Code.PROOF_STALE):
        await gate.pairing.collect(claimed.claim_id, phone.collect(claimed.claim_id, gate.now_ms - 61_000))


async def test_a_proof_is_taken_once(gate: Gatehouse, phone: NewPhone) -> None:
    created = await gate.invite()
    claimed = await gate.claim(phone, created)
    await gate.confirm(created, claimed)
    shown = phone.collect(claimed.claim_id, gate.now_ms)
    await gate.pairing.collect(claimed.claim_id, shown)
    with refused(Code.PROOF_INVALID):
        await gate.pairing.collect(claimed.claim_id, shown)


async def test_each_repeat_voids_what_was_given_before(gate: Gatehouse, phone: NewPhone) -> None:
    _, claimed, first = await gate.pair(phone)
    gate.clock.advance(5)
    second = await gate.collect(phone, claimed)
    assert second.device_id == first.device_id
    assert second.refresh_token != first.refresh_token
    phone.credentials = first
    assert not await works(gate, phone)
    with refused(Code.REFRESH_INVALID):
        await gate.devices.refresh(first.refresh_token, phone.ask_refresh(gate.now_ms))
    phone.credentials = second
    assert await works(gate, phone)


@pytest.mark.parametrize("way", ["access", "refresh"])
async def test_after_the_first_use_nothing_is_given_again(gate: Gatehouse, phone: NewPhone, way: str) -> None:
    created, claimed, _ = await gate.pair(phone)
    if way == "access":
        assert await works(gate, phone)
    else:
        phone.credentials = await gate.devices.refresh(phone.refresh_token, phone.ask_refresh(gate.now_ms))
    with refused(Code.INVITE_USED):
        await gate.collect(phone, claimed)
    with refused(Code.KEY_KNOWN):
        await gate.claim(phone, created)
    assert await works(gate, phone)


async def test_a_revoked_device_collects_nothing(gate: Gatehouse, phone: NewPhone) -> None:
    _, claimed, credentials = await gate.pair(phone)
    await gate.devices.revoke(gate.owner, credentials.device_id)
    with refused(Code.UNAUTHENTICATED):
        await gate.collect(phone, claimed)
    assert not await works(gate, phone)


async def test_collecting_has_ten_minutes(gate: Gatehouse) -> None:
    phones = NewPhone(), NewPhone()
    invites = [await gate.invite() for _ in phones]
    claims = [await gate.claim(*pair) for pair in zip(phones, invites, strict=True)]
    for created, claimed in zip(invites, claims, strict=True):
        await gate.confirm(created, claimed)
    gate.clock.at_ms += 10 * 60_000 - 1
    await gate.collect(phones[0], claims[0])
    gate.clock.at_ms += 1
    with refused(Code.INVITE_EXPIRED):
        await gate.collect(phones[1], claims[1])
    with refused(Code.INVITE_EXPIRED):
        await gate.collect(phones[0], claims[0])
    assert (await gate.look(invites[1])).state is State.EXPIRED
    assert len(await gate.all_devices()) == 1


async def test_pairing_survives_restarts_between_all_steps(gate: Gatehouse, phone: NewPhone) -> None:
    created = await gate.invite()
    gate = await gate.reopened()
    claimed = await gate.claim(phone, created)
    gate = await gate.reopened()
    await gate.confirm(created, claimed)
    gate = await gate.reopened()
    await gate.collect(phone, claimed)
    assert await works(gate, phone)
    await gate.close()


# -- waiting; every wait is long, so that a test that is not woken hangs instead of passing


async def settled(gate: Gatehouse) -> None:
    """Let what is under way reach its wait: one trip through the writer and some turns of the loop."""
    await gate.database.write(lambda _: None)
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize("ending", ["confirm", "deny", "cancel"])
async def test_a_waiting_device_is_told_at_once(gate: Gatehouse, phone: NewPhone, ending: str) -> None:
    created = await gate.invite()
    claimed = await gate.claim(phone, created)
    waiting = asyncio.create_task(gate.collect(phone, claimed, wait_s=25))
    await settled(gate)
    assert not waiting.done()
    invite_id = created.invite.invite_id
    if ending == "confirm":
        device_id = await gate.confirm(created, claimed)
        assert (await waiting).device_id == device_id
        return
    if ending == "deny":
        await gate.pairing.confirm_invite(gate.owner, invite_id, claimed.claim_id, approve=False)
    else:
        await gate.pairing.cancel_invite(gate.owner, invite_id)
    with refused(Code.PAIRING_DENIED):
        await waiting


async def test_a_device_does_not_wait_for_other_devices(gate: Gatehouse, phone: NewPhone) -> None:
    mine, other = await gate.invite(), await gate.invite()
    claimed = await gate.claim(phone, mine)
    waiting = asyncio.create_task(gate.collect(phone, claimed, wait_s=25))
    await settled(gate)
    others = await gate.claim(NewPhone(), other)
    await gate.confirm(other, others)
    await settled(gate)
    assert not waiting.done()
    await gate.confirm(mine, claimed)
    await waiting


async def test_the_end_of_the_wait_looks_again_although_the_bus_said_nothing(gate: Gatehouse, phone: NewPhone) -> None:
    created = await gate.invite()
    claimed = await gate.claim(phone, created)
    deaf = gate.pairing_on(DeafBus())
    shown = phone.collect(claimed.claim_id, gate.now_ms)
    waiting = asyncio.create_task(deaf.collect(claimed.claim_id, shown, 25))
    await settled(gate)
    await gate.confirm(created, claimed)
    await settled(gate)
    assert not waiting.done()
    deaf.stop()
    assert isinstance(await waiting, Credentials)


async def test_a_wait_may_be_short(gate: Gatehouse, phone: NewPhone) -> None:
    claimed = await gate.claim(phone, await gate.invite())
    shown = phone.collect(claimed.claim_id, gate.now_ms)
    assert isinstance(await gate.pairing.collect(claimed.claim_id, shown, 0.001), Pending)


async def test_a_shutdown_ends_all_waits(gate: Gatehouse, phone: NewPhone) -> None:
    claimed = await gate.claim(phone, await gate.invite())
    shown = [phone.collect(claimed.claim_id, gate.now_ms) for _ in range(2)]
    waiting = asyncio.create_task(gate.pairing.collect(claimed.claim_id, shown[0], 25))
    await settled(gate)
    gate.pairing.stop()
    assert isinstance(await waiting, Pending)
    assert isinstance(await gate.pairing.collect(claimed.claim_id, shown[1], 25), Pending)


async def test_a_newer_call_takes_the_place_of_an_older_one(gate: Gatehouse, phone: NewPhone) -> None:
    created = await gate.invite()
    claimed = await gate.claim(phone, created)
    shown = [phone.collect(claimed.claim_id, gate.now_ms) for _ in range(2)]
    older = asyncio.create_task(gate.pairing.collect(claimed.claim_id, shown[0], 25))
    await settled(gate)
    newer = asyncio.create_task(gate.collect(phone, claimed, wait_s=25))
    assert isinstance(await older, Pending)
    await settled(gate)
    assert not newer.done()
    await gate.confirm(created, claimed)
    await newer


async def test_a_wait_ends_with_the_time_to_confirm(gate: Gatehouse, phone: NewPhone) -> None:
    claimed = await gate.claim(phone, await gate.invite())
    waiting = asyncio.create_task(gate.collect(phone, claimed, wait_s=25))
    await settled(gate)
    gate.clock.advance(minutes(5))
    assert await gate.pairing.expire() == 1
    with refused(Code.INVITE_EXPIRED):
        await waiting


async def test_a_wait_leaves_nothing_behind(gate: Gatehouse, phone: NewPhone) -> None:
    claimed = await gate.claim(phone, await gate.invite())
    shown = phone.collect(claimed.claim_id, gate.now_ms)
    waiting = asyncio.create_task(gate.pairing.collect(claimed.claim_id, shown, 25))
    await settled(gate)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert gate.pairing._waiting._turns == {}
    assert "control.invites" not in gate.house.bus._listeners._exact
