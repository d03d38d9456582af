"""Real databases with every table, for tests."""

import asyncio
import importlib
import os
import pkgutil
import re
import sqlite3
import tempfile
import weakref
from collections.abc import Generator
from contextlib import closing, contextmanager
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy import MetaData, create_engine
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

import entobot
from entobot.core.secrets import SystemEntropy
from entobot.storage.database import Database, metadata
from entobot.storage.database_postgres import PostgresDatabase
from entobot.storage.database_sqlite import SqliteDatabase
from entobot.storage.postgres_connection import PostgresAddress
from entobot.storage.postgres_lane import Patience
from tests.support.postgres import GENEROUS_S, PostgresServer, in_thread


@cache
def load_tables() -> None:
    """Import every module that declares tables."""
    for module in pkgutil.walk_packages(entobot.__path__, "entobot."):
        name = module.name.split(".")[-1]
        if name.endswith("store") or name == "idempotency":
            importlib.import_module(module.name)


def create_tables(path: Path) -> None:
    """Every table that the file does not have yet. Most tests begin with none: theirs is a copy, which costs a hundredth."""
    load_tables()
    if path.exists() and path.stat().st_size:
        _create_tables(path)
    else:
        path.write_bytes(_tables(frozenset(metadata.tables)))


@cache
def _tables(_names: frozenset[str]) -> bytes:
    with tempfile.TemporaryDirectory(prefix="entobot-stores-") as folder:
        _create_tables(Path(folder) / "entobot.db")
        return (Path(folder) / "entobot.db").read_bytes()


def _create_tables(path: Path) -> None:
    engine = create_engine(f"sqlite:///{path}")
    metadata.create_all(engine)
    engine.dispose()


_opened: weakref.WeakSet[SqliteDatabase | PostgresDatabase] = weakref.WeakSet()


def is_any_busy() -> bool:
    """Whether any unit is under way. Units run without a task, or in one that never ends."""
    return any(_is_busy(database) for database in _opened)


def _is_busy(database: SqliteDatabase | PostgresDatabase) -> bool:
    if isinstance(database, SqliteDatabase):
        return database.is_busy
    free = [lane for queue in (database._writes, database._reads) for lane in queue._idle if not lane.done()]
    return len(free) < len(database._running)


def standing_tasks() -> set[asyncio.Task[None]]:
    """Those of databases that are open: they end when these are stopped."""
    return {
        task
        for database in _opened
        if isinstance(database, PostgresDatabase)
        for task in (*database._running, *database._background)
    }


def sqlite_database(folder: Path) -> SqliteDatabase:
    database = SqliteDatabase(folder / "entobot.db", create_tables)
    _opened.add(database)
    return database


def create_postgres_tables(server: PostgresServer, name: str, tables: MetaData) -> None:
    dialect = postgresql.dialect()
    made = [CreateTable(table) for table in tables.sorted_tables]
    indexes = [CreateIndex(index) for table in tables.sorted_tables for index in table.indexes]
    server.execute(*(str(one.compile(dialect=dialect)) for one in (*made, *indexes)), database=name)


async def _as_it_is(_address: PostgresAddress) -> None:
    """Its tables are there already."""


def postgres_database(url: str, patience: Patience | None = None) -> PostgresDatabase:
    """On a database that has its tables. Patient, unless it is told otherwise: a busy machine is no failure."""
    patience = patience or Patience(wait_s=GENEROUS_S, run_s=GENEROUS_S)
    database = PostgresDatabase(PostgresAddress(url), _as_it_is, SystemEntropy(), patience=patience)
    _opened.add(database)
    return database


_EMPTY = """
DO $$ DECLARE one name; BEGIN
    PERFORM pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid();
    FOR one IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version' LOOP
        EXECUTE format('DELETE FROM %I', one);
    END LOOP;
    FOR one IN SELECT sequencename FROM pg_sequences LOOP
        PERFORM setval(one::text, 1, false);
    END LOOP;
END $$
"""


class Databases:
    """Databases with every table on one server, used again: emptying one takes a tenth of the time of a copy."""

    def __init__(self, server: PostgresServer) -> None:
        self.server = server
        self._emptied: list[str] = []

    def take(self) -> str:
        """The name of one that has no rows."""
        return self._emptied.pop() if self._emptied else self.server.furnished_database()

    def give_back(self, name: str) -> None:
        """Whoever is still connected is thrown out."""
        self.server.execute(_EMPTY, database=name)
        self._emptied.append(name)


_databases: Databases | None = None
_of_folder: dict[Path, str] = {}
DATABASE_URL = "TEST_DATABASE_URL"


@contextmanager
def on_postgres(databases: Databases) -> Generator[None]:
    """Within it, `new_database` makes its databases there; outside, on SQLite."""
    global _databases  # noqa: PLW0603  set around one test by a fixture
    _databases = databases
    try:
        yield
    finally:
        _databases = None
        for name in _of_folder.values():
            databases.give_back(name)
        _of_folder.clear()


def _url(folder: Path) -> str | None:
    """Of the folder's database on PostgreSQL, the same one each time, as after a restart; None: it is SQLite."""
    if _databases is None:
        return os.environ.get(DATABASE_URL)
    if folder not in _of_folder:
        _of_folder[folder] = _databases.take()
    return _databases.server.url(_of_folder[folder], is_local=True)


def new_database(folder: Path) -> Database:
    """The database of a folder, with every table."""
    url = _url(folder)
    return sqlite_database(folder) if url is None else postgres_database(url)


def for_child(folder: Path) -> dict[str, str]:
    """The environment in which `new_database` of another process opens the folder's database."""
    url = _url(folder)
    return {} if url is None else {DATABASE_URL: url}


def ask(folder: Path, *queries: str) -> list[tuple[Any, ...]]:
    """Rows of the folder's database, behind the back of whoever has it open. SQL that every store understands."""
    if (url := _url(folder)) is not None:
        return [tuple(row) for row in in_thread(lambda: _fetch(url, *queries))]
    with closing(sqlite3.connect(folder / "entobot.db")) as connection:
        return [row for query in queries for row in connection.execute(query)]


def change(folder: Path, sql: str, *values: object) -> int:
    """As `ask`; how many rows it changed. `?` stands for each of the values."""
    if (url := _url(folder)) is not None:
        numbers = count(1)
        return in_thread(lambda: _execute(url, re.sub(r"\?", lambda _: f"${next(numbers)}", sql), *values))
    with closing(sqlite3.connect(folder / "entobot.db")) as connection, connection:
        return connection.execute(sql, values).rowcount


def everything(folder: Path) -> bytes:
    """All that the folder's database holds: what must not be found there is not in these bytes."""
    if _url(folder) is None:
        return b"".join(path.read_bytes() for path in sorted(folder.glob("entobot.db*")))
    load_tables()
    return repr(ask(folder, *(f'SELECT * FROM "{table.name}"' for table in metadata.sorted_tables))).encode()


async def _fetch(url: str, *queries: str) -> list[Any]:
    connection: Any = await asyncpg.connect(url)
    try:
        return [row for query in queries for row in await connection.fetch(query)]
    finally:
        await connection.close()


async def _execute(url: str, sql: str, *values: object) -> int:
    connection: Any = await asyncpg.connect(url)
    try:
        return int((await connection.execute(sql, *values)).rpartition(" ")[2])
    finally:
        await connection.close()
