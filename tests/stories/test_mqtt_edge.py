"""Boards at the edge: a real nats-server takes them by MQTT, and this gateway says who they are and what they may."""

import asyncio
import json
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from nats.aio.client import Client
from nats.errors import Error

from tests.stories.test_updates import Workshop
from tests.support.board import mqtt_environment, wait_for
from tests.support.edge import Edge, EdgeServer, answer
from tests.support.process import ROOMY, GatewayProcess
from tests.support.thing import Thing


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    folder = tmp_path_factory.mktemp("edge")
    server = EdgeServer(folder)
    gateway = GatewayProcess(folder / "home", environment=mqtt_environment() | ROOMY | server.environment).start()
    server.begin(gateway)
    found = Edge(gateway, server)
    found.opened(Thing.make(gateway, "First")).disconnect()
    yield found
    gateway.close()
    server.kill()


def test_a_reading_at_the_edge_is_a_reading_and_a_command_reaches_the_board(edge: Edge) -> None:
    thing = edge.lamp()
    board = edge.board(thing).opened()
    assert board.subscribe(f"{board.root}/command") == [1]
    board.publish(f"{board.root}/telemetry/temperature", b"21.5")
    wait_for(lambda: edge.readings(thing) == [("temperature", 21.5)])
    command_id = edge.command(thing)
    assert json.loads(board.heard().payload)["command_id"] == command_id
    answer(board, command_id)
    wait_for(lambda: edge.state_of(thing) == "done")
    board.disconnect()


def test_a_command_waits_for_a_board_that_is_away_and_for_a_gateway_that_restarts(edge: Edge) -> None:
    thing = edge.lamp()
    first, second = edge.command(thing), edge.command(thing)
    edge.gateway.kill()
    edge.gateway.start()
    board = edge.opened(thing)
    board.subscribe(f"{board.root}/command")
    assert [json.loads(board.heard().payload)["command_id"] for _ in range(2)] == [first, second]
    answer(board, first)
    answer(board, second)
    wait_for(lambda: edge.state_of(thing) == "done")
    board.disconnect()


def test_a_command_is_told_again_until_the_board_answers(edge: Edge) -> None:
    """It may have connected and not subscribed yet, or lose what comes by QoS 0."""
    thing = edge.lamp()
    board = edge.board(thing).opened()
    wait_for(lambda: edge.is_online(thing))
    command_id = edge.command(thing)
    board.subscribe(f"{board.root}/command")
    for _ in range(2):
        assert json.loads(board.heard().payload)["command_id"] == command_id
    answer(board, command_id)
    wait_for(lambda: edge.state_of(thing) == "done")
    board.disconnect()


def test_an_offer_of_an_update_reaches_a_board_that_was_away_when_it_says_what_it_runs(
    edge: Edge, tmp_path: Path
) -> None:
    thing = edge.lamp()
    workshop = Workshop(edge.gateway, tmp_path, "lamp")
    workshop.register()
    rollout = workshop.roll_out("1.1.0", "print(2)")
    board = edge.opened(thing)
    board.subscribe(f"{board.root}/update")
    board.publish(f"{board.root}/status", json.dumps({"status": "online", "firmware": "1.0.0"}).encode())
    assert json.loads(board.heard().payload)["version"] == "1.1.0"
    edge.gateway.ask("updates", "abort", rollout)
    board.disconnect()


def test_who_is_connected_at_the_edge_is_online_also_after_a_restart(edge: Edge) -> None:
    thing = Thing.make(edge.gateway, "Board")
    assert not edge.is_online(thing)
    first, second = edge.board(thing, name="a").opened(), edge.board(thing, name="b").opened()
    wait_for(lambda: edge.is_online(thing))
    first.disconnect()
    edge.gateway.kill()
    edge.gateway.start()
    wait_for(lambda: edge.is_online(thing))
    second.disconnect()
    wait_for(lambda: not edge.is_online(thing))


def test_a_key_that_was_revoked_just_before_the_gateway_crashed_is_cut_when_it_is_back(edge: Edge) -> None:
    thing, other = Thing.make(edge.gateway, "Board"), Thing.make(edge.gateway, "Other")
    board, stays = edge.board(thing).opened(), edge.board(other).opened()
    edge.gateway.kill()
    with sqlite3.connect(edge.gateway.home / "entobot.db") as store:  # as it stands between the commit and the cut
        store.execute("UPDATE device_api_keys SET revoked_at_ms = 1 WHERE device_id = ?", (thing.device_id,))
    store.close()
    edge.gateway.start()
    board.ended()
    wait_for(lambda: edge.is_online(other))
    stays.disconnect()


def test_what_is_said_while_the_gateway_is_away_waits_at_the_server(edge: Edge) -> None:
    thing = Thing.make(edge.gateway, "Board")
    board = edge.board(thing).opened()
    edge.gateway.kill()
    for n in range(3):
        board.publish(f"{board.root}/telemetry/t{n}", b"1")
    edge.gateway.start()
    wait_for(lambda: sorted(edge.readings(thing)) == [("t0", 1), ("t1", 1), ("t2", 1)])
    board.disconnect()


def test_readings_that_wait_at_the_server_are_of_when_they_were_said(edge: Edge) -> None:
    """None of them hides another, though they are committed together. What the server had given to the gateway that was
    killed comes ten seconds later.
    """
    thing = Thing.make(edge.gateway, "Board")
    board = edge.board(thing).opened()
    edge.gateway.kill()
    for n in range(4):
        board.publish(f"{board.root}/telemetry/temperature", b"%d" % n)
        next_ms = int(time.time() * 1000) + 1
        wait_for(lambda until_ms=next_ms: time.time() * 1000 > until_ms)
    said_ms = time.time() * 1000
    edge.gateway.start()
    wait_for(lambda: edge.readings(thing) == [("temperature", 3)])
    wait_for(lambda: [value for value, _ in history(edge, thing)] == [0, 1, 2, 3])
    assert all(at_ms <= said_ms for _, at_ms in history(edge, thing))
    board.disconnect()


def history(edge: Edge, thing: Thing) -> list[tuple[float, int]]:
    with sqlite3.connect(edge.gateway.home / "entobot.db") as store:
        found = store.execute(
            "SELECT number, at_ms FROM thing_readings WHERE series = (SELECT series FROM thing_series "
            "WHERE device_id = ?) ORDER BY at_ms",
            (thing.device_id,),
        ).fetchall()
    store.close()
    return found


def test_a_thing_whose_connection_breaks_is_offline_until_it_is_back(edge: Edge) -> None:
    thing, brief = Thing.make(edge.gateway, "Board"), Thing.make(edge.gateway, "Brief")
    board, other = edge.board(thing), edge.board(brief).opened()
    assert board.connect(keep_alive_s=1) == 0
    for one in (board, other):
        one.publish(f"{one.root}/telemetry/temperature", b"21.5")
    wait_for(lambda: status(edge, thing) == status(edge, brief) == "online")
    other.disconnect()
    board.client.loop_stop()  # it sends no ping any more
    wait_for(lambda: status(edge, thing) == "offline")
    assert status(edge, brief) == "online", "it went in order, and its time is not over"
    edge.opened(thing).disconnect()
    wait_for(lambda: status(edge, thing) == "online")


def status(edge: Edge, thing: Thing) -> str:
    found = [one for one in edge.gateway.ask("things", "list") if one["device_id"] == thing.device_id]
    return found[0]["status"] if found else ""


def test_a_message_is_acknowledged_to_the_server_after_the_commit(edge: Edge) -> None:
    """What a gateway took and could not commit before it was killed comes again."""
    thing = Thing.make(edge.gateway, "Board")
    board = edge.board(thing).opened()
    store = sqlite3.connect(edge.gateway.home / "entobot.db", isolation_level=None)
    store.execute("BEGIN IMMEDIATE")
    board.publish(f"{board.root}/telemetry/temperature", b"21.5")
    wait_for(lambda: asyncio.run(untaken(edge)) == 0)
    edge.gateway.kill()
    store.close()
    edge.gateway.start()
    wait_for(lambda: edge.readings(thing) == [("temperature", 21.5)])
    board.disconnect()


def test_a_store_that_takes_nothing_for_a_while_ends_no_connection(edge: Edge) -> None:
    thing = Thing.make(edge.gateway, "Board")
    board = edge.board(thing).opened()
    before = edge.gateway.log.read_text().count("edge.connected")
    store = sqlite3.connect(edge.gateway.home / "entobot.db", isolation_level=None)
    store.execute("BEGIN IMMEDIATE")
    board.publish(f"{board.root}/telemetry/temperature", b"21.5")
    wait_for(lambda: "edge.not_committed" in edge.gateway.log.read_text())
    store.close()
    wait_for(lambda: edge.readings(thing) == [("temperature", 21.5)])
    assert edge.gateway.log.read_text().count("edge.connected") == before
    board.disconnect()


async def untaken(edge: Edge) -> int:
    """Messages that no gateway has asked for."""
    client = Client()
    await client.connect(edge.server.url, user="gateway", password="gateway-secret")
    found = await client.jetstream().consumer_info("ENTOBOT_BOARDS", "entobot")
    await client.close()
    return found.num_pending or 0


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
    wait_for(lambda: edge.readings(thing) == [("real", 1)] and edge.readings(other) == [("real", 2)])
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


def test_who_is_connected_asked_and_cut_is_measured(edge: Edge) -> None:
    wait_for(lambda: metrics(edge)["entobot_edge_boards"] == 0)  # who was there before has been seen to go
    measured = metrics(edge)
    assert measured["entobot_edge_up"] == 1
    thing = Thing.make(edge.gateway, "Board")
    assert edge.board(thing, password="ent_key_made_up").connect() != 0
    board = edge.board(thing).opened()
    wait_for(lambda: metrics(edge)["entobot_edge_boards"] == 1)
    board.publish(f"{board.root}/telemetry/temperature", b"21.5")
    taken = "entobot_edge_messages_total {outcome=taken}"
    wait_for(lambda: metrics(edge)[taken] == measured.get(taken, 0) + 1)
    edge.gateway.ask("devices", "revoke", thing.device_id)
    board.ended()
    wait_for(lambda: metrics(edge)["entobot_edge_boards"] == 0)
    now = metrics(edge)
    for outcome in ("admitted", "refused"):
        asked = f"entobot_edge_asked_total {{outcome={outcome}}}"
        assert now[asked] > measured.get(asked, 0)
    assert now["entobot_edge_cut_total"] > measured.get("entobot_edge_cut_total", 0)


def metrics(edge: Edge) -> dict[str, float]:
    lines = edge.gateway.cli("metrics", "entobot_edge").stdout.splitlines()
    rows = [line.rsplit(maxsplit=1) for line in lines if line.startswith("entobot_edge")]
    return {" ".join(name.split()): float(value) for name, value in rows}


def test_the_doctor_finds_an_edge_that_lets_the_gateway_in_and_says_why_one_does_not(edge: Edge) -> None:
    assert diagnosed(edge)["level"] == "ok"
    password = Path(edge.gateway.environment["ENTOBOT_EDGE__SYSTEM_PASSWORD_FILE"])
    password.chmod(0o644)
    assert "open to others" in diagnosed(edge)["detail"]
    password.chmod(0o600)
    password.write_text("another\n")
    assert "does not let the gateway in" in diagnosed(edge)["detail"]
    password.rename(password.with_name("away"))
    assert diagnosed(edge)["detail"] == f"{password} cannot be read: No such file or directory."
    password.with_name("away").rename(password)
    password.write_text("system-secret\n")
    edge.server.kill()
    assert "does not let the gateway in" in diagnosed(edge)["detail"]
    edge.server.start()
    wait_for(lambda: metrics(edge)["entobot_edge_up"] == 1)


def diagnosed(edge: Edge) -> dict[str, str]:
    (found,) = [one for one in json.loads(edge.gateway.cli("doctor", "--json").stdout) if one["name"] == "edge"]
    return found
