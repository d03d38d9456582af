"""The Database port: units of work over portable SQLAlchemy Core statements."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from sqlalchemy import MetaData
from sqlalchemy.sql import Executable

from entobot.core.errors import Code, Problem
from entobot.storage.memory import Memory

T = TypeVar("T")

RETRY_AFTER_S = 2.0
"""After a commit that the store did not take: about as often as it is looked at."""

metadata = MetaData()
"""Every table of every feature's `store.py`; compared with the migrations by a test."""

Parameters = Mapping[str, object]


class Row(Protocol):
    """One result row, read by column name. Valid inside its unit only: turn it into a model object there."""

    def __getitem__(self, column: str, /) -> Any: ...


class Transaction(Protocol):
    """What a unit may do. Statements are SQLAlchemy Core without ORM; keep the hot ones as module constants:
    they are compiled once per identity. `parameters` are bound by name, or inserted as column values.
    """

    @property
    def memory(self) -> Memory | None:
        """What earlier transactions knew about rows, where that is still true; None where nobody can promise it.

        Only a store that one process writes can. Whoever changes a row tells the memory in the same unit; what a unit
        that rolls back has told is taken back.
        """
        ...

    def run(self, statement: Executable, parameters: Parameters | None = None) -> int:
        """Execute a write and return the number of rows it touched."""
        ...

    def add(self, statement: Executable, parameters: Parameters) -> None:
        """Execute a write that cannot fail and whose row count nobody asks for, at some time before the commit.

        Writes of one statement keep their order and may be executed together, those of several units as well. Every
        later statement sees them, as if they had been executed at once.
        """
        ...

    def add_latest(self, statement: Executable, key: str, parameters: Parameters) -> None:
        """As `add`, of a write that makes an earlier one of the same statement and `key` superfluous."""
        ...

    def rows(self, statement: Executable, parameters: Parameters | None = None) -> list[Row]:
        """Execute a query, or a write with RETURNING, and return all its rows."""
        ...

    def first(self, statement: Executable, parameters: Parameters | None = None) -> Row | None:
        """The first row, or None."""
        ...

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call `callback` on the event loop once the unit is durable, in commit order, before `write` returns.

        Not called when the unit fails. For doorbells: what it announces must already be in the tables.
        """
        ...


Unit = Callable[[Transaction], T]
Settle = Callable[[T | None, BaseException | None], None]
"""Takes a unit's result, or the exception that it raised."""


@dataclass(frozen=True, slots=True)
class Durability:
    """What an acknowledged commit survives, as read from the store itself at start."""

    survives_power_cut: bool
    detail: str
    fix: str = "Put the data folder on a local disk that honours fsync."


class StorageFailed(Exception):  # noqa: N818  reads as what happened
    """The store did not confirm the commit (disk full, read-only, gone, too busy).

    Nothing of the unit happened. Where `is_outcome_unknown`, the connection broke while a server was committing: all of
    it happened or nothing, and only looking again tells.
    """

    is_outcome_unknown = False

    def as_problem(self) -> Problem:
        """What a client is told: the same again under the same id, when the disk or the server had a moment."""
        return Problem(Code.INTERNAL, "The store did not take it. Try again.", retry_after_s=RETRY_AFTER_S)


class Chain:
    """Units that one sender submits one after another: none takes effect behind one that failed, for whatever reason.

    A sender repeats what was not acknowledged. Were a later unit kept where an earlier one was not, the repeat would
    bring both in another order than they were sent. Used by adapters; whoever submits makes one and hands it in.
    """

    __slots__ = ("_broken_at",)

    def __init__(self) -> None:
        self._broken_at: object = None

    def check(self, job: object) -> None:
        """Raises StorageFailed behind a job that failed. That one itself may be run again."""
        if self._broken_at not in (None, job):
            raise StorageFailed("something earlier of the same sender was not stored")

    def note(self, job: object, error: BaseException | None) -> None:
        """What became of a job, so far; to be called before a later one is run."""
        if error is None and self._broken_at is job:
            self._broken_at = None
        elif error is not None and self._broken_at is None:
            self._broken_at = job


class Database(Protocol):
    """Runs units.

    A unit is a plain synchronous function of a transaction: no await, no I/O of its own, clock and ids passed in;
    it may be run again. `write` units see one another in commit order and are isolated like a serial execution.
    An exception from a unit rolls that unit back alone and reaches its caller unchanged.
    When `write` returns, the effect is committed and fsynced (see `durability`).

    `is_small` says that a unit touches at most a few dozen rows, by key: an adapter may then run it where waiting for
    it costs nothing, on the event loop itself. It changes nothing else.
    """

    async def start(self) -> None:
        """Open the store and bring its schema to the present version. Raises StartupRefused."""
        ...

    async def stop(self) -> None:
        """Finish what was accepted and close. Idempotent."""
        ...

    async def write(self, unit: Unit[T], key: str = "", *, is_small: bool = False) -> T:
        """Units of one `key` run in the order in which they are given, and do not get in one another's way: name there
        what they all touch (a user id). Without it they are isolated as well, and may have to be tried again.
        """
        ...

    async def read(self, unit: Unit[T], *, is_small: bool = False) -> T:
        """Run a unit that only reads, on one consistent snapshot that includes every earlier acknowledged write."""
        ...

    def submit_write(self, unit: Unit[T], settle: Settle[T], key: str = "", chain: Chain | None = None) -> None:
        """`write` of a small unit without a task: `settle` is called on the loop once it is durable or has failed.

        All units of one `chain` have the same `key`.
        """
        ...

    def submit_read(self, unit: Unit[T], settle: Settle[T]) -> None:
        """`read` of a small unit without a task; `settle` may be called before this returns."""
        ...

    def durability(self) -> Durability: ...

    def trouble(self) -> str:
        """Why it cannot commit at present, for people; empty when nothing is known to be wrong."""
        ...


def settle_later(work: Coroutine[Any, Any, T], settle: Settle[T], tasks: set[asyncio.Task[Any]]) -> None:
    """For adapters that have to wait: `settle` when `work` is done; it is held in `tasks` until then."""

    def done(task: asyncio.Task[T]) -> None:
        tasks.discard(task)
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        settle(None if error is not None else task.result(), error)

    task = asyncio.get_running_loop().create_task(work)
    tasks.add(task)
    task.add_done_callback(done)
