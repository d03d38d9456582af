"""Units in SQLite transactions: each alone when it fails, their rows written together when none does."""

import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, cast

from sqlalchemy.sql import Executable

from entobot.storage.compiled import StatementCache
from entobot.storage.database import Chain, Parameters, Row, Settle, StorageFailed, Unit
from entobot.storage.job import Job
from entobot.storage.memory import Memory

log = logging.getLogger(__name__)

RETRY_S = 0.01


class SubmittedJob(Job):
    """`settle` is told the outcome. `number` counts what was submitted."""

    __slots__ = ("is_small", "number", "settle")

    def __init__(
        self, unit: Unit[Any], settle: Settle[Any], number: int, *, is_small: bool, chain: Chain | None = None
    ) -> None:
        super().__init__(unit, chain)
        self.settle = settle
        self.number = number
        self.is_small = is_small

    def finish(self) -> None:
        """Loop thread only: ring what the commit rang for, then answer."""
        if self.error is None:
            for callback in self.callbacks:
                _guarded(callback)
        _guarded(lambda: self.settle(self.result, self.error))


def _guarded(call: Callable[[], None]) -> None:
    """What one unit's caller does wrong is not the others'."""
    try:
        call()
    except Exception:
        log.exception("what follows a commit failed")


class SqliteReading:
    """One unit's view of a connection that only reads. Lives as long as the unit."""

    __slots__ = ("_connection", "_statements", "memory")

    def __init__(self, connection: sqlite3.Connection, statements: StatementCache, memory: Memory | None) -> None:
        self._connection = connection
        self._statements = statements
        self.memory = memory

    def _execute(self, statement: Executable, parameters: Parameters | None) -> sqlite3.Cursor:
        sql, values = self._statements.render(statement, parameters)
        return self._connection.execute(sql, values)

    def run(self, statement: Executable, parameters: Parameters | None = None) -> int:
        return self._execute(statement, parameters).rowcount

    def add(self, statement: Executable, parameters: Parameters) -> None:
        self.run(statement, parameters)

    def add_latest(self, statement: Executable, key: str, parameters: Parameters) -> None:
        del key
        self.run(statement, parameters)

    def rows(self, statement: Executable, parameters: Parameters | None = None) -> list[Row]:
        return cast("list[Row]", self._execute(statement, parameters).fetchall())

    def first(self, statement: Executable, parameters: Parameters | None = None) -> Row | None:
        cursor = self._execute(statement, parameters)
        row = cast("Row | None", cursor.fetchone())
        cursor.close()  # an open cursor would keep the read snapshot, or a RETURNING half done
        return row

    def after_commit(self, callback: Callable[[], None]) -> None:
        del callback


class DeferredRefused(Exception):  # noqa: N818  reads as what happened
    """A row that a unit gave to `add` broke a constraint, while perhaps another unit was running."""


class StoreLocked(Exception):  # noqa: N818  reads as what happened
    """Another process writes the file at this moment."""


class _Pending:
    """Rows to be written before anybody looks: by statement, and the latest of those that replace one another."""

    __slots__ = ("latest", "rows")

    def __init__(self) -> None:
        self.rows: dict[str, list[Sequence[Any]]] = {}
        self.latest: dict[str, dict[str, Sequence[Any]]] = {}

    def add(self, sql: str, key: str | None, values: Sequence[Any]) -> None:
        if key is not None:
            self.latest.setdefault(sql, {})[key] = values
        elif (rows := self.rows.get(sql)) is None:
            self.rows[sql] = [values]
        else:
            rows.append(values)

    def write(self, connection: sqlite3.Connection) -> None:
        if not self.rows and not self.latest:
            return
        rows, latest = self.rows, self.latest
        self.rows, self.latest = {}, {}
        try:
            for sql, values in rows.items():
                connection.executemany(sql, values)
            for sql, by_key in latest.items():
                connection.executemany(sql, by_key.values())
        except sqlite3.IntegrityError as error:
            raise DeferredRefused from error


class SqliteTransaction(SqliteReading):
    """One unit's view of a batch. A savepoint is made when the unit first executes something, not before."""

    __slots__ = ("_added", "_batch", "_has_savepoint", "callbacks")

    def __init__(self, batch: "Batch") -> None:
        super().__init__(batch.connection, batch.statements, batch.memory)
        self._batch = batch
        self._has_savepoint = batch.is_single
        self.callbacks: list[Callable[[], None]] = []
        self._added: list[tuple[str, str | None, Sequence[Any]]] = []

    def _execute(self, statement: Executable, parameters: Parameters | None) -> sqlite3.Cursor:
        sql, values = self._statements.render(statement, parameters)
        self._batch.pending.write(self._connection)
        if not self._has_savepoint:
            self._connection.execute("SAVEPOINT unit")
            self._has_savepoint = True
        if self._added:
            self._hand_in()
            self._batch.pending.write(self._connection)
        return self._connection.execute(sql, values)

    def add(self, statement: Executable, parameters: Parameters) -> None:
        if not self._batch.may_defer:
            self.run(statement, parameters)
            return
        sql, values = self._statements.render(statement, parameters)
        self._added.append((sql, None, values))

    def add_latest(self, statement: Executable, key: str, parameters: Parameters) -> None:
        if not self._batch.may_defer:
            self.run(statement, parameters)
            return
        sql, values = self._statements.render(statement, parameters)
        self._added.append((sql, key, values))

    def after_commit(self, callback: Callable[[], None]) -> None:
        self.callbacks.append(callback)

    def _hand_in(self) -> None:
        """From here on it is the batch's to write."""
        added, self._added = self._added, []
        for sql, key, values in added:
            self._batch.pending.add(sql, key, values)

    def release(self) -> None:
        self._hand_in()
        if self._has_savepoint and not self._batch.is_single:
            self._connection.execute("RELEASE unit")

    def roll_back(self) -> None:
        """Raises OperationalError when SQLite has rolled back all by itself, as it does on a full disk."""
        self._added = []
        if not self._connection.in_transaction:
            raise sqlite3.OperationalError("the transaction was rolled back")
        if self._batch.is_single:
            self._connection.execute("ROLLBACK")
        elif self._has_savepoint:
            self._connection.execute("ROLLBACK TO unit")
            self._connection.execute("RELEASE unit")


class Batch:
    """Runs jobs in one transaction on the writing connection. One thread at a time."""

    def __init__(self, connection: sqlite3.Connection, statements: StatementCache) -> None:
        self.connection = connection
        self.statements = statements
        self.memory = Memory()
        self.pending = _Pending()
        self.may_defer = True
        self.is_single = False
        self._data_version = -1

    def commit(
        self, jobs: list[SubmittedJob], *, end_s: float = float("inf"), patience_s: float = 0.0
    ) -> tuple[int, float]:
        """How many of the jobs were dealt with, from the first on, and how long the commit took.

        At least one is, and none begins after `end_s` (`time.perf_counter`). Each job has its result or its error.
        Raises StoreLocked, with nothing begun, when another process holds the file for longer than `patience_s`.
        """
        try:
            self._begin(patience_s)
            try:
                return self._run_all(jobs, end_s)
            except DeferredRefused:
                return self._run_one_by_one(jobs)
        except sqlite3.Error as error:
            self._abandon()
            failure = as_failure(error)
            for job in jobs:
                job.end(job.error or failure)
            return len(jobs), 0.0

    def _begin(self, patience_s: float) -> None:
        end_s = time.perf_counter() + patience_s
        while True:
            try:
                self.connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                    raise
                if time.perf_counter() >= end_s:
                    raise StoreLocked from error
                time.sleep(RETRY_S)
            else:
                return

    def _run_one_by_one(self, jobs: list[SubmittedJob]) -> tuple[int, float]:
        """Whose row was refused shows when each is written at once."""
        self._abandon()
        self.may_defer = False
        try:
            for job in jobs:
                job.end(None)
            self._begin(0.0)
            return self._run_all(jobs, float("inf"))
        finally:
            self.may_defer = True

    def _run_all(self, jobs: list[SubmittedJob], end_s: float) -> tuple[int, float]:
        connection = self.connection
        self._check_memory()
        self.is_single = len(jobs) == 1
        done = 0
        for job in jobs:
            self._run(job)
            done += 1
            if done < len(jobs) and time.perf_counter() >= end_s:
                break
        if self.is_single and jobs[0].error is not None:
            return 1, 0.0  # rolled back
        self.pending.write(connection)
        began_s = time.perf_counter()
        connection.execute("COMMIT")  # also where SQLite has rolled back by itself: then this fails, and is told
        self.memory.committed()
        return done, time.perf_counter() - began_s

    def _check_memory(self) -> None:
        """Somebody else's commit, which the lock of the data folder forbids, would make what is remembered untrue."""
        version: int = self.connection.execute("PRAGMA data_version").fetchone()[0]
        if version != self._data_version:
            self._data_version = version
            self.memory.clear()

    def _run(self, job: SubmittedJob) -> None:
        transaction = SqliteTransaction(self)
        mark = self.memory.mark()
        try:
            job.run(transaction)
        except DeferredRefused:
            raise
        except BaseException as error:  # noqa: BLE001  whatever the unit raised belongs to its caller
            job.end(as_failure(error) if isinstance(error, sqlite3.OperationalError) else error)
            self.memory.undo_to(mark)
            transaction.roll_back()
        else:
            transaction.release()
            job.callbacks = transaction.callbacks

    def _abandon(self) -> None:
        self.pending = _Pending()
        self.memory.clear()
        if self.connection.in_transaction:
            with suppress(sqlite3.Error):
                self.connection.execute("ROLLBACK")


def read(connection: sqlite3.Connection, statements: StatementCache, job: SubmittedJob, memory: Memory | None) -> None:
    """Run a job that only reads; it gets its result or its error."""
    try:
        job.run(SqliteReading(connection, statements, memory))
    except sqlite3.Error as error:
        job.error = as_failure(error)
    except BaseException as error:  # noqa: BLE001  whatever the unit raised belongs to its caller
        job.error = error


def as_failure(error: BaseException) -> StorageFailed:
    failure = StorageFailed(f"the database did not take the commit ({type(error).__name__}: {error})")
    failure.__cause__ = error
    return failure
