"""Real databases with every table, for tests."""

import importlib
import pkgutil
import weakref
from pathlib import Path

from sqlalchemy import MetaData, create_engine
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

import entobot
from entobot.core.secrets import SystemEntropy
from entobot.storage.database import Database, metadata
from entobot.storage.database_postgres import PostgresDatabase
from entobot.storage.database_sqlite import SqliteDatabase
from entobot.storage.migrations.postgres import upgrade_postgres
from entobot.storage.postgres_connection import PostgresAddress
from entobot.storage.postgres_lane import Patience
from tests.support.postgres import PostgresServer, in_thread


def load_tables() -> None:
    """Import every module that declares tables."""
    for module in pkgutil.walk_packages(entobot.__path__, "entobot."):
        if module.name.split(".")[-1] in ("store", "idempotency"):
            importlib.import_module(module.name)


def create_tables(path: Path) -> None:
    load_tables()
    engine = create_engine(f"sqlite:///{path}")
    metadata.create_all(engine)
    engine.dispose()


opened: weakref.WeakSet[SqliteDatabase] = weakref.WeakSet()
"""Units run without a task: whoever waits for quiet asks these."""


def sqlite_database(folder: Path) -> SqliteDatabase:
    database = SqliteDatabase(folder / "entobot.db", create_tables)
    opened.add(database)
    return database


def create_postgres_tables(server: PostgresServer, name: str, tables: MetaData) -> None:
    dialect = postgresql.dialect()
    made = [CreateTable(table) for table in tables.sorted_tables]
    indexes = [CreateIndex(index) for table in tables.sorted_tables for index in table.indexes]
    server.execute(*(str(one.compile(dialect=dialect)) for one in (*made, *indexes)), database=name)


_migrated: dict[int, str] = {}


def migrated(server: PostgresServer) -> str:
    """The name of a database with every table, to be copied: made once a server."""
    if id(server) not in _migrated:
        name = server.new_database()
        in_thread(lambda: upgrade_postgres(PostgresAddress(server.url(name))))
        _migrated[id(server)] = name
    return _migrated[id(server)]


async def _as_it_is(_address: PostgresAddress) -> None:
    """Its tables are there already."""


def postgres_database(url: str, patience: Patience | None = None) -> PostgresDatabase:
    """On a database that has its tables."""
    return PostgresDatabase(PostgresAddress(url), _as_it_is, SystemEntropy(), patience=patience)


_server: PostgresServer | None = None
_of_folder: dict[Path, str] = {}


def use_server(server: PostgresServer | None) -> None:
    """Where `new_database` makes its databases; None: SQLite."""
    global _server  # noqa: PLW0603  set around one test by a fixture
    _server = server


def new_database(folder: Path) -> Database:
    """The database of a folder, with every table; the same one each time, as after a restart."""
    if _server is None:
        return sqlite_database(folder)
    if folder not in _of_folder:
        _of_folder[folder] = _server.new_database(migrated(_server))
    return postgres_database(_server.url(_of_folder[folder], is_local=True))
