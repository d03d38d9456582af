"""Checking a decision, as a pure function."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entobot.approvals.action import Action, action_text
from entobot.approvals.model import (
    Answer,
    Approval,
    ApprovalState,
    Decision,
    Risk,
    check_answer,
    check_open,
)
from entobot.core.errors import Code, Problem
from entobot.core.secrets import sha256_b64u
from tests.support.agency import ORIGIN

NOW = 1_790_000_000_000
ACTION = action_text(Action("apr_1", "run_1", "note", {"text": "milk"}))
EDITED = action_text(Action("apr_1", "run_1", "note", {"text": "oat milk"}))
APPROVAL = Approval(
    approval_id="apr_1",
    user_id="usr_1",
    run_id="run_1",
    conversation_id="cnv_1",
    tool_call_id="tcl_1",
    tool="note",
    action=ACTION,
    title="Note",
    risk=Risk.LOW,
    state=ApprovalState.PENDING,
    created_at_ms=NOW - 10_000,
    expires_at_ms=NOW + 3_600_000,
)


def answer(**changes: Any) -> Answer:
    return replace(Answer("apr_1", Decision.APPROVE, sha256_b64u(ACTION)), **changes)


def signed(given_answer: Answer, **changes: Any) -> dict[str, object]:
    edited = given_answer.edited_action
    payload: dict[str, object] = {
        "aud": ORIGIN,
        "approval_id": "apr_1",
        "decision": str(given_answer.decision),
        "action_sha256": given_answer.action_sha256,
        "edited_sha256": None if edited is None else sha256_b64u(edited),
        "reason": given_answer.reason,
        "iat": NOW // 1000,
        "jti": "j",
    }
    return payload | changes


def check(given_answer: Answer, payload: dict[str, object], approval: Approval = APPROVAL) -> Action | None:
    return check_answer(approval, given_answer, payload, audience=ORIGIN, now_ms=NOW)


def refusal_of(given_answer: Answer, payload: dict[str, object], approval: Approval = APPROVAL) -> Code:
    with pytest.raises(Problem) as refusal:
        check(given_answer, payload, approval)
    return refusal.value.code


def test_a_decision_that_says_what_it_signs_is_taken() -> None:
    assert check(answer(), signed(answer())) is None
    denial = answer(decision=Decision.DENY, reason="no")
    assert check(denial, signed(denial)) is None
    edit = answer(edited_action=EDITED)
    assert check(edit, signed(edit)) == Action("apr_1", "run_1", "note", {"text": "oat milk"})


CASES = [
    answer(),
    answer(decision=Decision.DENY),
    answer(decision=Decision.DENY, reason="not now"),
    answer(edited_action=EDITED),
    answer(edited_action=EDITED, reason="oats"),
]


def altered(text: str, place: int, by: int) -> str:
    place %= len(text)
    return text[:place] + chr((ord(text[place]) + by) % 0x250) + text[place + 1 :]


@given(st.sampled_from(CASES), st.integers(0, 500), st.integers(1, 0x200), st.data())
def test_any_changed_character_of_what_was_signed_is_refused(
    given_answer: Answer, place: int, by: int, data: st.DataObject
) -> None:
    """The signature stays as it was; the frame or our row differs from it in one character."""
    payload = signed(given_answer)
    parts = ["action", "action_sha256", "decision", "reason", "edited_action"]
    part = data.draw(st.sampled_from(parts))
    approval, changed = APPROVAL, given_answer
    if part == "action":
        approval = replace(APPROVAL, action=altered(ACTION, place, by))
    elif part == "action_sha256":
        changed = replace(given_answer, action_sha256=altered(given_answer.action_sha256, place, by))
    elif part == "decision":
        other = Decision.DENY if given_answer.decision is Decision.APPROVE else Decision.APPROVE
        changed = replace(given_answer, decision=other)
    else:
        present = getattr(given_answer, part)
        changed = replace(given_answer, **{part: "added" if present is None else altered(present, place, by)})
    assert refusal_of(changed, payload, approval) in (Code.HASH_MISMATCH, Code.SIGNATURE_INVALID)


@given(st.sampled_from(CASES), st.data())
def test_any_changed_member_of_the_payload_is_refused(given_answer: Answer, data: st.DataObject) -> None:
    payload = signed(given_answer)
    name = data.draw(st.sampled_from(sorted(set(payload) - {"iat", "jti"})))
    value = data.draw(st.none() | st.booleans() | st.integers() | st.text(max_size=50) | st.just([payload[name]]))
    if value != payload[name] or type(value) is not type(payload[name]):
        assert refusal_of(given_answer, payload | {name: value}) is Code.SIGNATURE_INVALID


@pytest.mark.parametrize(
    "name", ["aud", "approval_id", "decision", "action_sha256", "edited_sha256", "reason", "iat", "jti"]
)
def test_a_missing_member_is_refused(name: str) -> None:
    payload = signed(answer())
    del payload[name]
    assert refusal_of(answer(), payload) is Code.SIGNATURE_INVALID


def test_a_further_member_is_refused() -> None:
    assert refusal_of(answer(), signed(answer(), more=1)) is Code.SIGNATURE_INVALID


@pytest.mark.parametrize(
    ("iat", "is_taken"),
    [
        ((NOW - 10_000) // 1000 - 60, True),
        ((NOW - 10_000) // 1000 - 61, False),
        (NOW // 1000 + 60, True),
        (NOW // 1000 + 61, False),
        (True, False),
        (str(NOW // 1000), False),
        (NOW / 1000, False),
        (10**400, False),
    ],
)
def test_it_was_signed_after_the_question_and_not_in_the_future(iat: object, is_taken: bool) -> None:
    if is_taken:
        assert check(answer(), signed(answer(), iat=iat)) is None
    else:
        assert refusal_of(answer(), signed(answer(), iat=iat)) is Code.SIGNATURE_INVALID


@pytest.mark.parametrize(("late_s", "is_taken"), [(-61, False), (-60, True), (0, True), (60, True), (61, False)])
def test_what_was_asked_before_the_clock_was_set_back_can_be_decided_at_once(late_s: int, is_taken: bool) -> None:
    now_ms = APPROVAL.created_at_ms - 3_600_000
    payload = signed(answer(), iat=now_ms // 1000 + late_s)
    if is_taken:
        assert check_answer(APPROVAL, answer(), payload, audience=ORIGIN, now_ms=now_ms) is None
    else:
        with pytest.raises(Problem) as refused:
            check_answer(APPROVAL, answer(), payload, audience=ORIGIN, now_ms=now_ms)
        assert refused.value.code is Code.SIGNATURE_INVALID


@pytest.mark.parametrize("jti", ["", "j" * 65, None, 7])
def test_it_names_itself(jti: object) -> None:
    assert refusal_of(answer(), signed(answer(), jti=jti)) is Code.SIGNATURE_INVALID


@pytest.mark.parametrize(
    "edited",
    [
        action_text(Action("apr_2", "run_1", "note", {})),
        action_text(Action("apr_1", "run_2", "note", {})),
        action_text(Action("apr_1", "run_1", "files.write", {})),
    ],
)
def test_an_edit_changes_arguments_only(edited: str) -> None:
    edit = answer(edited_action=edited)
    assert refusal_of(edit, signed(edit)) is Code.INVALID


def test_a_denial_edits_nothing() -> None:
    edit = answer(edited_action=EDITED, decision=Decision.DENY)
    assert refusal_of(edit, signed(edit)) is Code.INVALID


@pytest.mark.parametrize(
    ("state", "now_ms", "code"),
    [
        (ApprovalState.PENDING, APPROVAL.expires_at_ms - 1, None),
        (ApprovalState.PENDING, APPROVAL.expires_at_ms, Code.APPROVAL_EXPIRED),
        (ApprovalState.EXPIRED, NOW, Code.APPROVAL_EXPIRED),
        (ApprovalState.APPROVED, NOW, Code.APPROVAL_ALREADY_DECIDED),
        (ApprovalState.DENIED, NOW, Code.APPROVAL_ALREADY_DECIDED),
        (ApprovalState.CANCELLED, NOW, Code.APPROVAL_ALREADY_DECIDED),
        (ApprovalState.APPROVED, APPROVAL.expires_at_ms, Code.APPROVAL_ALREADY_DECIDED),
    ],
)
def test_only_what_is_pending_and_not_overdue_can_be_decided(
    state: ApprovalState, now_ms: int, code: Code | None
) -> None:
    if code is None:
        check_open(replace(APPROVAL, state=state), now_ms)
        return
    with pytest.raises(Problem) as refusal:
        check_open(replace(APPROVAL, state=state), now_ms)
    assert refusal.value.code is code


@pytest.mark.parametrize("state", [s for s in ApprovalState if s is not ApprovalState.APPROVED])
def test_nothing_but_an_approved_action_can_be_executed(state: ApprovalState) -> None:
    with pytest.raises(AssertionError):
        replace(APPROVAL, state=state).approved_action()


def test_what_is_executed_is_what_was_signed_last() -> None:
    approved = replace(APPROVAL, state=ApprovalState.APPROVED)
    assert approved.approved_action().args == {"text": "milk"}
    assert replace(approved, edited_action=EDITED).approved_action().args == {"text": "oat milk"}
