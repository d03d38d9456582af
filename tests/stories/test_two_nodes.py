"""Two real gateways on one PostgreSQL: any device on either of them, whatever the bus does."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from entobot.client.device import Device
from entobot.core.errors import Code, Problem
from tests.support.files import read, upload
from tests.support.nats import NatsServer
from tests.support.nodes import Pair
from tests.support.operator import Operator
from tests.support.phone import Phone, connected
from tests.support.postgres import PostgresServer
from tests.support.process import GENEROUS_S

NODE_LOST_S = 15.0
LOOKED_FOR_S = 10.0
"""Generous for a look each 250 ms; the sweep, which would find it too, comes every 30 s."""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer) -> Iterator[Pair]:
    """For stories that leave both nodes alive."""
    two = Pair(tmp_path_factory.mktemp("two"), postgres)
    yield two.start()
    two.close()


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path).start()
    yield server
    server.kill()


def in_thread(work: Any, *arguments: Any, **more: Any) -> Any:
    return asyncio.to_thread(work, *arguments, **more)


async def answer_of(phone: Phone) -> str:
    await phone.until_event("RUN_FINISHED")
    return phone.events("message.created")[-1]["data"]["content"]


def position(phone: Phone) -> dict[str, Any]:
    return {"stream": phone.frames[0]["stream"], "after": phone.seen}


def assert_in_order(phone: Phone) -> None:
    numbers = [frame["seq"] for frame in phone.frames if "seq" in frame and frame["type"] == "event"]
    assert numbers == sorted(set(numbers))


async def test_the_main_job_goes_on_across_nodes(pair: Pair) -> None:
    on_a, on_b = Operator(pair.a), Operator(pair.b)
    invite = await in_thread(on_a.invite)
    device = pair.a.new_device()
    at_b = pair.at(device, pair.b)
    claim = await in_thread(on_a.claim, device, invite, "Phone")
    waiting = asyncio.create_task(in_thread(at_b.collect, claim["claim_id"]))
    await in_thread(on_b.confirm, invite, claim)
    assert await waiting, "claimed on one node, confirmed on the other, collected there"
    device.credentials = at_b.credentials

    async with connected(pair.a, device) as here, connected(pair.b, device) as there:
        picture = bytes(range(256)) * 3000
        file = await in_thread(upload, pair.at(device, pair.a), "cat.bin", picture)
        assert await in_thread(read, pair.at(device, pair.b), file) == picture, "sent to one node, read from the other"
        await here.say("hello there")
        assert await answer_of(here) == await answer_of(there) == "hello there"
        shown = "".join(event["delta"] for event in there.events("TEXT_MESSAGE_CONTENT"))
        assert shown in ("hello there", ""), "what is being written is shown whole, or not at all"
        await here.say("!note milk")
        asked = (await there.until_event("approval.requested"))["data"]
        await in_thread(pair.at(device, pair.b).decide, asked, "approve")
        assert await answer_of(here) == "noted: milk"
        where = position(there)
        assert_in_order(here)
    await in_thread(pair.at(device, pair.a).refresh)
    async with connected(pair.a, device, where) as here:
        await here.until(lambda frame: frame["type"] in ("resume_done", "reset"))
        assert here.events("snapshot") == []
        assert_in_order(here)


async def test_who_is_connected_anywhere_is_online_everywhere(pair: Pair) -> None:
    device = await in_thread(Operator(pair.a).pair, "Online")
    assert device.credentials is not None
    device_id = device.credentials.device_id

    async def reads(node: Operator, *, online: bool) -> None:
        end_s = time.monotonic() + GENEROUS_S
        while time.monotonic() < end_s:
            rows = (await in_thread(node.local.request, "GET", "/api/v1/devices"))["rows"]
            if [row["is_online"] for row in rows if row["device_id"] == device_id] == [online]:
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"the device does not read as {online}")

    async with connected(pair.b, device):
        await reads(Operator(pair.a), online=True)
        await reads(Operator(pair.b), online=True)
    await reads(Operator(pair.a), online=False)


async def noted(pair: Pair, device: Device) -> None:
    """Presence is written in batches, a moment after the connection is there."""
    assert device.credentials is not None
    of_it = f"SELECT 1 FROM node_connections WHERE device_id = '{device.credentials.device_id}'"
    async with asyncio.timeout(GENEROUS_S):
        while not await in_thread(pair.query, of_it):  # noqa: ASYNC110  another process writes it
            await asyncio.sleep(0.05)


async def test_a_fifth_connection_anywhere_ends_the_oldest(pair: Pair) -> None:
    device = await in_thread(Operator(pair.a).pair, "Many")
    async with connected(pair.a, device) as oldest:
        await noted(pair, device)
        some = (connected(pair.b, device), connected(pair.a, device), connected(pair.b, device))
        async with some[0], some[1], some[2], connected(pair.b, device) as newest:
            assert await oldest.closed() == 4504
            await newest.say("still here")


def test_of_fifty_claims_over_two_gateways_one_wins(pair: Pair) -> None:
    invite = Operator(pair.a).invite()
    devices = [pair.at(pair.a.new_device(), pair.a if n % 2 else pair.b) for n in range(50)]

    def claim(device: Device) -> str:
        try:
            Operator(pair.a).claim(device, invite)
        except Problem as problem:
            return problem.code
        return "won"

    with ThreadPoolExecutor(16) as pool:
        outcomes = Counter(pool.map(claim, devices))
    assert outcomes["won"] == 1
    assert set(outcomes) - {"won"} <= {Code.INVITE_USED, Code.INVITE_BURNED, Code.RATE_LIMITED}


async def test_revoked_on_one_node_is_closed_on_the_other_and_refused_everywhere(pair: Pair) -> None:
    device = await in_thread(Operator(pair.a).pair, "Lost phone")
    async with connected(pair.b, device) as phone:
        _, code = await asyncio.gather(in_thread(Operator(pair.a).change, device, "revoke"), phone.closed())
        assert code == 4501
    for node in (pair.a, pair.b):
        with pytest.raises(Problem):
            await in_thread(pair.at(device, node).refresh)


async def test_settings_changed_on_one_node_are_used_on_the_other(pair: Pair) -> None:
    await in_thread(Operator(pair.a).local.request, "PUT", "/api/v1/settings/bot", json={"instructions": "Be brief."})
    end_s = time.monotonic() + GENEROUS_S
    while (await in_thread(Operator(pair.b).local.request, "GET", "/api/v1/settings/bot"))[
        "instructions"
    ] != "Be brief.":
        assert time.monotonic() < end_s
        await asyncio.sleep(0.1)


async def test_stored_settings_hold_on_both_nodes_and_after_a_restart(pair: Pair) -> None:
    desks = [Operator(node).local for node in (pair.a, pair.b)]

    async def change(key: str, value: object) -> None:
        version = (await in_thread(desks[0].request, "GET", "/api/v1/settings"))["version"]
        await in_thread(
            lambda: desks[0].request("PATCH", "/api/v1/settings", json={"version": version, "changes": {key: value}})
        )

    async def on_the_other(key: str) -> object:
        group = await in_thread(desks[1].request, "GET", "/api/v1/settings/enterprise")
        return next(field["value"] for field in group["fields"] if field["key"] == key)

    async def until_the_other_has(key: str, value: object) -> None:
        end_s = time.monotonic() + GENEROUS_S
        while await on_the_other(key) != value:
            assert time.monotonic() < end_s
            await asyncio.sleep(0.1)

    await change("stream.keep_events", 9000)
    await until_the_other_has("stream.keep_events", 9000)
    # The name is what nodes must have in common: it moves with the change, and each starts with it again.
    names = [node.environment.pop("ENTOBOT_GATEWAY__NAME") for node in (pair.a, pair.b)]
    try:
        for node in (pair.a, pair.b):
            await in_thread(node.stop)
        for node in (pair.a, pair.b):
            await in_thread(node.start)
        await change("gateway.name", "Renamed")
        await until_the_other_has("gateway.name", "Renamed")
        await in_thread(pair.b.stop)
        await in_thread(pair.b.start)
        assert (await in_thread(desks[1].request, "GET", "/api/health"))["gateway_name"] == "Renamed"
        await change("gateway.name", None)
        await change("stream.keep_events", None)
        await until_the_other_has("gateway.name", "")
    finally:
        for node, name in zip((pair.a, pair.b), names, strict=True):
            await in_thread(node.stop)
            node.environment["ENTOBOT_GATEWAY__NAME"] = name
        for node in (pair.a, pair.b):
            await in_thread(node.start)


def test_the_audit_log_of_both_is_one_chain(pair: Pair) -> None:
    for node in (pair.a, pair.b):
        found = Operator(node).local.request("GET", "/api/v1/audit/verify")
        assert found["ok"], found


def test_a_node_with_other_keys_or_another_origin_does_not_start(pair: Pair, tmp_path: Path) -> None:
    from tests.support.process import GatewayProcess

    stranger = GatewayProcess(tmp_path / "c", environment={"ENTOBOT_STORAGE__URL": pair.server.url(pair.database)})
    done = stranger.cli("up")
    assert done.returncode != 0
    assert "entobot node export" in done.stderr


async def test_without_any_bell_everything_arrives_by_looking(tmp_path: Path, postgres: PostgresServer) -> None:
    """Each node rings at a NATS of its own that the other never hears: every message between them is lost."""
    servers = [NatsServer(tmp_path).start() for _ in range(2)]
    two = Pair(tmp_path, postgres, bus=servers[0].url)
    two.b.environment["ENTOBOT_BUS__URL"] = servers[1].url
    try:
        await in_thread(two.start)
        device = await in_thread(Operator(two.a).pair)
        async with connected(two.b, device) as there, connected(two.a, device) as here:
            await here.say("one")
            await here.say("!note two")
            asked = (await there.until_event("approval.requested"))["data"]
            await in_thread(two.at(device, two.b).decide, asked, "approve")
            await there.until_event("approval.decided")
            await there.until(lambda _: there.events("message.created")[-1]["data"]["content"] == "noted: two")
            assert_in_order(there)
            begin_s = time.monotonic()
            await in_thread(Operator(two.a).change, device, "revoke")
            assert await there.closed() == 4501
            assert time.monotonic() - begin_s < LOOKED_FOR_S
    finally:
        two.close()
        for server in servers:
            server.kill()


async def test_a_killed_node_s_devices_are_offline_and_its_work_is_done_by_the_other(
    tmp_path: Path, postgres: PostgresServer, nats: NatsServer
) -> None:
    two = Pair(tmp_path, postgres, bus=nats.url)
    try:
        await in_thread(two.start)
        device = await in_thread(Operator(two.a).pair)
        async with connected(two.a, device) as phone:
            await phone.say("!note eggs")
            asked = (await phone.until_event("approval.requested"))["data"]
            where = position(phone)
            await noted(two, device)
            await in_thread(two.a.kill)
        async with connected(two.b, device, where) as phone:
            await in_thread(two.at(device, two.b).decide, asked, "approve")
            assert await answer_of(phone) == "noted: eggs"
            begin_s = time.monotonic()
            while (
                len(two.query("SELECT DISTINCT node_id FROM node_connections")) != 1
                or len(two.query("SELECT 1 FROM nodes")) != 1
            ):
                assert time.monotonic() - begin_s < NODE_LOST_S + GENEROUS_S / 4
                await asyncio.sleep(0.2)
            # And without NATS the one that is left goes on, says so, and is well again without a restart.
            nats.kill()
            await phone.say("alone")
            assert await answer_of(phone) == "alone"
            await in_thread(nats.start)
            await in_thread(two.a.start)
            async with connected(two.a, device) as other:
                await phone.say("together")
                assert await answer_of(other) == "together"
    finally:
        two.close()
