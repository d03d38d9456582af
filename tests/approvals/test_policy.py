"""Policies and terms as pure functions, and all orders of answers against a plain account of what should be."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from pydantic import ValidationError

from entobot.accounts.model import User
from entobot.approvals.model import RANK, Risk
from entobot.approvals.policy import Terms, judge, read_terms
from entobot.config_approvals import ApprovalPolicy, ApprovalsSettings
from entobot.core.permissions import Role

PEOPLE = ("requester", "ann", "bob", "eve")
RISKS = st.sampled_from(list(Risk))


def user(name: str, role: Role = Role.MEMBER) -> User:
    return User(f"usr_{name}", name.title(), role, 0, name)


@given(RISKS, st.lists(RISKS, max_size=3))
def test_no_policy_makes_a_call_less_than_its_tool_says(risk: Risk, raised: list[Risk]) -> None:
    settings = ApprovalsSettings.model_validate({"policies": [{"tool": "note", "risk": one} for one in raised]})
    judged = judge(settings, "note", {}, risk)
    assert RANK[judged.risk] == max(RANK[one] for one in (risk, *raised))
    assert judged.terms.needs_verification == judged.terms.needs_number == (judged.risk is Risk.HIGH)


def test_the_first_policy_that_fits_says_who() -> None:
    policies: list[dict[str, Any]] = [
        {"tool": "files.*", "args": {"path": {"begins": "deploy/"}}, "deciders": ["bob"]},
        {"tool": "files.write", "for_risk": ["high"], "deciders": ["eve"]},
        {"tool": "files.write", "deciders": ["ann"]},
    ]
    settings = ApprovalsSettings.model_validate({"policies": policies})

    def who(tool: str, risk: Risk = Risk.LOW, **args: Any) -> tuple[str, ...]:
        return judge(settings, tool, args, risk).terms.deciders

    assert who("files.write", path="deploy/x") == ("bob",)
    assert who("files.write", path="x") == ("ann",)
    assert who("files.write", Risk.HIGH, path="x") == ("eve",)
    assert who("files.writer", path="x") == ("requester",)
    assert who("files.list") == ("requester",)


@given(
    st.builds(
        Terms,
        deciders=st.lists(st.sampled_from(PEOPLE), min_size=1).map(tuple),
        quorum=st.integers(1, 5),
        two_person=st.booleans(),
        needs_number=st.booleans(),
    )
)
def test_terms_are_read_as_they_were_written(terms: Terms) -> None:
    assert read_terms(terms.to_json()) == terms


@pytest.mark.parametrize(
    "policy",
    [
        {"deciders": []},
        {"deciders": ["role:king"]},
        {"quorum": 2},
        {"two_person": True},
        {"escalate_after": 60},
        {"escalate_to": ["bob"]},
        {"escalate_to": ["requester"], "escalate_after": 60},
        {"risk": "none"},
    ],
)
def test_a_policy_that_cannot_work_is_refused(policy: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ApprovalPolicy.model_validate(policy)


def test_who_may_not_approve_at_all_decides_nothing() -> None:
    terms = Terms(deciders=("ann", "role:viewer"))
    assert terms.permits(user("ann"), "usr_requester", is_escalated=False)
    assert not terms.permits(user("ann", Role.VIEWER), "usr_requester", is_escalated=False)
    assert not terms.permits(user("ann").disabled(1), "usr_requester", is_escalated=False)
    assert not terms.permits(user("bob"), "usr_requester", is_escalated=False)
    late = Terms(deciders=("ann",), escalate_to=("bob",))
    assert [late.permits(user("bob"), "x", is_escalated=one) for one in (False, True)] == [False, True]


class Counting(RuleBasedStateMachine):
    """Two of four, one of them not the requester."""

    def __init__(self) -> None:
        super().__init__()
        self.terms = Terms(deciders=PEOPLE, quorum=2, two_person=True)
        self.agreed: list[str] = []

    @rule(name=st.sampled_from(PEOPLE))
    def agree(self, name: str) -> None:
        self.agreed.append(name)

    @rule()
    def somebody_leaves(self) -> None:
        del self.agreed[:1]

    @invariant()
    def enough_is_two_people_and_never_the_requester_alone(self) -> None:
        people = set(self.agreed)
        assert self.terms.is_met(self.agreed, "requester") == (len(people) >= 2 and people != {"requester"})


TestCounting = Counting.TestCase
