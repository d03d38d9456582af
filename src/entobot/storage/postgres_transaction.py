"""Units in a PostgreSQL transaction. Everything here runs in a greenlet that gives way while the server answers."""

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import cast

import asyncpg
from sqlalchemy import Delete, Insert, Table, Update
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.sql import Executable
from sqlalchemy.util import await_only

from entobot.core.errors import Code, Problem
from entobot.storage.compiled import StatementCache
from entobot.storage.database import Parameters, Row, StorageFailed
from entobot.storage.meters import StoreMeters
from entobot.storage.postgres_connection import Connection, Prepared, reason
from entobot.storage.postgres_deferred import Deferred, Write
from entobot.storage.unit_queue import QueuedJob

WRITE = "BEGIN ISOLATION LEVEL SERIALIZABLE"
READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"

log = logging.getLogger(__name__)


class Conflict(Exception):  # noqa: N818  reads as what happened
    """Another transaction was first: nothing happened, and it may be tried again."""


class Lost(Exception):  # noqa: N818  reads as what happened
    """The connection is gone. `is_outcome_unknown`: while it was committing."""

    def __init__(self, why: str, *, is_outcome_unknown: bool) -> None:
        super().__init__(why)
        self.is_outcome_unknown = is_outcome_unknown


class Session:
    """A connection and the statements it has prepared."""

    def __init__(self, connection: Connection, statements: StatementCache, *, is_writer: bool) -> None:
        self.connection = connection
        self.is_writer = is_writer
        self._statements = statements
        self._prepared: dict[str, Prepared] = {}

    def command(self, sql: str) -> str:
        """Run SQL without parameters; its status."""
        return await_only(self.connection.execute(sql))

    def render(self, statement: Executable, parameters: Parameters | None) -> tuple[str, Sequence[object]]:
        return self._statements.render(statement, parameters)

    def prepared(self, sql: str) -> Prepared:
        prepared = self._prepared.get(sql)
        if prepared is None:
            prepared = self._prepared[sql] = await_only(self.connection.prepare(sql))
        return prepared


TOGETHER_S = 1.0
MAX_COLLISIONS = 3
"""A row that another node wrote first may be told as a unique violation before it is told as a conflict: a unit that
looked is run again. One that collides ever again has itself to blame.
"""


class PostgresTransaction:
    """See `Transaction`. Lives as long as its unit."""

    memory = None
    """Other nodes write as well."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._deferred = Deferred()
        self.callbacks: list[Callable[[], None]] = []

    def run(self, statement: Executable, parameters: Parameters | None = None) -> int:
        prepared, values = self._ready(statement, parameters)
        await_only(prepared.fetch(*values))
        return int(prepared.get_statusmsg().rpartition(" ")[2])

    def add(self, statement: Executable, parameters: Parameters) -> None:
        self._defer(statement, None, parameters)

    def add_latest(self, statement: Executable, key: str, parameters: Parameters) -> None:
        self._defer(statement, key, parameters)

    def rows(self, statement: Executable, parameters: Parameters | None = None) -> list[Row]:
        prepared, values = self._ready(statement, parameters)
        return await_only(prepared.fetch(*values))

    def first(self, statement: Executable, parameters: Parameters | None = None) -> Row | None:
        prepared, values = self._ready(statement, parameters)
        return await_only(prepared.fetchrow(*values))

    def finish(self) -> None:
        """Write what was put off. To be called when the unit has returned, as a part of it."""
        for sql, values in self._deferred.take():
            await_only(self._session.prepared(sql).fetch(*values))

    def _ready(self, statement: Executable, parameters: Parameters | None) -> tuple[Prepared, Sequence[object]]:
        sql, values = self._session.render(statement, parameters)
        if self._deferred:
            self.finish()
        return self._session.prepared(sql), values

    def _defer(self, statement: Executable, key: str | None, parameters: Parameters) -> None:
        assert isinstance(statement, Insert | Update | Delete), "only a write can be put off"
        table = cast("Table", statement.table)
        self._deferred.add(Write(table.name, *self._session.render(statement, parameters)), key)

    def after_commit(self, callback: Callable[[], None]) -> None:
        self.callbacks.append(callback)


class Commits:
    """Hands out results in the order in which commits were sent.

    A unit that builds on another's effect was sent after it, so this is the order of commits wherever it can be told.
    """

    def __init__(self) -> None:
        self._sent: deque[list[list[QueuedJob]]] = deque()

    def send(self) -> list[list[QueuedJob]]:
        ticket: list[list[QueuedJob]] = []
        self._sent.append(ticket)
        return ticket

    def answered(self, ticket: list[list[QueuedJob]], jobs: list[QueuedJob]) -> None:
        ticket.append(jobs)
        while self._sent and self._sent[0]:
            for job in self._sent.popleft()[0]:
                _tell(job)


def _tell(job: QueuedJob) -> None:
    for callback in job.callbacks if job.error is None else ():
        try:
            callback()
        except Exception:
            log.exception("a callback after a commit failed")
    job.settle()


def make_statements() -> StatementCache:
    return StatementCache(PGDialect_asyncpg())


def run_writes(session: Session, jobs: list[QueuedJob], commits: Commits, meters: StoreMeters) -> int:
    """Run them in one transaction, a savepoint each, and settle them: how many, from the first on.

    None begins after TOGETHER_S: a slow one does not take those beside it over the time that a transaction has.
    Raises Conflict or Lost: then none is settled.
    """
    for job in jobs:
        job.end(None)  # what an earlier try made of it was rolled back
    if len(jobs) == 1:
        _guarded(session, lambda: session.command(WRITE))
        if not _run_unit(session, jobs[0]):
            _guarded(session, lambda: session.command("ROLLBACK"))
            jobs[0].settle()
            return 1
    else:
        jobs = _run_together(session, jobs)
    meters.commit_units.observe(len(jobs))
    begun_s = time.perf_counter()
    _commit(session, jobs, commits)
    meters.commit_seconds.observe(time.perf_counter() - begun_s)
    return len(jobs)


def _run_together(session: Session, jobs: list[QueuedJob]) -> list[QueuedJob]:
    """Those that were run."""
    end_s = time.perf_counter() + TOGETHER_S
    _guarded(session, lambda: session.command(f"{WRITE}; SAVEPOINT unit"))
    for count, job in enumerate(jobs, 1):
        step = "RELEASE unit; SAVEPOINT unit" if _run_unit(session, job) else "ROLLBACK TO unit"
        _guarded(session, lambda step=step: session.command(step))
        if time.perf_counter() >= end_s:
            return jobs[:count]
    return jobs


def _run_unit(session: Session, job: QueuedJob) -> bool:
    """Whether it went through. Raises Conflict or Lost; any other exception is the job's."""
    transaction = PostgresTransaction(session)
    job.callbacks = transaction.callbacks
    try:
        job.run(transaction)
        transaction.finish()
    except BaseException as error:
        if isinstance(error, asyncpg.UniqueViolationError) and job.collisions < MAX_COLLISIONS:
            job.collisions += 1
            raise Conflict from error
        job.end(_as_outcome(session, error))
        return False
    job.end(None)
    return True


def _commit(session: Session, jobs: list[QueuedJob], commits: Commits) -> None:
    ticket = commits.send()
    told: list[QueuedJob] = []
    try:
        status = session.command("COMMIT")
        if status != "COMMIT":  # a unit went on after a failed statement
            raise StorageFailed("the transaction was rolled back")
        told = jobs
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        outcome = _as_outcome(session, error, is_committing=True)
        for job in jobs:
            job.end(job.error or outcome)
        told = jobs
    finally:
        commits.answered(ticket, told)


def run_reads(session: Session, jobs: list[QueuedJob]) -> None:
    """Run all on one snapshot and settle each at once. Raises Conflict or Lost: those not settled may run again."""
    is_open = False
    for job in jobs:
        if not is_open:
            _guarded(session, lambda: session.command(READ))
        is_open = _run_unit(session, job)
        if not is_open:
            _guarded(session, lambda: session.command("ROLLBACK"))
        job.settle()
    if is_open:
        _guarded(session, lambda: session.command("COMMIT"))


def _guarded(session: Session, step: Callable[[], str]) -> None:
    try:
        step()
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        outcome = _as_outcome(session, error)
        raise Lost(str(outcome), is_outcome_unknown=False) from error


def _as_outcome(session: Session, error: BaseException, *, is_committing: bool = False) -> BaseException:
    """What the caller of a unit is told of `error`. Raises Conflict or Lost where that is not an answer yet."""
    if isinstance(error, asyncpg.SerializationError | asyncpg.DeadlockDetectedError):
        raise Conflict from error
    is_demoted = session.is_writer and isinstance(error, asyncpg.ReadOnlySQLTransactionError)
    if is_demoted or session.connection.is_closed():  # another host may be the writable one by now
        raise Lost(reason(error), is_outcome_unknown=is_committing) from error
    if isinstance(error, asyncpg.IntegrityConstraintViolationError):
        return error
    if isinstance(error, asyncpg.CharacterNotInRepertoireError):  # U+0000, which SQLite takes
        return Problem(Code.INVALID, "A text holds the character NUL, which cannot be stored. Leave it out.")
    if isinstance(error, asyncpg.PostgresError | asyncpg.InterfaceError | OSError):
        failure = StorageFailed(f"the database did not take the commit ({type(error).__name__}: {reason(error)})")
        failure.__cause__ = error
        return failure
    return error
