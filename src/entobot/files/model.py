"""A file: arriving → kept → dropped. Pure; time comes in as an argument."""

import unicodedata
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from entobot.core.errors import Code, Problem

PART_BYTES = 512 * 1024
"""Of every part but the last. Half of the body that the door takes, and one row of the database."""
MAX_NAME_CHARACTERS = 200
MAX_PER_MESSAGE = 10
ARRIVES_WITHIN = timedelta(hours=2)
"""From the first request to the last part. What stays unfinished is swept."""
WAITS_FOR = timedelta(hours=24)
"""How long a whole file waits for its message."""


class State(StrEnum):
    ARRIVING = "arriving"
    DROPPED = "dropped"
    """Nobody sees it any more; its bytes are being erased."""
    KEPT = "kept"


@dataclass(frozen=True, slots=True)
class Attachment:
    """What a message says of a file. `size` is in bytes; `media_type` is what its content looks like."""

    file_id: str
    name: str
    media_type: str
    size: int


@dataclass(frozen=True, slots=True)
class File:
    """`device_id` brought it, None for the local socket and a browser. `message_id` is the message that it belongs to."""

    file_id: str
    user_id: str
    device_id: str | None
    name: str
    media_type: str
    size: int
    state: State
    created_at_ms: int
    message_id: str | None = None
    conversation_id: str | None = None

    @property
    def parts(self) -> int:
        return -(-self.size // PART_BYTES)

    def part_size(self, number: int) -> int:
        """Bytes of a part, counted from 0. Raises `invalid` for a part that the file does not have."""
        if not 0 <= number < self.parts:
            raise Problem(Code.INVALID, f"This file has {self.parts} parts, counted from 0.")
        return min(PART_BYTES, self.size - number * PART_BYTES)

    def attachment(self) -> Attachment:
        return Attachment(self.file_id, self.name, self.media_type, self.size)


@dataclass(frozen=True, slots=True)
class Room:
    """How much may be kept, in bytes: of one file, of one person, and in all."""

    max_file: int
    max_person: int
    max_total: int


def checked_name(name: str) -> str:
    """One printable line without a path. Raises `invalid` when nothing is left of it."""
    last = name.replace("\\", "/").rpartition("/")[2]
    line = "".join(c for c in last if not unicodedata.category(c).startswith("C")).strip().strip(".")
    if not line:
        raise Problem(Code.INVALID, "The file needs a name.")
    if len(line) <= MAX_NAME_CHARACTERS:
        return line
    stem, dot, ending = line.rpartition(".")
    if not dot or len(ending) > 16:
        return line[:MAX_NAME_CHARACTERS]
    return f"{stem[: MAX_NAME_CHARACTERS - len(ending) - 1]}.{ending}"


def check_room(room: Room, size: int, of_person: int, in_all: int) -> None:
    """`of_person` and `in_all` are the bytes kept or announced so far.

    Raises `too_large`, `quota_exceeded`, `storage_full`.
    """
    if size > room.max_file:
        raise Problem(Code.TOO_LARGE, f"A file may have {readable(room.max_file)}; this one has {readable(size)}.")
    if of_person + size > room.max_person:
        said = (
            f"Your files may have {readable(room.max_person)} together; {readable(of_person)} are taken. Delete some."
        )
        raise Problem(Code.QUOTA_EXCEEDED, said)
    if in_all + size > room.max_total:
        raise Problem(Code.STORAGE_FULL, "This gateway has no room for more files. Whoever runs it can make some.")


def readable(size: int) -> str:
    """Bytes for people, as in `25 MiB`."""
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= factor:
            return f"{size / factor:.4g} {unit}"
    return f"{size} bytes"
