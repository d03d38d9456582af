"""Things as they stand: readings, status, commands. Pure; times are milliseconds since 1970."""

from dataclasses import dataclass
from enum import StrEnum

MAX_NAMES = 64
"""Of readings of one thing."""
MAX_WAITING = 32
"""Commands of one thing that are not over."""
MAX_EVENTS = 200
"""Of one thing that are kept."""
AHEAD_MS = 5 * 60_000
"""So far a board's clock may be ahead of ours."""
KNOWN_BATCH_MS = 30 * 24 * 3600_000
"""So long a batch that is sent again is known."""

GRACE_MS = 15 * 60_000
"""So long at most nobody is called silent after somebody began to listen."""
MAX_NUMBER = 1e100
"""Of a reading, above or below nought: sums of many, and their squares, stay numbers."""

Value = float | bool | str


class ThingStatus(StrEnum):
    NEVER = "never"
    """It was given a type, and has not spoken yet."""
    OFFLINE = "offline"
    ONLINE = "online"
    STALE = "stale"


class Kind(StrEnum):
    """What a series holds, as its newest reading says."""

    BOOLEAN = "boolean"
    NUMBER = "number"
    TEXT = "text"


class Refusal(StrEnum):
    """Why something that a board said changes nothing."""

    COMMAND = "command"
    """A result for a command that is over, or somebody else's."""
    KIND = "kind"
    NAME = "name"
    PAYLOAD = "payload"
    RANGE = "range"
    TIME = "time"
    TOO_MANY = "too_many"
    UNKNOWN = "unknown"
    """Its type has no reading of this name."""


class Unfit(Exception):  # noqa: N818  reads as what happened
    """What a board said does not fit. `detail` is shown to people: it repeats nothing that the board sent but names."""

    def __init__(self, why: Refusal, detail: str) -> None:
        super().__init__(detail)
        self.why = why
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Reading:
    """`is_own_time`: the board said when it was; else it is now."""

    name: str
    value: Value
    at_ms: int
    is_own_time: bool = False

    @property
    def kind(self) -> Kind:
        return kind_of(self.value)


def kind_of(value: Value) -> Kind:
    if isinstance(value, bool):
        return Kind.BOOLEAN
    return Kind.TEXT if isinstance(value, str) else Kind.NUMBER


@dataclass(frozen=True, slots=True)
class Pace:
    """After how long a silence a thing is stale, and offline."""

    stale_ms: int
    offline_ms: int

    @classmethod
    def of(cls, every_s: int | None, usual: "Pace") -> "Pace":
        """Of a thing that says how often it speaks."""
        if every_s is None:
            return usual
        stale_ms = max(60_000, every_s * 2500)
        return cls(stale_ms, stale_ms * 3)


@dataclass(frozen=True, slots=True)
class State:
    """The newest reading of one name."""

    series: int
    name: str
    value: Value
    at_ms: int


@dataclass(frozen=True, slots=True)
class Thing:
    """`status` is what was noted last: see `status_at`. `refused` counts what did not fit."""

    device_id: str
    user_id: str
    type: str | None
    status: ThingStatus
    status_at_ms: int
    heard_ms: int | None
    stale_at_ms: int | None
    offline_at_ms: int | None
    every_s: int | None
    firmware: str
    refused: int
    refused_at_ms: int | None
    refused_why: str

    def status_at(self, now_ms: int, listens_since_ms: int = 0) -> ThingStatus:
        """Silence counts from when somebody began to listen, if that is later than when it was heard; of things that
        speak seldom for `GRACE_MS`, else a gateway that starts each night would never miss them.
        """
        if self.status not in (ThingStatus.ONLINE, ThingStatus.STALE):
            return self.status
        heard_ms, listened_ms = self.heard_ms or 0, now_ms - listens_since_ms

        def is_past(end_ms: int | None) -> bool:
            if end_ms is None or now_ms < end_ms:
                return False
            return heard_ms >= listens_since_ms or listened_ms >= min(end_ms - heard_ms, GRACE_MS)

        if is_past(self.offline_at_ms):
            return ThingStatus.OFFLINE
        return ThingStatus.STALE if is_past(self.stale_at_ms) else self.status


class CommandState(StrEnum):
    ACCEPTED = "accepted"
    """The board has it, and is at it."""
    CANCELLED = "cancelled"
    DONE = "done"
    EXPIRED = "expired"
    """No end of it was heard in time. The board may have carried it out nevertheless, where it was away since."""
    FAILED = "failed"
    QUEUED = "queued"


OVER = frozenset({CommandState.CANCELLED, CommandState.DONE, CommandState.EXPIRED, CommandState.FAILED})


@dataclass(frozen=True, slots=True)
class Command:
    """`via` says how it was given: `person`, `agent`, or an automation's id. `args` and `result` are JSON text."""

    command_id: str
    device_id: str
    user_id: str
    name: str
    args: str
    via: str
    state: CommandState
    made_at_ms: int
    expires_at_ms: int
    accepted_at_ms: int | None = None
    ended_at_ms: int | None = None
    result: str | None = None
    error: str = ""

    @property
    def is_over(self) -> bool:
        return self.state in OVER


@dataclass(frozen=True, slots=True)
class Happening:
    """An event that a board told of. `data` is JSON text."""

    name: str
    data: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Point:
    """What was read from `at_ms` on, for as long as the points of a history are apart. A text has only its last."""

    at_ms: int
    count: int
    low: float | None = None
    mean: float | None = None
    high: float | None = None
    text: str | None = None
