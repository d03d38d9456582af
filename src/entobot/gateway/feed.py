"""What a hub needs from the features: the durable log, snapshots, texts being written, device standing. Ports."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from entobot.core.errors import Problem
from entobot.core.permissions import Scope
from entobot.core.principal import Principal
from entobot.gateway.wire import Close, Resume
from entobot.storage.database import Transaction


class LoggedEvent(Protocol):
    """A durable event; see `stream.model.StreamEvent`."""

    @property
    def seq(self) -> int: ...
    @property
    def at_ms(self) -> int: ...
    @property
    def scope(self) -> Scope | None: ...
    @property
    def topic(self) -> str: ...
    @property
    def event(self) -> str: ...
    @property
    def expires_at_ms(self) -> int | None: ...


class EventsGone(Exception):  # noqa: N818  reads as what happened
    """Retention took events that were asked for: only a snapshot stands for them now."""


@dataclass(frozen=True, slots=True)
class Opening:
    """Where a connection starts.

    `reset` None: everything after `after` is replayed, then live. Otherwise `snapshot` holds all state up to `seq`.
    `seen` is what the device has acknowledged so far.
    """

    stream_id: str
    seq: int
    after: int
    reset: str | None
    snapshot: dict[str, list[object] | int] | None
    seen: int = 0


@dataclass(frozen=True, slots=True)
class Writing:
    """An assistant message that is being written, as the live events (JSON text) that show it from its beginning."""

    message_id: str
    length: int
    topic: str
    scope: Scope | None
    at_ms: int
    events: Sequence[str]


@dataclass(frozen=True, slots=True)
class Standing:
    """Why a connected device may not go on; None in its place means that it may."""

    code: Close
    reason: str


@dataclass(frozen=True, slots=True)
class Feed:
    """Filled by the composition root. All but `writing` are units of work.

    `open(tx, principal, resume)` finds where to start, on one snapshot · `after(tx, user_id, seq, count)` reads the
    log, expired events included, at most `count` and a bounded size, none at the end of the log, and raises EventsGone · `standing(tx, principal)` says whether the device is still as it was when it authenticated ·
    `acknowledge(tx, device_id, user_id, seq, now_ms)` notes what was seen · `writing(user_id)` is in memory.
    """

    open: Callable[[Transaction, Principal, Resume | None], Opening]
    after: Callable[[Transaction, str, int, int], Sequence[LoggedEvent]]
    standing: Callable[[Transaction, Principal], Standing | None]
    acknowledge: Callable[[Transaction, str, str, int, int], None]
    writing: Callable[[str], Sequence[Writing]]


def standing_of(feed: Feed, tx: Transaction, principal: Principal) -> Standing | None:
    """`feed.standing`; a device that is not there any more counts as revoked, so that it hides nobody else's."""
    try:
        return feed.standing(tx, principal)
    except Problem:
        return Standing(Close.REVOKED, "this device is gone")
