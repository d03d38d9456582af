"""Records appended to a file, for its owner alone, on the disk before they count as sent."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from entobot.audit.sink import SinkFailed


class FileSink:
    """See `Sink`. The file may be moved away at any time: each batch opens it anew."""

    overlap = 0
    is_open = True

    def __init__(self, path: Path) -> None:
        self._path = path

    async def send(self, records: Sequence[str]) -> None:
        text = "".join(record if record.endswith("\n") else f"{record}\n" for record in records)
        try:
            await asyncio.to_thread(_append, self._path, text.encode("utf-8"))
        except OSError as error:
            raise SinkFailed(f"{self._path} cannot be written: {error.strerror}") from None

    async def close(self) -> None:
        """Nothing is held."""


def _append(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "rb+", buffering=0) as file:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            file.write(b"\n")  # a write that a crash cut off: what it was to be follows again
        rest = memoryview(data)
        while rest:
            rest = rest[file.write(rest) :]
        os.fsync(descriptor)
