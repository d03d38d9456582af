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

from entobot.storage.database import Transaction
from entobot.storage.database_sqlite import SqliteDatabase
from entobot.storage.place import CommitPlace

rows = Table("rows", MetaData(), Column("id", Integer, primary_key=True), Column("text", Text, nullable=False))
ADD = insert(rows)
TEXT = "x" * 200
SHORT_S, DEFAULT_S = 0.0005, 0.005
STEP_S, PERIOD_S, BUSY_SHARE = 50e-6, 1e-3, 0.7


def make(path: Path) -> None:
    engine = create_engine(f"sqlite:///{path}")
    rows.metadata.create_all(engine)
    engine.dispose()


class Fixed(CommitPlace):
    """Does not learn."""

    def __init__(self, *, is_on_loop: bool) -> None:
        super().__init__()
        self._is_on_loop = is_on_loop

    def may_commit_on_loop(self, now_s: float) -> bool:
        del now_s
        return self._is_on_loop


PLACES = {
    "on the loop": (True, DEFAULT_S),
    "thread, 0.5 ms": (False, SHORT_S),
    "thread, 5 ms": (False, DEFAULT_S),
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


async def ask(write: Callable[..., Awaitable[Any]], until_s: float, times: list[float]) -> None:
    while (began := time.perf_counter()) < until_s:
        await write(unit, is_small=True)
        times.append(time.perf_counter() - began)


async def measure(kind: str, waiting: int, *, is_busy: bool, seconds: float) -> tuple[float, float, float]:
    """Units a second, median and 99th percentile of the wait in seconds."""
    is_on_loop, interval_s = PLACES[kind]
    sys.setswitchinterval(interval_s)
    with tempfile.TemporaryDirectory(prefix="entobot-commit-") as folder:
        database = SqliteDatabase(Path(folder, "rows.db"), make, place=Fixed(is_on_loop=is_on_loop))
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
