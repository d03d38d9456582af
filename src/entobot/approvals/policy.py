"""Who decides on a call, and how: from the settings to the terms that an approval is asked under. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from entobot.accounts.model import User
from entobot.approvals.action import Args
from entobot.approvals.matching import holds_for
from entobot.approvals.model import RANK, Risk
from entobot.config_approvals import REQUESTER, ROLE, ApprovalPolicy, ApprovalsSettings
from entobot.core.clock import to_ms
from entobot.core.permissions import Scope


@dataclass(frozen=True, slots=True)
class Terms:
    """What an approval was asked under; stored with it, so that all nodes judge alike and nothing changes midway.

    `deciders` and `escalate_to` are words of the settings: `requester`, logins, `role:…`.
    """

    deciders: tuple[str, ...] = (REQUESTER,)
    escalate_to: tuple[str, ...] = ()
    quorum: int = 1
    two_person: bool = False
    needs_verification: bool = False
    needs_number: bool = False
    takes_edits: bool = True
    """Whether who asked carries out other arguments than its own. The gateway's own agent does."""

    @property
    def is_editable(self) -> bool:
        """Whether other arguments may be approved: what several decide on is the same text for each of them."""
        return self.takes_edits and self.is_for_one

    @property
    def is_for_one(self) -> bool:
        """Whether one person's yes is enough, whoever of the deciders it is."""
        return self.quorum == 1 and not self.two_person

    def permits(self, user: User, requester_id: str, *, is_escalated: bool) -> bool:
        """Whether this person, as they are now, may decide."""
        if Scope.APPROVE not in user.scopes:
            return False
        if REQUESTER in self.deciders and user.user_id == requester_id:
            return True
        words = (*self.deciders, *self.escalate_to) if is_escalated else self.deciders
        return user.login in words or f"{ROLE}{user.role}" in words

    def is_met(self, approvers: Sequence[str], requester_id: str) -> bool:
        """Whether these people's yes is enough."""
        if self.two_person and set(approvers) <= {requester_id}:
            return False
        return len(set(approvers)) >= self.quorum

    def is_covered_by(self, asked: "Terms") -> bool:
        """Whether a call under these terms may be decided by people who were asked under those others."""
        same_people = set(self.deciders) == set(asked.deciders)
        return (
            same_people
            and self.quorum <= asked.quorum
            and self.two_person <= asked.two_person
            and self.needs_verification <= asked.needs_verification
            and self.needs_number <= asked.needs_number
        )

    def to_json(self) -> str:
        return msgspec.json.encode(self).decode()


def read_terms(text: str | None) -> Terms:
    """None: asked before there were terms."""
    if text is None:
        return Terms()
    return msgspec.json.decode(text, type=Terms)


@dataclass(frozen=True, slots=True)
class Judged:
    """`remind_ms`, `escalate_ms` and `expire_ms` count from the question; None: not at all, as the run says."""

    risk: Risk
    terms: Terms
    remind_ms: int | None
    escalate_ms: int | None
    expire_ms: int | None


def judge(settings: ApprovalsSettings, tool: str, args: Args, risk: Risk) -> Judged:
    """The terms for a call that its tool holds to be of `risk`."""
    fitting = [one for one in settings.policies if _is_about(one, tool, args)]
    raised = max([risk, *(Risk(one.risk) for one in fitting if one.risk)], key=RANK.__getitem__)
    policy = next((one for one in fitting if not one.for_risk or raised in one.for_risk), ApprovalPolicy())
    is_high = raised is Risk.HIGH
    return Judged(
        risk=raised,
        terms=Terms(
            deciders=policy.deciders,
            escalate_to=policy.escalate_to,
            quorum=policy.quorum,
            two_person=policy.two_person,
            needs_verification=is_high and settings.user_verification == "high",
            needs_number=is_high and settings.number_match == "high",
        ),
        remind_ms=to_ms(policy.remind_after) or None,
        escalate_ms=to_ms(policy.escalate_after) or None,
        expire_ms=to_ms(policy.expire_after) or None,
    )


def _is_about(policy: ApprovalPolicy, tool: str, args: Args) -> bool:
    is_tool = tool.startswith(policy.tool[:-1]) if policy.tool.endswith("*") else tool == policy.tool
    return is_tool and all(name in args and holds_for(one, args[name]) for name, one in policy.args.items())
