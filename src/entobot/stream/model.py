"""Events and positions of a user's stream. Pure."""

from dataclasses import dataclass
from enum import StrEnum

from entobot.core.permissions import Scope


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One durable event. `seq` grows by one per user; `event` is the JSON text of the event object.

    `scope` None means: for every device of the user.
    """

    seq: int
    at_ms: int
    scope: Scope | None
    topic: str
    event: str


@dataclass(frozen=True, slots=True)
class Head:
    """Where a stream stands. `stream_id` changes when history was replaced, e.g. by a restore."""

    stream_id: str
    seq: int


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


def reset_reason(position: Position | None, head: Head, first_seq: int) -> ResetReason | None:
    """None when every event after the position can be replayed; otherwise why it cannot."""
    if position is None:
        return ResetReason.NONE
    if position.stream_id != head.stream_id:
        return ResetReason.STREAM
    if position.after > head.seq:
        return ResetReason.AHEAD
    if position.after < first_seq - 1:
        return ResetReason.EXPIRED
    return None
