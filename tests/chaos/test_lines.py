"""The line between devices and gateway is slow, lossy, dead or cut in mid-message: late at worst, never lost or twice."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from entobot.client.history import report
from tests.rigs import network
from tests.rigs.bad_line import A_WHILE_S, BadLine
from tests.rigs.campaign import Campaign
from tests.rigs.fault_proxy import FaultProxy
from tests.rigs.storm import ROOMY, Storm
from tests.support.operator import Operator
from tests.support.process import GatewayProcess, free_port


@pytest.fixture
async def proxy() -> AsyncIterator[FaultProxy]:
    port = free_port()
    async with FaultProxy(("127.0.0.1", port)) as proxy:
        yield proxy


@pytest.mark.parametrize("faults", [pytest.param(6, id="short"), pytest.param(90, id="long", marks=pytest.mark.chaos)])
async def test_a_bad_line_delays_and_loses_repeats_and_reorders_nothing(
    tmp_path: Path, campaign: Campaign, proxy: FaultProxy, faults: int
) -> None:
    origin = f"https://127.0.0.1:{proxy.port}"
    environment = ROOMY | {"ENTOBOT_GATEWAY__PUBLIC_URL": origin}
    gateway = GatewayProcess(tmp_path / "home", port=proxy.upstream[1], environment=environment)
    try:
        await asyncio.to_thread(gateway.start)
        storm = Storm(campaign, tmp_path, Operator(gateway), faults)
        violations = await storm.run(BadLine(proxy, campaign).strike)
        assert violations == [], report(violations)
        campaign.settle()
    finally:
        await asyncio.to_thread(gateway.close)


@pytest.mark.skipif(network.missing() is not None, reason=str(network.missing()))
@pytest.mark.parametrize("faults", [pytest.param(2, id="short"), pytest.param(40, id="long", marks=pytest.mark.chaos)])
async def test_thirty_percent_packet_loss_and_partitions_lose_repeat_and_reorder_nothing(
    tmp_path: Path, campaign: Campaign, faults: int
) -> None:
    with network.network("line") as net:
        gateway = GatewayProcess(tmp_path / "home", environment=ROOMY, host=net.inside, launcher=net.launcher)

        async def strike() -> None:
            net.heal()
            if campaign.faults % 2 == 0:
                net.lose(30)
            else:
                net.cut_off_wholly()
                await asyncio.sleep(A_WHILE_S)
                net.heal()

        try:
            await asyncio.to_thread(gateway.start)
            storm = Storm(campaign, tmp_path, Operator(gateway), faults, between=(5, 20))
            violations = await storm.run(strike)
            assert violations == [], report(violations)
            campaign.settle()
        finally:
            await asyncio.to_thread(gateway.close)
