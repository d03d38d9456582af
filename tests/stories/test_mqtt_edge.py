"""Boards at the edge: a real nats-server takes them by MQTT, and this gateway says who they are and what they may."""

import asyncio
import json
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from nats.aio.client import Client
from nats.errors import Error
from paho.mqtt.enums import CallbackAPIVersion

from tests.support.board import Board, mqtt_environment, wait_for
from tests.support.nats import NatsServer
from tests.support.process import ROOMY, GatewayProcess, free_port
from tests.support.thing import Thing

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to" / "mqtt-edge.md"


@dataclass
class Edge:
    gateway: GatewayProcess
    server: NatsServer
    port: int

    def board(self, thing: Thing, name: str = "", **more: Any) -> Board:
        """As one of the gateway's own listener, on the server's."""
        board = Board(self.gateway, thing, name=name, version=mqtt.MQTTv311, **more)
        board.port = self.port
        chosen = thing.device_id + (f"/{name}" if name else "")
        board.client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=chosen, protocol=mqtt.MQTTv311, reconnect_on_failure=False
        )
        board.client.username_pw_set(more.get("username", thing.device_id), more.get("password", thing.api_key))
        board._listen()
        return board


def configuration(issuer: str, folder: Path, port: int) -> str:
    """What the how-to writes, with this machine's folder and port."""
    (block,) = re.findall(r"```text\n(.*?)```", HOW_TO.read_text(), re.DOTALL)
    found = (
        block.replace("ABC…", issuer).replace("/var/lib/nats", str(folder)).replace("0.0.0.0:1883", f"127.0.0.1:{port}")
    )
    return re.sub(r"    tls \{.*?\}\n", "", found, flags=re.DOTALL)


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    folder, port = tmp_path_factory.mktemp("edge"), free_port()
    server = NatsServer(folder)
    for name in ("gateway", "system"):
        (folder / name).write_text(f"{name}-secret\n")
        (folder / name).chmod(0o600)
    said = {
        "ENTOBOT_EDGE__URL": server.url,
        "ENTOBOT_EDGE__PASSWORD_FILE": str(folder / "gateway"),
        "ENTOBOT_EDGE__SYSTEM_PASSWORD_FILE": str(folder / "system"),
    }
    gateway = GatewayProcess(folder / "home", environment=mqtt_environment() | ROOMY | said).start()
    issuer = gateway.cli("mqtt", "edge", "--json").stdout
    server._extra = configuration(json.loads(issuer)["issuer"], folder / "js", port)
    server.start()
    found = Edge(gateway, server, port)
    warm = Thing.make(gateway, "First")

    def is_in() -> bool:
        board = found.board(warm)
        try:
            return board.connect() == 0
        finally:
            board.client.disconnect()
            board.client.loop_stop()

    wait_for(is_in)
    yield found
    gateway.close()
    server.kill()


def readings(edge: Edge, thing: Thing) -> list[tuple[str, Any]]:
    found = edge.gateway.ask("things", "list")
    shown = [one for one in found if one["device_id"] == thing.device_id]
    if not shown:
        return []
    return [(one["name"], one["value"]) for one in edge.gateway.ask("things", "show", thing.device_id)["readings"]]


def test_a_reading_at_the_edge_is_a_reading_and_a_command_reaches_the_board(edge: Edge) -> None:
    thing = lamp(edge)
    board = edge.board(thing).opened()
    assert board.subscribe(f"{board.root}/command") == [1]
    board.publish(f"{board.root}/telemetry/temperature", b"21.5")
    wait_for(lambda: readings(edge, thing) == [("temperature", 21.5)])
    command_id = commanded(edge, thing)
    assert json.loads(board.heard().payload)["command_id"] == command_id
    answer(board, command_id)
    wait_for(lambda: state_of(edge, thing) == "done")
    board.disconnect()


def lamp(edge: Edge) -> Thing:
    thing = Thing.make(edge.gateway, "Lamp")
    path = edge.gateway.home.parent / "lamp.json"
    path.write_text(
        json.dumps(
            {
                "name": "lamp",
                "title": "Lamp",
                "readings": {"temperature": {"kind": "number"}},
                "commands": {"light": {"risk": "none"}},
            }
        )
    )
    edge.gateway.cli("things", "types", "add", str(path))
    edge.gateway.ask("things", "set-type", thing.device_id, "lamp")
    return thing


def commanded(edge: Edge, thing: Thing) -> str:
    return edge.gateway.ask("things", "command", thing.device_id, "light", "--wait", "0")["command_id"]


def answer(board: Board, command_id: str) -> None:
    board.publish(f"{board.root}/result", json.dumps({"command_id": command_id, "state": "done"}))


def state_of(edge: Edge, thing: Thing) -> str:
    return edge.gateway.ask("things", "commands", thing.device_id)[0]["state"]


def test_a_command_waits_for_a_board_that_is_away_and_for_a_gateway_that_restarts(edge: Edge) -> None:
    thing = lamp(edge)
    first, second = commanded(edge, thing), commanded(edge, thing)
    edge.gateway.kill()
    edge.gateway.start()
    board = opened(edge, thing)
    board.subscribe(f"{board.root}/command")
    assert [json.loads(board.heard().payload)["command_id"] for _ in range(2)] == [first, second]
    answer(board, first)
    answer(board, second)
    wait_for(lambda: state_of(edge, thing) == "done")
    board.disconnect()


def test_a_command_is_told_again_until_the_board_answers(edge: Edge) -> None:
    """It may have connected and not subscribed yet, or lose what comes by QoS 0."""
    thing = lamp(edge)
    board = edge.board(thing).opened()
    wait_for(lambda: is_online(edge, thing))
    command_id = commanded(edge, thing)
    board.subscribe(f"{board.root}/command")
    for _ in range(2):
        assert json.loads(board.heard().payload)["command_id"] == command_id
    answer(board, command_id)
    wait_for(lambda: state_of(edge, thing) == "done")
    board.disconnect()


def opened(edge: Edge, thing: Thing) -> Board:
    """As soon as the gateway answers the server again."""
    found: list[Board] = []

    def is_in() -> bool:
        board = edge.board(thing)
        if board.connect() == 0:
            found.append(board)
        return bool(found)

    wait_for(is_in)
    return found[0]


def shown(edge: Edge, thing: Thing) -> dict[str, Any]:
    return edge.gateway.ask("devices", "show", thing.device_id)


def is_online(edge: Edge, thing: Thing) -> bool:
    return shown(edge, thing)["is_online"]


def test_who_is_connected_at_the_edge_is_online_also_after_a_restart(edge: Edge) -> None:
    thing = Thing.make(edge.gateway, "Board")
    assert not is_online(edge, thing)
    first, second = edge.board(thing, name="a").opened(), edge.board(thing, name="b").opened()
    wait_for(lambda: is_online(edge, thing))
    first.disconnect()
    edge.gateway.kill()
    edge.gateway.start()
    wait_for(lambda: is_online(edge, thing))
    second.disconnect()
    wait_for(lambda: not is_online(edge, thing))


def test_a_key_that_was_revoked_just_before_the_gateway_crashed_is_cut_when_it_is_back(edge: Edge) -> None:
    thing, other = Thing.make(edge.gateway, "Board"), Thing.make(edge.gateway, "Other")
    board, stays = edge.board(thing).opened(), edge.board(other).opened()
    edge.gateway.kill()
    with sqlite3.connect(edge.gateway.home / "entobot.db") as store:  # as it stands between the commit and the cut
        store.execute("UPDATE device_api_keys SET revoked_at_ms = 1 WHERE device_id = ?", (thing.device_id,))
    store.close()
    edge.gateway.start()
    board.ended()
    wait_for(lambda: is_online(edge, other))
    stays.disconnect()


def test_what_is_said_while_the_gateway_is_away_waits_at_the_server(edge: Edge) -> None:
    thing = Thing.make(edge.gateway, "Board")
    board = edge.board(thing).opened()
    edge.gateway.kill()
    for n in range(3):
        board.publish(f"{board.root}/telemetry/t{n}", b"1")
    edge.gateway.start()
    wait_for(lambda: sorted(readings(edge, thing)) == [("t0", 1), ("t1", 1), ("t2", 1)])
    board.disconnect()


def test_who_is_nobody_or_somebody_else_does_not_come_in(edge: Edge) -> None:
    thing, other = Thing.make(edge.gateway, "Board"), Thing.make(edge.gateway, "Other")
    for username, password in (
        (thing.device_id, other.api_key),
        (other.device_id, thing.api_key),
        (thing.device_id, "ent_key_made_up"),
    ):
        assert edge.board(thing, username=username, password=password).connect() != 0
    stranger = edge.board(thing)
    stranger.client._client_id = other.device_id.encode()
    assert stranger.connect() != 0


def test_a_board_s_key_opens_no_connection_of_nats(edge: Edge) -> None:
    """There it could read what waits for other boards."""
    thing = Thing.make(edge.gateway, "Board")

    async def attempt() -> None:
        client = Client()
        try:
            await client.connect(edge.server.url, user=thing.device_id, password=thing.api_key, allow_reconnect=False)
        finally:
            await client.close()

    with pytest.raises(Error):
        asyncio.run(attempt())


def test_a_board_reaches_its_own_topics_within_the_limits_of_its_key(edge: Edge) -> None:
    thing, other = Thing.make(edge.gateway, "Board"), Thing.make(edge.gateway, "Other")
    (held,) = edge.gateway.ask("devices", "keys", thing.device_id)
    edge.gateway.cli(
        "devices",
        "limit-key",
        thing.device_id,
        held["credential_id"],
        "--topics",
        "publish=telemetry/# subscribe=command",
    )
    board, victim = edge.board(thing).opened(), edge.board(other).opened()
    victim.subscribe(f"{victim.root}/#")
    refused = 0x80
    wanted = ("#", f"{victim.root}/#", f"{board.root}/status", "$MQTT/sub/#", f"{board.root}/command")
    assert [one >= refused for one in board.subscribe(*wanted)] == [True] * 4 + [False]
    for topic in (f"{victim.root}/telemetry/forged", f"{board.root}/command", f"{board.root}/event"):
        board.publish(topic, b"1")
    board.publish(f"{board.root}/telemetry/real", b"1")
    victim.publish(f"{victim.root}/telemetry/real", b"2")
    assert victim.heard().payload == b"2"
    wait_for(lambda: readings(edge, thing) == [("real", 1)] and readings(edge, other) == [("real", 2)])
    assert board.nothing_more()
    edge.gateway.cli("devices", "limit-key", thing.device_id, held["credential_id"])
    board.ended()  # it comes anew, and hears what it may now
    again = edge.board(thing).opened()
    assert again.subscribe(f"{again.root}/status") == [1]
    again.disconnect()
    victim.disconnect()


def test_who_is_revoked_is_cut_off_at_the_edge_and_stays_out(edge: Edge) -> None:
    thing = Thing.make(edge.gateway, "Board")
    board = edge.board(thing).opened()
    edge.gateway.ask("devices", "revoke", thing.device_id)
    board.ended()
    assert edge.board(thing).connect() != 0
