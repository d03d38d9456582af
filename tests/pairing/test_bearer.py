"""Boards without a key: the same invite, claim, counters and confirmation, and less at the end."""

import asyncio

import pytest

from entobot.core.errors import Code, Problem
from entobot.core.permissions import Scope
from entobot.devices.key_desk import BEARER_LIFE_MS
from entobot.devices.model import ConnectionRefused, Platform, Refusal
from entobot.pairing.bearer import BearerClaimed
from entobot.pairing.model import Confirm, DeviceInfo, Kind, Reason, State
from entobot.pairing.requests import BearerCredentials, CreatedInvite
from tests.pairing.gatehouse import ADDRESS, Gatehouse, minutes, refused
from tests.pairing.phones import NewPhone

BOARD = DeviceInfo("Board", Platform.IOT, "", "")


async def claim(gate: Gatehouse, created: CreatedInvite, secret: str | None = None) -> BearerClaimed:
    given = secret or created.secret
    assert given is not None
    return await gate.pairing.bearers.claim(created.invite.invite_id, given, BOARD, ADDRESS)


async def confirm(gate: Gatehouse, created: CreatedInvite, claimed: BearerClaimed) -> str:
    device_id = await gate.pairing.confirm_invite(
        gate.owner, created.invite.invite_id, claimed.claim_id, code=claimed.confirmation_code
    )
    assert device_id is not None
    return device_id


async def pair(gate: Gatehouse) -> BearerCredentials:
    created = await gate.invite(allow_bearer=True)
    claimed = await claim(gate, created)
    await confirm(gate, created, claimed)
    return await gate.pairing.bearers.collect(claimed.claim_id)


async def test_a_board_gets_an_api_key_for_thirty_days_that_may_chat_and_nothing_else(gate: Gatehouse) -> None:
    paired = await pair(gate)
    assert paired.device_name == "Board"
    found = await gate.devices.authenticate_key_connection(paired.api_key, ADDRESS)
    assert (found.principal.device_id, found.principal.scopes) == (paired.device_id, {Scope.CHAT})
    assert found.expires_at_ms == gate.now_ms + BEARER_LIFE_MS
    (device,) = await gate.all_devices()
    assert (device.device_id, device.jwk, device.confirmed_by_mode) == (paired.device_id, None, "type")
    assert paired.api_key.encode() not in gate.bytes_on_disk()
    gate.clock.advance(BEARER_LIFE_MS / 1000)
    with pytest.raises(ConnectionRefused, match="expired"):
        await gate.devices.authenticate_key_connection(paired.api_key, ADDRESS)


async def test_revoking_it_ends_its_key(gate: Gatehouse) -> None:
    paired = await pair(gate)
    await gate.devices.revoke(gate.owner, paired.device_id)
    with pytest.raises(ConnectionRefused) as refusal:
        await gate.devices.authenticate_key_connection(paired.api_key, ADDRESS)
    assert refusal.value.reason is Refusal.REVOKED


async def test_an_invite_without_the_flag_takes_no_board_and_stays_open_for_a_phone(
    gate: Gatehouse, phone: NewPhone
) -> None:
    created = await gate.invite()
    with refused(Code.FORBIDDEN):
        await claim(gate, created)
    assert (await gate.look(created)).state is State.OPEN
    await gate.claim(phone, created)


async def test_an_invite_with_the_flag_takes_a_phone_with_all_its_scopes(gate: Gatehouse, phone: NewPhone) -> None:
    created = await gate.invite(allow_bearer=True)
    claimed = await gate.claim(phone, created)
    await gate.confirm(created, claimed)
    assert (await gate.collect(phone, claimed)).scopes == {Scope.CHAT, Scope.APPROVE, Scope.NOTIFY}
    with refused(Code.INVITE_NOT_FOUND):
        await gate.pairing.bearers.collect(claimed.claim_id)


async def test_of_boards_and_phones_at_once_one_wins_and_the_others_have_not_failed(gate: Gatehouse) -> None:
    created = await gate.invite(allow_bearer=True)
    rivals = [claim(gate, created) for _ in range(25)] + [gate.claim(NewPhone(), created) for _ in range(25)]
    answers = await asyncio.gather(*rivals, return_exceptions=True)
    winners = [answer for answer in answers if not isinstance(answer, BaseException)]
    losers = [answer.code for answer in answers if isinstance(answer, Problem)]
    assert (len(winners), losers) == (1, [Code.INVITE_USED] * 49)
    await gate.pairing.refuse_if_blocked(ADDRESS)


async def test_wrong_secrets_count_and_burn_as_for_everybody(gate: Gatehouse) -> None:
    created = await gate.invite(allow_bearer=True)
    for code in (Code.INVITE_NOT_FOUND, Code.INVITE_NOT_FOUND, Code.INVITE_BURNED):
        with refused(code):
            await claim(gate, created, "w" * 43)
    with refused(Code.INVITE_BURNED):
        await claim(gate, created)
    for _ in range(7):
        with refused(Code.INVITE_NOT_FOUND):
            await gate.pairing.bearers.claim("inv_unknown", "w" * 43, BOARD, ADDRESS)
    with refused(Code.RATE_LIMITED):
        await gate.pairing.bearers.claim("inv_unknown", "w" * 43, BOARD, ADDRESS)


async def test_the_operator_sees_a_weaker_device_with_fewer_scopes_and_so_does_the_audit_log(gate: Gatehouse) -> None:
    created = await gate.invite(allow_bearer=True)
    claimed = await claim(gate, created)
    seen = await gate.look(created)
    assert seen.claim is not None
    assert (seen.allow_bearer, seen.claim.is_bearer, seen.scopes) == (True, True, {Scope.CHAT})
    await confirm(gate, created, claimed)
    await gate.pairing.bearers.collect(claimed.claim_id)
    steps = [facts["facts"] for event, facts in gate.audit.heard if event.value.startswith(("invite.", "device.p"))]
    assert [(step["is_weak"], step["allow_bearer"], step.get("credential")) for step in steps] == [
        (True, True, None),
        *[(True, True, "api_key")] * 3,
    ]


async def test_a_wrong_code_burns_and_a_no_ends_it(gate: Gatehouse) -> None:
    created = await gate.invite(allow_bearer=True)
    claimed = await claim(gate, created)
    wrong = "000000" if claimed.confirmation_code != "000000" else "000001"
    with refused(Code.INVITE_BURNED):
        await gate.pairing.confirm_invite(gate.owner, created.invite.invite_id, claimed.claim_id, code=wrong)
    with refused(Code.INVITE_BURNED):
        await gate.pairing.bearers.collect(claimed.claim_id)
    created = await gate.invite(allow_bearer=True)
    claimed = await claim(gate, created)
    await gate.pairing.confirm_invite(gate.owner, created.invite.invite_id, claimed.claim_id, approve=False)
    with refused(Code.PAIRING_DENIED):
        await gate.pairing.bearers.collect(claimed.claim_id)


async def test_it_collects_once_and_nobody_in_time_is_told(gate: Gatehouse) -> None:
    created = await gate.invite(allow_bearer=True)
    claimed = await claim(gate, created)
    await confirm(gate, created, claimed)
    await gate.pairing.bearers.collect(claimed.claim_id)
    with refused(Code.INVITE_USED):
        await gate.pairing.bearers.collect(claimed.claim_id)
    created = await gate.invite(allow_bearer=True)
    claimed = await claim(gate, created)
    gate.clock.advance(minutes(5))
    with refused(Code.INVITE_EXPIRED):
        await gate.pairing.bearers.collect(claimed.claim_id)


async def test_a_board_that_leaves_ends_its_claim(gate: Gatehouse) -> None:
    created = await gate.invite(allow_bearer=True)
    claimed = await claim(gate, created)
    await gate.pairing.bearers.abandon(claimed.claim_id)
    assert ((await gate.look(created)).state, (await gate.look(created)).reason) == (
        State.CANCELLED,
        Reason.DEVICE_LEFT,
    )
    with refused(Code.PAIRING_DENIED):
        await confirm(gate, created, claimed)
    await gate.pairing.bearers.abandon(claimed.claim_id)


@pytest.mark.parametrize(
    ("kind", "mode", "scopes"),
    [
        (Kind.CODE, Confirm.TYPE, None),
        (Kind.QR, Confirm.NONE, None),
        (Kind.QR, Confirm.TYPE, frozenset({Scope.NOTIFY})),
    ],
)
async def test_what_cannot_be_allowed_is_refused(
    gate: Gatehouse, kind: Kind, mode: Confirm, scopes: frozenset[Scope] | None
) -> None:
    with refused(Code.INVALID):
        await gate.invite(kind=kind, confirm=mode, scopes=scopes, allow_bearer=True)
