"""The power goes while entries are being appended: what was acknowledged is there afterwards, whole and in order."""

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.rigs import appender, power
from tests.rigs.campaign import Campaign
from tests.rigs.ledger import Ledger, Verdict
from tests.rigs.load import Load

pytestmark = pytest.mark.skipif(power.missing() is not None, reason=str(power.missing()))


@dataclass(frozen=True, slots=True)
class Size:
    cuts: int
    acknowledged: int
    """Between two cuts, at least."""


SHORT = Size(cuts=2, acknowledged=1500)
LONG = Size(cuts=12, acknowledged=2500)


async def _prepare(store: Path) -> None:
    database = appender.open_store(str(store))
    await database.start()
    await appender.prepare(database)
    await database.stop()


async def _verdict(store: Path, ledger: Ledger) -> Verdict:
    database = appender.open_store(str(store))
    await database.start()
    try:
        return ledger.verdict(await appender.read_streams(database))
    finally:
        await database.stop()


def _is_sound(store: Path) -> bool:
    with closing(sqlite3.connect(store)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.parametrize("written_back", [0.0, 0.3])
@pytest.mark.parametrize(
    "size", [pytest.param(SHORT, id="short"), pytest.param(LONG, id="long", marks=pytest.mark.chaos)]
)
def test_sqlite_loses_no_acknowledged_entry_in_a_power_cut(
    tmp_path: Path, campaign: Campaign, size: Size, written_back: float
) -> None:
    ledger = Ledger()
    disk = power.Disk(tmp_path, seed=campaign.seed, written_back=written_back)
    with disk:
        store = disk.path / "entobot.db"
        asyncio.run(_prepare(store))
        for cut in range(size.cuts):
            load = Load(str(store), ledger, first=cut * 1_000_000)
            load.until(size.acknowledged + campaign.random.randrange(size.acknowledged))
            disk.cut()
            load.kill()
            disk.mount()
            assert _is_sound(store)
            campaign.note(asyncio.run(_verdict(store, ledger)))
            campaign.faults += 1
            campaign.progress(f"{cut + 1} of {size.cuts} cuts, {campaign.operations:,} acknowledged")
    campaign.settle()


@pytest.mark.parametrize("synchronous", ["NORMAL", "OFF"])
def test_a_power_cut_shows_that_a_weaker_sqlite_setting_loses(
    tmp_path: Path, campaign: Campaign, synchronous: str
) -> None:
    ledger = Ledger()
    with power.Disk(tmp_path, seed=campaign.seed) as disk:
        store = disk.path / "entobot.db"
        asyncio.run(_prepare(store))
        load = Load(str(store), ledger, weakened=synchronous)
        load.until(SHORT.acknowledged)
        disk.cut()
        load.kill()
        disk.mount()
        assert not _is_sound(store) or asyncio.run(_verdict(store, ledger)).lost
