"""The port behind which a receiver of the log stands: a file, an HTTP address, a syslog server."""

from collections.abc import Sequence
from typing import Protocol


class SinkFailed(Exception):  # noqa: N818  reads as what happened
    """The receiver did not take it; the text says why, without a secret. The same is sent again later."""


class Sink(Protocol):
    """`overlap`: so many of the newest records are sent again by whoever opens it anew, because its protocol does not
    say what arrived.
    """

    overlap: int

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
