"""Alerts, the messages about them, and when a rule fires. Pure."""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from entobot.config_alerts import AlertRule
from entobot.core.alert_rules import RULES, Rule, RuleId, Severity
from entobot.core.clock import to_ms

Facts = Mapping[str, str | int | float | bool | None]


class State(StrEnum):
    ACKNOWLEDGED = "acknowledged"
    CLEARED = "cleared"
    FIRING = "firing"


class MessageKind(StrEnum):
    CLEARED = "cleared"
    DIGEST = "digest"
    FIRED = "fired"
    TEST = "test"


class MessageState(StrEnum):
    FAILED = "failed"
    FOLDED = "folded"
    """It is one of those that a digest told of."""
    QUEUED = "queued"
    SENT = "sent"


@dataclass(frozen=True, slots=True)
class Alert:
    """`subject` is the id or name of the thing where each has an alert of its own, else empty. `node` is empty for what
    all nodes share. `facts` hold ids, names of our own and numbers: no personal data, no secrets.
    """

    alert_id: str
    rule: RuleId
    subject: str
    node: str
    severity: Severity
    state: State
    first_at_ms: int
    last_at_ms: int
    count: int
    facts: Facts
    acknowledged_by: str | None = None
    acknowledged_at_ms: int | None = None
    cleared_at_ms: int | None = None

    @property
    def title(self) -> str:
        return RULES[self.rule].title


@dataclass(frozen=True, slots=True)
class Message:
    """One message about one alert (a digest: about several) to one channel. `reason` is why the last attempt failed."""

    message_id: str
    alert_id: str
    channel: str
    kind: MessageKind
    state: MessageState
    attempts: int
    made_at_ms: int
    due_at_ms: int
    ended_at_ms: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class Watched:
    """A rule as the settings have it."""

    id: RuleId
    rule: Rule
    is_enabled: bool
    threshold: float
    window_ms: int

    def is_beyond(self, value: float) -> bool:
        return self.rule.is_beyond(value, self.threshold)

    def is_over(self, value: float) -> bool:
        return self.rule.is_over(value, self.threshold)


def watched(changes: Iterable[AlertRule]) -> dict[RuleId, Watched]:
    """Every rule, with what the settings change of it."""
    by_id = {one.id: one for one in changes}
    return {rule_id: _watched(rule_id, rule, by_id.get(rule_id)) for rule_id, rule in RULES.items()}


def _watched(rule_id: RuleId, rule: Rule, change: AlertRule | None) -> Watched:
    if change is None:
        return Watched(rule_id, rule, is_enabled=True, threshold=rule.threshold, window_ms=to_ms(rule.window))
    return Watched(
        rule_id,
        rule,
        is_enabled=change.enabled,
        threshold=rule.threshold if change.threshold is None else change.threshold,
        window_ms=to_ms(rule.window if change.window is None else change.window),
    )


class Step(StrEnum):
    CLEAR = "clear"
    FIRE = "fire"
    STAY = "stay"


@dataclass(slots=True)
class Judge:
    """Whether a number begins or ends an alert. `now_ms` must not go back: monotonic time.

    It fires when the value was beyond the threshold for `hold_ms` without a break, and once: `is_open` says that there
    is an alert already. It ends when the value is well behind the threshold.
    """

    of: Watched
    hold_ms: int
    beyond_since_ms: int | None = None

    def step(self, value: float, now_ms: int, *, is_open: bool) -> Step:
        if not self.of.is_beyond(value):
            self.beyond_since_ms = None
            return Step.CLEAR if is_open and self.of.is_over(value) else Step.STAY
        if self.beyond_since_ms is None:
            self.beyond_since_ms = now_ms
        if is_open or now_ms - self.beyond_since_ms < self.hold_ms:
            return Step.STAY
        return Step.FIRE


@dataclass(slots=True)
class Growth:
    """How much a counter grew within the window, from what it was seen at. A counter that begins anew begins at 0."""

    window_ms: int
    _seen: deque[tuple[int, float]] = field(default_factory=deque[tuple[int, float]])

    def of(self, total: float, now_ms: int) -> float:
        seen = self._seen
        if seen and total < seen[-1][1]:
            seen.clear()
        seen.append((now_ms, total))
        while len(seen) > 1 and seen[1][0] <= now_ms - self.window_ms:
            seen.popleft()
        return total - seen[0][1]
