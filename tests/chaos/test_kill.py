"""`kill -9` of a gateway under load: the recorded histories of its devices keep every promise of the contract."""

import asyncio
from pathlib import Path

import pytest

from entobot.client.history import Violation, report
from tests.rigs.campaign import Campaign
from tests.support.fleet import Fleet
from tests.support.operator import Operator
from tests.support.process import GatewayProcess

ROOMY = {
    "ENTOBOT_LIMITS__REQUESTS_BURST": "100000",
    "ENTOBOT_LIMITS__FRAMES_BURST": "100000",
    "ENTOBOT_LIMITS__UNAUTHENTICATED_PER_ADDRESS": "200",
    "ENTOBOT_LIMITS__OPENING_PER_ADDRESS": "200",
    "ENTOBOT_LOG__LEVEL": "error",
}
SHORT_FAULTS, LONG_FAULTS = 6, 100
size = pytest.mark.parametrize(
    "faults", [pytest.param(SHORT_FAULTS, id="short"), pytest.param(LONG_FAULTS, id="long", marks=pytest.mark.chaos)]
)


async def faults_under_load(
    campaign: Campaign, folder: Path, gateway: GatewayProcess, faults: int, *, gently: bool = False
) -> list[Violation]:
    """Kill (or stop) and start the gateway this often, each time after some more messages; the broken promises."""
    await asyncio.to_thread(gateway.start)
    operator = Operator(gateway)
    fleet = Fleet(campaign.random, folder)
    try:
        await fleet.pair(operator, [None, await asyncio.to_thread(operator.add_user, "Bob")])
        await fleet.connect()
        fleet.begin()
        for fault in range(faults):
            await fleet.until(fleet.acknowledged + campaign.random.randrange(10, 40))
            await asyncio.sleep(campaign.random.random() * 0.03)  # anywhere between two messages
            await asyncio.to_thread(gateway.stop if gently else gateway.kill)
            await asyncio.to_thread(gateway.start)
            campaign.faults += 1
            campaign.progress(f"{fault + 1} of {faults}, {fleet.acknowledged:,} acknowledged")
        await fleet.until(fleet.acknowledged + 10)
        stored = await fleet.settle()
        return tally(campaign, fleet, fleet.check(stored))
    finally:
        await fleet.close()


def tally(campaign: Campaign, fleet: Fleet, violations: list[Violation]) -> list[Violation]:
    campaign.operations = fleet.acknowledged
    for violation in violations:
        if "lost" in violation.promise or "skipped" in violation.promise or "resumed" in violation.promise:
            campaign.lost += 1
        elif "once" in violation.promise or "twice" in violation.promise or "one result" in violation.promise:
            campaign.duplicated += 1
        else:
            campaign.out_of_order += 1
    return violations


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
