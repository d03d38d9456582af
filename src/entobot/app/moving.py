"""`entobot db`: look at the store, bring its schema up to date, and move it from SQLite to PostgreSQL."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy.util import greenlet_spawn

from entobot.app.store import find_address
from entobot.audit.service import Audit
from entobot.audit.signer_local import LocalHeadSigner
from entobot.config import StorageSettings
from entobot.core.clock import SystemClock
from entobot.core.errors import StartupRefused
from entobot.core.ids import RandomIds
from entobot.core.secrets import SystemEntropy
from entobot.home import Home, read_private, write_private
from entobot.storage.database import Transaction
from entobot.storage.migrations import HEAD, upgrade_sqlite

if TYPE_CHECKING:
    from entobot.storage.copying import Copied, Progress
    from entobot.storage.postgres_connection import Connection, PostgresAddress


@dataclass(frozen=True, slots=True)
class Moved:
    target: str
    tables: "list[Copied]"
    audit_entries: int

    def to_json(self) -> dict[str, Any]:
        return {
            "target": self.target,
            "audit_entries": self.audit_entries,
            "tables": [{"table": one.table, "rows": one.rows, "digest": one.digest} for one in self.tables],
        }


async def migrate(home: Home, storage: StorageSettings) -> str:
    """Bring the store's schema to this version's; what was done. Raises StartupRefused."""
    if storage.url.get_secret_value():
        from entobot.storage.migrations.postgres import upgrade_postgres

        address = find_address(storage)
        await upgrade_postgres(address)
        return f"{address} has schema {HEAD}."
    home.prepare()
    with home.lock():
        upgrade_sqlite(home.database)
    return f"{home.database} has schema {HEAD}."


async def copy(home: Home, storage: StorageSettings, progress: "Progress") -> Moved:
    """Copy the data folder's SQLite into `storage`'s PostgreSQL: all of it, proven, or nothing. Raises StartupRefused."""
    from entobot.storage.migrations.postgres import upgrade_postgres

    if not home.database.exists():
        raise StartupRefused(f"There is no database at {home.database} to copy.")
    address = find_address(storage)
    with home.lock():  # a gateway that goes on writing would write what is not copied
        upgrade_sqlite(home.database)
        await upgrade_postgres(address)
        connection = await address.connect()
        try:
            return await _copy(home, address, connection, progress)
        finally:
            await connection.close(timeout=5)


async def _copy(home: Home, address: "PostgresAddress", connection: "Connection", progress: "Progress") -> Moved:
    from entobot.storage.copying import copy_all

    await connection.execute("BEGIN")
    tables = await copy_all(home.database.absolute(), connection, progress)
    found = await _audit(home).verify(reader(connection))
    if found.finding is not None:
        raise StartupRefused(
            f"The audit log does not verify at entry {found.finding.seq}: {found.finding.detail} Nothing was copied. "
            "Run 'entobot audit verify' on the running gateway to see whether it did before."
        )
    await connection.execute("COMMIT")
    return Moved(str(address), tables, found.checked)


def reader(connection: "Connection") -> Callable[..., Any]:
    """Runs units on the transaction that is open."""
    from entobot.storage.postgres_transaction import PostgresTransaction, Session, make_statements

    session = Session(connection, make_statements(), is_writer=False)

    async def read(unit: Callable[[Transaction], Any]) -> Any:
        return await greenlet_spawn(unit, PostgresTransaction(session))

    return read


def _audit(home: Home) -> Audit:
    path: Path = home.keys / "audit.key"
    entropy = SystemEntropy()
    signer = LocalHeadSigner.open(lambda: read_private(path), lambda pem: write_private(path, pem))
    return Audit(ids=RandomIds(SystemClock(), entropy), entropy=entropy, signer=signer, head_file=home.audit_head)
