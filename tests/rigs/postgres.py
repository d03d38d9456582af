"""PostgreSQL where campaigns need it: on a disk whose power can be cut, and with a standby that takes over."""

import asyncio
import shutil
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager

from entobot.storage.database import metadata
from tests.rigs import appender, power
from tests.rigs.ledger import Ledger, Verdict
from tests.support.postgres import ROLE, PostgresServer
from tests.support.stores import create_postgres_tables, load_tables

SMALL = {
    "wal_init_zero": "off",
    "min_wal_size": "32MB",
    "max_wal_size": "64MB",
    "checkpoint_timeout": "30s",
    "recovery_init_sync_method": "syncfs",  # what a cut leaves is on the platter: nothing to sync file by file
}
"""Many checkpoints, little to write: what counts here is which bytes were synced, not how many."""


@contextmanager
def on_a_disk(
    settings: Mapping[str, str], *, seed: int, written_back: float = 0.0
) -> Generator[tuple[PostgresServer, power.Disk]]:
    """A server whose data lie on a disk of its own, started. `cut` ends both; `mount` the disk, then `start`."""
    server = PostgresServer({**SMALL, **settings})
    disk = power.Disk(server.folder / "rig", seed=seed, written_back=written_back, is_journalled=True)
    try:
        shutil.move(server.data, disk.platter / "data")
        server.data = disk.path / "data"
        disk.mount()
        server.start()
        yield server, disk
    finally:
        disk.cut()
        server.remove()


class Pair:
    """A primary and a standby that takes over. `url` names both, and leads to whichever takes writes."""

    def __init__(self) -> None:
        self.primary, self.standby = PostgresServer(), PostgresServer()

    def start(self) -> None:
        self.primary.start()
        self._follow()

    def url(self, database: str) -> str:
        ports = sorted((self.primary.port, self.standby.port))
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        return f"postgresql://{ROLE}@{hosts}/{database}?target_session_attrs=read-write"

    def wait_for_standby(self, *, is_wanted: bool) -> None:
        """Whether the primary acknowledges a commit only when the standby has it too."""
        setting = "SET synchronous_standby_names = '*'" if is_wanted else "RESET synchronous_standby_names"
        self.primary.execute(f"ALTER SYSTEM {setting}", "SELECT pg_reload_conf()")
        while is_wanted and not self.primary.execute("SELECT FROM pg_stat_replication WHERE sync_state = 'sync'"):
            time.sleep(0.05)

    def fail_over(self) -> None:
        """The primary dies, the standby takes over; commits wait for no other until `rejoin`."""
        self.primary.kill()
        self.primary, self.standby = self.standby, self.primary
        self.primary.execute("SELECT pg_promote()")
        self.wait_for_standby(is_wanted=False)

    def rejoin(self) -> None:
        """The old primary comes back as a standby, from a fresh copy."""
        self._follow()

    def remove(self) -> None:
        self.primary.remove()
        self.standby.remove()

    def _follow(self) -> None:
        shutil.rmtree(self.standby.data)
        reach = ["-h", "127.0.0.1", "-p", str(self.primary.port), "-U", ROLE]
        self.standby.call("pg_basebackup", *reach, "-D", str(self.standby.data), "-c", "fast", "-X", "stream")
        (self.standby.data / "standby.signal").touch()
        self.standby.settings["primary_conninfo"] = f"host=127.0.0.1 port={self.primary.port} user={ROLE}"
        self.standby.start()


@contextmanager
def pair() -> Generator[Pair]:
    made = Pair()
    try:
        made.start()
        yield made
    finally:
        made.remove()


def prepared(server: PostgresServer) -> str:
    """The URL of a new database that the appender can use."""
    name = server.new_database()
    load_tables()
    create_postgres_tables(server, name, metadata)
    url = server.url(name)
    asyncio.run(_prepare(url))
    return url


async def _prepare(url: str) -> None:
    database = appender.open_store(url)
    await database.start()
    await appender.prepare(database)
    await database.stop()


def verdict(url: str, ledger: Ledger) -> Verdict:
    async def read() -> Verdict:
        database = appender.open_store(url)
        await database.start()
        try:
            return ledger.verdict(await appender.read_streams(database))
        finally:
            await database.stop()

    return asyncio.run(read())
