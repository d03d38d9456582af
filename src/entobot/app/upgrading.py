"""`entobot upgrade-check`: what this version would do to the store, and whether there is a way back."""

import asyncio
import shutil
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from entobot import __version__
from entobot.app.backups import LastBackup, read_last
from entobot.app.store import find_address
from entobot.config import StorageSettings
from entobot.core.clock import Clock, rfc3339
from entobot.core.errors import StartupRefused
from entobot.home import Home
from entobot.storage.migrations import HEAD, newer_text, version

YOUNG = timedelta(days=1)
ROOM = 3
"""Times the database: a step may write a table anew, and the log of that before it is folded in."""


@dataclass(frozen=True, slots=True)
class Step:
    """A migration that would run."""

    revision: str
    title: str


@dataclass(frozen=True, slots=True)
class UpgradeCheck:
    """`present` is None where there is no store yet; bytes are None where the server's disk is not ours to see.

    `problems` are what to do first; safe without any.
    """

    store: str
    present: str | None
    needed: str
    steps: list[Step]
    backup: LastBackup | None
    free_bytes: int | None
    needed_bytes: int | None
    problems: list[str]

    @property
    def is_safe(self) -> bool:
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        import msgspec

        backup = None if self.backup is None else msgspec.to_builtins(self.backup)
        return {
            "version": __version__,
            "safe": self.is_safe,
            "store": self.store,
            "schema": self.present,
            "needed": self.needed,
            "migrations": [asdict(step) for step in self.steps],
            "backup": backup,
            "free_bytes": self.free_bytes,
            "needed_bytes": self.needed_bytes,
            "problems": self.problems,
        }

    def to_lines(self) -> list[str]:
        lines = [f"{self.store} has {f'schema {self.present}' if self.present else 'no schema yet'}."]
        lines.append(f"Entobot {__version__} needs {self.needed}.")
        lines += [f"  would run {step.revision}: {step.title}" for step in self.steps] or ["  nothing would run"]
        if self.backup is not None:
            lines.append(f"The last good backup is {self.backup.file}, of {rfc3339(self.backup.made_at_ms)}.")
        if self.needed_bytes is not None and self.free_bytes is not None:
            lines.append(
                f"{self.free_bytes // 1024**2} MiB are free, {self.needed_bytes // 1024**2} MiB may be needed."
            )
        lines += [f"First: {problem}" for problem in self.problems] or ["It is safe to start this version."]
        return lines


async def check_upgrade(home: Home, storage: StorageSettings, clock: Clock) -> UpgradeCheck:
    """Touches nothing; the gateway may run. Raises StartupRefused when the store cannot be looked at."""
    if storage.url.get_secret_value():
        address = find_address(storage)
        store, present, size = str(address), await _schema_of(address), None
    else:
        store, present, size = str(home.database), await asyncio.to_thread(_schema_at, home.database), _size(home)
    steps = [] if present is None else await asyncio.to_thread(pending, present)
    last = await asyncio.to_thread(read_last, home)
    free = shutil.disk_usage(home.path).free if home.path.exists() else None
    problems: list[str] = []
    if steps is None:
        problems.append(newer_text(store, present or ""))
    elif steps:
        problems += await asyncio.to_thread(_backup_problems, last, clock.now_ms())
        if size is not None and free is not None and free < ROOM * size:
            problems.append(f"{home.path} has {free // 1024**2} MiB free; make room for {ROOM * size // 1024**2} MiB.")
    needed_bytes = None if size is None else ROOM * size if steps else 0
    return UpgradeCheck(store, present, HEAD, steps or [], last, free, needed_bytes, problems)


def pending(present: str) -> list[Step] | None:
    """The steps from `present` to HEAD, in order; None when this version does not know `present`."""
    from alembic.script import ScriptDirectory

    from entobot.storage.migrations.upgrade import alembic_config

    scripts = ScriptDirectory.from_config(alembic_config())
    known = [(one.revision, one.doc) for one in scripts.walk_revisions()]  # newest first
    revisions = [revision for revision, _ in known]
    if present not in revisions:
        return None
    return [Step(revision, title) for revision, title in reversed(known[: revisions.index(present)])]


def _backup_problems(last: LastBackup | None, now_ms: int) -> list[str]:
    make = "make a backup by 'entobot backup': there is no way back to the older version without one."
    if last is None:
        return [make]
    if last.age(now_ms) > YOUNG:
        return [f"the last good backup is of {rfc3339(last.made_at_ms)}; {make}"]
    if not Path(last.file).exists():
        return [f"{last.file} is not there any more; {make}"]
    return []


def _schema_at(path: Path) -> str | None:
    import sqlite3

    try:
        return version(path)
    except (sqlite3.Error, OSError) as error:
        raise StartupRefused(f"{path} cannot be read: {error}.") from None


def _size(home: Home) -> int:
    files = (home.database, home.database.with_name(home.database.name + "-wal"))
    return sum(file.stat().st_size for file in files if file.exists())


async def _schema_of(address: Any) -> str | None:
    from entobot.storage.migrations.postgres import schema_version
    from entobot.storage.postgres_connection import NOT_REACHED, reason

    try:
        connection = await address.connect()
    except (*NOT_REACHED, ValueError) as error:
        raise StartupRefused(f"{address} cannot be used: {reason(error)}.") from None
    try:
        return await schema_version(connection)
    finally:
        await connection.close(timeout=5)
