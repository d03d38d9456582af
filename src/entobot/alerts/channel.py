"""The port behind which somebody stands who is told of alerts: a mailbox, an HTTP address."""

from dataclasses import dataclass
from typing import Any, Protocol

from entobot.alerts.model import MessageKind


class ChannelFailed(Exception):  # noqa: N818  reads as what happened
    """It did not take the message; the text says why, without a secret. The same is sent again later."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One message as it is sent. `message_id` is the same at each attempt, so that a receiver can tell a repeat.

    `headline` is one line of text without control characters; `lines` are what a person reads below it; `data` is the
    same for programs, plain JSON.
    """

    message_id: str
    kind: MessageKind
    at_ms: int
    headline: str
    lines: tuple[str, ...]
    data: dict[str, Any]


class Channel(Protocol):
    """`place` is where it goes, for people: no address of a person, no secret."""

    place: str

    async def send(self, notice: Notice) -> None:
        """When it returns, the other side has taken it. Bounded in time. Raises ChannelFailed; it may have arrived then."""
        ...
