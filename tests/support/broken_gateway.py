"""A gateway with one broken promise, to show that campaigns notice: `python -m tests.support.broken_gateway FAULT up …`."""

import sqlite3
import sys
import time
from collections.abc import Callable
from typing import Any

from entobot.gateway import delivery, store
from entobot.gateway.delivery import Delivery
from entobot.storage import database_sqlite

COMMIT_LAG_S = 0.03


def acknowledge_before_commit() -> None:
    """Results go out while their commit is still to come."""
    commit, resolve = database_sqlite._commit_batch, database_sqlite._resolve
    told: set[int] = set()

    def lagging(connection: sqlite3.Connection, statements: Any, batch: Any, *more: Any) -> None:
        class Hasty:
            """The connection, but before COMMIT the callers are told."""

            def __getattr__(self, name: str) -> Any:
                return getattr(connection, name)

            def execute(self, sql: str, *values: Any) -> Any:
                if sql == "COMMIT":
                    resolve(batch)
                    told.update(map(id, batch))
                    time.sleep(COMMIT_LAG_S)
                return connection.execute(sql, *values)

        commit(Hasty(), statements, batch, *more)  # pyright: ignore[reportArgumentType]  all of it that is used

    def others(batch: list[Any]) -> None:
        resolve([job for job in batch if id(job) not in told])
        told.difference_update(map(id, batch))

    database_sqlite._commit_batch = lagging
    database_sqlite._resolve = others


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
