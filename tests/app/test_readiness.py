"""Readiness that means it, over a real store that is made to fail."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from entobot.app.readiness import KEPT, PATIENCE, Readiness
from entobot.storage.database import StorageFailed, Unit
from entobot.storage.database_sqlite import SqliteDatabase
from entobot.telemetry.exposition import expose
from entobot.telemetry.meters import Meters
from entobot.web.http import Check
from tests.support.furnished import make_tables
from tests.support.time import ManualClock


class Moody(SqliteDatabase):
    """Counts its writes; holds them back while `gate` is closed, refuses them while `is_full`."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, make_tables)
        self.gate = asyncio.Event()
        self.gate.set()
        self.is_full = False
        self.writes = 0

    async def write(self, unit: Unit[Any], key: str = "", *, is_small: bool = False) -> Any:
        self.writes += 1
        await self.gate.wait()
        if self.is_full:
            raise StorageFailed("the database did not take the commit (disk full)")
        return await super().write(unit, key, is_small=is_small)


class Node:
    def __init__(self, path: Path, clock: ManualClock) -> None:
        self.clock = clock
        self.database = Moody(path)
        self.is_draining = False
        self.meters = Meters()
        self.path = path
        parts = {
            "accepting": lambda: Check("accepting", is_ok=not self.is_draining, detail="draining"),
            "bus": lambda: Check("bus", is_ok=False, detail="no route", is_vital=False),
        }
        self.readiness = Readiness(self.database, clock, self.meters, "node", parts)

    async def found(self) -> tuple[bool, str]:
        report = await self.readiness.report()
        return report.is_ready, report.reasons

    def later(self) -> None:
        self.clock.advance(KEPT.total_seconds())


@pytest.fixture
async def node(tmp_path: Path, clock: ManualClock) -> Any:
    node = Node(tmp_path / "entobot.db", clock)
    await node.database.start()
    yield node
    node.database.gate.set()
    await node.database.stop()


async def test_a_node_whose_store_takes_a_row_is_ready_and_keeps_nothing_of_it(node: Node) -> None:
    assert await node.found() == (True, "")
    rows = await node.database.read(lambda tx: tx.rows(_count()))
    assert rows[0]["n"] == 0


def _count() -> Any:
    from sqlalchemy import func, select

    from entobot.gateway.store import results

    return select(func.count().label("n")).select_from(results)


async def test_however_often_it_is_asked_the_store_is_written_once_in_two_seconds(node: Node) -> None:
    await asyncio.gather(*(node.found() for _ in range(50)))
    assert node.database.writes == 1
    node.later()
    await node.found()
    assert node.database.writes == 2


async def test_a_full_disk_is_no_readiness_and_is_forgotten_when_it_is_over(node: Node) -> None:
    node.database.is_full = True
    assert await node.found() == (False, "storage: the database did not take the commit (disk full), for 0 s")
    node.clock.advance(1)
    node.database.is_full = False
    assert await node.found() == (
        False,
        "storage: the database did not take the commit (disk full), for 1 s",
    ), "the answer is kept, and says since when"
    node.later()
    assert await node.found() == (True, "")


async def test_a_store_that_hangs_is_told_and_not_asked_again_meanwhile(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.database.gate.clear()
    asking = asyncio.create_task(node.found())
    await asyncio.sleep(0)
    node.clock.advance(PATIENCE.total_seconds())
    for number in range(3):
        since_s = int(number * KEPT.total_seconds())
        assert await node.found() == (False, f"storage: the store does not answer, for {since_s} s")
        node.later()
    assert node.database.writes == 1
    node.database.gate.set()
    assert (await asking)[0]
    assert await node.found() == (True, "")


async def test_tables_of_an_older_version_are_no_readiness(node: Node) -> None:
    with sqlite3.connect(node.path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0000'")
    connection.close()
    is_ready, reasons = await node.found()
    assert not is_ready
    assert reasons.startswith("storage: the tables are of version 0000")


async def test_a_draining_node_is_not_ready_at_once(node: Node) -> None:
    assert (await node.found())[0]
    node.is_draining = True
    assert await node.found() == (False, "accepting: draining, for 0 s")


async def test_what_was_well_in_between_counts_anew(node: Node) -> None:
    node.is_draining = True
    await node.found()
    node.clock.advance(50)
    node.is_draining = False
    await node.found()
    node.is_draining = True
    assert await node.found() == (False, "accepting: draining, for 0 s")


async def test_a_bus_that_is_away_degrades_and_the_reason_has_an_age(node: Node) -> None:
    await node.found()
    node.clock.advance(90)
    report = await node.readiness.report()
    assert (report.is_ready, report.is_degraded) == (True, True)
    assert report.shortcomings == "bus: no route, for 90 s"


async def test_what_is_found_is_also_a_metric(node: Node) -> None:
    await node.found()
    text = (await expose(node.meters, ""))[0].decode()
    assert 'entobot_ready{check="storage"} 1.0' in text
    assert 'entobot_ready{check="bus"} 0.0' in text
