"""SQLite adapter: WAL, synchronous=FULL, one writer thread with group commit, a small pool of readers."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar, cast

from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.sql import Executable

from entobot.storage.compiled import StatementCache
from entobot.storage.database import Durability, Parameters, Row, StorageFailed, Unit
from entobot.storage.meters import StoreMeters
from entobot.telemetry.meters import Meters

T = TypeVar("T")

MAX_UNITS_PER_COMMIT = 512
MAX_UNITS_PER_SNAPSHOT = 64
SNAPSHOT_S = 0.001
"""After this long a reader hands back what it has, though more waits: few wait for a slow one."""
BUSY_TIMEOUT_MS = 15_000
READERS = 2
CACHED_STATEMENTS = 512
"""A connection; the module's own 128 are fewer than the gateway has."""


class SqliteTransaction:
    """One unit's view of a connection. Not thread-safe; lives as long as the unit."""

    def __init__(self, connection: sqlite3.Connection, statements: StatementCache) -> None:
        self._connection = connection
        self._statements = statements
        self.callbacks: list[Callable[[], None]] = []

    def _execute(self, statement: Executable, parameters: Parameters | None) -> sqlite3.Cursor:
        sql, values = self._statements.render(statement, parameters)
        return self._connection.execute(sql, values)

    def run(self, statement: Executable, parameters: Parameters | None = None) -> int:
        return self._execute(statement, parameters).rowcount

    def rows(self, statement: Executable, parameters: Parameters | None = None) -> list[Row]:
        return cast("list[Row]", self._execute(statement, parameters).fetchall())

    def first(self, statement: Executable, parameters: Parameters | None = None) -> Row | None:
        cursor = self._execute(statement, parameters)
        row = cast("Row | None", cursor.fetchone())
        cursor.close()  # an open cursor would keep the read snapshot, or a RETURNING half done
        return row

    def after_commit(self, callback: Callable[[], None]) -> None:
        self.callbacks.append(callback)


class _Job:
    __slots__ = ("callbacks", "error", "future", "loop", "number", "result", "unit")

    def __init__(self, unit: Unit[Any], loop: asyncio.AbstractEventLoop, number: int) -> None:
        self.unit = unit
        self.number = number
        self.loop = loop
        self.future: asyncio.Future[Any] = loop.create_future()
        self.result: Any = None
        self.error: BaseException | None = None
        self.callbacks: list[Callable[[], None]] = []


class SqliteDatabase:
    """See `Database`. `upgrade` brings the schema of the file at a path to the present version."""

    def __init__(self, path: Path, upgrade: Callable[[Path], None], meters: Meters | None = None) -> None:
        self._path = path
        self._upgrade = upgrade
        self._writes: SimpleQueue[_Job | None] = SimpleQueue()
        self._reads: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._submitted = 0
        self._durability = Durability(survives_power_cut=False, detail="not started")
        self._meters = StoreMeters(meters or Meters())
        self._meters.waiting_reads.follow(self._reads.qsize)
        self._meters.waiting_writes.follow(self._writes.qsize)

    async def start(self) -> None:
        await asyncio.to_thread(self._upgrade, self._path)
        self._durability = await asyncio.to_thread(self._read_durability)
        loops = [("writer", self._write_loop)] + [(f"reader-{n}", self._read_loop) for n in range(READERS)]
        for name, target in loops:
            thread = threading.Thread(target=target, name=f"sqlite-{name}", daemon=True)
            thread.start()
            self._threads.append(thread)

    async def stop(self) -> None:
        threads, self._threads = self._threads, []
        if not threads:
            return
        self._writes.put(None)
        for _ in range(READERS):
            self._reads.put(None)
        for thread in threads:
            await asyncio.to_thread(thread.join)

    async def write(self, unit: Unit[T], key: str = "") -> T:  # noqa: ARG002  one writer takes all in order
        try:
            return await self._submit(self._writes, unit)
        except StorageFailed:
            self._meters.failed_writes.add()
            raise

    async def read(self, unit: Unit[T]) -> T:
        self._meters.reads.value += 1
        try:
            return await self._submit(self._reads, unit)
        except StorageFailed:
            self._meters.failed_reads.add()
            raise

    def durability(self) -> Durability:
        return self._durability

    async def _submit(self, queue: "SimpleQueue[_Job | None]", unit: Unit[T]) -> T:
        if not self._threads:
            raise StorageFailed("the database is not running")
        self._submitted += 1
        job = _Job(unit, asyncio.get_running_loop(), self._submitted)
        queue.put(job)
        return await job.future

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, isolation_level=None, check_same_thread=False, cached_statements=CACHED_STATEMENTS
        )
        connection.row_factory = sqlite3.Row
        connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA secure_delete=ON")  # what is erased must not stay readable in free pages
        return connection

    def _read_durability(self) -> Durability:
        connection = self._connect()
        mode: str = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        level: int = connection.execute("PRAGMA synchronous").fetchone()[0]
        connection.close()
        is_full = mode == "wal" and level >= 2
        return Durability(survives_power_cut=is_full, detail=f"SQLite journal_mode={mode} synchronous={level}")

    # -- writer thread

    def _write_loop(self) -> None:
        connection = self._connect()
        statements = StatementCache(SQLiteDialect_pysqlite(paramstyle="qmark"))
        running = True
        while running:
            batch, running = _take_batch(self._writes)
            if batch:
                _commit_batch(connection, statements, batch, self._meters)
                _resolve(batch)
        with suppress(
            sqlite3.Error
        ):  # statistics for the planner are no reason to end badly: another may hold the file
            connection.execute("PRAGMA optimize")
        connection.close()

    # -- reader threads

    def _read_loop(self) -> None:
        connection = self._connect()
        connection.execute("PRAGMA query_only=ON")
        statements = StatementCache(SQLiteDialect_pysqlite(paramstyle="qmark"))
        while self._read_batch(connection, statements):
            pass
        connection.close()

    def _read_batch(self, connection: sqlite3.Connection, statements: StatementCache) -> bool:
        """Wait for a unit, run it and what else waits, and hand all back at once. False once the stop mark was met."""
        job = self._reads.get()
        batch: list[_Job] = []
        newest, end_s = 0, time.perf_counter() + SNAPSHOT_S
        while job is not None:
            if job.number > newest:  # its caller may know of a commit that this snapshot lacks
                newest = self._submitted
                _leave_snapshot(connection)
            _read(connection, statements, job)
            batch.append(job)
            if len(batch) == MAX_UNITS_PER_SNAPSHOT or time.perf_counter() >= end_s:
                break
            try:
                job = self._reads.get_nowait()
            except Empty:
                break
        _leave_snapshot(connection)
        _resolve(batch)
        return job is not None


def _leave_snapshot(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def _read(connection: sqlite3.Connection, statements: StatementCache, job: _Job) -> None:
    try:
        if not connection.in_transaction:
            connection.execute("BEGIN")
        job.result = job.unit(SqliteTransaction(connection, statements))
    except sqlite3.Error as error:
        job.error = _as_failure(error)
    except BaseException as error:  # noqa: BLE001  whatever the unit raised belongs to its caller
        job.error = error


def _take_batch(queue: "SimpleQueue[_Job | None]") -> tuple[list[_Job], bool]:
    """Wait for one job, then take what else is there. The flag is False once the stop mark was met."""
    batch: list[_Job] = []
    job = queue.get()
    while job is not None:
        batch.append(job)
        if queue.empty() or len(batch) == MAX_UNITS_PER_COMMIT:
            return batch, True
        job = queue.get()
    return batch, False


def _commit_batch(
    connection: sqlite3.Connection, statements: StatementCache, batch: list[_Job], meters: StoreMeters
) -> None:
    meters.commit_units.observe(len(batch))
    try:
        connection.execute("BEGIN IMMEDIATE")
        if len(batch) == 1:
            _run_alone(connection, statements, batch[0], meters)
        else:
            for job in batch:
                _run_in_savepoint(connection, statements, job)
            _commit(connection, meters)
    except sqlite3.Error as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        failure = _as_failure(error)
        for job in batch:
            job.error = job.error or failure


def _commit(connection: sqlite3.Connection, meters: StoreMeters) -> None:
    begun_s = time.perf_counter()
    connection.execute("COMMIT")
    meters.commit_seconds.observe(time.perf_counter() - begun_s)


def _run_alone(connection: sqlite3.Connection, statements: StatementCache, job: _Job, meters: StoreMeters) -> None:
    """The whole transaction is this unit's: what it undoes is all."""
    transaction = SqliteTransaction(connection, statements)
    try:
        job.result = job.unit(transaction)
    except BaseException as error:  # noqa: BLE001  whatever the unit raised belongs to its caller
        job.error = _as_failure(error) if isinstance(error, sqlite3.OperationalError) else error
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    else:
        job.callbacks = transaction.callbacks
        _commit(connection, meters)  # also where SQLite has rolled back by itself: then this fails, and is told


def _run_in_savepoint(connection: sqlite3.Connection, statements: StatementCache, job: _Job) -> None:
    transaction = SqliteTransaction(connection, statements)
    connection.execute("SAVEPOINT unit")
    try:
        job.result = job.unit(transaction)
    except BaseException as error:
        job.error = _as_failure(error) if isinstance(error, sqlite3.OperationalError) else error
        # A full disk makes SQLite roll the whole transaction back by itself: then nothing of the batch stands.
        if not connection.in_transaction:
            raise sqlite3.OperationalError("the transaction was rolled back") from error
        connection.execute("ROLLBACK TO unit")
    else:
        job.callbacks = transaction.callbacks
    connection.execute("RELEASE unit")


def _as_failure(error: BaseException) -> StorageFailed:
    failure = StorageFailed(f"the database did not take the commit ({type(error).__name__}: {error})")
    failure.__cause__ = error
    return failure


def _resolve(batch: list[_Job]) -> None:
    """Hand results back to each job's loop, one wake-up for a whole batch."""
    loops: dict[asyncio.AbstractEventLoop, list[_Job]] = {}
    for job in batch:
        loops.setdefault(job.loop, []).append(job)
    for loop, jobs in loops.items():
        try:
            loop.call_soon_threadsafe(_settle, jobs)
        except RuntimeError:  # the loop is closed: nobody is left to be told, and the commit stands
            continue


def _settle(jobs: list[_Job]) -> None:
    for job in jobs:
        for callback in job.callbacks if job.error is None else ():
            callback()
        if job.future.done():  # its caller was cancelled; the commit stands
            continue
        if job.error is not None:
            job.future.set_exception(job.error)
        else:
            job.future.set_result(job.result)
