"""What a scrape finds in the store, and what it says when the store does not answer."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from entobot.app.measuring import KEPT, Counts, Measuring
from entobot.storage.database import StorageFailed, Transaction, Unit
from entobot.storage.database_sqlite import SqliteDatabase
from entobot.stream.retention import Backlog
from entobot.telemetry.exposition import expose
from entobot.telemetry.meters import Meters
from tests.support.furnished import make_tables
from tests.support.time import ManualClock

NAMES = (
    "approvals_pending",
    "approvals_unconsumed",
    "conversations_awaiting",
    "stream_backlog",
    "stream_oldest_seconds",
)


class Counting(SqliteDatabase):
    def __init__(self, path: Path) -> None:
        super().__init__(path, make_tables)
        self.is_away = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.reads = 0

    async def read(self, unit: Unit[Any], *, is_small: bool = False) -> Any:
        self.reads += 1
        await self.gate.wait()
        if self.is_away:
            raise StorageFailed("gone")
        return await super().read(unit, is_small=is_small)


class Node:
    def __init__(self, path: Path, clock: ManualClock) -> None:
        self.database = Counting(path)
        self.meters = Meters()
        self.clock = clock
        self.awaiting = 3
        self.reports = 0
        self.measuring = Measuring(self.database, clock, self.meters, self._count, self._report)

    def _count(self, tx: Transaction) -> Counts:
        del tx
        return Counts(self.awaiting, 2, 1, Backlog(7, self.clock.now_ms() - 1500))

    async def _report(self) -> None:
        self.reports += 1

    async def scrape(self) -> dict[str, float]:
        await self.measuring.look()
        text = (await expose(self.meters, ""))[0].decode()
        rows = [line.split(" ") for line in text.splitlines() if line.startswith("entobot")]
        return {name.removeprefix("entobot_"): float(value) for name, value in rows}


@pytest.fixture
async def node(tmp_path: Path, clock: ManualClock) -> Any:
    node = Node(tmp_path / "entobot.db", clock)
    await node.database.start()
    yield node
    node.database.gate.set()
    await asyncio.sleep(0)
    await node.database.stop()


async def test_a_scrape_shows_the_store_and_looks_at_readiness(node: Node) -> None:
    assert await node.scrape() == dict(zip(NAMES, (2, 1, 3, 7, 1.5), strict=True))
    assert node.reports == 1


async def test_however_often_it_is_scraped_the_store_is_read_once_in_a_while(node: Node) -> None:
    await asyncio.gather(*(node.measuring.look() for _ in range(20)))
    assert node.database.reads == 1
    node.awaiting = 9
    assert (await node.scrape())["conversations_awaiting"] == 3
    node.clock.advance(KEPT.total_seconds())
    assert (await node.scrape())["conversations_awaiting"] == 9
    assert node.database.reads == 2


async def test_a_store_that_is_away_is_told_by_no_number_rather_than_by_an_old_one(node: Node) -> None:
    await node.scrape()
    node.clock.advance(KEPT.total_seconds())
    node.database.is_away = True
    assert await node.scrape() == {}
    node.database.is_away = False
    assert set(await node.scrape()) == set(NAMES)


async def test_a_store_that_hangs_does_not_hold_up_the_scrape(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("entobot.app.measuring.PATIENCE", KEPT * 0)
    node.database.gate.clear()
    assert await node.scrape() == {}
    assert await node.scrape() == {}
    assert node.database.reads == 1, "the one that hangs stays the only one"
