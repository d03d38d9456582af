"""When a rule fires. Pure; times are milliseconds since 1970."""

from dataclasses import dataclass, replace
from enum import StrEnum

MAX_RULES = 50
"""Of one person."""
MAX_ACTIONS = 5
MAX_CHAIN = 5
"""Firings that set one another off: the next is not carried out."""
CHAIN_MS = 2 * 60_000
"""What changes so soon after a rule has commanded the thing counts as set off by that command."""
FRESH_MS = 5 * 60_000
"""A reading that is older when it arrives is history only: it says nothing of how things are now."""
MAX_LATE_MS = 15 * 60_000
"""What was to be done and could not be begun for so long is not done any more."""
MAX_ASKED_MS = 3600_000
"""So long a command waits for somebody's leave."""
STATUS = "$status"
"""Stands for the name of a reading where a rule looks at the status: no reading can be called so."""

Value = float | bool | str


class Phase(StrEnum):
    CLEAR = "clear"
    FIRED = "fired"
    """It has fired, and does so again after it was back."""
    HOLDING = "holding"
    """It holds, and fires when it is due."""


@dataclass(frozen=True, slots=True)
class Condition:
    """Of numbers `above` or `below`, over when `back`; of anything `equals` or `differs`."""

    above: float | None = None
    below: float | None = None
    equals: Value | None = None
    differs: Value | None = None
    back: float | None = None
    for_ms: int = 0

    def holds(self, value: Value) -> bool:
        if self.above is not None or self.below is not None:
            if isinstance(value, bool | str):
                return False
            return value > self.above if self.above is not None else value < (self.below or 0)
        if self.equals is not None:
            return _same(value, self.equals)
        return self.differs is not None and not _same(value, self.differs)

    def is_back(self, value: Value) -> bool:
        """Whether it is over. Between the two ends it is what it was."""
        if self.back is None or isinstance(value, bool | str):
            return not self.holds(value)
        return value <= self.back if self.above is not None else value >= self.back


def _same(one: Value, other: Value) -> bool:
    return isinstance(one, bool) == isinstance(other, bool) and one == other


@dataclass(frozen=True, slots=True)
class Watch:
    """How a rule stands with one thing. `since_ms` names what it fires for: since then it holds."""

    phase: Phase = Phase.CLEAR
    since_ms: int = 0
    due_ms: int | None = None
    seen_ms: int = 0
    value: Value = ""

    def next(self, condition: Condition, value: Value, at_ms: int) -> "Watch":
        """After something was read. What is older than what was seen changes nothing."""
        if at_ms < self.seen_ms:
            return self
        seen = replace(self, seen_ms=at_ms)
        if self.phase is Phase.CLEAR:
            if not condition.holds(value):
                return seen
            return Watch(Phase.HOLDING, at_ms, at_ms + condition.for_ms, at_ms, value)
        if condition.is_back(value):
            return Watch(seen_ms=at_ms)
        return replace(seen, value=value) if self.phase is Phase.HOLDING else seen

    def is_due(self, now_ms: int) -> bool:
        return self.phase is Phase.HOLDING and self.due_ms is not None and self.due_ms <= now_ms

    def later(self, due_ms: int) -> "Watch":
        return replace(self, due_ms=due_ms)

    def fired(self) -> "Watch":
        return replace(self, phase=Phase.FIRED, due_ms=None)


class Kind(StrEnum):
    """What a rule does."""

    ASK = "ask"
    COMMAND = "command"
    NOTIFY = "notify"


class FiringState(StrEnum):
    FIRED = "fired"
    LOOPED = "looped"
    """It seems to have set itself off again and again: nothing was done, and the rule is off."""
    MISSED = "missed"
    """Its time passed while nothing ran, and too long ago to catch up."""
    REFUSED = "refused"
    """Whoever made the rule may not see the thing any more."""


class ActionState(StrEnum):
    ASKED = "asked"
    """It waits for somebody's leave."""
    DONE = "done"
    FAILED = "failed"
    QUEUED = "queued"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Cause:
    """Why: a reading or status of a thing, or a time."""

    at_ms: int
    device_id: str | None = None
    thing: str = ""
    reading: str = ""
    value: Value | None = None
    unit: str = ""
    has_missed: bool = False
    """Earlier times passed while nothing ran."""

    @property
    def key(self) -> str:
        """The same for the same cause: a rule fires once for it."""
        return f"{self.device_id or 'time'} {self.at_ms}"


@dataclass(frozen=True, slots=True)
class Firing:
    firing_id: str
    automation_id: str
    user_id: str
    state: FiringState
    cause: Cause
    at_ms: int
    depth: int = 0
    """How many firings before it set it off."""


@dataclass(frozen=True, slots=True)
class Action:
    """What one firing does, by its place in the rule. `ref` is what was made: a command, a message, a notification."""

    action_id: str
    firing_id: str
    automation_id: str
    position: int
    kind: Kind
    body: str
    state: ActionState
    made_at_ms: int
    depth: int = 0
    device_id: str | None = None
    approval_id: str | None = None
    outcome: str = ""
    ref: str = ""
    ended_at_ms: int | None = None
