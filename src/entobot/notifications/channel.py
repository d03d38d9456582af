"""The port behind which a way to reach people stands."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from entobot.notifications.model import Channel, Kind, Place, Priority

MAX_REASON_CHARACTERS = 200


class Outcome(StrEnum):
    ACCEPTED = "accepted"
    """The service took it over."""
    GONE = "gone"
    """There is nobody at this place any more, and never will be: it is forgotten."""
    LATER = "later"
    """Not now; the same may work later."""
    PENDING = "pending"
    """It waits in a queue of its own, which tells later what became of it."""
    REFUSED = "refused"
    """It will not be taken, however often it is tried."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`reason` is for people: no address, no secret. `after_s`: when the service wants it again at the earliest."""

    outcome: Outcome
    reason: str = ""
    after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Parcel:
    """One notification as it goes to one place.

    `title` and `body` are what may be said there: in general words, where content may not leave the gateway.
    `path` is a page of the phone app, `url` the same with the origin. Parcels with the same `tag` are about the same
    thing: the later one takes the earlier one's place. `parcel_id` is the same at each try. `shows_content`: `title` and
    `body` are the notification's own.
    """

    parcel_id: str
    notification_id: str
    kind: Kind | str
    priority: Priority
    title: str
    body: str
    path: str
    url: str
    tag: str
    made_at_ms: int
    ttl_s: int
    unread: int
    gateway: str
    place: Place
    shows_content: bool = False


class Outlet(Protocol):
    """`is_repeatable`: a parcel that arrives twice is seen once, so one of which nobody knows what became is sent again.
    `service` says where it goes, for people; empty where each place has a service of its own.
    """

    channel: Channel
    service: str
    is_repeatable: bool

    async def send(self, parcel: Parcel) -> Answer:
        """Bounded in time. Failures of the other side are answers; nothing is raised for them."""
        ...
