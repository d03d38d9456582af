"""Approvals with real phones on a real database."""

import asyncio
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from entobot.approvals import store
from entobot.approvals.commands import Decide
from entobot.approvals.model import ApprovalState
from entobot.audit.events import AuditEvent
from entobot.client.keys import DeviceKey
from entobot.core import topics
from entobot.core.errors import Code, Problem
from entobot.core.permissions import ALL_SCOPES, Scope
from entobot.core.principal import Principal
from entobot.core.secrets import sha256_b64u
from entobot.storage.database import Transaction
from tests.approvals.conftest import RUN, Ask
from tests.support.agency import Agency, Event, Pocket
from tests.support.time import ManualClock

ON_EVERY_STORE = True


async def refused(agency: Agency, pocket: Pocket, data: Event) -> Code:
    with pytest.raises(Problem) as refusal:
        await agency.command(pocket.principal, "approval.decide", **data)
    return refusal.value.code


async def refusal_of_edit(agency: Agency, pocket: Pocket, approval: Event, edited: str) -> Code:
    data = {"approval_id": approval["approval_id"], "edited_action": edited}
    with pytest.raises(Problem) as refusal:
        await agency.command(pocket.principal, "approval.check_edit", **data)
    return refusal.value.code


async def states(agency: Agency, pocket: Pocket) -> list[str]:
    listed = await agency.command(pocket.principal, "approval.list", state="all")
    return [row["state"] for row in listed["rows"]]


async def test_what_is_asked_is_told_whole_with_its_hash(agency: Agency, ask: Ask) -> None:
    approval = await ask()
    assert approval["action_sha256"] == sha256_b64u(approval["action"])
    assert approval["action"] == (
        f'{{"approval_id":"{approval["approval_id"]}","args":{{"text":"milk"}},"run_id":"{RUN}","tool":"note"}}'
    )
    events = await agency.database.read(lambda tx: agency.stream.after(tx, agency.user_id, 0))
    assert (events[-1].scope, events[-1].topic) == (Scope.APPROVE, topics.APPROVALS)


async def test_a_signed_decision_is_kept_with_its_signature_and_rings_for_the_run(
    agency: Agency, phone: Pocket, ask: Ask
) -> None:
    rung: list[bytes] = []
    agency.bus.subscribe(topics.WORK_APPROVALS, lambda _, payload: rung.append(payload))
    approval = await ask()
    data = agency.answer(phone, approval, "approve")
    row = await agency.command(phone.principal, "approval.decide", **data)
    assert (row["state"], row["decision"]) == ("approved", "approve")
    assert row["decided_by_device_id"] == phone.principal.device_id
    await asyncio.sleep(0)
    assert rung == [RUN.encode()]
    (kept,) = agency.audit.of(AuditEvent.APPROVAL_DECIDED)
    assert kept["signature"] == data["signature"]
    (decided,) = await agency.of("approval.decided")
    assert (decided["decision"], decided["device_id"]) == ("approve", phone.principal.device_id)


async def test_every_device_with_a_key_can_decide_and_the_first_answer_wins(
    agency: Agency, phone: Pocket, ask: Ask
) -> None:
    other = await agency.pair()
    approval = await ask()
    answers = [(phone, agency.answer(phone, approval, "approve")), (other, agency.answer(other, approval, "deny"))]
    results = await asyncio.gather(
        *(agency.command(p.principal, "approval.decide", **data) for p, data in answers), return_exceptions=True
    )
    won = [result for result in results if isinstance(result, dict)]
    lost = [result for result in results if isinstance(result, Problem)]
    assert len(won) == 1
    assert [problem.code for problem in lost] == [Code.APPROVAL_ALREADY_DECIDED]
    assert len(await agency.of("approval.decided")) == 1
    assert len(agency.audit.of(AuditEvent.APPROVAL_ALREADY_DECIDED)) == 1


async def test_repeating_a_decision_changes_nothing(agency: Agency, phone: Pocket, ask: Ask) -> None:
    approval = await ask()
    await agency.decide(phone, approval, "deny")
    assert await refused(agency, phone, agency.answer(phone, approval, "approve")) is Code.APPROVAL_ALREADY_DECIDED
    assert await states(agency, phone) == ["denied"]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"key": DeviceKey.generate()}, Code.SIGNATURE_INVALID),
        ({"origin": "https://evil.test"}, Code.SIGNATURE_INVALID),
        ({"now_ms": 1_790_000_000_000 - 61_000}, Code.SIGNATURE_INVALID),
        ({"now_ms": 1_790_000_000_000 + 61_000}, Code.SIGNATURE_INVALID),
    ],
)
async def test_a_signature_by_another_key_for_another_gateway_or_time_is_refused(
    agency: Agency, phone: Pocket, ask: Ask, changes: dict[str, Any], code: Code
) -> None:
    approval = await ask()
    assert await refused(agency, phone, agency.answer(phone, approval, "approve", **changes)) is code
    assert await states(agency, phone) == ["pending"]
    assert [facts["code"] for facts in agency.audit.of(AuditEvent.APPROVAL_REFUSED)] == [str(code)]


@pytest.mark.parametrize("signature", ["", "a.b", "a.b.c", "eyJhbGciOiJub25lIn0.e30."])
async def test_what_is_no_signature_is_refused(agency: Agency, phone: Pocket, ask: Ask, signature: str) -> None:
    data = agency.answer(phone, await ask(), "approve") | {"signature": signature}
    assert await refused(agency, phone, data) is Code.SIGNATURE_INVALID


@pytest.mark.parametrize(
    "header",
    [{"typ": "dpop+jwt"}, {}, {"typ": "entobot-approval+jwt", "kid": "x"}, {"typ": "entobot-approval+jwt", "jwk": {}}],
)
async def test_a_signature_of_another_kind_is_refused(
    agency: Agency, phone: Pocket, ask: Ask, header: dict[str, object]
) -> None:
    data = agency.answer(phone, await ask(), "approve")
    payload = msgspec.json.decode(_unpack(data["signature"].split(".")[1]))
    data["signature"] = phone.key.sign_compact(header, payload)
    assert await refused(agency, phone, data) is Code.SIGNATURE_INVALID


def _unpack(part: str) -> bytes:
    from entobot.core.secrets import unb64u

    return unb64u(part)


async def test_a_signature_for_one_approval_does_not_stand_for_another(agency: Agency, phone: Pocket, ask: Ask) -> None:
    first, second = await ask(), await ask()
    signature = agency.answer(phone, first, "approve")["signature"]
    data = agency.answer(phone, second, "approve") | {"signature": signature}
    assert await refused(agency, phone, data) is Code.SIGNATURE_INVALID


async def test_another_text_than_the_stored_one_is_a_hash_mismatch(agency: Agency, phone: Pocket, ask: Ask) -> None:
    approval = await ask()
    shown = approval | {"action": approval["action"].replace("milk", "silk")}
    assert await refused(agency, phone, agency.answer(phone, shown, "approve")) is Code.HASH_MISMATCH


async def test_an_edit_is_checked_like_the_tools_own_arguments(agency: Agency, phone: Pocket, ask: Ask) -> None:
    approval = await ask('{"path":"a.txt","content":"x"}', tool="files.write")
    for bad, code in [
        (approval["action"].replace("a.txt", "../a.txt"), Code.INVALID),
        (approval["action"].replace('"path"', '"paths"'), Code.INVALID),
        (approval["action"].replace('"content":"x"', '"content":"x","content":"y"'), Code.ACTION_NOT_PRESENTABLE),
        (approval["action"][:-1], Code.ACTION_NOT_PRESENTABLE),
    ]:
        assert await refused(agency, phone, agency.answer(phone, approval, "approve", edited_action=bad)) is code
        assert await refusal_of_edit(agency, phone, approval, bad) is code, "said before it is signed"
    good = approval["action"].replace("a.txt", "b.txt")
    row = await agency.decide(phone, approval, "approve", edited_action=good)
    assert row["state"] == "approved"
    assert await refusal_of_edit(agency, phone, approval, good) is Code.APPROVAL_ALREADY_DECIDED


async def test_a_late_answer_is_refused_even_before_the_sweep(
    agency: Agency, phone: Pocket, ask: Ask, clock: ManualClock
) -> None:
    approval = await ask()
    clock.advance(3600)
    assert await refused(agency, phone, agency.answer(phone, approval, "approve")) is Code.APPROVAL_EXPIRED
    assert await states(agency, phone) == ["pending"]
    assert await agency.approvals.expire(agency.database, clock.now_ms()) == 1
    assert await states(agency, phone) == ["expired"]
    assert await refused(agency, phone, agency.answer(phone, approval, "approve")) is Code.APPROVAL_EXPIRED


async def test_a_made_up_approval_cannot_be_answered(agency: Agency, phone: Pocket, ask: Ask) -> None:
    approval = await ask()
    forged = approval | {"approval_id": "apr_01J99999999999999999999999"}
    assert await refused(agency, phone, agency.answer(phone, forged, "approve")) is Code.NOT_FOUND


async def test_another_users_approval_is_not_found(agency: Agency, phone: Pocket, ask: Ask) -> None:
    approval = await ask()
    stranger = Pocket(phone.key, Principal("usr_other", ALL_SCOPES, phone.principal.device_id, 1))
    with pytest.raises(Problem) as refusal:
        await agency.database.read(
            lambda tx: agency.approvals.get(tx, stranger.principal.user_id, approval["approval_id"])
        )
    assert refusal.value.code is Code.NOT_FOUND
    assert await states(agency, stranger) == []


async def test_the_owner_at_the_socket_has_no_key_to_decide_with(agency: Agency, phone: Pocket, ask: Ask) -> None:
    data = agency.answer(phone, await ask(), "approve")
    for keyless in (Principal(agency.user_id, ALL_SCOPES), Principal(agency.user_id, ALL_SCOPES, is_by_sms=True)):
        assert await refused(agency, Pocket(phone.key, keyless), data) is Code.FORBIDDEN


async def test_without_the_scope_nothing_is_decided(agency: Agency, phone: Pocket, ask: Ask) -> None:
    data = agency.answer(phone, await ask(), "approve")
    chatter = Principal(agency.user_id, frozenset({Scope.CHAT}), phone.principal.device_id, 1)
    assert await refused(agency, Pocket(phone.key, chatter), data) is Code.FORBIDDEN


async def test_a_device_suspended_meanwhile_decides_nothing(agency: Agency, phone: Pocket, ask: Ask) -> None:
    data = agency.answer(phone, await ask(), "approve")
    await agency.devices.suspend(Principal(agency.user_id, ALL_SCOPES), phone.principal.device_id or "")
    assert await refused(agency, phone, data) in (Code.DEVICE_SUSPENDED, Code.UNAUTHENTICATED)
    assert await states(agency, Pocket(phone.key, Principal(agency.user_id, ALL_SCOPES))) == ["pending"]


async def test_a_reason_is_kept_where_it_can_be_erased(agency: Agency, phone: Pocket, ask: Ask) -> None:
    heard: list[dict[str, Any]] = []
    record = agency.audit.record
    agency.audit.record = lambda tx, event, **details: (heard.append(details), record(tx, event, **details))[1]  # type: ignore[method-assign]
    await agency.decide(phone, await ask(), "deny", reason="Bob is ill")
    assert "signature" in heard[-1]["personal"]
    assert "signature" not in heard[-1]["facts"]


async def test_cancelling_a_run_closes_what_it_asked(
    agency: Agency, phone: Pocket, ask: Ask, clock: ManualClock
) -> None:
    mine, other = await ask(), await ask(run_id="run_other")
    await agency.database.write(lambda tx: agency.approvals.cancel_for_run(tx, RUN, clock.now_ms()))
    assert await refused(agency, phone, agency.answer(phone, mine, "approve")) is Code.APPROVAL_ALREADY_DECIDED
    await agency.decide(phone, other, "approve")
    assert [event["decision"] for event in await agency.of("approval.decided")] == ["cancelled", "approve"]


async def test_pages_of_large_actions_stay_small(agency: Agency, phone: Pocket, ask: Ask) -> None:
    for _ in range(5):
        await ask('{"text":"' + "x" * 30_000 + '"}')
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = await agency.command(phone.principal, "approval.list", **({"cursor": cursor} if cursor else {}))
        assert len(msgspec.json.encode(page)) < 256 * 1024
        seen += [row["approval_id"] for row in page["rows"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == 5
    assert seen == sorted(seen, reverse=True)


def test_unknown_members_are_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(
            {"approval_id": "a", "decision": "approve", "action_sha256": "h", "signature": "s", "tool": "x"},
            type=Decide,
        )


async def test_a_row_leaves_pending_once_whoever_writes_it(agency: Agency, ask: Ask) -> None:
    """The guard of databases that run units side by side."""
    approval = await ask()

    def unit(tx: Transaction) -> list[bool]:
        row = store.find_approval(tx, approval["approval_id"])
        assert row is not None
        return [
            store.leave_pending(tx, replace(row, state=state))
            for state in (ApprovalState.DENIED, ApprovalState.APPROVED)
        ]

    assert await agency.database.write(unit) == [True, False]
