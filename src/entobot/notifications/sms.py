"""The port behind which somebody stands who sends SMS: a company, a modem's gateway, or a screen for development."""

from dataclasses import dataclass, field
from typing import Protocol

MAX_REASON_CHARACTERS = 120


class SmsRefused(Exception):  # noqa: N818  reads as what happened
    """It will not send this message; the same once more would be refused again. The text names no number, no secret.

    `is_stopped`: the number's owner said STOP, so that nothing may be sent there.
    """

    def __init__(self, reason: str, *, is_stopped: bool = False) -> None:
        super().__init__(reason[:MAX_REASON_CHARACTERS])
        self.is_stopped = is_stopped


class SmsNotTaken(Exception):  # noqa: N818  reads as what happened
    """It surely has not taken the message, and may take it later: not reached, or too busy."""


class SmsOutcomeUnknown(Exception):  # noqa: N818  reads as what happened
    """It may have taken the message, and nothing here can tell: the answer was lost, or made no sense."""


@dataclass(frozen=True, slots=True)
class Sms:
    """`to` is E.164. `message_id` is the same at each attempt. After `send_until_ms` the text is of no use to anybody."""

    message_id: str
    to: str = field(repr=False)
    text: str = field(repr=False)
    send_until_ms: int


@dataclass(frozen=True, slots=True)
class Taken:
    """`provider_id` is what the provider calls the message, '' where it calls it nothing."""

    provider_id: str = ""


class SmsSender(Protocol):
    """`knows_repeats`: a message that comes twice under one id is sent once, so that it may be tried again after
    `SmsOutcomeUnknown`. `is_real`: False for one that sends nothing at all.
    """

    name: str
    knows_repeats: bool
    is_real: bool

    async def send(self, sms: Sms) -> Taken:
        """When it returns, the other side has taken the message; whether a phone gets it is told later, or never.

        Bounded in time. Raises SmsRefused, SmsNotTaken, SmsOutcomeUnknown. Two calls are two messages, unless
        `knows_repeats`.
        """
        ...
