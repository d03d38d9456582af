"""What a client must not forget: commands whose result is not known, and how far it has read. In memory or SQLite."""

import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Position:
    """Everything of `stream` up to `after` has been processed."""

    stream: str
    after: int


@dataclass(frozen=True, slots=True)
class Pending:
    """A command without a result. `data` is its JSON text; times are milliseconds since the epoch."""

    id: str
    name: str
    data: str
    made_at_ms: int
    deadline_at_ms: int


class Journal(Protocol):
    """Its methods may block: the client calls them in one thread, one after the other."""

    def add(self, command: Pending) -> None:
        """Durable when it returns."""
        ...

    def remove(self, command_id: str) -> None:
        """Nothing happens when it is not there. A crash may undo it: the command is repeated, with the same id."""
        ...

    def pending(self) -> list[Pending]:
        """In the order in which they were added."""
        ...

    def move(self, position: Position) -> None:
        """A crash may undo it: what was processed after the older position comes again."""
        ...

    def position(self) -> Position | None: ...

    def close(self) -> None: ...


class MemoryJournal:
    """Lives as long as the process."""

    def __init__(self) -> None:
        self._pending: dict[str, Pending] = {}
        self._position: Position | None = None

    def add(self, command: Pending) -> None:
        self._pending[command.id] = command

    def remove(self, command_id: str) -> None:
        self._pending.pop(command_id, None)

    def pending(self) -> list[Pending]:
        return list(self._pending.values())

    def move(self, position: Position) -> None:
        self._position = position

    def position(self) -> Position | None:
        return self._position

    def close(self) -> None:
        """Nothing is held."""


class JournalTaken(Exception):  # noqa: N818  reads as what happened
    """Another process uses this file."""


class SqliteJournal:
    """A file of mode 0600, for one process at a time. Raises JournalTaken."""

    def __init__(self, file: str | Path) -> None:
        path = Path(file)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=2)
        try:
            self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")
            self._database.executescript(_TABLES)
        except sqlite3.OperationalError as error:
            self._database.close()
            raise JournalTaken(f"The journal {path} cannot be used: {error}.") from None

    def add(self, command: Pending) -> None:
        row = (command.id, command.name, command.data, command.made_at_ms, command.deadline_at_ms)
        self._database.execute("INSERT OR IGNORE INTO pending VALUES (?, ?, ?, ?, ?)", row)

    def remove(self, command_id: str) -> None:
        self._carelessly("DELETE FROM pending WHERE id = ?", (command_id,))

    def pending(self) -> list[Pending]:
        return [Pending(*row) for row in self._database.execute("SELECT * FROM pending ORDER BY rowid")]

    def move(self, position: Position) -> None:
        self._carelessly("INSERT OR REPLACE INTO position VALUES (0, ?, ?)", (position.stream, position.after))

    def position(self) -> Position | None:
        row = self._database.execute("SELECT stream, seen FROM position").fetchone()
        return None if row is None else Position(*row)

    def close(self) -> None:
        self._database.close()

    def _carelessly(self, sql: str, values: tuple[object, ...]) -> None:
        """Without an fsync of its own: losing it repeats something that bears repeating."""
        self._database.execute("PRAGMA synchronous = NORMAL")
        self._database.execute(sql, values)
        self._database.execute("PRAGMA synchronous = FULL")


_TABLES = """
CREATE TABLE IF NOT EXISTS pending (
    id TEXT NOT NULL UNIQUE, name TEXT NOT NULL, data TEXT NOT NULL,
    made_at_ms INTEGER NOT NULL, deadline_at_ms INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS position (one INTEGER PRIMARY KEY CHECK (one = 0), stream TEXT NOT NULL, seen INTEGER NOT NULL);
"""
