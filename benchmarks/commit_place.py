"""Where a durable unit is committed: on the event loop, or by the writer thread with a short or the default switch interval.

    python -m benchmarks.commit_place [--seconds 1.5]

Every unit inserts one row of 200 bytes through the SQLite adapter's own code, fsynced before its caller goes on. So many
callers wait at once as `waiting` says, each asking again when it was answered. `busy` means that the loop itself works
70 % of the time, in steps of 50 µs, the way that a loop does that serves thousands of connections.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvloop
from sqlalchemy import Column, Integer, MetaData, Table, Text, create_engine, insert
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from entobot.storage.compiled import StatementCache
from entobot.storage.database import Transaction, Unit
from entobot.storage.database_sqlite import SqliteDatabase, _commit_batch, _Job, _settle  # pyright: ignore[reportPrivateUsage]  the adapter's own commit is what is measured

rows = Table("rows", MetaData(), Column("id", Integer, primary_key=True), Column("text", Text, nullable=False))
ADD = insert(rows)
TEXT = "x" * 200
SHORT_S, DEFAULT_S = 0.0005, 0.005
STEP_S, PERIOD_S, BUSY_SHARE = 50e-6, 1e-3, 0.7


def make(path: Path) -> None:
    engine = create_engine(f"sqlite:///{path}")
    rows.metadata.create_all(engine)
    engine.dispose()


class OnLoop(SqliteDatabase):
    """The same commits on the loop's own thread: all units of a turn of the loop in one."""

    async def start(self) -> None:
        await super().start()
        self._connection = self._connect()
        self._statements = StatementCache(SQLiteDialect_pysqlite(paramstyle="qmark"))
        self._waiting: list[Any] = []

    async def stop(self) -> None:
        self._connection.close()
        await super().stop()

    async def write(self, unit: Unit[Any], key: str = "") -> Any:  # noqa: ARG002  one lane
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._commit)
        job = _Job(unit, loop, 0)
        self._waiting.append(job)
        return await job.future

    def _commit(self) -> None:
        batch, self._waiting = self._waiting, []
        _commit_batch(self._connection, self._statements, batch, self._meters)
        _settle(batch)


PLACES: dict[str, tuple[type[SqliteDatabase], float]] = {
    "on the loop": (OnLoop, DEFAULT_S),
    "thread, 0.5 ms": (SqliteDatabase, SHORT_S),
    "thread, 5 ms": (SqliteDatabase, DEFAULT_S),
}


def unit(tx: Transaction) -> None:
    tx.run(ADD, {"text": TEXT})


class Busy:
    """Keeps the loop working for BUSY_SHARE of every PERIOD_S, and notes how late its periods begin."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._is_over = False
        self._period()

    def stop(self) -> None:
        self._is_over = True

    def _period(self) -> None:
        if not self._is_over:
            self._loop.call_later(PERIOD_S, self._period)
            self._step(round(BUSY_SHARE * PERIOD_S / STEP_S))

    def _step(self, left: int) -> None:
        end = time.perf_counter() + STEP_S
        while time.perf_counter() < end:
            pass
        if left > 1:
            self._loop.call_soon(self._step, left - 1)


async def ask(write: Callable[[Unit[Any]], Awaitable[Any]], until_s: float, times: list[float]) -> None:
    while (began := time.perf_counter()) < until_s:
        await write(unit)
        times.append(time.perf_counter() - began)


async def measure(kind: str, waiting: int, *, is_busy: bool, seconds: float) -> tuple[float, float, float]:
    """Units a second, median and 99th percentile of the wait in seconds."""
    adapter, interval_s = PLACES[kind]
    sys.setswitchinterval(interval_s)
    with tempfile.TemporaryDirectory(prefix="entobot-commit-") as folder:
        database = adapter(Path(folder, "rows.db"), make)
        await database.start()
        busy = Busy() if is_busy else None
        for duration_s in (0.3, seconds):
            times: list[float] = []
            began = time.perf_counter()
            await asyncio.gather(*(ask(database.write, began + duration_s, times) for _ in range(waiting)))
            took = time.perf_counter() - began
        if busy is not None:
            busy.stop()
        await database.stop()
    cuts = statistics.quantiles(times, n=100) if len(times) > 1 else [times[0]] * 99
    return len(times) / took, cuts[49], cuts[98]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(
        f"{'loop':5} {'waiting':>7}  {'place':15} {'units/s':>9} {'p50 ms':>8} {'p99 ms':>8}   medians of {options.rounds}"
    )
    for is_busy in (False, True):
        for waiting in (1, 64, 512):
            found: dict[str, list[tuple[float, float, float]]] = {kind: [] for kind in PLACES}
            for _ in range(options.rounds):
                for kind in PLACES:
                    found[kind].append(uvloop.run(measure(kind, waiting, is_busy=is_busy, seconds=options.seconds)))
            for kind, results in found.items():
                rate, p50, p99 = (statistics.median(column) for column in zip(*results, strict=True))
                name = "busy" if is_busy else "idle"
                print(f"{name:5} {waiting:7}  {kind:15} {rate:9.0f} {p50 * 1e3:8.2f} {p99 * 1e3:8.2f}", flush=True)


if __name__ == "__main__":
    main()
