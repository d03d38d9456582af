"""What can be said of a client as a whole, and what ends its work."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from entobot.client.returning import Backoff
from entobot.core.clock import Clock


class State(Enum):
    CONNECTING = auto()
    READY = auto()
    WAITING = auto()
    """Between two attempts."""
    SUSPENDED = auto()
    """By the operator: asked again every 15 minutes, and on `retry_now`."""
    STOPPED = auto()
    CLOSED = auto()


class Stopped(Exception):  # noqa: N818  reads as what happened
    """The gateway does not want this device any more, or is another one. `code` is a close code or an error code."""

    def __init__(self, code: int | str, reason: str) -> None:
        super().__init__(f"{reason} [{code}]")
        self.code = code
        self.reason = reason


class NoAnswer(TimeoutError):  # noqa: N818  reads as what happened
    """A command's deadline is over. Whether it was executed is not known; it is not sent again."""

    def __init__(self, command_id: str, name: str) -> None:
        super().__init__(f"no answer to {name} {command_id} before its deadline")
        self.command_id = command_id
        self.name = name


class Observer(Protocol):
    """Told what happens, for recordings. Must not raise."""

    def note(self, kind: str, **what: object) -> None: ...


class Unobserved:
    def note(self, kind: str, **what: object) -> None:
        """Nobody looks."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a connector is handed instead of taking it."""

    clock: Clock
    backoff: Backoff
    observer: Observer
    sleep: Callable[[float], Coroutine[None, None, None]] = asyncio.sleep
    on_state: Callable[[State], None] = lambda _: None
