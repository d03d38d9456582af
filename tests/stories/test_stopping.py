"""SIGTERM with a crowd connected: everybody is told, nothing is lost, the process is gone in time."""

import asyncio
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from entobot.client.local import LocalGateway
from entobot.core.ids import ulid
from entobot.core.rates import Rate
from tests.rigs.campaign import Campaign
from tests.support.crowd import Frame, Member, crowd
from tests.support.process import GENEROUS_S, GatewayProcess

STOPS_WITHIN_S = 10.0
"""What is promised; the test waits longer, for busy machines."""
CONNECTIONS_PER_DEVICE = 4
SENDERS = 20
MOST_MESSAGES = 90


@pytest.fixture
def roomy(tmp_path: Path) -> Iterator[GatewayProcess]:
    """Plain, on loopback, without the limits of one address: all of the crowd has the same."""
    process = GatewayProcess(tmp_path / "home", environment=ROOMY)
    process.origin = process.environment["ENTOBOT_GATEWAY__PUBLIC_URL"] = f"http://127.0.0.1:{process.port}"
    process.start()
    yield process
    process.close()


ROOMY = {
    "ENTOBOT_TLS__MODE": "off",
    "ENTOBOT_GATEWAY__MAX_CONNECTIONS_PER_ADDRESS": "20000",
    "ENTOBOT_LIMITS__OPENING_PER_ADDRESS": "400",
    "ENTOBOT_LIMITS__UNAUTHENTICATED_PER_ADDRESS": "200",
    **{f"ENTOBOT_LIMITS__{rate}_{of}".upper(): "100000" for rate in Rate for of in ("per_second", "burst")},
}


def keys(gateway: GatewayProcess, count: int) -> list[str]:
    """The first ones may chat; the others would have every message sent to thousands of them."""
    local = LocalGateway(gateway.home / "gateway.sock")

    def make(number: int) -> str:
        body = {"device_name": f"Thing {number}", "scopes": ["chat" if number < SENDERS else "notify"]}
        return str(local.request("POST", "/api/v1/api-keys", json=body)["api_key"])

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(make, range(count)))


class Sender:
    """Says one thing after the other in its conversation; knows what was acknowledged and what was not answered."""

    def __init__(self, member: Member, number: int) -> None:
        self.member = member
        self.number = number
        self.stored: list[str] = []
        self.waiting: tuple[str, str] | None = None
        self.conversation_id: str | None = None
        member.on_frame = self.read

    def say(self) -> None:
        said = len(self.stored)
        if said < MOST_MESSAGES:
            content = f"{self.number}.{said}"
            self.waiting = (ulid(said + 1, self.number.to_bytes(10, "big")), content)
            self.member.send(self.command())

    def command(self) -> Frame:
        assert self.waiting is not None
        data: dict[str, Any] = {"content": self.waiting[1]}
        if self.conversation_id is not None:
            data["conversation_id"] = self.conversation_id
        return {"type": "command", "id": self.waiting[0], "name": "message.send", "data": data}

    def read(self, frame: Frame) -> None:
        if self.waiting is None or frame.get("id") != self.waiting[0]:
            return
        if frame["type"] == "error":
            assert frame["code"] == "draining", frame
            return
        self.conversation_id = frame["data"]["conversation_id"]
        self.stored.append(self.waiting[1])
        self.waiting = None
        self.say()


async def settle(gateway: GatewayProcess, key: str, sender: Sender) -> list[str]:
    """After the restart: repeat what was not answered, under its id; what the conversation holds then."""
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=gateway.origin, headers=headers, timeout=GENEROUS_S) as client:
        if sender.waiting is not None:
            command = sender.command()
            del command["type"]
            answer = (await client.post("/api/v1/commands", json=command)).raise_for_status().json()
            sender.conversation_id = answer["data"]["conversation_id"]
            sender.stored.append(sender.waiting[1])
        rows: list[Frame] = []
        before: str | None = None
        while True:
            query = {} if before is None else {"before": before}
            path = f"/api/v1/conversations/{sender.conversation_id}/messages"
            page = (await client.get(path, params=query)).raise_for_status().json()
            rows += page["rows"]
            before = page["next"]
            if before is None:
                return [row["content"] for row in reversed(rows) if row["role"] == "user"]


async def stop_with(gateway: GatewayProcess, campaign: Campaign, count: int) -> None:
    silent = count - SENDERS
    credentials = await asyncio.to_thread(keys, gateway, SENDERS - (-silent // CONNECTIONS_PER_DEVICE))
    places = credentials[:SENDERS] + [credentials[SENDERS + n // CONNECTIONS_PER_DEVICE] for n in range(silent)]
    async with crowd(gateway.port, ({"api_key": key} for key in places)) as members:
        senders = [Sender(member, number) for number, member in enumerate(members[:SENDERS])]
        for sender in senders:
            sender.say()
        while min(len(sender.stored) for sender in senders) < 2:  # noqa: ASYNC110  in the middle of work
            await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        assert await asyncio.to_thread(gateway.stop) == 0
        took_s = loop.time() - begun_s
        codes = await asyncio.gather(*(member.gone for member in members))
    assert set(codes) == {4000}
    delays = [member.told_to_come_back_s() for member in members]
    assert None not in delays
    assert len(set(delays)) == count, "each has a time of its own"
    campaign.progress(f"{count:,} connections gone after {took_s:.1f} s")
    assert took_s < 2 * STOPS_WITHIN_S
    assert max(delay for delay in delays if delay) == pytest.approx(0.5 + max(5.0, count / 500), abs=0.01)
    await asyncio.to_thread(gateway.start)
    for sender in senders:
        held = await settle(gateway, sender.member.auth["api_key"], sender)
        assert held == sender.stored, "each message once, in order"
    campaign.faults, campaign.operations = 1, sum(len(sender.stored) for sender in senders)
    campaign.settle()


async def test_three_hundred_connections_are_drained(roomy: GatewayProcess, campaign: Campaign) -> None:
    await stop_with(roomy, campaign, 300)


@pytest.mark.chaos
async def test_five_thousand_connections_are_drained(roomy: GatewayProcess, campaign: Campaign) -> None:
    await stop_with(roomy, campaign, 5000)


async def test_readiness_goes_first_and_a_second_signal_ends_at_once(roomy: GatewayProcess) -> None:
    roomy.stop()
    roomy.environment["ENTOBOT_GATEWAY__DRAIN_PAUSE"] = "60"
    roomy.start()
    assert roomy.process is not None
    async with httpx.AsyncClient(base_url=roomy.origin, timeout=GENEROUS_S) as client:
        assert (await client.get("/api/ready")).status_code == 200
        os.kill(roomy.process.pid, signal.SIGTERM)
        while (answer := await client.get("/api/ready")).status_code != 503:
            assert answer.status_code == 200
        assert (await client.get("/api/health")).status_code == 200, "it still serves"
        os.kill(roomy.process.pid, signal.SIGINT)
        assert await asyncio.to_thread(roomy.process.wait, GENEROUS_S) == -signal.SIGINT
