"""Rules on a real database: made with a signed approval, used by calls, ended."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
import rfc8785

from entobot.approvals import rule_store
from entobot.approvals.model import Question, Risk
from entobot.approvals.policy import judge
from entobot.approvals.rule_model import Rule
from entobot.audit.events import AuditEvent
from entobot.config_approvals import ApprovalsSettings
from entobot.core.errors import Code, Problem
from entobot.core.permissions import ALL_SCOPES, Role, Scope
from entobot.core.principal import Principal
from tests.approvals.conftest import RUN, Ask
from tests.support.agency import Agency, Event, Pocket
from tests.support.time import ManualClock

ON_EVERY_STORE = True
DAY_S = 24 * 3600

Call = Callable[..., Awaitable[Rule | None]]


def rule_text(approval: Event, conditions: dict[str, Any] | None = None, **changes: Any) -> str:
    wish = {
        "approval_id": approval["approval_id"],
        "args": conditions or {"text": {"is": "milk"}},
        "ends_in_s": DAY_S,
        "tool": "note",
    }
    return rfc8785.dumps(wish | changes).decode()


async def approve_always(agency: Agency, pocket: Pocket, approval: Event, rule: str | None = None) -> Event:
    await agency.decide(pocket, approval, "approve", rule=rule or rule_text(approval))
    listed = await agency.command(pocket.principal, "approval_rule.list")
    return listed["rows"][0]


async def rows(agency: Agency, pocket: Pocket) -> list[Event]:
    return (await agency.command(pocket.principal, "approval_rule.list"))["rows"]


@pytest.fixture
def call(agency: Agency) -> Call:
    async def let_through(text: str = "milk", risk: Risk = Risk.LOW, **changes: str) -> Rule | None:
        known = {"user_id": agency.user_id, "run_id": RUN, "conversation_id": "cnv_1", "tool_call_id": "tcl_2"}
        args = rfc8785.dumps({"text": text}).decode()
        values: dict[str, Any] = known | {"tool": "note", "args_json": args, "title": "Note"} | changes
        asked = Question(**values, risk=risk)
        judged = judge(agency.policy, asked.tool, {"text": text}, risk)
        return await agency.database.write(
            lambda tx: agency.approvals.rules.allow(tx, asked, judged.terms, agency.clock.now_ms())
        )

    return let_through


async def refusal(agency: Agency, pocket: Pocket, data: Event) -> Code:
    with pytest.raises(Problem) as caught:
        await agency.command(pocket.principal, "approval.decide", **data)
    return caught.value.code


async def test_a_call_that_a_rule_covers_goes_through_and_is_recorded(
    agency: Agency, phone: Pocket, ask: Ask, call: Call
) -> None:
    rule = await approve_always(agency, phone, await ask())
    assert await call() is not None
    assert await call("oat milk") is None
    assert await call(tool="files.write") is None
    assert await call(user_id="usr_other") is None
    (row,) = await rows(agency, phone)
    assert (row["uses"], row["state"], row["words"]) == (1, "active", ["Tool: note", 'text is exactly "milk"'])
    (used,) = agency.audit.of(AuditEvent.APPROVAL_RULE_USED)
    assert (used["tool_call_id"], used["uses"]) == ("tcl_2", 1)
    (told,) = await agency.of("approval.allowed")
    assert (told["rule_id"], told["tool_call_id"]) == (rule["rule_id"], "tcl_2")
    (made,) = await agency.of("approval_rule.changed")
    assert made == rule


async def test_a_rule_ends_with_its_time_to_the_millisecond(
    agency: Agency, phone: Pocket, ask: Ask, call: Call, clock: ManualClock
) -> None:
    await approve_always(agency, phone, await ask())
    clock.advance(DAY_S - 0.001)
    assert await call() is not None
    clock.advance(0.001)
    assert await call() is None
    assert [row["state"] for row in await rows(agency, phone)] == ["expired"]


async def test_a_rule_that_was_ended_lets_nothing_through(agency: Agency, phone: Pocket, ask: Ask, call: Call) -> None:
    rule = await approve_always(agency, phone, await ask())
    for _ in range(2):
        ended = await agency.command(phone.principal, "approval_rule.end", rule_id=rule["rule_id"])
        assert (ended["state"], ended["ended_because"], ended["ended_by"]) == ("ended", "ended", agency.user_id)
    assert await call() is None
    assert len(agency.audit.of(AuditEvent.APPROVAL_RULE_ENDED)) == 1


async def test_a_use_and_an_end_at_once_leave_no_use_after_the_end(
    agency: Agency, phone: Pocket, ask: Ask, call: Call
) -> None:
    rule = await approve_always(agency, phone, await ask())
    end = agency.command(phone.principal, "approval_rule.end", rule_id=rule["rule_id"])
    *used, _ = await asyncio.gather(*(call() for _ in range(5)), end)
    (row,) = await rows(agency, phone)
    assert row["uses"] == len([one for one in used if one is not None])
    assert await call() is None


async def test_the_rows_guard_a_rule_whoever_reads_it(agency: Agency, phone: Pocket, ask: Ask) -> None:
    """The guard of databases that run units side by side."""
    rule_id, now_ms = (await approve_always(agency, phone, await ask()))["rule_id"], agency.clock.now_ms()
    because = rule_store.Because.ENDED
    over_ms = now_ms + DAY_S * 1000
    assert await agency.database.write(
        lambda tx: [rule_store.use(tx, rule_id, over_ms), rule_store.use(tx, rule_id, over_ms - 1)]
    ) == [False, True]
    assert await agency.database.write(
        lambda tx: [
            rule_store.end(tx, rule_id, by="x", because=because, now_ms=now_ms),
            rule_store.end(tx, rule_id, by="x", because=because, now_ms=now_ms),
            rule_store.use(tx, rule_id, now_ms),
        ]
    ) == [True, False, False]


async def test_a_rule_ends_with_the_person(agency: Agency, phone: Pocket, ask: Ask, call: Call) -> None:
    await approve_always(agency, phone, await ask())
    by = Principal("usr_admin", ALL_SCOPES)
    await agency.database.write(
        lambda tx: agency.approvals.rules.end_all(tx, by, agency.user_id, agency.clock.now_ms())
    )
    assert await call() is None
    assert [row["ended_because"] for row in await rows(agency, phone)] == ["person_left"]


async def test_a_rule_is_void_while_its_maker_may_not_approve(
    agency: Agency, phone: Pocket, ask: Ask, call: Call
) -> None:
    from entobot.accounts import store as accounts

    await approve_always(agency, phone, await ask())

    async def demote(role: Role) -> None:
        await agency.database.write(
            lambda tx: accounts.change_user(tx, agency.accounts.get_user(tx, agency.user_id).given(role))
        )

    await demote(Role.VIEWER)
    assert [(row["state"], row["ended_because"]) for row in await rows(agency, phone)] == [("ended", "person_left")]
    assert await call() is None
    await demote(Role.OWNER)
    assert await call() is None  # it ended when it was found void; nothing brings it back


async def test_a_rule_dies_with_the_device_that_made_it(agency: Agency, phone: Pocket, ask: Ask, call: Call) -> None:
    await approve_always(agency, phone, await ask())
    other = await agency.pair()
    await agency.devices.revoke(Principal(agency.user_id, ALL_SCOPES), phone.principal.device_id or "")
    assert [row["ended_because"] for row in await rows(agency, other)] == ["device_revoked"]
    assert await call() is None


async def test_a_rule_is_void_once_more_is_at_stake(agency: Agency, phone: Pocket, ask: Ask, call: Call) -> None:
    await approve_always(agency, phone, await ask())
    assert await call(risk=Risk.MEDIUM) is None
    assert [row["ended_because"] for row in await rows(agency, phone)] == ["risk_rose"]
    assert await call(risk=Risk.LOW) is None


async def test_there_is_no_rule_for_high_risk(agency: Agency, phone: Pocket, ask: Ask) -> None:
    approval = await ask(risk=Risk.HIGH)
    data = agency.answer(phone, approval, "approve", rule=rule_text(approval))
    assert await refusal(agency, phone, data) is Code.RULE_NOT_ALLOWED
    assert await rows(agency, phone) == []
    listed = await agency.command(phone.principal, "approval.list", state="all")
    assert [row["state"] for row in listed["rows"]] == ["pending"]


async def test_a_rule_is_signed_as_it_stands(agency: Agency, phone: Pocket, ask: Ask) -> None:
    approval = await ask()
    signed = agency.answer(phone, approval, "approve", rule=rule_text(approval))
    wider = rule_text(approval, {"text": {"longest": 1000}})
    assert await refusal(agency, phone, signed | {"rule": wider}) is Code.SIGNATURE_INVALID
    unsigned = agency.answer(phone, approval, "approve") | {"rule": wider}
    assert await refusal(agency, phone, unsigned) is Code.SIGNATURE_INVALID
    assert await refusal(agency, phone, {k: v for k, v in signed.items() if k != "rule"}) is Code.SIGNATURE_INVALID
    assert await rows(agency, phone) == []


async def test_a_rule_is_for_the_call_that_was_approved(agency: Agency, phone: Pocket, ask: Ask) -> None:
    approval, other = await ask(), await ask()
    for rule in (
        rule_text(approval, {"text": {"is": "oat milk"}}),
        rule_text(approval, tool="files.write"),
        rule_text(other),
    ):
        assert await refusal(agency, phone, agency.answer(phone, approval, "approve", rule=rule)) is Code.INVALID
    data = agency.answer(phone, approval, "deny", rule=rule_text(approval))
    assert await refusal(agency, phone, data) is Code.INVALID


async def test_a_rule_made_with_an_edit_covers_the_edited_call(
    agency: Agency, phone: Pocket, ask: Ask, call: Call
) -> None:
    approval = await ask()
    edited = approval["action"].replace("milk", "oat milk")
    rule = rule_text(approval, {"text": {"is": "oat milk"}})
    await agency.decide(phone, approval, "approve", edited_action=edited, rule=rule)
    assert await call("oat milk") is not None
    assert await call("milk") is None


async def test_an_edit_that_puts_more_at_stake_is_refused(agency: Agency, phone: Pocket, ask: Ask) -> None:
    policies = ({"tool": "note", "args": {"text": {"is": "gin"}}, "risk": "high"},)
    agency.policy = ApprovalsSettings.model_validate({"policies": policies})
    approval = await ask(risk=Risk.MEDIUM)
    edited = approval["action"].replace("milk", "gin")
    check = {"approval_id": approval["approval_id"], "edited_action": edited}
    with pytest.raises(Problem) as told:
        await agency.command(phone.principal, "approval.check_edit", **check)
    assert told.value.code is Code.EDIT_TOO_RISKY
    data = agency.answer(phone, approval, "approve", edited_action=edited)
    assert await refusal(agency, phone, data) is Code.EDIT_TOO_RISKY
    assert (await agency.decide(phone, approval, "approve"))["state"] == "approved"


async def test_rules_are_their_peoples_own(agency: Agency, phone: Pocket, ask: Ask, call: Call) -> None:
    rule = await approve_always(agency, phone, await ask())
    stranger = replace(phone.principal, user_id="usr_other")
    with pytest.raises(Problem) as unknown:
        await agency.database.write(
            lambda tx: agency.approvals.rules.end(tx, stranger, rule["rule_id"], agency.clock.now_ms())
        )
    assert unknown.value.code is Code.NOT_FOUND
    assert await call() is not None
    admin = replace(stranger, scopes=ALL_SCOPES)
    with pytest.raises(Problem) as forbidden:
        await agency.database.read(
            lambda tx: agency.approvals.rules.list(tx, stranger, is_everybody=True, cursor=None, limit=5)
        )
    assert forbidden.value.code is Code.FORBIDDEN
    shown, _ = await agency.database.read(
        lambda tx: agency.approvals.rules.list(tx, admin, is_everybody=True, cursor=None, limit=5)
    )
    assert [one.rule_id for one in shown] == [rule["rule_id"]]
    await agency.database.write(
        lambda tx: agency.approvals.rules.end(tx, admin, rule["rule_id"], agency.clock.now_ms())
    )
    assert await call() is None


async def test_without_the_scope_no_rule_is_seen(agency: Agency, phone: Pocket) -> None:
    chatter = replace(phone.principal, scopes=frozenset({Scope.CHAT}))
    with pytest.raises(Problem) as refused:
        await agency.command(chatter, "approval_rule.list")
    assert refused.value.code is Code.FORBIDDEN
