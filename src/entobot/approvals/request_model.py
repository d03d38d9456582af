"""A request of an agent outside this gateway: what it asks leave for, and what it may be told. Pure."""

from dataclasses import dataclass
from typing import Any

from entobot.approvals.action import parse_args
from entobot.approvals.model import OUTSIDE, Approval, ApprovalState, Risk

MAX_OPEN = 20
"""Of one program: who asks without end is not read."""
MIN_LIFE_S = 60
MAX_LIFE_S = 30 * 24 * 3600
USUAL_LIFE_S = 24 * 3600
MAX_TOOL_CHARACTERS = 100


@dataclass(frozen=True, slots=True)
class Wish:
    """What a program wants to do. `risk` is what it says itself; policies may say more. `takes_edits`: it carries out
    the arguments that come back, whatever they are. `key` is its own name for it.
    """

    tool: str
    args_json: str
    title: str
    risk: Risk
    takes_edits: bool
    life_s: int
    key: str | None
    callback_url: str | None = None


@dataclass(frozen=True, slots=True)
class Requester:
    """A person's program by its device, or the person in a browser or at the terminal."""

    user_id: str
    device_id: str | None

    @property
    def key(self) -> str:
        """One name for its own keys: programs of one person do not meet."""
        return self.device_id or self.user_id


@dataclass(frozen=True, slots=True)
class Request:
    """Either an approval waits for it, or a rule has let it through. `taken_at_ms`: its end was told first."""

    request_id: str
    requester: Requester
    key: str | None
    tool: str
    title: str
    args_json: str
    words_sha256: str
    risk: Risk
    created_at_ms: int
    expires_at_ms: int
    approval_id: str | None = None
    rule_id: str | None = None
    taken_at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """A request as it stands."""

    request: Request
    approval: Approval | None

    @property
    def state(self) -> ApprovalState:
        return ApprovalState.APPROVED if self.approval is None else self.approval.state

    @property
    def args(self) -> dict[str, Any]:
        """What may be done once it is approved: as it was signed."""
        if self.approval is not None and self.state is ApprovalState.APPROVED:
            return self.approval.approved_action().args
        return parse_args(self.request.args_json)

    @property
    def number(self) -> str | None:
        """The digits to show to whoever is asked, while they are."""
        is_waiting = self.approval is not None and self.state is ApprovalState.PENDING
        return self.approval.number if is_waiting and self.approval is not None else None


def outside_tool(tool: str) -> str:
    """Its name among the gateway's own: nothing that was said about those holds for it."""
    return OUTSIDE + tool
