"""The port behind which a receiver of the log stands: a file, an HTTP address, a syslog server."""

from collections.abc import Sequence
from typing import Protocol


class SinkFailed(Exception):  # noqa: N818  reads as what happened
    """The receiver did not take it; the text says why, without a secret. The same is sent again later."""


class Sink(Protocol):
    """A receiver, and the way to it."""

    @property
    def overlap(self) -> int:
        """So many of the records that were sent last may not have arrived, once `is_open` is False: they are sent again.
        0 from the next attempt to open it on, and where the protocol says what arrived.
        """
        ...

    async def send(self, records: Sequence[str]) -> None:
        """All of them, in order, each a line of text without a line break (a checkpoint's note has several lines).

        When it returns, the receiver has them as surely as its protocol can say. Raises SinkFailed; some may have
        arrived then.
        """
        ...

    @property
    def is_open(self) -> bool:
        """Whether what is sent next follows what was sent last on the same connection; always, where it is no matter."""
        ...

    async def close(self) -> None:
        """Idempotent."""
        ...
