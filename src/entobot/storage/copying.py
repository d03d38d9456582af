"""Copy every row of a SQLite file into an empty PostgreSQL schema, in one transaction, and prove it.

The proof is a digest of each table that does not depend on the order of rows: the sum of SHA-256 over each row, modulo
2^256. It is made of what was read here and of what the server gives back afterwards.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import msgspec

from entobot.core.errors import StartupRefused
from entobot.core.secrets import sha256
from entobot.storage.postgres_connection import Connection

ROWS_AT_ONCE = 1000
BYTES_AT_ONCE = 8 * 1024 * 1024
"""Of binary values: parts of files are large, and a thousand of them would not fit into memory."""
MODULUS = 1 << 256

Progress = Callable[[str, int, int], None]
"""Called with (table, rows done, rows in all); each row counts twice: written, and read back."""


@dataclass(frozen=True, slots=True)
class Table:
    name: str
    columns: tuple[str, ...]
    booleans: frozenset[int]
    """Positions of the columns that SQLite keeps as 0 and 1."""

    @property
    def select(self) -> str:
        return f"SELECT {', '.join(map(quoted, self.columns))} FROM {quoted(self.name)}"  # noqa: S608  names of our own tables


@dataclass(frozen=True, slots=True)
class Copied:
    """One table as it is on both sides; `digest` in hexadecimal."""

    table: str
    rows: int
    digest: str


class Digest:
    def __init__(self) -> None:
        self.rows = 0
        self._sum = 0

    def add(self, row: tuple[object, ...]) -> None:
        self.rows += 1
        self._sum = (self._sum + int.from_bytes(sha256(msgspec.msgpack.encode(row)), "big")) % MODULUS

    def hex(self) -> str:
        return f"{self._sum:064x}"


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def tables_of(source: sqlite3.Connection) -> list[Table]:
    names = source.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name <> 'alembic_version' "
        "ORDER BY name"
    ).fetchall()
    tables: list[Table] = []
    for (name,) in names:
        columns = source.execute(f"PRAGMA table_info({quoted(name)})").fetchall()
        booleans = frozenset(n for n, column in enumerate(columns) if str(column[2]).upper() == "BOOLEAN")
        tables.append(Table(str(name), tuple(str(column[1]) for column in columns), booleans))
    return tables


async def copy_all(file: Path, target: Connection, progress: Progress) -> list[Copied]:
    """Within the caller's transaction on `target`, whose schema stands.

    Raises StartupRefused when the target holds rows, cannot take one, or gives back anything but what was written.
    """
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as source:
        tables = tables_of(source)
        for table in tables:
            if await target.fetchval(f"SELECT EXISTS (SELECT FROM {quoted(table.name)})"):  # noqa: S608  a table of ours
                raise StartupRefused(f"The target is not empty: {table.name} has rows. Make a new database for it.")
        return [await _copy(source, target, table, progress) for table in tables]


async def _copy(source: sqlite3.Connection, target: Connection, table: Table, progress: Progress) -> Copied:
    total = 2 * int(source.execute(f"SELECT count(*) FROM {quoted(table.name)}").fetchone()[0])  # noqa: S608  a table of ours
    read, found, at_once = Digest(), Digest(), ROWS_AT_ONCE
    for rows in _pages(source, table):
        if sum(map(_bytes, rows)) >= BYTES_AT_ONCE:
            at_once = min(at_once, len(rows))
        for row in rows:
            read.add(row)
        try:
            await target.copy_records_to_table(table.name, records=rows, columns=table.columns)
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise StartupRefused(
                f"PostgreSQL does not take a row of {table.name}: {error}. Nothing was copied."
            ) from None
        progress(table.name, read.rows, total)
    await target.execute("DECLARE back NO SCROLL CURSOR FOR " + table.select)
    while rows := await target.fetch(f"FETCH {at_once} FROM back"):
        for row in rows:
            found.add(tuple(row[column] for column in table.columns))
        progress(table.name, read.rows + found.rows, total)
    await target.execute("CLOSE back")
    if (read.rows, read.hex()) != (found.rows, found.hex()):
        raise StartupRefused(f"{table.name} is not in the target what it is in the source. Nothing was copied.")
    await _advance_sequences(target, table)
    return Copied(table.name, found.rows, found.hex())


def _pages(source: sqlite3.Connection, table: Table) -> Iterator[list[tuple[object, ...]]]:
    page: list[tuple[object, ...]] = []
    size = 0
    for row in source.execute(table.select):
        page.append(tuple(bool(v) if n in table.booleans and v is not None else v for n, v in enumerate(row)))
        size += _bytes(row)
        if len(page) == ROWS_AT_ONCE or size >= BYTES_AT_ONCE:
            yield page
            page, size = [], 0
    if page:
        yield page


def _bytes(row: tuple[object, ...]) -> int:
    return sum(len(value) for value in row if isinstance(value, bytes))


async def _advance_sequences(target: Connection, table: Table) -> None:
    """Numbers that the server gives go on after those that were copied."""
    name = quoted(table.name)
    for column in table.columns:
        sequence = await target.fetchval("SELECT pg_get_serial_sequence($1, $2)", name, column)
        if sequence is not None:
            highest = f"SELECT max({quoted(column)}) FROM {name}"  # noqa: S608  names of our own tables
            await target.execute(f"SELECT setval('{sequence}', ({highest})) FROM {name} LIMIT 1")  # noqa: S608  names that the server gave
