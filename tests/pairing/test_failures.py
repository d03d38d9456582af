"""Guesses are few: per invite, per address and in all, before parsing, whatever the headers, across a restart."""

from collections.abc import Callable

import pytest

from entobot.audit.events import AuditEvent
from entobot.core.errors import Code
from entobot.pairing.limits import MAX_FAILURES, MAX_FAILURES_PER_ADDRESS
from entobot.pairing.model import MAX_BAD_CLAIMS, MAX_WRONG_CODES, Kind, Reason, State
from tests.pairing.gatehouse import Gatehouse, addresses, minutes, refused
from tests.pairing.phones import NewPhone

WRONG = "x" * 43
NOWHERE = "inv_00000000000000000000000000"
Fresh = Callable[[], str]


@pytest.fixture
def fresh() -> Fresh:
    return addresses()


async def fail(gate: Gatehouse, address: str, code: Code = Code.INVITE_NOT_FOUND) -> None:
    """Guess at an invite that does not exist."""
    phone = NewPhone()
    with refused(code):
        await gate.pairing.claim_invite(
            phone._request(invite_id=NOWHERE, secret=WRONG, proof=phone.claim_proof(gate.now_ms, WRONG, NOWHERE)),
            address,
        )


async def test_three_bad_claims_burn_an_invite(gate: Gatehouse, phone: NewPhone, fresh: Fresh) -> None:
    created = await gate.invite()
    for attempt in range(MAX_BAD_CLAIMS):
        is_last = attempt == MAX_BAD_CLAIMS - 1
        with refused(Code.INVITE_BURNED if is_last else Code.INVITE_NOT_FOUND):
            await gate.claim(NewPhone(), created, fresh(), secret=WRONG)
    with refused(Code.INVITE_BURNED):
        await gate.claim(phone, created)
    invite = await gate.look(created)
    assert (invite.state, invite.reason, invite.secret_digest) == (State.BURNED, Reason.BAD_CLAIMS, None)
    assert AuditEvent.INVITE_BURNED in gate.audit.events()


async def test_bad_claims_are_counted_across_a_restart(gate: Gatehouse, fresh: Fresh) -> None:
    created = await gate.invite()
    for _ in range(MAX_BAD_CLAIMS - 1):
        with refused(Code.INVITE_NOT_FOUND):
            await gate.claim(NewPhone(), created, fresh(), secret=WRONG)
    again = await gate.reopened()
    with refused(Code.INVITE_BURNED):
        await again.claim(NewPhone(), created, fresh(), secret=WRONG)
    await again.close()


async def test_a_wrong_code_counts_against_every_open_code_and_ten_burn_them(
    gate: Gatehouse, phone: NewPhone, fresh: Fresh
) -> None:
    codes = [await gate.invite(kind=Kind.CODE) for _ in range(3)]
    claimed, picture = codes.pop(), await gate.invite()
    await gate.claim(NewPhone(), claimed)
    for attempt in range(MAX_WRONG_CODES):
        assert [(await gate.look(created)).wrong_codes for created in codes] == [attempt, attempt]
        with refused(Code.INVITE_NOT_FOUND):
            await gate.pairing.claim_invite(NewPhone().claim_code("ZZZZZZZZ", gate.now_ms), fresh())
    for created in codes:
        invite = await gate.look(created)
        assert (invite.state, invite.reason) == (State.BURNED, Reason.WRONG_CODES)
        with refused(Code.INVITE_BURNED):
            await gate.claim(phone, created)
    assert (await gate.look(claimed)).state is State.CLAIMED
    assert ((await gate.look(picture)).state, (await gate.look(picture)).wrong_codes) == (State.OPEN, 0)


async def test_the_second_to_type_a_code_lost_a_race_and_guessed_nothing(gate: Gatehouse, phone: NewPhone) -> None:
    created, other = await gate.invite(kind=Kind.CODE), await gate.invite(kind=Kind.CODE)
    await gate.claim(phone, created)
    for _ in range(MAX_FAILURES_PER_ADDRESS + 1):
        with refused(Code.INVITE_USED):
            await gate.claim(NewPhone(), created)
    assert (await gate.look(other)).wrong_codes == 0


async def test_an_address_has_ten_failures_in_ten_minutes(gate: Gatehouse, phone: NewPhone) -> None:
    created = await gate.invite()
    address = "203.0.113.9"
    for _ in range(MAX_FAILURES_PER_ADDRESS):
        await gate.pairing.refuse_if_blocked(address)
        await fail(gate, address)
    with refused(Code.RATE_LIMITED) as refusal:
        await gate.pairing.refuse_if_blocked(address)
    assert refusal.value.retry_after_s == 600
    with refused(Code.RATE_LIMITED):
        await gate.claim(phone, created, address)
    await gate.claim(phone, created, "203.0.113.10")


async def test_a_blocked_address_is_free_again_when_the_window_has_passed(gate: Gatehouse) -> None:
    for _ in range(MAX_FAILURES_PER_ADDRESS):
        await fail(gate, "203.0.113.9")
        gate.clock.advance(6)
    for _ in range(20):
        await fail(gate, "203.0.113.9", Code.RATE_LIMITED)
    with refused(Code.RATE_LIMITED) as refusal:
        await gate.pairing.refuse_if_blocked("203.0.113.9")
    assert refusal.value.retry_after_s == 540, "being blocked does not prolong the block"
    gate.clock.advance(539.999)
    with refused(Code.RATE_LIMITED):
        await gate.pairing.refuse_if_blocked("203.0.113.9")
    gate.clock.advance(0.001)
    await gate.pairing.refuse_if_blocked("203.0.113.9")
    await fail(gate, "203.0.113.9")
    await fail(gate, "203.0.113.9", Code.RATE_LIMITED)


@pytest.mark.parametrize(
    ("used", "same_line"),
    [
        ("203.0.113.9", "::ffff:203.0.113.9"),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff"),
        ("fe80::1%eth0", "fe80::2%eth1"),
        ("", "not an address"),
    ],
)
async def test_one_line_has_one_counter(gate: Gatehouse, used: str, same_line: str) -> None:
    for _ in range(MAX_FAILURES_PER_ADDRESS):
        await fail(gate, used)
    with refused(Code.RATE_LIMITED):
        await gate.pairing.refuse_if_blocked(same_line)
    for other in ("203.0.113.8", "2001:db8:1:3::1", "2001:db8::1"):
        await gate.pairing.refuse_if_blocked(other)


async def test_blocks_survive_a_restart(gate: Gatehouse) -> None:
    for _ in range(MAX_FAILURES_PER_ADDRESS):
        await fail(gate, "203.0.113.9")
    again = await gate.reopened()
    with refused(Code.RATE_LIMITED):
        await again.pairing.refuse_if_blocked("203.0.113.9")
    await again.close()


async def test_all_addresses_together_have_three_hundred(gate: Gatehouse, fresh: Fresh) -> None:
    for _ in range(MAX_FAILURES):
        await fail(gate, fresh())
    with refused(Code.RATE_LIMITED):
        await gate.pairing.refuse_if_blocked(fresh())
    await fail(gate, fresh(), Code.RATE_LIMITED)
    gate.clock.advance(minutes(10))
    await gate.pairing.refuse_if_blocked(fresh())


async def test_proofs_that_do_not_stand_are_failures(gate: Gatehouse, phone: NewPhone) -> None:
    for _ in range(MAX_FAILURES_PER_ADDRESS):
        with refused(Code.PROOF_INVALID):
            await gate.pairing.claim_invite(phone.claim_code("ZZZZZZZZ", gate.now_ms, proof="a.b.c"), "203.0.113.9")
    with refused(Code.RATE_LIMITED):
        await gate.pairing.refuse_if_blocked("203.0.113.9")


async def test_a_known_key_is_not_tried_without_end(gate: Gatehouse, phone: NewPhone) -> None:
    await gate.pair(phone)
    created = await gate.invite()
    for _ in range(MAX_FAILURES_PER_ADDRESS):
        with refused(Code.KEY_KNOWN):
            await gate.claim(phone, created)
    with refused(Code.RATE_LIMITED):
        await gate.claim(phone, created)
    assert (await gate.look(created)).state is State.OPEN


async def test_every_counted_failure_is_audited_and_blocked_ones_are_not(gate: Gatehouse) -> None:
    for _ in range(MAX_FAILURES_PER_ADDRESS):
        await fail(gate, "203.0.113.9")
    for _ in range(5):
        await fail(gate, "203.0.113.9", Code.RATE_LIMITED)
    refusals = [told for event, told in gate.audit.heard if event is AuditEvent.INVITE_CLAIM_REFUSED]
    assert len(refusals) == MAX_FAILURES_PER_ADDRESS
    assert {told["personal"]["address"] for told in refusals} == {"203.0.113.9"}
    assert "203.0.113.9" not in str([told["facts"] for told in refusals])
