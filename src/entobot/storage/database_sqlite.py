"""SQLite adapter: WAL, synchronous=FULL, group commits on the loop or in a writer thread, a small pool of readers."""

import asyncio
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from entobot.storage.compiled import StatementCache
from entobot.storage.database import Chain, Durability, Settle, StorageFailed, Unit
from entobot.storage.meters import StoreMeters
from entobot.storage.place import CommitPlace
from entobot.storage.transaction_sqlite import Batch, StoreLocked, SubmittedJob, as_failure, read
from entobot.telemetry.meters import Meters

T = TypeVar("T")

MAX_UNITS_PER_COMMIT = 512
MAX_UNITS_PER_COMMIT_ON_LOOP = 128
ON_LOOP_S = 0.0025
"""No further unit of a commit on the loop begins after this long."""
MAX_UNITS_PER_SNAPSHOT = 64
SNAPSHOT_S = 0.001
"""After this long a reader hands back what it has, though more waits: few wait for a slow one."""
BUSY_TIMEOUT_MS = 15_000
READERS = 2
CACHED_STATEMENTS = 512
"""A connection; the module's own 128 are fewer than the gateway has."""
CHECKPOINT_EVERY_S = 1.0
MAX_WAL_PAGES = 8192
"""Above this (32 MiB) commits wait until the log is empty and begins anew."""

_Work = list[SubmittedJob] | None


class SqliteDatabase:
    """See `Database`. `upgrade` brings the schema of the file at a path to the present version.

    One connection writes. Small units use it on the loop while the disk is fast; everything else, and all while it is
    slow, hands it to the writer thread for one batch. Whoever has it, has it alone, so that order is one.
    """

    def __init__(
        self,
        path: Path,
        upgrade: Callable[[Path], None],
        meters: Meters | None = None,
        place: CommitPlace | None = None,
    ) -> None:
        self._path = path
        self._upgrade = upgrade
        self._place = place or CommitPlace()
        self._waiting: deque[SubmittedJob] = deque()
        self._is_scheduled = False
        self._is_in_thread = False
        self._batches: SimpleQueue[_Work] = SimpleQueue()
        self._reads: SimpleQueue[SubmittedJob | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._drained = asyncio.Event()
        self._submitted = 0
        self._read_in_threads = 0
        self._checkpoint_timer: asyncio.TimerHandle | None = None
        self._is_log_long = False
        self._durability = Durability(survives_power_cut=False, detail="not started")
        self._meters = StoreMeters(meters or Meters())
        self._meters.waiting_reads.follow(lambda: self._read_in_threads)
        self._meters.waiting_writes.follow(lambda: len(self._waiting))

    async def start(self) -> None:
        await asyncio.to_thread(self._upgrade, self._path)
        self._loop = asyncio.get_running_loop()
        await asyncio.to_thread(self._open)
        loops = [("writer", self._write_loop)] + [(f"reader-{n}", self._read_loop) for n in range(READERS)]
        for name, target in loops:
            thread = threading.Thread(target=target, name=f"sqlite-{name}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def _open(self) -> None:
        connection = self._connect_impatient()
        mode: str = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        level: int = connection.execute("PRAGMA synchronous").fetchone()[0]
        is_full = mode == "wal" and level >= 2
        self._durability = Durability(
            survives_power_cut=is_full, detail=f"SQLite journal_mode={mode} synchronous={level}"
        )
        connection.execute("PRAGMA wal_autocheckpoint=0")  # it would be done in the middle of a commit
        self._batch = Batch(connection, _statements())
        self._reading = self._connect_impatient()
        self._reading.execute("PRAGMA query_only=ON")
        self._reading_statements = _statements()

    async def stop(self) -> None:
        threads, self._threads = self._threads, []
        if not threads:
            return
        if self._checkpoint_timer is not None:
            self._checkpoint_timer.cancel()
        if not self._is_in_thread:
            self._hand_over()
        if self._is_in_thread:
            await self._drained.wait()
        self._batches.put(None)
        for _ in range(READERS):
            self._reads.put(None)
        for thread in threads:
            await asyncio.to_thread(thread.join)
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._reading.close()
        with suppress(
            sqlite3.Error
        ):  # statistics for the planner are no reason to end badly: another may hold the file
            self._batch.connection.execute("PRAGMA optimize")
        self._batch.connection.close()

    async def write(self, unit: Unit[T], key: str = "", *, is_small: bool = False) -> T:
        del key  # one connection takes all in order
        future: asyncio.Future[T] = self._loop_or_refuse().create_future()
        self._submit(unit, _settle_future(future), is_small=is_small)
        return await future

    async def read(self, unit: Unit[T], *, is_small: bool = False) -> T:
        if is_small:
            job = self._read_here(unit, _nobody)
            if job is not None:
                if job.error is not None:
                    raise job.error
                return job.result
        future: asyncio.Future[T] = self._loop_or_refuse().create_future()
        self._read_in_thread(unit, _settle_future(future))
        return await future

    def submit_write(self, unit: Unit[T], settle: Settle[T], key: str = "", chain: Chain | None = None) -> None:
        del key
        self._loop_or_refuse()
        self._submit(unit, settle, is_small=True, chain=chain)

    def submit_read(self, unit: Unit[T], settle: Settle[T]) -> None:
        self._loop_or_refuse()
        job = self._read_here(unit, settle)
        if job is not None:
            settle(job.result, job.error)
            return
        self._read_in_thread(unit, settle)

    def durability(self) -> Durability:
        return self._durability

    def trouble(self) -> str:
        return ""  # a failed commit says nothing about the next one

    @property
    def is_busy(self) -> bool:
        """A unit waits or runs."""
        return bool(self._waiting) or self._is_in_thread or self._read_in_threads > 0

    def _loop_or_refuse(self) -> asyncio.AbstractEventLoop:
        if not self._threads:
            raise StorageFailed("the database is not running")
        return self._loop

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

    def _connect_impatient(self) -> sqlite3.Connection:
        """For the loop: while another process holds the file it is told so at once."""
        connection = self._connect()
        connection.execute("PRAGMA busy_timeout=0")
        return connection

    # -- writing: on the loop, or by the writer thread

    def _submit(self, unit: Unit[Any], settle: Settle[Any], *, is_small: bool, chain: Chain | None = None) -> None:
        self._submitted += 1
        self._waiting.append(SubmittedJob(unit, settle, self._submitted, is_small=is_small, chain=chain))
        self._schedule()

    def _schedule(self) -> None:
        if self._waiting and not self._is_scheduled and not self._is_in_thread:
            self._is_scheduled = True
            self._loop.call_soon(self._commit_waiting)

    def _commit_waiting(self) -> None:
        self._is_scheduled = False
        waiting = self._waiting
        if not waiting or self._is_in_thread:
            return
        if not waiting[0].is_small or not self._place.may_commit_on_loop(time.perf_counter()):
            self._hand_over()
            return
        jobs: list[SubmittedJob] = []
        while waiting and waiting[0].is_small and len(jobs) < MAX_UNITS_PER_COMMIT_ON_LOOP:
            jobs.append(waiting.popleft())
        self._commit_here(jobs)
        self._schedule()

    def _commit_here(self, jobs: list[SubmittedJob]) -> None:
        """The one place where a commit holds up the loop: see docs/adr/0021."""
        began_s = time.perf_counter()
        try:
            done, took_s = self._batch.commit(jobs, end_s=began_s + ON_LOOP_S)
        except StoreLocked:
            self._waiting.extendleft(reversed(jobs))
            self._hand_over()
            return
        self._note_commit(took_s)
        self._place.held_loop(took_s, time.perf_counter())
        self._waiting.extendleft(reversed(jobs[done:]))
        self._finish(jobs[:done])

    def _hand_over(self) -> None:
        waiting = self._waiting
        if waiting:
            count = min(len(waiting), MAX_UNITS_PER_COMMIT)
            self._is_in_thread = True
            self._batches.put([waiting.popleft() for _ in range(count)])

    def _write_loop(self) -> None:
        while (jobs := self._batches.get()) is not None:
            try:
                _, took_s = self._batch.commit(jobs, patience_s=BUSY_TIMEOUT_MS / 1000)
                self._empty_log()
            except BaseException as error:  # noqa: BLE001  its callers must hear, and the next batch must have its turn
                took_s = 0.0
                for job in jobs:
                    job.end(as_failure(error))
            with suppress(RuntimeError):  # the loop is closed: nobody is left to be told, and the commit stands
                self._loop.call_soon_threadsafe(self._written, jobs, took_s)

    def _written(self, jobs: list[SubmittedJob], took_s: float) -> None:
        self._is_in_thread = False
        self._note_commit(took_s)
        self._finish(jobs)
        if self._threads:
            self._schedule()
        else:
            self._hand_over()
            if not self._is_in_thread:
                self._drained.set()

    def _note_commit(self, took_s: float) -> None:
        if took_s:
            self._place.took(took_s)
            self._meters.commit_seconds.observe(took_s)

    def _finish(self, jobs: list[SubmittedJob]) -> None:
        if self._checkpoint_timer is None and self._threads:
            self._checkpoint_timer = self._loop.call_later(CHECKPOINT_EVERY_S, self._checkpoint)
        self._meters.commit_units.observe(len(jobs))
        for job in jobs:
            if isinstance(job.error, StorageFailed):
                self._meters.failed_writes.add()
            job.finish()

    # -- small reads on the loop

    def _read_here(self, unit: Unit[Any], settle: Settle[Any]) -> SubmittedJob | None:
        """Read now, or None when a thread has to: the disk is slow, or the writer thread may commit in between."""
        began_s = time.perf_counter()
        if self._is_in_thread or not self._threads or not self._place.may_read_on_loop(began_s):
            return None
        self._meters.reads.value += 1
        job = SubmittedJob(unit, settle, 0, is_small=True)
        memory = self._batch.memory
        read(self._reading, self._reading_statements, job, memory)
        memory.committed()
        now_s = time.perf_counter()
        self._place.held_loop(now_s - began_s, now_s)
        if isinstance(job.error, StorageFailed):
            self._meters.failed_reads.add()
        return job

    # -- reader threads

    def _read_in_thread(self, unit: Unit[Any], settle: Settle[Any]) -> None:
        self._submitted += 1
        self._read_in_threads += 1
        self._meters.reads.value += 1
        self._reads.put(SubmittedJob(unit, settle, self._submitted, is_small=False))

    def _read_loop(self) -> None:
        connection = self._connect()
        connection.execute("PRAGMA query_only=ON")
        statements = _statements()
        while self._read_batch(connection, statements):
            pass
        connection.close()

    def _read_batch(self, connection: sqlite3.Connection, statements: StatementCache) -> bool:
        """Wait for a unit, run it and what else waits, and hand all back at once. False once the stop mark was met."""
        job = self._reads.get()
        batch: list[SubmittedJob] = []
        newest, end_s = 0, time.perf_counter() + SNAPSHOT_S
        while job is not None:
            if job.number > newest:  # its caller may know of a commit that this snapshot lacks
                newest = self._submitted
                _leave_snapshot(connection)
            if not connection.in_transaction:
                connection.execute("BEGIN")
            read(connection, statements, job, None)
            batch.append(job)
            if len(batch) == MAX_UNITS_PER_SNAPSHOT or time.perf_counter() >= end_s:
                break
            try:
                job = self._reads.get_nowait()
            except Empty:
                break
        _leave_snapshot(connection)
        if batch:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._answer, batch)
        return job is not None

    def _answer(self, jobs: list[SubmittedJob]) -> None:
        self._read_in_threads -= len(jobs)
        for job in jobs:
            if isinstance(job.error, StorageFailed):
                self._meters.failed_reads.add()
            job.finish()

    # -- the write-ahead log

    def _checkpoint(self) -> None:
        """Once a second while there are commits: what the log holds goes to its place, beside those who write."""
        self._checkpoint_timer = None
        if self._threads:
            threading.Thread(target=self._move_log, name="sqlite-checkpoint", daemon=True).start()

    def _move_log(self) -> None:
        with suppress(sqlite3.Error, RuntimeError):  # the next second tries again
            connection = self._connect_impatient()
            try:
                _, pages, moved = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            finally:
                connection.close()
            if pages > MAX_WAL_PAGES and moved < pages:
                self._loop.call_soon_threadsafe(self._ask_for_empty_log)

    def _ask_for_empty_log(self) -> None:
        """Where commits never pause the log would grow for ever: they wait once, for the little that is left."""
        if self._threads:
            self._is_log_long = True
            self._submit(_nothing, _nobody, is_small=False)

    def _empty_log(self) -> None:
        if self._is_log_long:
            self._is_log_long = False
            with suppress(sqlite3.Error):
                self._batch.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()


def _nothing(_: object) -> None: ...
def _nobody(_result: object, _error: BaseException | None) -> None: ...


def _statements() -> StatementCache:
    return StatementCache(SQLiteDialect_pysqlite(paramstyle="qmark"))


def _settle_future(future: asyncio.Future[Any]) -> Settle[Any]:
    def settle(result: Any, error: BaseException | None) -> None:
        if future.done():  # its caller was cancelled; the commit stands
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)

    return settle


def _leave_snapshot(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")
