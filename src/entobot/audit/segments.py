"""Closed parts of the log as files in the data folder: each begins where the one before ended, and ends in a checkpoint.

They hold no personal values, so that nothing is in them that could have to be erased. What is closed stands in the
names of the files alone: `<first>-<last>.jsonl.gz`.
"""

import asyncio
import gzip
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

from entobot.audit import exporting, store
from entobot.audit.heads import RunUnit
from entobot.audit.store import StoredCheckpoint
from entobot.core.clock import to_ms
from entobot.storage.database import Transaction

DIGITS = 12
PART = ".part"
_NAME = re.compile(rf"(\d{{{DIGITS}}})-(\d{{{DIGITS}}})\.jsonl\.gz")


@dataclass(frozen=True, slots=True)
class Rotation:
    """A segment is closed when so many entries, or its first entry so long ago, are not in one yet."""

    entries: int
    age: timedelta

    def is_due(self, count: int, oldest_ms: int, now_ms: int) -> bool:
        return count > 0 and (count >= self.entries or now_ms - oldest_ms >= to_ms(self.age))


class Segments:
    """`make_folder` is told to make sure that the folder is there and private."""

    def __init__(self, folder: Path, rotation: Rotation, make_folder: Callable[[Path], object]) -> None:
        self._folder = folder
        self._rotation = rotation
        self._make_folder = make_folder

    async def close_if_due(self, read: RunUnit, newest: StoredCheckpoint | None, now_ms: int) -> Path | None:
        """Write what is due, up to the checkpoint given. Returns the new file.

        Raises Broken and Unreadable for a log that was altered, OSError where it cannot be written.
        """
        if newest is None:
            return None
        after = await asyncio.to_thread(self.last)
        count = newest.tree.size - after
        if count <= 0:
            return None
        found = await read(lambda tx: _first(tx, after))
        if found is None or not self._rotation.is_due(count, found[1], now_ms):
            return None
        log_id = found[0]
        path = self._folder / f"{after + 1:0{DIGITS}}-{newest.tree.size:0{DIGITS}}.jsonl.gz"
        part = await asyncio.to_thread(self._open, path)
        with part, gzip.GzipFile(fileobj=part, mode="wb", filename="", mtime=0) as packed:
            async for page in exporting.chain_lines(read, log_id, after, newest, with_values=False):
                await asyncio.to_thread(packed.write, page)
            await asyncio.to_thread(_finish, packed, part, path)
        return path

    def _open(self, path: Path) -> BinaryIO:
        """Under another name until it is whole; what a crash left there is written over."""
        self._make_folder(self._folder)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.fdopen(os.open(path.with_name(PART), flags, 0o600), "wb")

    def last(self) -> int:
        """The newest entry that is in a segment; 0 without any. Blocks."""
        if not self._folder.is_dir():
            return 0
        names = (_NAME.fullmatch(path.name) for path in self._folder.iterdir())
        return max((int(found[2]) for found in names if found), default=0)


def _finish(packed: gzip.GzipFile, part: BinaryIO, path: Path) -> None:
    packed.close()
    part.flush()
    os.fsync(part.fileno())
    path.with_name(PART).replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _first(tx: Transaction, after: int) -> tuple[str, int] | None:
    """The log's id, and when the entry behind `after` was made."""
    head, rows = store.find_head(tx), store.raw_rows(tx, after, after + 1)
    return None if head is None or not rows else (head.log_id, int(rows[0]["at_ms"]))
