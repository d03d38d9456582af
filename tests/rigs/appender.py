"""A process that appends to streams through the Database port and says what was acknowledged, for campaigns to end it.

`python -m tests.rigs.appender STORE [--weakened SETTING] [--from NUMBER]`: STORE is the path of a SQLite file or a
PostgreSQL URL. Each line of its output is one acknowledged entry: writer, number, seq.
"""

import argparse
import asyncio
import json
import os
import sqlite3
import sys
from pathlib import Path

from entobot.bus.bus_local import LocalBus
from entobot.core.clock import SystemClock
from entobot.core.ids import RandomIds
from entobot.core.secrets import SystemEntropy
from entobot.gateway.store import find_result, insert_result
from entobot.storage.database import Database, StorageFailed, Transaction
from entobot.storage.database_sqlite import SqliteDatabase
from entobot.storage.migrations import upgrade_sqlite
from entobot.stream.service import Stream
from tests.rigs.ledger import Entry
from tests.support.stores import postgres_database

USERS = ("usr_a", "usr_b", "usr_c", "usr_d")
WRITERS = 48
FILLER = "x" * 400


class WeakSqlite(SqliteDatabase):
    """The adapter with a setting that it must not have, to show that the rig notices."""

    def __init__(self, path: Path, synchronous: str) -> None:
        super().__init__(path, upgrade_sqlite)
        self._weak_synchronous = synchronous

    def _connect(self) -> sqlite3.Connection:
        connection = super()._connect()
        connection.execute(f"PRAGMA synchronous={self._weak_synchronous}")
        return connection


def open_store(store: str, weakened: str = "") -> Database:
    if "://" in store:
        return postgres_database(store)
    path = Path(store)
    return WeakSqlite(path, weakened) if weakened else SqliteDatabase(path, upgrade_sqlite)


def new_stream() -> Stream:
    return Stream(LocalBus(), RandomIds(SystemClock(), SystemEntropy()))


async def prepare(database: Database) -> None:
    """Make the users' streams where they are missing."""
    stream = new_stream()

    def make(tx: Transaction, user: str) -> None:
        stream.open(tx, user)

    for user in USERS:
        await database.write(lambda tx, user=user: make(tx, user))


async def read_streams(database: Database) -> dict[str, list[Entry]]:
    """Every user's entries in the order of the store."""
    stream = new_stream()
    streams: dict[str, list[Entry]] = {}
    for user in USERS:
        entries = streams[user] = []
        while page := await database.read(
            lambda tx, user=user, after=entries[-1].seq if entries else 0: stream.after(tx, user, after, 2000)
        ):
            for logged in page:
                event = json.loads(logged.event)
                entries.append(Entry(event["writer"], event["number"], logged.seq))
    return streams


def _once(tx: Transaction, stream: Stream, writer: int, number: int) -> int:
    """Append the entry unless that was done before, as the executor of commands does; its seq."""
    user, device = USERS[writer % len(USERS)], f"dev_{writer}"
    if (found := find_result(tx, device, str(number))) is not None:
        return int(found[1])
    event = {"type": "entry", "writer": writer, "number": number, "filler": FILLER}
    seq = stream.append(tx, user, event, topic="test", scope=None, now_ms=1)
    result = str(seq).encode()
    insert_result(tx, device_id=device, command_id=str(number), digest=b"", result=result, now_ms=1)
    return seq


async def _append(database: Database, stream: Stream, writer: int, number: int) -> None:
    user = USERS[writer % len(USERS)]
    while True:
        number += 1
        while True:
            try:
                seq = await database.write(
                    lambda tx, number=number: _once(tx, stream, writer, number),
                    key=user,
                    is_small=True,  # as a gateway commits its devices' commands
                )
            except StorageFailed:  # whether it was stored may be unknown: once more, the same
                await asyncio.sleep(0.01)
            else:
                break
        os.write(sys.stdout.fileno(), f"{writer} {number} {seq}\n".encode())


async def _run(store: str, weakened: str, first: int) -> None:
    database = open_store(store, weakened)
    await database.start()
    stream = new_stream()
    await asyncio.gather(*(_append(database, stream, writer, first) for writer in range(WRITERS)))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("store")
    parser.add_argument("--weakened", default="")
    parser.add_argument("--from", type=int, default=0, dest="first")
    asked = parser.parse_args()
    asyncio.run(_run(asked.store, asked.weakened, asked.first))


if __name__ == "__main__":
    main()
