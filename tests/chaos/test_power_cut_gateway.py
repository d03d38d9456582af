"""The power goes under a whole gateway while devices talk to it; they come back and miss nothing."""

import asyncio
from pathlib import Path

import pytest

from entobot.client.history import report
from tests.rigs import power
from tests.rigs.campaign import Campaign
from tests.rigs.storm import ROOMY, Storm
from tests.support.operator import Operator
from tests.support.process import GatewayProcess

pytestmark = pytest.mark.skipif(power.missing() is not None, reason=str(power.missing()))


@pytest.mark.parametrize("faults", [pytest.param(1, id="short"), pytest.param(20, id="long", marks=pytest.mark.chaos)])
async def test_a_gateway_that_loses_its_power_keeps_every_promise(
    tmp_path: Path, campaign: Campaign, faults: int
) -> None:
    with power.Disk(tmp_path, seed=campaign.seed, written_back=0.2) as disk:
        gateway = GatewayProcess(disk.path / "home", environment=ROOMY, is_bare=True)
        gateway.log = tmp_path / "gateway.log"

        async def cut() -> None:
            await asyncio.to_thread(disk.cut)
            await asyncio.to_thread(gateway.kill)
            await asyncio.to_thread(disk.mount)
            await asyncio.to_thread(gateway.start)

        try:
            await asyncio.to_thread(gateway.start)
            storm = Storm(campaign, tmp_path, Operator(gateway), faults, between=(80, 300))
            violations = await storm.run(cut)
            assert violations == [], report(violations)
            campaign.settle()
            assert (await asyncio.to_thread(gateway.ask, "audit", "verify"))["ok"]
        finally:
            await asyncio.to_thread(gateway.close)
