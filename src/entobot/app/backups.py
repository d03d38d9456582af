"""What is known of backups on this machine: the last good one, and whether another is due."""

from datetime import timedelta
from pathlib import Path

import msgspec

from entobot.core.clock import to_ms
from entobot.core.errors import StartupRefused
from entobot.home import Home, read_private, write_private


class LastBackup(msgspec.Struct, frozen=True):
    """The newest backup that was written whole. `was_verified`: it was restored into a scratch folder and looked at."""

    file: str
    made_at_ms: int
    size: int
    db_schema: str
    was_verified: bool

    def age(self, now_ms: int) -> timedelta:
        return timedelta(milliseconds=max(0, now_ms - self.made_at_ms))


def record_path(home: Home) -> Path:
    return home.path / "backup.json"


def read_last(home: Home) -> LastBackup | None:
    """None before the first one, and when the record cannot be read: it is a hint, never a truth. Blocks."""
    try:
        data = read_private(record_path(home))
        return None if data is None else msgspec.json.decode(data, type=LastBackup)
    except (msgspec.DecodeError, StartupRefused):
        return None


def write_last(home: Home, last: LastBackup) -> None:
    write_private(record_path(home), msgspec.json.encode(last) + b"\n")


def is_younger_than(last: LastBackup | None, limit: timedelta, now_ms: int) -> bool:
    return last is not None and now_ms - last.made_at_ms < to_ms(limit)
