"""Notifications, the attempts to deliver them, and the places where a person is reached. Pure."""

from dataclasses import dataclass
from enum import StrEnum

from entobot.core.permissions import Role

MAX_TITLE_CHARACTERS = 120
MAX_BODY_CHARACTERS = 2000
MAX_LINK_CHARACTERS = 1024
MAX_ADDRESS_CHARACTERS = 1024
MAX_KEY_CHARACTERS = 128


class Priority(StrEnum):
    CRITICAL = "critical"
    HIGH = "high"
    LOW = "low"
    NORMAL = "normal"


RANK = {Priority.LOW: 0, Priority.NORMAL: 1, Priority.HIGH: 2, Priority.CRITICAL: 3}


class Kind(StrEnum):
    """What the gateway itself tells of. A sender may use words of its own beside `notice`."""

    ALERT = "alert"
    APPROVAL = "approval"
    DIGEST = "digest"
    MESSAGE = "message"
    NOTICE = "notice"
    QUESTION = "question"
    REMINDER = "reminder"
    TEST = "test"


OWN_KINDS = frozenset({Kind.ALERT, Kind.APPROVAL, Kind.DIGEST, Kind.MESSAGE, Kind.QUESTION, Kind.REMINDER, Kind.TEST})
"""What nobody outside may send."""


class State(StrEnum):
    DONE = "done"
    """What it was about is settled: somebody decided, the run ended."""
    EXPIRED = "expired"
    OPEN = "open"
    READ = "read"
    REPLACED = "replaced"
    """A newer one with the same collapse key took its place."""
    SEEN = "seen"
    """A device of the person showed it, and said so."""


class Channel(StrEnum):
    """How a person is reached."""

    EMAIL = "email"
    LIVE = "live"
    NTFY = "ntfy"
    PUSH = "push"
    SMS = "sms"
    UNIFIEDPUSH = "unifiedpush"


class AttemptState(StrEnum):
    ACCEPTED = "accepted"
    """The service took it over: its answer said so."""
    DELIVERED = "delivered"
    """It is on the device: a receipt, or the device's acknowledgement, said so."""
    FAILED = "failed"
    QUEUED = "queued"
    READ = "read"
    """The person opened it there."""
    SENT = "sent"
    """It is being handed over; no answer yet."""
    UNKNOWN = "unknown"
    """The process ended between handing it over and hearing the answer. It is not sent again."""


@dataclass(frozen=True, slots=True)
class Escalation:
    """Who hears of it at `at_ms` if nobody has settled it by then: one person, or all of a role. None once they have."""

    at_ms: int | None
    user_id: str | None = None
    role: Role | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """What a sender says. `event_seq` is the number of the event that shows it to connected devices, where there is one
    already; without it `notification.created` is that event.

    `sender` is a device id, a session id, `local`, or empty for the gateway itself.
    """

    user_id: str
    kind: str
    title: str
    body: str = ""
    priority: Priority = Priority.NORMAL
    link: str = ""
    conversation_id: str | None = None
    collapse_key: str = ""
    expires_at_ms: int | None = None
    escalation: Escalation | None = None
    sender: str = ""
    event_seq: int | None = None


@dataclass(frozen=True, slots=True)
class Notification:
    """`since_ms`: when its way began; a newer one of the same collapse key takes it over from one that nobody was told
    of. `look_at_ms`: when to decide again, None when nothing more will be done. `step`: how many steps of the person's
    rules are behind it. `is_told_by_event`: what devices see is another event, so this is no news to one that saw it.
    """

    notification_id: str
    user_id: str
    kind: str
    priority: Priority
    title: str
    body: str
    link: str
    conversation_id: str | None
    collapse_key: str
    sender: str
    state: State
    event_seq: int
    is_told_by_event: bool
    created_at_ms: int
    since_ms: int
    look_at_ms: int | None
    expires_at_ms: int | None
    ended_at_ms: int | None = None
    step: int = 0
    escalation: Escalation | None = None
    escalated_from: str | None = None
    folded_into: str | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One way that was tried. `reason` says why it failed, or failed last; `node` is who sends it now."""

    attempt_id: str
    notification_id: str
    user_id: str
    channel: Channel
    place_id: str
    state: AttemptState
    reason: str
    tries: int
    made_at_ms: int
    due_at_ms: int
    sent_at_ms: int | None = None
    ended_at_ms: int | None = None
    node: str = ""

    @property
    def is_over(self) -> bool:
        return self.state not in (AttemptState.QUEUED, AttemptState.SENT)

    @property
    def has_failed(self) -> bool:
        return self.state in (AttemptState.FAILED, AttemptState.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a person is reached by one channel. `device_id` for what a device subscribed to.

    `address` is an endpoint, a mail address or a number. Endpoints and keys let anybody write there: they are told to
    nobody. `is_confirmed`: whoever reads there has said so; nothing but a code is sent before.
    """

    place_id: str
    user_id: str
    channel: Channel
    address: str
    device_id: str | None
    p256dh: str
    auth: str
    name: str
    is_confirmed: bool
    created_at_ms: int
    last_ok_at_ms: int | None = None
    last_failed_at_ms: int | None = None
    reason: str = ""
