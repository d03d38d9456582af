"""What only the SQLite adapter does: commits on the loop while the disk is fast, and nothing else there."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from entobot.storage import database_sqlite
from entobot.storage.database import Transaction
from entobot.storage.database_sqlite import SqliteDatabase
from entobot.storage.place import CommitPlace
from tests.contracts.test_database import ADD, amount, create_things


class GivenPlace(CommitPlace):
    def __init__(self) -> None:
        super().__init__()
        self.is_fast = True

    def may_commit_on_loop(self, now_s: float) -> bool:
        del now_s
        return self.is_fast

    may_read_on_loop = may_commit_on_loop


@pytest.fixture
def place() -> GivenPlace:
    return GivenPlace()


@pytest.fixture
async def store(tmp_path: Path, place: GivenPlace) -> AsyncIterator[SqliteDatabase]:
    store = SqliteDatabase(tmp_path / "things.db", create_things, place=place)
    await store.start()
    yield store
    await store.stop()


def thread_of(_: Transaction) -> threading.Thread:
    return threading.current_thread()


@pytest.mark.parametrize("is_fast", [True, False])
@pytest.mark.parametrize("is_small", [True, False])
async def test_only_small_units_of_a_fast_disk_run_on_the_loop(
    store: SqliteDatabase, place: GivenPlace, *, is_fast: bool, is_small: bool
) -> None:
    place.is_fast = is_fast
    here = threading.current_thread()
    assert (await store.write(thread_of, is_small=is_small) is here) == (is_fast and is_small)
    assert (await store.read(thread_of, is_small=is_small) is here) == (is_fast and is_small)


async def test_while_another_process_holds_the_file_the_loop_does_not_wait_for_it(
    store: SqliteDatabase, tmp_path: Path
) -> None:
    other = sqlite3.connect(tmp_path / "things.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    task = asyncio.create_task(store.write(thread_of, is_small=True))
    await asyncio.sleep(0.05)
    assert not task.done()
    assert await store.read(lambda tx: amount(tx, "a")) is None
    other.execute("ROLLBACK")
    other.close()
    assert await task is not threading.current_thread()


async def test_what_another_process_committed_is_not_remembered_otherwise(
    store: SqliteDatabase, tmp_path: Path
) -> None:
    def remember(tx: Transaction) -> None:
        assert tx.memory is not None
        tx.memory.put("a", 1)

    def recall(tx: Transaction) -> object:
        assert tx.memory is not None
        return tx.memory.get("a")

    await store.write(remember)
    assert await store.write(recall) == 1
    other = sqlite3.connect(tmp_path / "things.db")
    other.execute("INSERT INTO things VALUES ('foreign', 1)")
    other.commit()
    other.close()
    assert await store.write(recall) is None


async def test_a_read_in_a_thread_is_given_no_memory(store: SqliteDatabase, place: GivenPlace) -> None:
    place.is_fast = False
    assert await store.read(lambda tx: tx.memory, is_small=True) is None


async def test_the_log_does_not_grow_for_ever(store: SqliteDatabase, tmp_path: Path) -> None:
    store._ask_for_empty_log()
    await store.write(lambda tx: tx.run(ADD, {"name": "a", "amount": 1}))
    with sqlite3.connect(tmp_path / "things.db") as other:
        _, pages, moved = other.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    other.close()
    assert pages == moved


async def test_another_reader_of_the_file_does_not_spoil_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`PRAGMA optimize` may find the file locked; statistics are no reason to end badly."""
    monkeypatch.setattr(database_sqlite, "BUSY_TIMEOUT_MS", 10)
    store = SqliteDatabase(tmp_path / "things.db", create_things)
    await store.start()
    await store.write(lambda tx: tx.run(ADD, {"name": "a", "amount": 1}))
    other = sqlite3.connect(tmp_path / "things.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    await asyncio.to_thread(_needs_statistics, store)
    await store.stop()
    other.close()


def _needs_statistics(store: SqliteDatabase) -> None:
    class Stubborn:
        """The connection, whose planner has something to write down, which needs the lock that another holds."""

        def __init__(self, connection: sqlite3.Connection) -> None:
            self.connection = connection

        def __getattr__(self, name: str) -> Any:
            return getattr(self.connection, name)

        def execute(self, sql: str, *values: Any) -> Any:
            return self.connection.execute("ANALYZE" if sql == "PRAGMA optimize" else sql, *values)

    store._batch.connection = Stubborn(store._batch.connection)  # pyright: ignore[reportAttributeAccessIssue]  all of it that is used
