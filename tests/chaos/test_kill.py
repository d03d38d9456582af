"""`kill -9` of a gateway under load: the recorded histories of its devices keep every promise of the contract."""

import asyncio
from pathlib import Path

import pytest

from entobot.client.history import Violation, report
from tests.rigs.campaign import Campaign
from tests.rigs.storm import ROOMY, Storm
from tests.support.operator import Operator
from tests.support.process import GatewayProcess

SHORT_FAULTS, LONG_FAULTS = 3, 100
size = pytest.mark.parametrize(
    "faults", [pytest.param(SHORT_FAULTS, id="short"), pytest.param(LONG_FAULTS, id="long", marks=pytest.mark.chaos)]
)


async def faults_under_load(
    campaign: Campaign, folder: Path, gateway: GatewayProcess, faults: int, *, gently: bool = False
) -> list[Violation]:
    """Kill (or stop) and start the gateway this often, each time after some more messages; the broken promises."""

    async def strike() -> None:
        await asyncio.to_thread(gateway.stop if gently else gateway.kill)
        await asyncio.to_thread(gateway.start)

    await asyncio.to_thread(gateway.start)
    operator = Operator(gateway)
    users = (None, await asyncio.to_thread(operator.add_user, "Bob"))
    return await Storm(campaign, folder, operator, faults, users).run(strike)


@size
async def test_kill_9_under_load_loses_repeats_and_reorders_nothing(
    tmp_path: Path, campaign: Campaign, faults: int
) -> None:
    gateway = GatewayProcess(tmp_path / "home", environment=ROOMY)
    try:
        violations = await faults_under_load(campaign, tmp_path, gateway, faults)
        assert violations == [], report(violations)
        campaign.settle()
        verified = await asyncio.to_thread(gateway.ask, "audit", "verify")
        assert verified["ok"]
    finally:
        gateway.close()


@size
async def test_restarts_by_sigterm_under_load_lose_repeat_and_reorder_nothing(
    tmp_path: Path, campaign: Campaign, faults: int
) -> None:
    gateway = GatewayProcess(tmp_path / "home", environment=ROOMY)
    try:
        violations = await faults_under_load(campaign, tmp_path, gateway, faults // 3, gently=True)
        assert violations == [], report(violations)
        campaign.settle()
    finally:
        gateway.close()


PROMISES = {
    "acknowledge_before_it_is_kept": {"no acknowledged message is lost", "what was acknowledged can be resumed"},
    "begin_anew_without_a_word": {"no event is skipped"},
    "forget_what_was_executed": {"a command has its effect once"},
    "shuffle": {"no event comes twice or out of order"},
    "skip_an_event_on_resume": {"no event is skipped"},
}


@pytest.mark.parametrize(
    "fault",
    [one if one == "acknowledge_before_it_is_kept" else pytest.param(one, marks=pytest.mark.chaos) for one in PROMISES],
)
async def test_the_campaign_finds_what_is_wrong_with_a_broken_gateway(
    tmp_path: Path, campaign: Campaign, fault: str
) -> None:
    gateway = GatewayProcess(
        tmp_path / "home",
        environment=ROOMY,
        program=("-m", "tests.support.broken_gateway", fault),
    )
    try:
        violations = await faults_under_load(campaign, tmp_path, gateway, faults=2)
        assert PROMISES[fault] & {violation.promise for violation in violations}, report(violations)
    finally:
        gateway.close()
