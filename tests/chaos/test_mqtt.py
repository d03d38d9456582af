"""Boards by MQTT while their gateway is killed, their line breaks, or a node dies: what QoS 1 and 2 promise holds."""

import asyncio
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from entobot.client.history import Violation, report
from tests.rigs import network
from tests.rigs.bad_line import A_WHILE_S, BadLine
from tests.rigs.boards import Boards
from tests.rigs.campaign import Campaign
from tests.rigs.fault_proxy import FaultProxy
from tests.rigs.mqtt_client import Place
from tests.rigs.nodes import two_nodes
from tests.rigs.storm import ROOMY, Strike, struck
from tests.support.board import mqtt_environment
from tests.support.operator import Operator
from tests.support.postgres import postgres_server
from tests.support.process import PROGRAM, GatewayProcess

MQTT = ROOMY | {"ENTOBOT_MQTT__MAX_QUEUED": "10000"}
"""A screen that is away for long loses nothing of what waits for it."""


def mqtt_port(gateway: GatewayProcess) -> int:
    return int(gateway.environment["ENTOBOT_MQTT__PORT"])


async def boards_under(
    campaign: Campaign,
    folder: Path,
    gateway: GatewayProcess,
    faults: int,
    strike: Strike,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    between: tuple[int, int] = (60, 200),
) -> list[Violation]:
    """`gateway` runs; boards connect at `port`, its own unless another one is given."""
    place = Place(host, port or mqtt_port(gateway), gateway.trust())
    boards = Boards(campaign.random, folder, Operator(gateway), place)
    try:
        await boards.connect()
        return await struck(campaign, boards, faults, between, strike)
    finally:
        await boards.close()


async def killed_under_boards(
    campaign: Campaign, folder: Path, faults: int, program: tuple[str, ...] = PROGRAM
) -> list[Violation]:
    gateway = GatewayProcess(folder / "home", environment=MQTT | mqtt_environment(), program=program)

    async def strike() -> None:
        await asyncio.to_thread(gateway.kill)
        await asyncio.to_thread(gateway.start)

    try:
        await asyncio.to_thread(gateway.start)
        return await boards_under(campaign, folder, gateway, faults, strike)
    finally:
        await asyncio.to_thread(gateway.close)


@pytest.mark.parametrize("faults", [pytest.param(3, id="short"), pytest.param(100, id="long", marks=pytest.mark.chaos)])
async def test_kill_9_loses_no_message_of_qos_1_and_2_and_repeats_none_of_qos_2(
    tmp_path: Path, campaign: Campaign, faults: int
) -> None:
    violations = await killed_under_boards(campaign, tmp_path, faults)
    assert violations == [], report(violations)
    campaign.settle()


@pytest.mark.parametrize("faults", [pytest.param(6, id="short"), pytest.param(90, id="long", marks=pytest.mark.chaos)])
async def test_a_bad_line_loses_no_message_of_qos_1_and_2_and_repeats_none_of_qos_2(
    tmp_path: Path, campaign: Campaign, faults: int
) -> None:
    gateway = GatewayProcess(tmp_path / "home", environment=MQTT | mqtt_environment())
    try:
        await asyncio.to_thread(gateway.start)
        async with FaultProxy(("127.0.0.1", mqtt_port(gateway)), seed=campaign.seed) as proxy:
            strike = BadLine(proxy, campaign).strike
            violations = await boards_under(campaign, tmp_path, gateway, faults, strike, port=proxy.port)
        assert violations == [], report(violations)
        campaign.settle()
    finally:
        await asyncio.to_thread(gateway.close)


@pytest.mark.skipif(network.missing() is not None, reason=str(network.missing()))
@pytest.mark.parametrize("faults", [pytest.param(2, id="short"), pytest.param(40, id="long", marks=pytest.mark.chaos)])
async def test_packet_loss_and_partitions_lose_no_message_of_qos_1_and_2_and_repeat_none_of_qos_2(
    tmp_path: Path, campaign: Campaign, faults: int
) -> None:
    with network.network("board") as net:
        gateway = GatewayProcess(
            tmp_path / "home", environment=MQTT | mqtt_environment(), host=net.inside, launcher=net.launcher
        )

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
            violations = await boards_under(
                campaign, tmp_path, gateway, faults, strike, host=net.inside, between=(30, 90)
            )
            assert violations == [], report(violations)
            campaign.settle()
        finally:
            await asyncio.to_thread(gateway.close)


@pytest.mark.parametrize(
    ("rounds", "away_s"),
    [pytest.param(1, (0,), id="short"), pytest.param(20, (0, 7), id="long", marks=pytest.mark.chaos)],
)
async def test_killing_a_node_or_the_store_loses_no_message_of_qos_1_and_2_and_repeats_none_of_qos_2(
    tmp_path: Path, campaign: Campaign, rounds: int, away_s: tuple[int, ...]
) -> None:
    """`away_s`: how long the store stays away, one of these; a message waits for it for five seconds."""
    with ExitStack() as stack:
        store = stack.enter_context(postgres_server())
        settings = MQTT | {
            "ENTOBOT_STORAGE__URL": store.url(store.furnished_database()),
            "ENTOBOT_MQTT__ENABLED": "true",
        }
        async with two_nodes(tmp_path, settings) as there:
            first, second = map(mqtt_port, there.nodes)
            parts: list[Any] = [*there.nodes, store]
            order = chain.from_iterable(campaign.random.sample(parts, len(parts)) for _ in range(rounds))

            async def strike() -> None:
                part = next(order)
                await asyncio.to_thread(part.kill)
                if part is store:
                    await asyncio.sleep(campaign.random.choice(away_s))
                await asyncio.to_thread(part.start)

            async with FaultProxy(("127.0.0.1", first), others=[("127.0.0.1", second)]) as front:
                violations = await boards_under(
                    campaign, tmp_path, there.nodes[0], rounds * len(parts), strike, port=front.port
                )
            assert violations == [], report(violations)
            campaign.settle()


PROMISES = {
    "acknowledge_before_it_is_kept": {"no acknowledged message is lost", "a session can be resumed"},
    "forget_which_packets_came": {"a message of QoS 2 comes once"},
    "keep_commands_to_itself": {"no command is lost"},
    "begin_sessions_anew": {"a session can be resumed"},
    "leave_out_a_session": {"no acknowledged message is lost"},
    "turn_what_waited_round": {"messages keep their order"},
    "tell_each_of_a_share": {"a message of QoS 2 comes once"},
}


@pytest.mark.parametrize(
    ("fault", "kills"),
    [
        ("tell_each_of_a_share", 1),
        *(pytest.param(one, 12, marks=pytest.mark.chaos) for one in PROMISES),  # some need a kill at the right moment
    ],
)
async def test_the_campaign_finds_what_is_wrong_with_a_gateway_that_is_broken_for_boards(
    tmp_path: Path, campaign: Campaign, fault: str, kills: int
) -> None:
    program = ("-m", "tests.support.broken_gateway", fault)
    violations = await killed_under_boards(campaign, tmp_path, kills, program)
    assert PROMISES[fault] & {violation.promise for violation in violations}, report(violations)
