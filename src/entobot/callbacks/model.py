"""A callback: waiting → due → sending → delivered | failed. Pure."""

from dataclasses import dataclass
from enum import StrEnum

MAX_REASON_CHARACTERS = 300
BACKOFF_S = (5, 60, 300, 1800, 7200, 18_000, 36_000, 36_000)
"""From one try to the next; after the last it has failed. A little more than a day in all."""


class State(StrEnum):
    DELIVERED = "delivered"
    """The receiver answered 2xx."""
    DUE = "due"
    """What was asked has ended; it is posted at `next_at_ms`."""
    FAILED = "failed"
    SENDING = "sending"
    WAITING = "waiting"
    """Nobody has answered yet."""


class Kind(StrEnum):
    APPROVAL_REQUEST = "approval_request"
    QUESTION = "question"


@dataclass(frozen=True, slots=True)
class Callback:
    """`subject` is what was asked, by `user_id` with `device_id`. `tries` counts those that were begun."""

    callback_id: str
    subject: str
    kind: Kind
    user_id: str
    device_id: str | None
    url: str
    state: State
    created_at_ms: int
    next_at_ms: int | None = None
    tries: int = 0
    node: str = ""
    reason: str = ""
    ended_at_ms: int | None = None


def again_after_s(tries: int) -> int | None:
    """Seconds to the next try, after so many; None when that was the last."""
    return BACKOFF_S[tries - 1] if tries <= len(BACKOFF_S) else None
