"""A device spends an invite: once, with the right secret, proving its key."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from entobot.audit.events import AuditEvent
from entobot.core.clock import rfc3339
from entobot.core.errors import Code
from entobot.core.permissions import WEAKLY_CONFIRMED_SCOPES
from entobot.core.secrets import sha256_b64u
from entobot.pairing.model import Confirm, Kind, State
from tests.pairing.gatehouse import ADDRESS, Gatehouse, minutes, refused
from tests.pairing.phones import NewPhone

ON_EVERY_STORE = True
KINDS = pytest.mark.parametrize("kind", list(Kind))


@KINDS
async def test_a_claim_with_the_secret_holds_the_invite(gate: Gatehouse, phone: NewPhone, kind: Kind) -> None:
    created = await gate.invite(kind=kind)
    claimed = await gate.claim(phone, created)
    assert not claimed.is_confirmed
    assert claimed.gateway_name == "Ada's gateway"
    assert claimed.expires_at_ms == gate.now_ms + 5 * 60_000
    assert len(claimed.confirmation_code) == 6
    assert claimed.confirmation_code.isdigit()
    invite = await gate.look(created)
    assert invite.state is State.CLAIMED
    assert invite.claim is not None
    assert (invite.claim.claim_id, invite.claim.thumbprint) == (claimed.claim_id, phone.thumbprint)
    assert (invite.claim.device.device_name, invite.claim.address) == (phone.name, ADDRESS)


@KINDS
async def test_who_photographed_the_invite_comes_second_and_learns_nothing(
    gate: Gatehouse, phone: NewPhone, thief: NewPhone, kind: Kind
) -> None:
    created = await gate.invite(kind=kind)
    claimed = await gate.claim(phone, created)
    with refused(Code.INVITE_USED) as refusal:
        await gate.claim(thief, created)
    assert claimed.confirmation_code not in str(refusal.value.to_json())
    invite = await gate.look(created)
    assert invite.claim is not None
    assert invite.claim.thumbprint == phone.thumbprint
    assert invite.is_contested


@KINDS
async def test_the_confirmation_code_and_the_secret_are_nowhere_but_in_the_answer(
    gate: Gatehouse, phone: NewPhone, kind: Kind
) -> None:
    created = await gate.invite(kind=kind)
    claimed = await gate.claim(phone, created)
    disk = gate.bytes_on_disk()
    secret = created.secret or created.code
    assert secret is not None
    for hidden in (claimed.confirmation_code, secret):
        assert hidden.encode() not in disk
        assert hidden not in str(gate.audit.heard)
        assert hidden not in repr(await gate.look(created))
        assert hidden not in repr(claimed)
        assert hidden not in repr(created)


async def test_the_digest_is_erased_from_the_row_when_the_invite_is_claimed(gate: Gatehouse, phone: NewPhone) -> None:
    created = await gate.invite()
    assert (await gate.look(created)).secret_digest == sha256_b64u(created.secret or "")
    await gate.claim(phone, created)
    assert (await gate.look(created)).secret_digest is None


async def test_two_claims_have_different_confirmation_codes(gate: Gatehouse) -> None:
    codes = {(await gate.claim(NewPhone(), await gate.invite())).confirmation_code for _ in range(8)}
    assert len(codes) > 1


@KINDS
async def test_the_same_key_repeating_its_claim_gets_the_same_answer(
    gate: Gatehouse, phone: NewPhone, kind: Kind
) -> None:
    created = await gate.invite(kind=kind)
    first = await gate.claim(phone, created)
    gate.clock.advance(30)
    assert await gate.claim(phone, created) == first
    again = await gate.reopened()
    assert await again.claim(phone, created) == first
    await again.close()


async def test_a_repeat_after_the_confirmation_says_confirmed(gate: Gatehouse, phone: NewPhone) -> None:
    created = await gate.invite()
    first = await gate.claim(phone, created)
    await gate.confirm(created, first)
    repeated = await gate.claim(phone, created)
    assert repeated.is_confirmed
    assert (repeated.claim_id, repeated.confirmation_code) == (first.claim_id, first.confirmation_code)


async def test_a_proof_is_taken_once(gate: Gatehouse, phone: NewPhone) -> None:
    request = phone.claim(await gate.invite(), gate.now_ms)
    await gate.pairing.claim_invite(request, ADDRESS)
    with refused(Code.PROOF_INVALID):
        await gate.pairing.claim_invite(request, ADDRESS)
    again = await gate.reopened()
    with refused(Code.PROOF_INVALID):
        await again.pairing.claim_invite(request, ADDRESS)
    await again.close()


async def test_of_concurrent_claims_one_wins_and_losing_is_no_failure(gate: Gatehouse) -> None:
    created = await gate.invite()
    phones = [NewPhone() for _ in range(20)]
    answers = await asyncio.gather(*(gate.claim(phone, created) for phone in phones), return_exceptions=True)
    codes = [getattr(answer, "code", "won") for answer in answers]
    assert codes.count("won") == 1
    assert codes.count(Code.INVITE_USED) == 19
    await gate.pairing.refuse_if_blocked(ADDRESS)
    heard = gate.audit.events()
    assert heard.count(AuditEvent.INVITE_CLAIM_REFUSED) == 1, "told once, however often it is tried"


@pytest.mark.parametrize(
    ("typed", "is_right"),
    [(str.lower, True), (lambda code: f" {code[:4]}-{code[4:]} ", True), (lambda code: code[:-1], False)],
)
async def test_a_code_is_taken_as_people_type_it(gate: Gatehouse, phone: NewPhone, typed: Any, is_right: bool) -> None:
    created = await gate.invite(kind=Kind.CODE)
    assert created.code is not None
    request = replace(phone.claim_code(created.code, gate.now_ms), code=typed(created.code))
    if is_right:
        await gate.pairing.claim_invite(request, ADDRESS)
    else:
        with refused(Code.INVALID):
            await gate.pairing.claim_invite(request, ADDRESS)
        assert (await gate.look(created)).wrong_codes == 0, "a slip of the finger counts against nobody"


async def test_a_wrong_secret_is_not_found(gate: Gatehouse, phone: NewPhone) -> None:
    created = await gate.invite()
    with refused(Code.INVITE_NOT_FOUND):
        await gate.claim(phone, created, secret="x" * 43)
    assert (await gate.look(created)).state is State.OPEN
    await gate.claim(phone, created)


async def test_the_secret_of_one_invite_does_not_open_another(gate: Gatehouse, phone: NewPhone) -> None:
    one, other = await gate.invite(), await gate.invite()
    with refused(Code.INVITE_NOT_FOUND):
        await gate.claim(phone, one, secret=other.secret)


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "https://evil.test"},
        {"aud": ...},
        {"sth": sha256_b64u("another secret")},
        {"sth": 7},
        {"invite_id": "inv_00000000000000000000000000"},
        {"invite_id": ...},
        {"jti": ""},
        {"jti": "j" * 65},
        {"jti": 5},
        {"jti": ...},
        {"iat": "now"},
        {"iat": True},
        {"iat": ...},
        {"more": 1},
        {"header": {"typ": "dpop+jwt"}},
        {"header": {"typ": "entobot-pair+jwt", "kid": "x"}},
    ],
)
async def test_a_proof_that_does_not_bind_this_claim_is_refused(
    gate: Gatehouse, phone: NewPhone, changes: dict[str, Any]
) -> None:
    created = await gate.invite()
    assert created.secret is not None
    told = changes.get("invite_id", created.invite.invite_id)
    others = {name: value for name, value in changes.items() if name != "invite_id"}
    proof = phone.claim_proof(gate.now_ms, created.secret, None if told is ... else told, **others)
    with refused(Code.PROOF_INVALID):
        await gate.claim(phone, created, proof=proof)
    invite = await gate.look(created)
    assert (invite.state, invite.bad_claims) == (State.OPEN, 1)


async def test_a_proof_by_another_key_is_refused(gate: Gatehouse, phone: NewPhone, thief: NewPhone) -> None:
    created = await gate.invite()
    stolen = phone.claim(created, gate.now_ms).proof
    with refused(Code.PROOF_INVALID):
        await gate.claim(thief, created, proof=stolen)


@pytest.mark.parametrize("skew_s", [-61, 62])
async def test_a_wrong_clock_is_told_the_time_and_counts_for_nothing(
    gate: Gatehouse, phone: NewPhone, skew_s: int
) -> None:
    created = await gate.invite()
    phone.skew_s = skew_s
    for _ in range(12):
        with refused(Code.PROOF_STALE) as refusal:
            await gate.claim(phone, created)
        assert refusal.value.extra["server_time"] == rfc3339(gate.now_ms)
    phone.skew_s = 0
    await gate.claim(phone, created)


async def test_a_stale_proof_does_not_tell_whether_the_secret_is_right(gate: Gatehouse, phone: NewPhone) -> None:
    created = await gate.invite()
    phone.skew_s = 3600
    with refused(Code.PROOF_STALE):
        await gate.claim(phone, created, secret="x" * 43)


@pytest.mark.parametrize("is_revoked", [False, True])
async def test_a_key_that_belongs_to_a_device_is_known_for_ever(
    gate: Gatehouse, phone: NewPhone, is_revoked: bool
) -> None:
    _, _, credentials = await gate.pair(phone)
    if is_revoked:
        await gate.devices.revoke(gate.owner, credentials.device_id)
    created = await gate.invite()
    with refused(Code.KEY_KNOWN) as refusal:
        await gate.claim(phone, created)
    assert credentials.refresh_token not in str(refusal.value.to_json())
    invite = await gate.look(created)
    assert (invite.state, invite.bad_claims) == (State.OPEN, 0)
    assert len(await gate.all_devices()) == 1


@KINDS
async def test_a_claim_at_the_last_moment_works_and_one_at_the_end_does_not(gate: Gatehouse, kind: Kind) -> None:
    in_time, late = await gate.invite(kind=kind), await gate.invite(kind=kind)
    gate.clock.at_ms = in_time.invite.deadline_ms - 1
    await gate.claim(NewPhone(), in_time)
    gate.clock.at_ms += 1
    with refused(Code.INVITE_EXPIRED):
        await gate.claim(NewPhone(), late)
    assert AuditEvent.INVITE_EXPIRED in gate.audit.events()


@KINDS
async def test_a_swept_invite_still_says_that_it_expired(gate: Gatehouse, phone: NewPhone, kind: Kind) -> None:
    created = await gate.invite(kind=kind)
    gate.clock.advance(minutes(16))
    assert await gate.pairing.expire() == 1
    with refused(Code.INVITE_EXPIRED):
        await gate.claim(phone, created)


@KINDS
async def test_a_cancelled_invite_cannot_be_claimed(gate: Gatehouse, phone: NewPhone, kind: Kind) -> None:
    created = await gate.invite(kind=kind)
    await gate.pairing.cancel_invite(gate.owner, created.invite.invite_id)
    with refused(Code.PAIRING_DENIED):
        await gate.claim(phone, created)


async def test_an_invite_without_confirmation_is_confirmed_by_its_claim(gate: Gatehouse, phone: NewPhone) -> None:
    created = await gate.invite(confirm=Confirm.NONE)
    assert created.invite.scopes == WEAKLY_CONFIRMED_SCOPES
    claimed = await gate.claim(phone, created)
    assert claimed.is_confirmed
    credentials = await gate.collect(phone, claimed)
    assert credentials.scopes == WEAKLY_CONFIRMED_SCOPES
    [facts] = [told["facts"] for event, told in gate.audit.heard if event is AuditEvent.INVITE_CONFIRMED]
    assert facts["is_weak"] is True


async def test_neither_a_secret_with_a_code_nor_neither_is_a_claim(gate: Gatehouse, phone: NewPhone) -> None:
    created = await gate.invite()
    for changes in ({"code": "ABCDEFGH"}, {"secret": None, "proof": "x"}, {"invite_id": None, "proof": "x"}):
        with refused(Code.INVALID):
            await gate.pairing.claim_invite(
                phone._request(
                    **{"invite_id": created.invite.invite_id, "secret": created.secret, "proof": "x"} | changes
                ),
                ADDRESS,
            )
