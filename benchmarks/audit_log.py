"""A: the audit log with a million entries, on SQLite and PostgreSQL: first pages, and a walk over all of it."""

import asyncio
import json
import sqlite3
import tempfile
import time
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks.rig import Figure, median
from entobot.audit.events import AuditEvent, Outcome
from entobot.audit.model import Actor, Entry, canonical, chain_hash, commitment, genesis, personal_text, salted
from entobot.audit.searching import Filters
from entobot.audit.service import Audit
from entobot.core.clock import SystemClock
from entobot.core.ids import RandomIds
from entobot.core.secrets import SystemEntropy
from entobot.storage.database import Database
from entobot.storage.migrations import upgrade_sqlite
from entobot.storage.migrations.postgres import upgrade_postgres
from entobot.storage.postgres_connection import PostgresAddress
from tests.support.postgres import in_thread, postgres_server
from tests.support.stores import postgres_database, sqlite_database

ENTRIES = 1_000_000
ROUNDS = 5
TARGET_MS = 300
START_MS = 1_790_000_000_000
EVERY_MS = 20_000
LOG = "aud_benchmark"
RARE = 250_000
"""Of so many entries one is of a rare event, person and device."""

CASES = {
    "newest": Filters(),
    "event": Filters(event=AuditEvent.DEVICE_RENAMED),
    "rare event": Filters(event=AuditEvent.KEY_ROTATED),
    "event.": Filters(event="device."),
    "actor": Filters(actor="usr_7"),
    "rare device": Filters(actor="dev_rare"),
    "target": Filters(subject="dev_42"),
    "denied": Filters(outcome=Outcome.DENIED),
    "a day in the middle": Filters(since_ms=START_MS + 500_000 * EVERY_MS, until_ms=START_MS + 504_320 * EVERY_MS),
    "event + actor + time": Filters(event="device.", actor="usr_7", until_ms=START_MS + 500_000 * EVERY_MS),
    "text": Filters(text="phone 99"),
    "text that is nowhere": Filters(text="nowhere to be found"),
    "actor + text that is nowhere": Filters(actor="usr_7", text="nowhere to be found"),
}


def figures(entries: int = ENTRIES) -> list[Figure]:
    found: list[Figure] = []
    for name, opened in (("SQLite", on_sqlite), ("PostgreSQL", on_postgres)):
        with opened(entries) as database:
            found += asyncio.run(measured(name, database, entries))
    return found


async def measured(store: str, database: Database, entries: int) -> list[Figure]:
    await database.start()
    audit = Audit(ids=RandomIds(SystemClock(), SystemEntropy()), entropy=SystemEntropy(), signer=None, head_file=None)
    try:
        found: list[Figure] = []
        for what, filters in CASES.items():
            took = [await _ms(lambda f=filters: database.read(lambda tx: audit.find(tx, f))) for _ in range(ROUNDS)]
            first, later = took[0], median(took[1:])
            label = f"{store}, {entries:,} entries, first page: {what}"
            met = max(first, later) <= TARGET_MS
            found.append(Figure("A", label, f"≤ {TARGET_MS} ms", f"{later:.1f} ms (first {first:.1f})", met))
        walked = await _ms(lambda: audit.verify(database.read))
        rate = entries / walked * 1000
        found.append(Figure("A", f"{store}, verify all", "-", f"{walked / 1000:.1f} s ({rate:,.0f}/s)", None))
        return found
    finally:
        await database.stop()


async def _ms(work: Callable[[], Awaitable[Any]]) -> float:
    began = time.perf_counter()
    await work()
    return (time.perf_counter() - began) * 1000


# -- rows

LOG_COLUMNS = (
    "seq", "audit_id", "at_ms", "event", "outcome", "actor_user", "actor_device", "subject", "facts", "commitments",
    "previous", "hash",
)  # fmt: skip
COMMON = [event for event in AuditEvent if event is not AuditEvent.KEY_ROTATED]


def rows(entries: int) -> Iterator[tuple[tuple[object, ...], tuple[int, str] | None]]:
    """Of `audit_log` and `audit_personal`: a real chain."""
    last, salt = genesis(LOG), bytes(16)
    for seq in range(1, entries + 1):
        is_rare = seq % RARE == RARE // 2
        actor = Actor("usr_rare", "dev_rare") if is_rare else Actor(f"usr_{seq % 50}", f"dev_{seq % 200}")
        values = salted({"device_name": f"phone {seq % 1000}"}, salt) if seq % 3 == 0 else {}
        entry = Entry(
            seq=seq,
            audit_id=f"aud_{seq:026}",
            at_ms=START_MS + seq * EVERY_MS,
            event=AuditEvent.KEY_ROTATED if is_rare else COMMON[seq * 7 % len(COMMON)],
            outcome=Outcome.DENIED if seq % 40 == 0 else Outcome.SUCCESS,
            actor=None if seq % 9 == 0 else actor,
            subject=f"dev_{seq % 200}",
            facts={"by": "benchmark", "n": seq},
            commitments={name: commitment(name, value) for name, value in values.items()},
            previous=last,
            hash=b"",
        )
        last = chain_hash(entry)
        who = entry.actor
        row = (
            seq, entry.audit_id, entry.at_ms, str(entry.event), str(entry.outcome),
            None if who is None else who.user_id, None if who is None else who.device_id, entry.subject,
            canonical(entry.facts), json.dumps(dict(entry.commitments)), entry.previous, last,
        )  # fmt: skip
        yield row, (seq, personal_text(values)) if values else None


@contextmanager
def on_sqlite(entries: int) -> Generator[Database]:
    with tempfile.TemporaryDirectory(prefix="entobot-bench-") as folder:
        path = Path(folder, "entobot.db")
        upgrade_sqlite(path)
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("PRAGMA synchronous=OFF")
            marks = ", ".join("?" * len(LOG_COLUMNS))
            last: bytes = b""
            for row, values in rows(entries):
                connection.execute(f"INSERT INTO audit_log VALUES ({marks})", row)
                if values is not None:
                    connection.execute("INSERT INTO audit_personal VALUES (?, ?)", values)
                last = row[-1]  # pyright: ignore[reportAssignmentType]  the hash
            connection.execute("INSERT INTO audit_head VALUES (1, ?, ?, ?)", (LOG, entries, last))
        yield sqlite_database(Path(folder))


@contextmanager
def on_postgres(entries: int) -> Generator[Database]:
    with postgres_server() as server:
        name = server.new_database()
        in_thread(lambda: upgrade_postgres(PostgresAddress(server.url(name))))
        in_thread(lambda: _copy(server.url(name), entries))
        yield postgres_database(server.url(name, is_local=True))


async def _copy(url: str, entries: int) -> None:
    connection: Any = await asyncpg.connect(url)
    both = list(rows(entries))
    await connection.copy_records_to_table("audit_log", columns=LOG_COLUMNS, records=[row for row, _ in both])
    values = [one for _, one in both if one is not None]
    await connection.copy_records_to_table("audit_personal", records=values)
    await connection.execute("INSERT INTO audit_head VALUES (1, $1, $2, $3)", LOG, entries, both[-1][0][-1])
    await connection.execute("VACUUM ANALYZE audit_log")  # as the server itself does soon after
    await connection.execute("VACUUM ANALYZE audit_personal")
    await connection.close()
