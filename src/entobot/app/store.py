"""Which database holds the truth: SQLite in the data folder, or the PostgreSQL that `storage.url` names."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from entobot.config import StorageSettings
from entobot.core.errors import StartupRefused
from entobot.core.secrets import Entropy
from entobot.home import Home
from entobot.storage.database import Database
from entobot.storage.database_sqlite import SqliteDatabase
from entobot.storage.migrations import upgrade_sqlite
from entobot.telemetry.meters import Meters

if TYPE_CHECKING:
    from entobot.storage.postgres_connection import PostgresAddress

EXTRA = "PostgreSQL needs two more packages: pip install 'entobot[postgres]'"


def open_database(home: Home, storage: StorageSettings, entropy: Entropy, meters: Meters) -> Database:
    """Not started yet. Raises StartupRefused."""
    if not storage.url.get_secret_value():
        return SqliteDatabase(home.database, upgrade_sqlite, meters)
    address = find_address(storage)
    from entobot.storage.database_postgres import PostgresDatabase
    from entobot.storage.migrations.postgres import upgrade_postgres

    return PostgresDatabase(address, upgrade_postgres, entropy, meters)


def find_address(storage: StorageSettings) -> "PostgresAddress":
    """Raises StartupRefused."""
    url = storage.url.get_secret_value()
    if url.partition("://")[0] not in ("postgresql", "postgres"):
        raise StartupRefused("storage.url begins with postgresql://, or is empty for SQLite in the data folder.")
    try:
        import_module("greenlet")  # the bridge between units and asyncpg; missing, the first unit would fail

        from entobot.storage.postgres_connection import PostgresAddress
    except ModuleNotFoundError as missing:
        raise StartupRefused(f"{EXTRA} ({missing.name} is missing).") from None
    if storage.password_file is not None:
        _check_password_file(storage.password_file)
    return PostgresAddress(url, storage.password_file)


def _check_password_file(path: Path) -> None:
    """Said at once: a server that does not answer yet is waited for, and a missing file would look like one."""
    try:
        is_empty = not path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise StartupRefused(f"storage.password_file: {path} cannot be read ({why}).") from None
    if is_empty:
        raise StartupRefused(f"storage.password_file: {path} is empty.")
