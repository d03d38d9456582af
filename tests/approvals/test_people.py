"""Who is asked, who may decide, how many have to agree, and who is asked later."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from entobot.accounts import store as accounts_store
from entobot.accounts.model import User
from entobot.approvals.model import Risk
from entobot.audit.events import AuditEvent
from entobot.config_approvals import ApprovalsSettings
from entobot.core.errors import Code, Problem
from entobot.core.ids import Prefix
from entobot.core.permissions import ALL_SCOPES, Role
from entobot.core.principal import Principal
from tests.approvals.conftest import Ask
from tests.approvals.test_rules import rule_text
from tests.support.agency import Agency, Event, Pocket
from tests.support.time import ManualClock

ON_EVERY_STORE = True
MINUTE_S = 60


def policy(agency: Agency, **members: Any) -> None:
    """The one policy of this test, without digits and passkeys."""
    agency.policy = ApprovalsSettings.model_validate(
        {"policies": [members], "user_verification": "never", "number_match": "never"}
    )


async def person(agency: Agency, login: str, role: Role = Role.MEMBER) -> Pocket:
    """Somebody with a phone."""
    user = User(agency.ids.new(Prefix.USER), login.title(), role, agency.clock.now_ms(), login)
    await agency.database.write(lambda tx: agency.accounts.insert(tx, user))
    return await agency.pair(user_id=user.user_id)


async def told(agency: Agency, pocket: Pocket, kind: str) -> list[Event]:
    import json

    events = await agency.database.read(lambda tx: agency.stream.after(tx, pocket.principal.user_id, 0, 1000))
    found = [json.loads(one.event) for one in events]
    return [one["data"] for one in found if one["type"] == kind]


async def asked(agency: Agency, pocket: Pocket) -> Event:
    return (await told(agency, pocket, "approval.requested"))[-1]


async def refusal(agency: Agency, pocket: Pocket, approval: Event, decision: str = "approve", **changes: Any) -> Code:
    with pytest.raises(Problem) as caught:
        await agency.decide(pocket, approval, decision, **changes)
    return caught.value.code


async def pending(agency: Agency, pocket: Pocket) -> list[str]:
    listed = await agency.command(pocket.principal, "approval.list")
    return [row["approval_id"] for row in listed["rows"]]


async def test_two_of_three_have_to_agree(agency: Agency, phone: Pocket, ask: Ask) -> None:
    ann, bob, eve = [await person(agency, name) for name in ("ann", "bob", "eve")]
    policy(agency, deciders=["ann", "bob", "eve"], quorum=2)
    approval = await ask()
    assert await pending(agency, phone) == [approval["approval_id"]]
    assert (approval["may_decide"], approval["quorum"], approval["for_user_id"]) == (False, 2, agency.user_id)
    assert await refusal(agency, phone, approval) is Code.FORBIDDEN
    row = await agency.decide(ann, await asked(agency, ann), "approve")
    assert (row["state"], [vote["name"] for vote in row["votes"]]) == ("pending", ["Ann"])
    assert await refusal(agency, ann, approval) is Code.APPROVAL_ALREADY_ANSWERED
    (voted,) = await told(agency, phone, "approval.voted")
    assert voted["vote"]["device_id"] == ann.principal.device_id
    row = await agency.decide(bob, await asked(agency, bob), "approve")
    assert (row["state"], row["decision"]) == ("approved", "approve")
    for pocket in (phone, ann, bob, eve):
        assert [one["decision"] for one in await told(agency, pocket, "approval.decided")] == ["approve"]
    assert await refusal(agency, eve, approval) is Code.APPROVAL_ALREADY_DECIDED


async def test_the_first_no_ends_it(agency: Agency, ask: Ask) -> None:
    ann, bob = await person(agency, "ann"), await person(agency, "bob")
    policy(agency, deciders=["ann", "bob"], quorum=2)
    approval = await ask()
    await agency.decide(ann, approval, "approve")
    row = await agency.decide(bob, approval, "deny", reason="not today")
    assert row["state"] == "denied"
    assert {vote["name"]: vote["reason"] for vote in row["votes"]} == {"Ann": None, "Bob": "not today"}


@pytest.mark.parametrize(("first", "second"), [("approve", "approve"), ("approve", "deny"), ("deny", "approve")])
async def test_answers_at_once_are_counted_one_by_one(agency: Agency, ask: Ask, first: str, second: str) -> None:
    ann, bob = await person(agency, "ann"), await person(agency, "bob")
    policy(agency, deciders=["ann", "bob"], quorum=2)
    approval = await ask()
    await asyncio.gather(
        agency.decide(ann, approval, first), agency.decide(bob, approval, second), return_exceptions=True
    )
    listed = await agency.command(ann.principal, "approval.list", state="all")
    state = "approved" if (first, second) == ("approve", "approve") else "denied"
    assert [row["state"] for row in listed["rows"]] == [state]


async def test_the_person_for_whom_the_agent_works_is_not_enough(agency: Agency, phone: Pocket, ask: Ask) -> None:
    boss = await person(agency, "boss", Role.ADMIN)
    policy(agency, deciders=["requester", "role:admin"], two_person=True)
    approval = await ask()
    assert (await agency.decide(phone, approval, "approve"))["state"] == "pending"
    assert (await agency.decide(boss, approval, "approve"))["state"] == "approved"
    again = await ask()
    assert (await agency.decide(boss, again, "approve"))["state"] == "approved"


async def test_who_was_not_asked_finds_nothing(agency: Agency, phone: Pocket, ask: Ask) -> None:
    stranger = await person(agency, "stranger")
    approval = await ask()
    assert await pending(agency, stranger) == []
    assert await refusal(agency, stranger, approval) is Code.NOT_FOUND


async def test_a_role_counts_as_it_is_when_the_answer_comes(agency: Agency, ask: Ask) -> None:
    boss = await person(agency, "boss", Role.ADMIN)
    policy(agency, deciders=["role:admin"])
    approval = await ask()

    def demote(tx: Any) -> None:
        user = agency.accounts.get_user(tx, boss.principal.user_id)
        accounts_store.change_user(tx, user.given(Role.MEMBER))

    await agency.database.write(demote)
    assert await refusal(agency, boss, approval) is Code.FORBIDDEN


async def test_who_leaves_decides_nothing_and_their_yes_counts_no_more(agency: Agency, ask: Ask) -> None:
    ann, bob, eve = [await person(agency, name) for name in ("ann", "bob", "eve")]
    policy(agency, deciders=["ann", "bob", "eve"], quorum=2)
    approval = await ask()
    await agency.decide(ann, approval, "approve")
    by = Principal(agency.user_id, ALL_SCOPES)
    now_ms = agency.clock.now_ms()
    await agency.database.write(lambda tx: agency.approvals.end_all(tx, by, ann.principal.user_id, now_ms))
    assert await refusal(agency, ann, approval) is Code.FORBIDDEN
    assert (await agency.decide(bob, approval, "approve"))["state"] == "pending"
    assert (await agency.decide(eve, approval, "approve"))["state"] == "approved"


async def test_the_yes_of_a_device_that_was_revoked_counts_no_more(agency: Agency, ask: Ask) -> None:
    ann, bob, eve = [await person(agency, name) for name in ("ann", "bob", "eve")]
    policy(agency, deciders=["ann", "bob", "eve"], quorum=2)
    approval = await ask()
    await agency.decide(ann, approval, "approve")
    await agency.devices.revoke(Principal(agency.user_id, ALL_SCOPES), ann.principal.device_id or "")
    assert (await agency.decide(bob, approval, "approve"))["state"] == "pending"
    assert (await agency.decide(eve, approval, "approve"))["state"] == "approved"


async def test_what_several_decide_on_is_not_edited_and_gets_no_rule(agency: Agency, ask: Ask) -> None:
    ann, bob = await person(agency, "ann"), await person(agency, "bob")
    policy(agency, deciders=["ann", "bob"], quorum=2)
    approval = await ask()
    assert approval["may_edit"] is False
    edited = approval["action"].replace("milk", "oat milk")
    assert await refusal(agency, ann, approval, edited_action=edited) is Code.EDIT_TOO_RISKY
    await agency.decide(ann, approval, "approve")
    assert await refusal(agency, bob, approval, rule=rule_text(approval)) is Code.RULE_NOT_ALLOWED


async def test_an_edit_does_not_get_around_other_peoples_say(agency: Agency, phone: Pocket, ask: Ask) -> None:
    await person(agency, "boss", Role.ADMIN)
    policy(agency, args={"text": {"begins": "pay "}}, deciders=["role:admin"])
    approval = await ask()
    edited = approval["action"].replace("milk", "pay Eve")
    assert await refusal(agency, phone, approval, edited_action=edited) is Code.EDIT_TOO_RISKY


async def test_a_rule_lets_nothing_through_that_others_decide_on(agency: Agency, phone: Pocket, ask: Ask) -> None:
    approval = await ask()
    await agency.decide(phone, approval, "approve", rule=rule_text(approval))
    await person(agency, "boss", Role.ADMIN)
    policy(agency, deciders=["role:admin"])
    again = await ask()
    assert again["approval_id"] != approval["approval_id"]
    listed = await agency.command(phone.principal, "approval_rule.list")
    assert [row["ended_because"] for row in listed["rows"]] == ["policy_changed"]


async def test_the_terms_of_the_question_hold_whatever_the_policy_becomes(
    agency: Agency, phone: Pocket, ask: Ask
) -> None:
    approval = await ask()
    policy(agency, deciders=["nobody"])
    assert (await agency.decide(phone, approval, "approve"))["state"] == "approved"


async def test_others_are_asked_after_the_time_to_escalate(
    agency: Agency, phone: Pocket, ask: Ask, clock: ManualClock
) -> None:
    boss = await person(agency, "boss", Role.ADMIN)
    policy(agency, escalate_after=300, escalate_to=["role:admin"])
    approval = await ask()
    clock.advance(299)
    await agency.approvals.sweep(agency.database, clock.now_ms())
    assert await told(agency, boss, "approval.requested") == []
    assert await refusal(agency, boss, approval) is Code.NOT_FOUND
    clock.advance(1)
    for _ in range(2):
        await agency.approvals.sweep(agency.database, clock.now_ms())
    (escalated,) = await told(agency, boss, "approval.requested")
    assert (escalated["approval_id"], escalated["may_decide"]) == (approval["approval_id"], True)
    assert len(agency.audit.of(AuditEvent.APPROVAL_ESCALATED)) == 1
    assert (await agency.decide(boss, escalated, "approve"))["state"] == "approved"
    assert await refusal(agency, phone, approval) is Code.APPROVAL_ALREADY_DECIDED


async def test_everybody_who_has_not_answered_is_reminded_once(agency: Agency, ask: Ask, clock: ManualClock) -> None:
    ann, bob = await person(agency, "ann"), await person(agency, "bob")
    policy(agency, deciders=["ann", "bob"], quorum=2, remind_after=60)
    approval = await ask()
    await agency.decide(ann, approval, "approve")
    for seconds in (59, 1, 600):
        clock.advance(seconds)
        await agency.approvals.sweep(agency.database, clock.now_ms())
    assert await told(agency, ann, "approval.prompted") == []
    assert len(await told(agency, bob, "approval.prompted")) == 1


async def test_nobody_is_asked_aloud_more_than_five_times_in_ten_minutes(
    agency: Agency, phone: Pocket, ask: Ask, clock: ManualClock
) -> None:
    policy(agency, remind_after=0)
    approvals: list[Event] = []
    for _ in range(7):
        clock.advance(0.001)
        approvals.append(await ask())
    assert [one["queued"] for one in approvals] == [False] * 5 + [True] * 2
    listed = await agency.command(phone.principal, "approval.list")
    assert [row["queued"] for row in reversed(listed["rows"])] == [False] * 5 + [True] * 2
    await agency.decide(phone, approvals[0], "approve")
    clock.advance(10 * MINUTE_S - 1.01)
    await agency.approvals.sweep(agency.database, clock.now_ms())
    assert await told(agency, phone, "approval.prompted") == []
    await agency.decide(phone, approvals[5], "deny")  # what waits quietly can be decided
    clock.advance(1.01)
    await agency.approvals.sweep(agency.database, clock.now_ms())
    prompted = await told(agency, phone, "approval.prompted")
    assert [one["approval_id"] for one in prompted] == [approvals[6]["approval_id"]]


async def test_a_policy_decides_how_long_is_waited(agency: Agency, phone: Pocket, ask: Ask, clock: ManualClock) -> None:
    policy(agency, tool="no*", expire_after=60)
    approval = await ask()
    clock.advance(60)
    assert await refusal(agency, phone, approval) is Code.APPROVAL_EXPIRED


async def test_the_digits_are_told_to_the_asking_side_alone_and_bounded(
    agency: Agency, phone: Pocket, ask: Ask
) -> None:
    other = await agency.pair()
    agency.policy = ApprovalsSettings(user_verification="never")
    approval = await ask(risk=Risk.HIGH, asked_by_device_id=other.principal.device_id)
    assert approval["needs_number"] is True
    assert "number" not in approval
    approval_id = approval["approval_id"]
    number = (await agency.command(other.principal, "approval.number", approval_id=approval_id))["number"]
    assert number.isdecimal()
    assert len(number) == 2
    with pytest.raises(Problem) as refused:
        await agency.command(phone.principal, "approval.number", approval_id=approval_id)
    assert refused.value.code is Code.FORBIDDEN
    assert await refusal(agency, phone, approval) is Code.NUMBER_REQUIRED
    wrong = "10" if number != "10" else "11"
    signed = agency.answer(phone, approval, "approve", number=wrong)
    with pytest.raises(Problem) as swapped:
        await agency.command(phone.principal, "approval.decide", **signed | {"number": number})
    assert swapped.value.code is Code.SIGNATURE_INVALID
    assert await refusal(agency, phone, approval, number=wrong) is Code.NUMBER_WRONG
    assert await refusal(agency, phone, approval, number=wrong) is Code.NUMBER_WRONG
    assert (await pending(agency, phone)) == [approval_id]
    assert await refusal(agency, phone, approval, number=wrong) is Code.NUMBER_WRONG
    assert await refusal(agency, phone, approval, number=number) is Code.APPROVAL_ALREADY_DECIDED
    listed = await agency.command(phone.principal, "approval.list", state="all")
    assert [row["state"] for row in listed["rows"]] == ["denied"]


async def test_with_the_right_digits_it_is_approved_and_no_digits_are_needed_to_say_no(
    agency: Agency, phone: Pocket, ask: Ask
) -> None:
    agency.policy = ApprovalsSettings(user_verification="never")
    first, second = await ask(risk=Risk.HIGH), await ask(risk=Risk.HIGH)
    browser = replace(phone.principal, device_id=None, session_id="ses_1")
    number = await agency.database.read(lambda tx: agency.approvals.number_for(tx, browser, first["approval_id"]))
    assert (await agency.decide(phone, first, "approve", number=number))["state"] == "approved"
    assert (await agency.decide(phone, second, "deny"))["state"] == "denied"


async def test_without_a_passkey_nothing_of_high_risk_is_approved(agency: Agency, phone: Pocket, ask: Ask) -> None:
    agency.policy = ApprovalsSettings(number_match="never")
    approval = await ask(risk=Risk.HIGH)
    assert await refusal(agency, phone, approval) is Code.USER_VERIFICATION_REQUIRED
    assert (await agency.decide(phone, approval, "deny"))["state"] == "denied"


async def test_a_vote_says_from_where_it_came(agency: Agency, phone: Pocket, ask: Ask) -> None:
    pocket = Pocket(phone.key, replace(phone.principal, address="192.0.2.7"))
    row = await agency.decide(pocket, await ask(), "approve")
    assert [(vote["address"], vote["verified"]) for vote in row["votes"]] == [("192.0.2.7", "key")]
    assert agency.audit.of(AuditEvent.APPROVAL_DECIDED)[-1]["address"] == "192.0.2.7"
