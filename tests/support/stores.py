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
from entobot.storage.database import metadata
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
