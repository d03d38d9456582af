"""A real SQLite database with every table, for tests."""

import importlib
import pkgutil
from pathlib import Path

from sqlalchemy import create_engine

import entobot
from entobot.storage.database import metadata
from entobot.storage.database_sqlite import SqliteDatabase


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


def sqlite_database(folder: Path) -> SqliteDatabase:
    return SqliteDatabase(folder / "entobot.db", create_tables)
