"""The gateway's disk is full, read-only, or fails to sync: refused with a code, nothing acknowledged lost, no restart."""

import asyncio
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

from entobot.client.history import report
from entobot.core.errors import Code
from tests.rigs import power
from tests.rigs.campaign import Campaign
from tests.rigs.storm import Storm
from tests.support.operator import Operator
from tests.support.phone import Phone, connected
from tests.support.process import GatewayProcess

pytestmark = pytest.mark.skipif(power.missing() is not None, reason=str(power.missing()))
ROOMY = {"ENTOBOT_LIMITS__FRAMES_BURST": "100000", "ENTOBOT_LIMITS__REQUESTS_BURST": "100000"}
REFUSALS = 40
A_WHILE_S = 1.0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[power.Disk]:
    with power.Disk(tmp_path) as disk:
        yield disk


@pytest.fixture
def gateway(disk: power.Disk, tmp_path: Path) -> Iterator[GatewayProcess]:
    gateway = GatewayProcess(disk.path / "home", environment=ROOMY, is_bare=True)  # its own first start is durable
    gateway.log = tmp_path / "gateway.log"
    yield gateway
    gateway.close()


async def _send(phone: Phone, conversation: str) -> tuple[str, bool]:
    """The message's id or the refusal's code, and which of them."""
    answer = await phone.command("message.send", {"conversation_id": conversation, "content": "x" * 2000})
    done = answer["type"] == "result"
    return (answer["data"]["message_id"] if done else answer["code"]), done


async def _accepted(phone: Phone, conversation: str) -> set[str]:
    """The ids of messages that a healthy disk takes, all of them."""
    sent = [await _send(phone, conversation) for _ in range(20)]
    assert [what for what, done in sent if not done] == []
    return {what for what, _ in sent}


async def test_a_failing_disk_is_told_and_overcome(
    disk: power.Disk, gateway: GatewayProcess, campaign: Campaign
) -> None:
    await asyncio.to_thread(gateway.start)
    operator = Operator(gateway)
    device = await asyncio.to_thread(operator.pair, "Phone", scopes=["chat"])
    kept: set[str] = set()
    async with connected(gateway, device) as phone:
        conversation = (await phone.command("conversation.create", {}))["data"]["conversation_id"]
        kept |= await _accepted(phone, conversation)
        for fault in power.FAULTS:
            disk.fail(fault)
            campaign.faults += 1
            lines = gateway.log.read_text().count("\n")
            refused: list[str] = []
            while len(refused) < REFUSALS:
                what, done = await _send(phone, conversation)
                if done:  # while there is room in what was allocated before
                    kept.add(what)
                else:
                    refused.append(what)
                assert len(kept) < 1000, "the disk did not fail"
            assert set(refused) == {Code.INTERNAL}
            assert gateway.http().get("/api/health").status_code == 200
            assert gateway.log.read_text().count("\n") - lines < 3 * REFUSALS
            disk.heal()
            kept |= await _accepted(phone, conversation)
    disk.cut()
    gateway.kill()
    disk.mount()
    await asyncio.to_thread(gateway.start)
    rows = operator.query("SELECT message_id FROM messages WHERE role = 'user'")
    campaign.operations, campaign.lost = len(kept), len(kept - {row[0] for row in rows})
    campaign.settle()
    assert (await asyncio.to_thread(gateway.ask, "audit", "verify"))["ok"]


@pytest.mark.parametrize("faults", [pytest.param(3, id="short"), pytest.param(60, id="long", marks=pytest.mark.chaos)])
async def test_a_disk_that_fails_under_load_loses_repeats_and_reorders_nothing(
    tmp_path: Path, disk: power.Disk, gateway: GatewayProcess, campaign: Campaign, faults: int
) -> None:
    order: Iterator[power.Fault] = chain.from_iterable(
        campaign.random.sample(power.FAULTS, len(power.FAULTS)) for _ in range(faults)
    )

    async def strike() -> None:
        disk.fail(next(order))
        await asyncio.sleep(campaign.random.random() * A_WHILE_S)
        disk.heal()

    await asyncio.to_thread(gateway.start)
    violations = await Storm(campaign, tmp_path, Operator(gateway), faults).run(strike)
    assert violations == [], report(violations)
    campaign.settle()
    assert (await asyncio.to_thread(gateway.ask, "audit", "verify"))["ok"]
