"""A rule that lets calls through without asking: active until it expires, is ended, or is void. Pure."""

import json
from dataclasses import dataclass
from enum import StrEnum

from entobot.approvals.matching import Conditions
from entobot.approvals.model import Risk


class RuleState(StrEnum):
    ACTIVE = "active"
    ENDED = "ended"
    EXPIRED = "expired"


class Because(StrEnum):
    """Why a rule ended before its time."""

    DEVICE_REVOKED = "device_revoked"
    ENDED = "ended"
    """A person ended it."""
    PERSON_LEFT = "person_left"
    """Whoever made it, or whose runs it was for, was disabled or may not approve any more."""
    POLICY_CHANGED = "policy_changed"
    """Its maker may not decide such a call alone any more."""
    RISK_ROSE = "risk_rose"


@dataclass(frozen=True, slots=True)
class Rule:
    """`user_id` is whose runs it is for, `for_device_id` whose program, where that is one that runs elsewhere. `text` is what was signed; `conditions` of it, as JSON. `risk` is what the call
    was worth when the rule was made. `made_by_device_id` is None for one made in the dashboard. `ended_because` without `ended_at_ms`: it is void, and ends at its next use.
    """

    rule_id: str
    user_id: str
    tool: str
    text: str
    conditions_json: str
    risk: Risk
    approval_id: str
    made_by_user_id: str
    made_by_device_id: str | None
    created_at_ms: int
    expires_at_ms: int
    uses: int = 0
    last_used_at_ms: int | None = None
    ended_at_ms: int | None = None
    ended_by: str | None = None
    ended_because: Because | None = None
    for_device_id: str | None = None

    @property
    def conditions(self) -> Conditions:
        return json.loads(self.conditions_json)

    def state(self, now_ms: int) -> RuleState:
        if self.ended_because is not None:
            return RuleState.ENDED
        return RuleState.ACTIVE if now_ms < self.expires_at_ms else RuleState.EXPIRED
