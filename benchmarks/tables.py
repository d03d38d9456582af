"""What the rows of a durable message cost SQLite, with our tables and with others; and two processes on one file.

    python -m benchmarks.tables [--users 64]
    python -m benchmarks.tables --writers

No gateway: the statements of `message.send` in its order, 42 messages a transaction, each of a user taken by chance,
200 characters long. `rows` and `commit` are CPU µs a message by the thread's clock, which does not count waiting for
the disk. With `--writers` one process, then two, do the work of a gateway's message: what is not SQLite's is spent in
a busy loop outside of the transaction, so nothing but the file is shared. That is more than a gateway could hope for.
"""

import argparse
import multiprocessing
import random
import secrets
import sqlite3
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

from entobot.storage.migrations import upgrade_sqlite

BATCH, MESSAGES = 42, 20_000
CONTENT = "x" * 200
CHECKPOINT_S = 1.0
WRITERS_S = 4.0
OURS_S = 60e-6
"""Python's part of a message: frame, checks, unit, result, event."""

INSERTS = (
    "INSERT INTO stream_events (user_id, seq, at_ms, scope, topic, event) VALUES (?, ?, ?, ?, ?, ?)",
    (
        "INSERT INTO messages (message_id, conversation_id, user_id, role, content, seq, created_at_ms, sender_device_id,"
        " is_awaiting) VALUES (?, ?, ?, 'user', ?, ?, ?, ?, 0)"
    ),
    "INSERT INTO command_results (device_id, command_id, digest, result, at_ms) VALUES (?, ?, ?, ?, ?)",
    "UPDATE stream_heads SET seq = ? WHERE user_id = ?",
    "UPDATE conversations SET updated_at_ms = ? WHERE conversation_id = ?",
)
_BY_DEVICE = (
    "DROP TABLE command_results",
    (
        "CREATE TABLE command_results (device_id TEXT NOT NULL, command_id TEXT NOT NULL, digest BLOB NOT NULL,"
        " result BLOB NOT NULL, at_ms BIGINT NOT NULL, PRIMARY KEY (device_id, command_id))"
    ),
    "CREATE INDEX ix_command_results_at ON command_results (at_ms)",
)
_EVENTS_BY_USER = (
    "DROP TABLE stream_events",
    (
        "CREATE TABLE stream_events (user_id TEXT NOT NULL, seq BIGINT NOT NULL, at_ms BIGINT NOT NULL, scope TEXT,"
        " topic TEXT NOT NULL, event TEXT NOT NULL, expires_at_ms BIGINT, PRIMARY KEY (user_id, seq)) WITHOUT ROWID"
    ),
)
_NO_INDEX_BY_CONVERSATION = ("DROP INDEX ix_messages_conversation",)
_NO_INDEX_BY_PERSON = (
    *_NO_INDEX_BY_CONVERSATION,
    "DROP INDEX ix_conversations_user_updated",
    "DROP TABLE stream_events",
    (
        "CREATE TABLE stream_events (id INTEGER PRIMARY KEY, user_id TEXT NOT NULL, seq BIGINT NOT NULL,"
        " at_ms BIGINT NOT NULL, scope TEXT, topic TEXT NOT NULL, event TEXT NOT NULL, expires_at_ms BIGINT)"
    ),
)


@dataclass(frozen=True, slots=True)
class Variant:
    name: str
    changes: Sequence[str] = ()
    pragmas: Sequence[str] = ()
    page_bytes: int = 4096


VARIANTS = (
    Variant("as it is"),
    Variant("results by device, then id", _BY_DEVICE),
    Variant("events by user, without row ids", _EVENTS_BY_USER),
    Variant("pages of 1 KiB", page_bytes=1024),
    Variant("pages of 2 KiB", page_bytes=2048),
    Variant("pages of 8 KiB", page_bytes=8192),
    Variant("erased rows stay readable", pragmas=("PRAGMA secure_delete=OFF",)),
    Variant("64 MB of page cache", pragmas=("PRAGMA cache_size=-65536",)),
    Variant("messages not found by conversation", _NO_INDEX_BY_CONVERSATION),
    Variant("nothing found by person at all", _NO_INDEX_BY_PERSON),
)


def connect(path: Path, pragmas: Sequence[str] = ()) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=60)
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON", "wal_autocheckpoint=0"):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    for pragma in pragmas:
        connection.execute(pragma).fetchall()
    return connection


def make(path: Path, variant: Variant) -> sqlite3.Connection:
    if variant.page_bytes != Variant("").page_bytes:
        with sqlite3.connect(path) as fresh:
            fresh.execute(f"PRAGMA page_size={variant.page_bytes}")
            fresh.execute("VACUUM")
        fresh.close()
    upgrade_sqlite(path)
    connection = connect(path, variant.pragmas)
    for change in variant.changes:
        connection.execute(change)
    return connection


@dataclass
class People:
    """Users with a device and a conversation each, and what they say."""

    count: int
    name: str = "A"
    said: int = 0
    seqs: dict[int, int] = field(default_factory=dict[int, int])

    def id(self, prefix: str, number: int) -> str:
        return f"{prefix}01M7ZC{self.name}{number:019d}"

    def move_in(self, connection: sqlite3.Connection) -> None:
        everybody = range(self.count)
        heads = [(self.id("usr_", n), self.id("str_", n)) for n in everybody]
        talks = [(self.id("cnv_", n), self.id("usr_", n)) for n in everybody]
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO stream_heads (user_id, stream_id, seq) VALUES (?, ?, 0)", heads)
        connection.executemany(
            "INSERT INTO conversations (conversation_id, user_id, title, created_at_ms, updated_at_ms)"
            " VALUES (?, ?, 't', 1, 1)",
            talks,
        )
        connection.execute("COMMIT")

    def speak(self) -> tuple[list[tuple[Any, ...]], ...]:
        """The rows of a batch, in the order of INSERTS."""
        rows: tuple[list[tuple[Any, ...]], ...] = ([], [], [], [], [])
        for _ in range(BATCH):
            who = random.randrange(self.count)
            self.said += 1
            seq = self.seqs[who] = self.seqs.get(who, 0) + 1
            user, device, talk = self.id("usr_", who), self.id("dev_", who), self.id("cnv_", who)
            message, at_ms = self.id("msg_", self.said), 1_700_000_000_000 + self.said
            event = f'{{"type":"message.created","data":{{"message_id":"{message}","conversation_id":"{talk}"'
            event += f',"role":"user","content":"{CONTENT}","sender_device_id":"{device}"}}}}'
            result = f'{{"message_id":"{message}","conversation_id":"{talk}","seq":{seq}}}'.encode()
            rows[0].append((user, seq, at_ms, "chat", f"conversation:{talk}", event))
            rows[1].append((message, talk, user, CONTENT, seq, at_ms, device))
            rows[2].append((device, self.id("", self.said), secrets.token_bytes(32), result, at_ms))
            rows[3].append((seq, user))
            rows[4].append((at_ms, talk))
        return rows


def write(connection: sqlite3.Connection, rows: Sequence[Sequence[tuple[Any, ...]]]) -> tuple[float, float]:
    """CPU seconds of the statements, and of the commit."""
    began_s = time.thread_time()
    connection.execute("BEGIN IMMEDIATE")
    for statement, values in zip(INSERTS, rows, strict=True):
        connection.executemany(statement, values)
    written_s = time.thread_time()
    connection.execute("COMMIT")
    return written_s - began_s, time.thread_time() - written_s


def measure(folder: Path, variant: Variant, users: int) -> tuple[float, float]:
    """CPU µs a message, of the second half."""
    connection, people = make(folder / "store.db", variant), People(users)
    people.move_in(connection)
    rows_s = commit_s = 0.0
    moved_s = time.monotonic()
    while people.said < MESSAGES:
        rows, commit = write(connection, people.speak())
        if people.said > MESSAGES // 2:
            rows_s, commit_s = rows_s + rows, commit_s + commit
        if time.monotonic() - moved_s > CHECKPOINT_S:
            moved_s = time.monotonic()
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    connection.close()
    return rows_s / (MESSAGES / 2) * 1e6, commit_s / (MESSAGES / 2) * 1e6


# -- two processes


def spend(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def work(path: Path, name: str, users: int, go: Callable[[], None], total: "Synchronized[int]") -> None:
    connection, people = connect(path), People(users, name)
    people.move_in(connection)
    go()
    count, end = 0, time.monotonic() + WRITERS_S
    while time.monotonic() < end:
        rows = people.speak()
        spend(OURS_S * BATCH)
        write(connection, rows)
        count += BATCH
    with total.get_lock():
        total.value += count
    connection.close()


def writers(count: int, users: int) -> float:
    """Messages a second of so many processes together."""
    with tempfile.TemporaryDirectory(prefix="entobot-tables-") as folder:
        path = Path(folder, "store.db")
        make(path, VARIANTS[0]).close()
        barrier, total = multiprocessing.Barrier(count), multiprocessing.Value("q", 0)
        processes = [
            multiprocessing.Process(target=work, args=(path, "AB"[n], users, barrier.wait, total)) for n in range(count)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        return total.value / WRITERS_S


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=64)
    parser.add_argument("--writers", action="store_true")
    options = parser.parse_args()
    if options.writers:
        for _ in range(3):
            one, two = writers(1, options.users), writers(2, options.users)
            print(f"one process {one:7.0f}/s   two {two:7.0f}/s   {two / one:.2f} times", flush=True)
        return
    print(f"{'tables':36} {'rows':>6} {'commit':>7} {'all':>6}   CPU µs a message, {options.users} users")
    for variant in VARIANTS:
        with tempfile.TemporaryDirectory(prefix="entobot-tables-") as folder:
            rows, commit = measure(Path(folder), variant, options.users)
        print(f"{variant.name:36} {rows:6.1f} {commit:7.1f} {rows + commit:6.1f}", flush=True)


if __name__ == "__main__":
    main()
