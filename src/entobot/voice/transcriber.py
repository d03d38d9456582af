"""The Transcriber port: one recording becomes text, or it is said why not."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Fault(StrEnum):
    """Why there is no text. In metrics and the audit log."""

    NOT_TAKEN = "not_taken"
    """The service or program refused the recording, or its answer was none."""
    TIMEOUT = "timeout"
    UNAUTHORIZED = "unauthorized"
    UNREACHABLE = "unreachable"


class NotTranscribed(Exception):  # noqa: N818  reads as what happened
    """`said` is our own sentence for a person; nothing of what the service said goes into it."""

    def __init__(self, fault: Fault, said: str) -> None:
        super().__init__(f"{fault}: {said}")
        self.fault = fault
        self.said = said


@dataclass(frozen=True, slots=True)
class Recording:
    """`content` yields `size` bytes once, a part at a time; `media_type` is one of `model.EXTENSIONS`."""

    media_type: str
    size: int
    content: AsyncIterator[bytes]


class Transcriber(Protocol):
    async def transcribe(self, recording: Recording) -> str:
        """The text as the service gave it, empty where nothing was said. Ends in bounded time, cancelled or not, and
        leaves nothing behind. Raises NotTranscribed; what `content` raises passes through.
        """
        ...
