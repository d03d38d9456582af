"""Backups of the running gateway: the last good one, when the next is due, and what is wrong with them.

A backup is made by a process of its own (`entobot backup --scheduled`): reading and encrypting a store would hold up
everybody who is served from the loop.
"""

import asyncio
import sys
from datetime import timedelta
from pathlib import Path

import msgspec

from entobot.config import BackupSettings
from entobot.core.clock import Clock, rfc3339, to_ms
from entobot.core.errors import StartupRefused
from entobot.home import Home, read_private, write_private
from entobot.telemetry.log import get_logger
from entobot.telemetry.meters import Meters
from entobot.telemetry.metrics import Metric

AGAIN_AFTER = timedelta(minutes=15)
"""After a backup that failed."""
OLD = timedelta(days=7)
"""Without a schedule: an installation of this age has something to lose, and so has one after a backup of this age."""
NEWS = timedelta(days=7)
"""So long after a restore it is said that there was one."""
SLACK = timedelta(hours=1)
"""How late a backup of the schedule may be."""
MAX_REASON_CHARACTERS = 500

log = get_logger("backup")


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


class LastRestore(msgspec.Struct, frozen=True):
    """When this data folder was restored, and of when the backup was."""

    restored_at_ms: int
    made_at_ms: int

    def note(self, now_ms: int) -> str:
        """What is to be said of it, for as long as it is news."""
        if now_ms - self.restored_at_ms > to_ms(NEWS):
            return ""
        return (
            f"This is a restored backup of {rfc3339(self.made_at_ms)}: "
            "devices revoked and people disabled after that are let in again."
        )


def restore_path(home: Home) -> Path:
    return home.path / "restored.json"


def write_restore(home: Home, restore: LastRestore) -> None:
    write_private(restore_path(home), msgspec.json.encode(restore) + b"\n")


def read_restore(home: Home) -> LastRestore | None:
    """Like `read_last`. Blocks."""
    try:
        data = read_private(restore_path(home))
        return None if data is None else msgspec.json.decode(data, type=LastRestore)
    except (msgspec.DecodeError, StartupRefused):
        return None


def complaint(last: LastBackup | None, settings: BackupSettings, installed_for: timedelta, now_ms: int) -> str:
    """What is to be said of the last good backup, empty when all is well."""
    limit = settings.every + SLACK if settings.every else OLD
    if last is None:
        since = f"There is no backup of this gateway, which is {_days(installed_for)} old."
        return since if installed_for > limit else ""
    if last.age(now_ms) > limit:
        return f"The last good backup is {_days(last.age(now_ms))} old: {last.file}."
    return ""


def _days(age: timedelta) -> str:
    hours = int(age.total_seconds() // 3600)
    return f"{hours} hours" if hours < 48 else f"{hours // 24} days"


def installed_for(home: Home, now_ms: int) -> timedelta:
    """Since the server key was made, or put there. Blocks."""
    try:
        made_ms = (home.keys / "server.key").stat().st_mtime_ns // 1_000_000
    except OSError:
        return timedelta(0)
    return timedelta(milliseconds=max(0, now_ms - made_ms))


class Backups:
    """`look` before anything is asked. `make_if_due` is for a periodic sweep."""

    def __init__(self, home: Home, settings: BackupSettings, clock: Clock, meters: Meters) -> None:
        self._home = home
        self._settings = settings
        self._clock = clock
        self._counted = {one: meters.counter(Metric.BACKUPS, outcome=one) for one in ("failed", "ok")}
        self._last: LastBackup | None = None
        self._restore: LastRestore | None = None
        self._installed_for = timedelta(0)
        self._failure = ""
        self._not_before_s = float("-inf")
        meters.gauge(Metric.BACKUP_AGE_SECONDS).follow(self._age_s)

    async def look(self) -> None:
        """Read the record: somebody may have made a backup by hand."""
        self._last = await asyncio.to_thread(read_last, self._home)
        self._restore = await asyncio.to_thread(read_restore, self._home)
        self._installed_for = await asyncio.to_thread(installed_for, self._home, self._clock.now_ms())

    async def make_if_due(self) -> None:
        await self.look()
        every, now_s = self._settings.every, self._clock.monotonic()
        if not every or now_s < self._not_before_s:
            return
        if self._last is not None and abs(self._clock.now_ms() - self._last.made_at_ms) < to_ms(every):
            return  # one of a time that is long to come was made by a wrong clock
        self._failure = await self._make()
        self._counted["failed" if self._failure else "ok"].add()
        await self.look()
        if self._failure:
            self._not_before_s = self._clock.monotonic() + AGAIN_AFTER.total_seconds()
            log.error("backup.failed", reason=self._failure, todo="See docs/how-to/back-up.md; it is tried again.")
        elif self._last is not None:
            log.info("backup.made", file=self._last.file, size=self._last.size)

    def complaint(self) -> str:
        """As the function of this name, and why the last try failed."""
        if self._failure:
            return f"The last backup failed: {self._failure}"
        return complaint(self._last, self._settings, self._installed_for, self._clock.now_ms())

    def restore_note(self) -> str:
        """That this is a restored backup, in the week after; else empty."""
        return "" if self._restore is None else self._restore.note(self._clock.now_ms())

    async def _make(self) -> str:
        """Why it failed, empty when it did not."""
        command = [sys.executable, "-P", "-m", "entobot", "--home", str(self._home.path), "backup", "make"]
        process = await asyncio.create_subprocess_exec(
            *command,
            "--scheduled",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            _, said = await process.communicate()
        except asyncio.CancelledError:
            process.terminate()  # the gateway stops; what it began has no name yet
            await process.wait()
            raise
        return said.decode(errors="replace").strip()[-MAX_REASON_CHARACTERS:] if process.returncode else ""

    def _age_s(self) -> float:
        if self._last is None:
            raise LookupError("there is no backup")
        return self._last.age(self._clock.now_ms()).total_seconds()
