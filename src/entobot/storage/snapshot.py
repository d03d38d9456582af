"""A consistent copy of a SQLite file that others are writing, and what is in it."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from entobot.core.errors import StartupRefused
from entobot.storage.copying import quoted, tables_of

PAGES_AT_ONCE = 2048
BUSY_S = 15.0

Progress = Callable[[int, int], None]
"""Called with (pages done, pages in all)."""


@dataclass(frozen=True, slots=True)
class Contents:
    """`head` is log id, entries and hash of the audit log; None before its first entry."""

    schema: str
    tables: dict[str, int]
    head: tuple[str, int, bytes] | None


def take_snapshot(source: Path, target: Path, progress: Progress) -> None:
    """Copy the database at `source` into the new file `target` as it was at one moment. Raises StartupRefused.

    Writers go on meanwhile; what they write waits in their log until this has ended.
    """
    try:
        with (
            closing(sqlite3.connect(source, timeout=BUSY_S, isolation_level=None)) as reading,
            closing(sqlite3.connect(target)) as copy,
        ):
            # Held open, the snapshot stays one: without it every commit of a writer would begin the copy anew.
            reading.execute("BEGIN")
            reading.execute("SELECT count(*) FROM sqlite_master").fetchone()
            reading.backup(
                copy, pages=PAGES_AT_ONCE, progress=lambda _, left, total: progress(total - left, total), sleep=0
            )
            copy.execute("PRAGMA journal_mode=DELETE")  # one file, without a log beside it
    except sqlite3.Error as error:
        raise StartupRefused(
            f"{source} cannot be copied: {error}. Look at the disk, and at 'entobot doctor'."
        ) from None


def contents(path: Path) -> Contents:
    """Raises StartupRefused when there is no schema of ours."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            row = database.execute("SELECT version_num FROM alembic_version").fetchone()
            tables = {
                one.name: int(database.execute(f"SELECT count(*) FROM {quoted(one.name)}").fetchone()[0])  # noqa: S608  a table of ours
                for one in tables_of(database)
            }
            head = database.execute("SELECT log_id, seq, hash FROM audit_head").fetchone()
    except sqlite3.Error as error:
        raise StartupRefused(f"{path} is no database of Entobot, or it is damaged: {error}.") from None
    if row is None:
        raise StartupRefused(f"{path} holds no schema of Entobot.")
    return Contents(str(row[0]), tables, None if head is None else (str(head[0]), int(head[1]), bytes(head[2])))


def integrity_fault(path: Path) -> str:
    """What `PRAGMA integrity_check` says, empty when all is well."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            said = str(database.execute("PRAGMA integrity_check(1)").fetchone()[0])
    except sqlite3.Error as error:
        said = str(error)
    return "" if said == "ok" else said
