"""Events and positions of a user's stream. Pure."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from entobot.core.permissions import Scope

SEEN_WITHIN = timedelta(seconds=10)
"""What a device has not acknowledged by then counts as not seen."""


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One durable event. `seq` grows by one per user; `event` is the JSON text of the event object.

    `scope` None means: for every device of the user. From `expires_at_ms` on it is not delivered any more.
    """

    seq: int
    at_ms: int
    scope: Scope | None
    topic: str
    event: str
    expires_at_ms: int | None = None


def has_expired(event: StreamEvent, now_ms: int) -> bool:
    return event.expires_at_ms is not None and event.expires_at_ms <= now_ms


@dataclass(frozen=True, slots=True)
class Head:
    """Where a stream stands. `stream_id` changes when history was replaced, e.g. by a restore.

    Events are kept after `trimmed_to`, without a hole: retention takes from the beginning only.
    """

    stream_id: str
    seq: int
    trimmed_to: int = 0


@dataclass(frozen=True, slots=True)
class Retention:
    """Of each user's stream the newest `keep_events` are kept, and of those none older than `keep_for`."""

    keep_events: int = 10_000
    keep_for: timedelta = timedelta(days=30)

    @property
    def slack(self) -> int:
        """How many more are let stand before a sweep takes them, so that it need not come back for each one."""
        return self.keep_events // 8


class ResetReason(StrEnum):
    AHEAD = "ahead"
    EXPIRED = "expired"
    NONE = "none"
    STREAM = "stream"


@dataclass(frozen=True, slots=True)
class Position:
    """What a device says it has seen: everything of `stream_id` up to `after`."""

    stream_id: str
    after: int


def reset_reason(position: Position | None, head: Head) -> ResetReason | None:
    """None when every event after the position can be replayed; otherwise why it cannot."""
    if position is None:
        return ResetReason.NONE
    if position.stream_id != head.stream_id:
        return ResetReason.STREAM
    if position.after > head.seq:
        return ResetReason.AHEAD
    if position.after < head.trimmed_to:
        return ResetReason.EXPIRED
    return None
