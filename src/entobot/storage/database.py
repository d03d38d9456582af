"""The Database port: units of work over portable SQLAlchemy Core statements."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from sqlalchemy import MetaData
from sqlalchemy.sql import Executable

T = TypeVar("T")

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

    def run(self, statement: Executable, parameters: Parameters | None = None) -> int:
        """Execute a write and return the number of rows it touched."""
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


@dataclass(frozen=True, slots=True)
class Durability:
    """What an acknowledged commit survives, as read from the store itself at start."""

    survives_power_cut: bool
    detail: str


class StorageFailed(Exception):  # noqa: N818  reads as what happened
    """The store did not confirm the commit (disk full, read-only, gone, too busy).

    Nothing of the unit happened. Where `is_outcome_unknown`, the connection broke while a server was committing: all of
    it happened or nothing, and only looking again tells.
    """

    is_outcome_unknown = False


class Database(Protocol):
    """Runs units.

    A unit is a plain synchronous function of a transaction: no await, no I/O of its own, clock and ids passed in;
    it may be run again. `write` units see one another in commit order and are isolated like a serial execution.
    An exception from a unit rolls that unit back alone and reaches its caller unchanged.
    When `write` returns, the effect is committed and fsynced (see `durability`).
    """

    async def start(self) -> None:
        """Open the store and bring its schema to the present version. Raises StartupRefused."""
        ...

    async def stop(self) -> None:
        """Finish what was accepted and close. Idempotent."""
        ...

    async def write(self, unit: Unit[T], key: str = "") -> T:
        """Units of one `key` run in the order in which they are given, and do not get in one another's way: name there
        what they all touch (a user id). Without it they are isolated as well, and may have to be tried again.
        """
        ...

    async def read(self, unit: Unit[T]) -> T:
        """Run a unit that only reads, on one consistent snapshot that includes every earlier acknowledged write."""
        ...

    def durability(self) -> Durability: ...
