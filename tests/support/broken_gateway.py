"""A gateway with one broken promise, to show that campaigns notice: `python -m tests.support.broken_gateway FAULT up …`."""

import sys
import time
from collections.abc import Callable
from typing import Any

from entobot.gateway import delivery, store
from entobot.gateway.delivery import Delivery
from entobot.storage.database_sqlite import SqliteDatabase
from entobot.storage.place import CommitPlace
from entobot.storage.transaction_sqlite import Batch, Job

COMMIT_LAG_S = 0.03


def acknowledge_before_commit() -> None:
    """Results go out while their commit is still to come."""
    open_, run_all = SqliteDatabase._open, Batch._run_all

    def finish(jobs: list[Job]) -> None:
        for job in jobs:
            job.finish()
            job.callbacks, job.settle = [], _nothing

    class Hasty:
        """The connection, but before COMMIT the callers are told."""

        def __init__(self, database: SqliteDatabase) -> None:
            self.database = database
            self.connection = database._batch.connection
            self.jobs: list[Job] = []

        def __getattr__(self, name: str) -> Any:
            return getattr(self.connection, name)

        def execute(self, sql: str, *values: Any) -> Any:
            if sql == "COMMIT":
                self.database._loop.call_soon_threadsafe(finish, self.jobs)
                time.sleep(COMMIT_LAG_S)
            return self.connection.execute(sql, *values)

    def hasty(self: SqliteDatabase) -> None:
        open_(self)
        self._batch.connection = Hasty(self)  # pyright: ignore[reportAttributeAccessIssue]  all of it that is used

    def noted(self: Batch, jobs: list[Job], end_s: float) -> Any:
        self.connection.jobs = jobs  # pyright: ignore[reportAttributeAccessIssue]  a Hasty one
        return run_all(self, jobs, end_s)

    def never(self: CommitPlace, now_s: float) -> bool:
        del self, now_s
        return False

    SqliteDatabase._open = hasty
    Batch._run_all = noted
    CommitPlace.may_commit_on_loop = never  # there nothing leaves before the commit


def skip_an_event_on_resume() -> None:
    """The first event of a replay is left out."""
    send = Delivery._send

    def skipping(self: Delivery, frames: list[Any]) -> None:
        if self._replay_to is not None and len(frames) > 1:
            self._cursor, frames = frames[0].seq, frames[1:]
        send(self, frames)

    Delivery._send = skipping


def forget_what_was_executed() -> None:
    """A repeated command is executed again."""
    store.find_result = _nothing
    store.insert_result = _nothing


def _nothing(*_: Any, **__: Any) -> None:
    """Found, and done."""


def begin_anew_without_a_word() -> None:
    """A resume is answered as if it had been followed, from where the stream is now."""
    opened = Delivery.open

    def careless(self: Delivery, opening: Any, channel: Any) -> None:
        if opening.reset is None:
            opening = delivery.Opening(opening.stream_id, opening.seq, opening.seq, None, None)
        opened(self, opening, channel)

    Delivery.open = careless


def shuffle() -> None:
    """Events leave in another order now and then."""
    send = Delivery._send
    last: dict[int, bytes] = {}

    def turned(self: Delivery, frames: list[Any]) -> None:
        send(self, frames)
        if frames and frames[-1].seq % 20 == 0:
            self._outlet.send(last.get(id(self), b"{}"))
        if frames:
            last[id(self)] = frames[-1].payload or b"{}"

    Delivery._send = turned


FAULTS: dict[str, Callable[[], None]] = {
    one.__name__: one
    for one in (
        acknowledge_before_commit,
        begin_anew_without_a_word,
        forget_what_was_executed,
        shuffle,
        skip_an_event_on_resume,
    )
}

if __name__ == "__main__":
    FAULTS[sys.argv.pop(1)]()
    from entobot.__main__ import main

    main()
