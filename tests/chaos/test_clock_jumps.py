"""The gateway's clock is set an hour back and forty days forth while it runs: phones go on, or are told what to do."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from entobot.client import Approval, ApprovalRequested, Client, Event, Item, State
from entobot.client.device import Device
from entobot.client.history import report
from entobot.core.errors import Code, Problem
from tests.rigs.campaign import Campaign
from tests.rigs.storm import ROOMY, Storm
from tests.support.fleet import pair_client
from tests.support.operator import Operator
from tests.support.phone import connected
from tests.support.process import GatewayProcess

SetClock = Callable[[float], Path]
HOUR_S = 3600.0
DAY_S = 24 * HOUR_S


@pytest.fixture(scope="module")
def set_clock(tmp_path_factory: pytest.TempPathFactory) -> SetClock:
    """Sets the gateway's clock to the real time and so many seconds."""
    folder = tmp_path_factory.mktemp("clock")

    def set_clock(offset_s: float) -> Path:
        fresh = folder / "fresh"
        fresh.write_text(str(round(offset_s * 1000)))
        return fresh.replace(folder / "clock")

    set_clock(0)
    return set_clock


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, set_clock: SetClock) -> Iterator[GatewayProcess]:
    program = ("-m", "tests.rigs.clocked", str(set_clock(0)))
    gateway = GatewayProcess(tmp_path_factory.mktemp("clocked") / "home", program=program, environment=ROOMY).start()
    yield gateway
    gateway.close()


async def test_a_clock_set_an_hour_back_and_right_again_costs_a_phone_nothing(
    gateway: GatewayProcess, set_clock: SetClock
) -> None:
    device = await asyncio.to_thread(Operator(gateway).pair, "Phone", scopes=["chat"])
    said: list[str] = []
    async with connected(gateway, device) as phone:
        said.append((await phone.say("before"))["message_id"])
        for offset_s in (-HOUR_S, 0):
            set_clock(offset_s)
            said.append((await phone.say(f"open all the time, {offset_s}"))["message_id"])
            sent = await asyncio.to_thread(device.command, "message.send", {"content": f"a fresh proof, {offset_s}"})
            said.append(sent["message_id"])
            async with connected(gateway, device) as second:
                said.append((await second.say(f"a new connection, {offset_s}"))["message_id"])
    assert device.credentials is not None
    async with connected(gateway, device) as phone:
        stream = phone.frames[-1]["stream"]
    async with connected(gateway, device, {"stream": stream, "after": 0}) as phone:
        await phone.until(lambda frame: frame["type"] == "resume_done")
        events = [frame for frame in phone.frames if frame["type"] == "event"]
    assert [frame["seq"] for frame in events] == sorted({frame["seq"] for frame in events})
    created = [event["data"] for event in phone.events("message.created") if event["data"]["role"] == "user"]
    assert [data["message_id"] for data in created] == said


def _pair_then(operator: Operator) -> Device:
    """A phone that has learnt the gateway's time, as `proof_stale` tells it."""
    invite = operator.invite(scopes=["chat"])
    device = operator.gateway.new_device()
    device.offset_ms = round(40 * DAY_S * 1000)
    claim = operator.claim(device, invite)
    operator.confirm(invite, claim)
    assert device.collect(claim["claim_id"])
    return device


async def test_a_clock_set_forty_days_forth_asks_to_pair_again_and_set_right_forgives(
    gateway: GatewayProcess, set_clock: SetClock
) -> None:
    operator = Operator(gateway)
    device = await asyncio.to_thread(operator.pair, "Phone", scopes=["chat"])
    first = await asyncio.to_thread(device.command, "message.send", {"content": "today"})
    set_clock(40 * DAY_S)
    with pytest.raises(Problem) as refused:
        await asyncio.to_thread(device.command, "message.send", {"content": "in forty days"})
    assert refused.value.code == Code.UNAUTHENTICATED
    with pytest.raises(Problem) as refused:
        await asyncio.to_thread(device.refresh)
    assert refused.value.code == Code.REFRESH_INVALID
    another = await asyncio.to_thread(_pair_then, operator)
    await asyncio.to_thread(another.command, "message.send", {"content": "paired then"})
    set_clock(0)
    await asyncio.to_thread(another.command, "message.send", {"content": "and still welcome"})
    again = await asyncio.to_thread(device.command, "message.send", {"content": "today again"})
    assert again["seq"] > first["seq"]


async def _asked(client: Client, items: AsyncIterator[Item], text: str) -> Approval:
    await client.send_message(f"!note {text}")
    async for item in items:
        match item:
            case Event(body=ApprovalRequested(data=approval)):
                return approval
            case _:
                pass
    raise AssertionError("nothing was asked")


@pytest.mark.parametrize("offset_s", [HOUR_S, -HOUR_S])
async def test_a_clock_set_while_an_approval_waits_does_not_keep_it_from_being_decided(
    tmp_path: Path, gateway: GatewayProcess, set_clock: SetClock, offset_s: float
) -> None:
    set_clock(0)
    states: list[State] = []
    file = tmp_path / "device.json"
    async with await pair_client(Operator(gateway), file, "Phone", on_state=states.append) as client:
        items = client.events()
        approval = await _asked(client, items, "before")
        set_clock(offset_s)
        assert (await client.decide(approval, "approve"))["decision"] == "approve"
        approval = await _asked(client, items, "then")
        assert (await client.decide(approval, "approve"))["decision"] == "approve"
        approval = await _asked(client, items, "at last")
        set_clock(0)
        assert (await client.decide(approval, "approve"))["decision"] == "approve"
        assert states.count(State.READY) == 1, "all of it on one connection"


@pytest.mark.parametrize("faults", [pytest.param(3, id="short"), pytest.param(60, id="long", marks=pytest.mark.chaos)])
async def test_a_clock_that_jumps_under_load_loses_repeats_and_reorders_nothing(
    tmp_path: Path, gateway: GatewayProcess, set_clock: SetClock, campaign: Campaign, faults: int
) -> None:
    async def strike() -> None:
        await asyncio.to_thread(set_clock, campaign.random.uniform(-HOUR_S, HOUR_S))

    violations = await Storm(campaign, tmp_path, Operator(gateway), faults).run(strike)
    assert violations == [], report(violations)
    campaign.settle()
