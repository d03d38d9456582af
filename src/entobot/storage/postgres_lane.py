"""One connection that runs transactions, one after another, and comes back when it is lost."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from sqlalchemy.util import greenlet_spawn

from entobot.core.secrets import Entropy
from entobot.storage.compiled import StatementCache
from entobot.storage.database import StorageFailed
from entobot.storage.meters import LaneMeters, StoreMeters
from entobot.storage.postgres_connection import NOT_REACHED, Connection, reason
from entobot.storage.postgres_transaction import (
    Commits,
    Conflict,
    Lost,
    Session,
    make_statements,
    run_reads,
    run_writes,
)
from entobot.storage.unit_queue import QueuedJob, UnitQueue

RETRY_S = 0.05
MAX_RETRY_S = 1.0
TURN = 0x656E746F7475726E  # "entoturn"
CONFLICT_S = 0.002
MAX_CONFLICT_S = 0.05
CONFLICTS_SIDE_BY_SIDE = 2

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Health:
    """`trouble` is for people, empty when all is well. `is_hanging`: the server takes commits and confirms none.
    `is_shared`: other nodes write the same database.
    """

    trouble: str = ""
    is_hanging: bool = False
    is_shared: bool = False


@dataclass(frozen=True, slots=True)
class Patience:
    """A caller is told within the sum of both, and the time that connecting takes."""

    wait_s: float = 5.0
    """How long a unit waits for a connection, and tries again."""
    run_s: float = 5.0
    """How long one transaction may take before its connection is given up."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What the lanes of one database have in common."""

    connect: Callable[[bool], Awaitable[Connection]]
    """Called with whether the connection is for writing."""
    entropy: Entropy
    meters: StoreMeters
    patience: Patience
    statements: StatementCache = field(default_factory=make_statements)
    commits: Commits = field(default_factory=Commits)
    health: Health = field(default_factory=Health)
    contended: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Units that lost to others several times go one at a time: among themselves they cannot lose again."""

    def jitter(self, at_most_s: float) -> float:
        return at_most_s * int.from_bytes(self.entropy.bytes(2), "big") / 65536


class Lane:
    def __init__(self, queue: UnitQueue, shared: Shared, meters: LaneMeters, *, is_writer: bool) -> None:
        self._queue = queue
        self._shared = shared
        self._meters = meters
        self._is_writer = is_writer
        self._session: Session | None = None
        self.is_busy = False

    @property
    def is_idle(self) -> bool:
        """Connected, and nothing to do."""
        return self._session is not None and not self.is_busy

    async def run(self) -> None:
        """Until the queue is closed and empty."""
        try:
            while jobs := await self._queue.take():
                self.is_busy = True
                self._note_waits(jobs)
                await self._serve(jobs)
                self._queue.done(jobs)
                self.is_busy = False
        finally:
            await self._close()

    def _note_waits(self, jobs: list[QueuedJob]) -> None:
        due_s = asyncio.get_running_loop().time() + self._shared.patience.wait_s
        for job in jobs:
            self._meters.wait_seconds.observe(max(0.0, due_s - job.deadline_s))

    async def _serve(self, jobs: list[QueuedJob]) -> None:
        """Settle all of them, whatever happens."""
        while jobs:
            jobs = self._in_time(jobs[await self._serve_some(jobs) :])

    def _in_time(self, jobs: list[QueuedJob]) -> list[QueuedJob]:
        """Those that may still wait."""
        now_s = asyncio.get_running_loop().time()
        late = [job for job in jobs if job.deadline_s <= now_s]
        self._fail(late, TimeoutError("it is too slow"))
        return [job for job in jobs if job not in late] if late else jobs

    async def _serve_some(self, jobs: list[QueuedJob]) -> int:
        """How many were settled, from the first on."""
        try:
            return await self._run(jobs)
        except Lost as lost:
            self._fail(jobs, lost)
        except Conflict:
            self._fail(jobs, StorageFailed("others were first each time"))
        except BaseException as error:
            self._fail(jobs, error)
            if not isinstance(error, Exception):
                raise
            log.exception("a transaction failed in an unforeseen way")
            self._drop("an unforeseen failure")
        return len(jobs)

    def _fail(self, jobs: list[QueuedJob], error: BaseException) -> None:
        for job in jobs:
            failure = StorageFailed(f"the database did not confirm the commit ({error})")
            failure.is_outcome_unknown = isinstance(error, Lost) and error.is_outcome_unknown
            job.fail(failure)

    async def _run(self, jobs: list[QueuedJob]) -> int:
        """How many were settled. Raises Lost or Conflict when the time for trying again is over."""
        loop = asyncio.get_running_loop()
        conflicts = 0
        while True:
            try:
                if conflicts <= CONFLICTS_SIDE_BY_SIDE:
                    return await self._attempt(jobs)
                async with self._shared.contended:
                    return await self._attempt(jobs)
            except Conflict:
                await self._rollback()
                conflicts += 1
                if loop.time() > jobs[0].deadline_s:
                    raise
                self._meters.conflicts.add()
                await asyncio.sleep(self._shared.jitter(min(MAX_CONFLICT_S, CONFLICT_S * 2**conflicts)))
            except Lost as lost:
                self._drop(str(lost))
                if lost.is_outcome_unknown or loop.time() > jobs[0].deadline_s:
                    raise
                self._meters.losses.add()

    async def _attempt(self, jobs: list[QueuedJob]) -> int:
        session = await self._connected(jobs[0].deadline_s)
        # Not a cancellation: cancelling a COMMIT that waits for a standby would make it appear on this server alone.
        timer = asyncio.get_running_loop().call_later(self._shared.patience.run_s, session.connection.terminate)
        try:
            if self._is_writer:
                has_turn = await self._take_turn(session)
                done = await greenlet_spawn(run_writes, session, jobs, self._shared.commits, self._shared.meters)
                if has_turn:
                    await self._end_turn(session)
                return done
            await greenlet_spawn(run_reads, session, [job for job in jobs if not job.future.done()])
            return len(jobs)
        finally:
            timer.cancel()

    async def _take_turn(self, session: Session) -> bool:
        """Groups of several nodes nearly always conflict, and the work of all but one is lost: they take turns.

        For speed alone; where one writes out of turn the isolation holds as well. Before BEGIN, so that the snapshot
        is of the time when it is this node's turn.
        """
        if not self._shared.health.is_shared:
            return False
        try:
            await session.connection.execute(f"SELECT pg_advisory_lock({TURN})")
        except NOT_REACHED as error:
            if session.connection.is_closed():
                raise Lost(reason(error), is_outcome_unknown=False) from error
            raise Conflict from error
        return True

    async def _end_turn(self, session: Session) -> None:
        try:
            await session.connection.execute("SELECT pg_advisory_unlock_all()")
        except NOT_REACHED as error:  # with the connection goes the lock
            self._drop(reason(error))

    async def _rollback(self) -> None:
        session = self._session
        if session is None:
            return
        try:
            async with asyncio.timeout(self._shared.patience.run_s):
                await session.connection.execute("ROLLBACK")
                await session.connection.execute("SELECT pg_advisory_unlock_all()")
        except NOT_REACHED as error:
            self._drop(reason(error))

    # -- connection

    async def _connected(self, until_s: float) -> Session:
        """Connect where needed, again and again until `until_s`. Raises Lost."""
        if self._session is not None and not self._session.connection.is_closed():
            return self._session
        self._drop("the server closed the connection")
        loop = asyncio.get_running_loop()
        wait_s = RETRY_S
        while True:
            try:
                connection = await self._shared.connect(self._is_writer)
                self._session = Session(connection, self._shared.statements, is_writer=self._is_writer)
            except (*NOT_REACHED, ValueError) as error:
                self._shared.health.trouble = reason(error)
            else:
                return self._session
            if loop.time() > until_s:
                raise Lost(self._shared.health.trouble, is_outcome_unknown=False)
            await asyncio.sleep(wait_s / 2 + self._shared.jitter(wait_s / 2))
            wait_s = min(MAX_RETRY_S, wait_s * 2)

    def _drop(self, why: str) -> None:
        session, self._session = self._session, None
        if session is not None:
            self._shared.health.trouble = why
            session.connection.terminate()

    async def _close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            try:
                await session.connection.close(timeout=1)
            except NOT_REACHED:
                session.connection.terminate()
