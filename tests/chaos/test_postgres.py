"""PostgreSQL loses its power, is killed, hands over to its standby: what was acknowledged is there, once and in order."""

import asyncio
from dataclasses import dataclass

import pytest

from tests.rigs import network, postgres, power
from tests.rigs.campaign import Campaign
from tests.rigs.fault_proxy import FaultProxy
from tests.rigs.ledger import Ledger
from tests.rigs.load import Load
from tests.support.postgres import postgres_server

needs_power_cuts = pytest.mark.skipif(power.missing() is not None, reason=str(power.missing()))


@dataclass(frozen=True, slots=True)
class Size:
    faults: int
    acknowledged: int
    """Between two faults, at least."""


def sizes(short: Size, long: Size) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "size", [pytest.param(short, id="short"), pytest.param(long, id="long", marks=pytest.mark.chaos)]
    )


@needs_power_cuts
@sizes(Size(1, 500), Size(12, 2500))
def test_postgresql_loses_no_acknowledged_entry_in_a_power_cut(campaign: Campaign, size: Size) -> None:
    ledger = Ledger()
    with postgres.on_a_disk({}, seed=campaign.seed, written_back=0.2) as (server, disk):
        url = postgres.prepared(server)
        for fault in range(size.faults):
            load = Load(url, ledger, first=fault * 1_000_000)
            load.until(size.acknowledged + campaign.random.randrange(size.acknowledged))
            disk.cut()
            load.kill()
            server.kill()
            disk.mount()
            server.start()
            campaign.note(postgres.verdict(url, ledger))
            campaign.faults += 1
            campaign.progress(f"{fault + 1} of {size.faults} cuts, {campaign.operations:,} acknowledged")
    campaign.settle()


@needs_power_cuts
def test_a_power_cut_shows_that_a_weaker_postgresql_setting_loses(campaign: Campaign) -> None:
    ledger = Ledger()
    weaker = {"synchronous_commit": "off", "wal_writer_delay": "10s", "wal_writer_flush_after": "1GB"}
    quiet = {"autovacuum": "off", "checkpoint_timeout": "1h"}  # nothing else syncs in between
    with postgres.on_a_disk(weaker | quiet, seed=campaign.seed) as (server, disk):
        url = postgres.prepared(server)
        server.execute("CHECKPOINT")
        load = Load(url, ledger)
        load.until(500)
        disk.cut()
        load.kill()
        server.kill()
        disk.mount()
        server.start()
        assert postgres.verdict(url, ledger).lost


@needs_power_cuts
def test_a_power_cut_shows_that_postgresql_without_fsync_loses_even_what_a_checkpoint_wrote(campaign: Campaign) -> None:
    ledger = Ledger()
    with postgres.on_a_disk({}, seed=campaign.seed) as (server, disk):
        url = postgres.prepared(server)
        server.restart({"fsync": "off"})
        load = Load(url, ledger)
        load.until(500)
        written = load.count
        server.execute("CHECKPOINT")
        disk.cut()
        load.kill()
        server.kill()
        disk.mount()
        server.start()
        assert postgres.verdict(url, ledger).lost >= written


@sizes(Size(2, 500), Size(15, 1500))
def test_killing_postgresql_under_load_loses_repeats_and_reorders_nothing(campaign: Campaign, size: Size) -> None:
    ledger = Ledger()
    with postgres_server() as server:
        url = postgres.prepared(server)
        load = Load(url, ledger)
        try:
            for fault in range(size.faults):
                load.until(load.count + size.acknowledged + campaign.random.randrange(size.acknowledged))
                server.kill()
                server.start()
                campaign.faults += 1
                campaign.progress(f"{fault + 1} of {size.faults} kills, {load.count:,} acknowledged")
            load.until(load.count + size.acknowledged)
        finally:
            load.kill()
        campaign.note(postgres.verdict(url, ledger))
        campaign.worst_stall_s = load.worst_stall_s
    campaign.settle()


@sizes(Size(1, 500), Size(10, 1500))
def test_failing_over_to_a_synchronous_standby_loses_repeats_and_reorders_nothing(
    campaign: Campaign, size: Size
) -> None:
    ledger = Ledger()
    with postgres.pair() as pair:
        url = pair.url(postgres.prepared(pair.primary).rpartition("/")[2])
        load = Load(url, ledger)
        try:
            for fault in range(size.faults):
                pair.wait_for_standby(is_wanted=True)
                load.until(load.count + size.acknowledged + campaign.random.randrange(size.acknowledged))
                pair.fail_over()
                load.until(load.count + size.acknowledged)
                campaign.faults += 1
                campaign.progress(f"{fault + 1} of {size.faults} failovers, {load.count:,} acknowledged")
                if fault + 1 < size.faults:
                    pair.rejoin()
        finally:
            load.kill()
        campaign.note(postgres.verdict(url, ledger))
        campaign.worst_stall_s = load.worst_stall_s
    campaign.settle()


@pytest.mark.skipif(network.missing() is not None, reason=str(network.missing()))
@sizes(Size(1, 500), Size(12, 2500))
async def test_a_partition_from_postgresql_loses_repeats_and_reorders_nothing(campaign: Campaign, size: Size) -> None:
    ledger = Ledger()
    with postgres_server() as server, network.network("database") as net:
        url = await asyncio.to_thread(postgres.prepared, server)
        async with FaultProxy(("127.0.0.1", server.port), host=net.outside) as door:
            through = url.replace(f"127.0.0.1:{server.port}", f"{net.outside}:{door.port}")
            load = Load(through, ledger, launcher=net.launcher)
            try:
                for fault in range(size.faults):
                    wanted = load.count + size.acknowledged + campaign.random.randrange(size.acknowledged)
                    await asyncio.to_thread(load.until, wanted)
                    net.cut_off(door.port)
                    await asyncio.sleep(campaign.random.random() * 8)  # shorter and longer than any timeout
                    net.heal()
                    campaign.faults += 1
                    campaign.progress(f"{fault + 1} of {size.faults} partitions, {load.count:,} acknowledged")
                await asyncio.to_thread(load.until, load.count + size.acknowledged)
            finally:
                await asyncio.to_thread(load.kill)
        campaign.note(await asyncio.to_thread(postgres.verdict, url, ledger))
        campaign.worst_stall_s = load.worst_stall_s
    campaign.settle()


def test_failing_over_to_a_standby_that_nobody_waited_for_loses() -> None:
    ledger = Ledger()
    with postgres.pair() as pair:
        url = pair.url(postgres.prepared(pair.primary).rpartition("/")[2])
        load = Load(url, ledger)
        try:
            pair.standby.stop()
            load.until(300)
            pair.primary.kill()
            pair.standby.start()
            pair.fail_over()
        finally:
            load.kill()
        assert postgres.verdict(url, ledger).lost
