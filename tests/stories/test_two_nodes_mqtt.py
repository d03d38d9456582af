"""Boards by MQTT on two gateways: a board comes to either of them, and its session follows."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.board import V3, V5, Board, mqtt_environment, wait_for
from tests.support.nats import NatsServer
from tests.support.nodes import Pair
from tests.support.postgres import PostgresServer
from tests.support.process import ROOMY
from tests.support.thing import Thing

NOT_AUTHORIZED, TAKEN_OVER = 0x87, 0x8E


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer) -> Iterator[Pair]:
    two = Pair(tmp_path_factory.mktemp("two"), postgres, settings=ROOMY)
    for node in (two.a, two.b):
        node.environment |= mqtt_environment()
    yield two.start()
    two.close()


@pytest.fixture
def thing(pair: Pair) -> Thing:
    return Thing.make(pair.a, "Board")


@pytest.mark.parametrize("version", [V3, V5])
def test_a_session_follows_its_board_to_another_node(pair: Pair, thing: Thing, version: int) -> None:
    lasting: dict[str, Any] = {"name": "screen", "clean": False, "expiry_s": 3600, "version": version}
    sensor = Board(pair.b, thing).opened()
    screen = Board(pair.a, thing, **lasting).opened()
    screen.subscribe(f"{screen.root}/#", qos=2)
    assert sensor.publish(f"{sensor.root}/event", b"while it is here", qos=2) == 0
    assert screen.heard().payload == b"while it is here", "from one node to the other at once"
    screen.disconnect()
    said = [b"%d" % number for number in range(5)]
    for one in said:
        assert sensor.publish(f"{sensor.root}/event", one) == 0
    elsewhere = Board(pair.b, thing, **lasting).opened()
    assert elsewhere.session_present
    assert [elsewhere.heard().payload for _ in said] == said
    assert sensor.publish(f"{sensor.root}/event", b"last") == 0
    assert elsewhere.heard().payload == b"last", "and nothing came twice"


def test_the_same_client_id_takes_over_from_another_node(pair: Pair, thing: Thing) -> None:
    first = Board(pair.a, thing).opened()
    second = Board(pair.b, thing).opened()
    assert first.ended() == TAKEN_OVER
    assert second.publish(f"{second.root}/event", b"here") == 0


def test_what_is_retained_and_what_is_revoked_holds_on_both_nodes(pair: Pair, thing: Thing) -> None:
    sensor = Board(pair.a, thing).opened()
    assert sensor.publish(f"{sensor.root}/status", b"online", retain=True) == 0
    screen = Board(pair.b, thing, name="screen").opened()
    screen.subscribe(f"{screen.root}/status")
    assert screen.heard().payload == b"online"
    pair.a.ask("devices", "revoke", thing.device_id)
    assert (sensor.ended(), screen.ended()) == (NOT_AUTHORIZED, NOT_AUTHORIZED)
    assert Board(pair.b, thing).connect() == NOT_AUTHORIZED


def test_a_policy_stored_at_one_node_is_felt_by_the_live_connections_of_the_other(pair: Pair, tmp_path: Path) -> None:
    sensor = Board(pair.a, Thing.make(pair.a, "Sensor", "--type", "sensor")).opened()
    reader = Board(pair.b, Thing.make(pair.a, "Reader", "--type", "reader")).opened()
    (tmp_path / "reads.cedar").write_text(
        'permit (principal is Device, action == Action::"subscribe", resource is Device)\n'
        'when { principal.type == "reader" && context.topic == "event" };'
    )
    pair.a.ask("policy", "add", str(tmp_path / "reads.cedar"))
    wait_for(lambda: reader.subscribe(f"{sensor.root}/event") == [1])
    assert sensor.publish(f"{sensor.root}/event", b"open") == 0
    assert reader.heard().payload == b"open"
    pair.b.ask("policy", "remove", "reads")
    wait_for(
        lambda: (
            pair.a.cli("policy", "explain", "--device", "Reader", "--subscribe", f"{sensor.root}/event").returncode == 1
        )
    )
    assert sensor.publish(f"{sensor.root}/event", b"shut") == 0
    assert reader.subscribe(f"{sensor.root}/event") == [NOT_AUTHORIZED]
    assert reader.nothing_more()


def test_the_will_of_a_board_whose_node_was_killed_is_told_by_the_other(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    two = Pair(tmp_path, postgres, settings=ROOMY)
    for node in (two.a, two.b):
        node.environment |= mqtt_environment()
    try:
        two.start()
        thing = Thing.make(two.a, "Board")
        sensor = Board(two.a, thing)
        sensor.client.will_set(f"{sensor.root}/status", b"offline", qos=1, retain=True)
        sensor.opened()
        screen = Board(two.b, thing, name="screen").opened()
        screen.subscribe(f"{screen.root}/status")
        two.a.kill()
        assert screen.heard().payload == b"offline"
        sensor.client.loop_stop()
    finally:
        two.close()


def test_without_the_bus_a_board_hears_what_was_said_at_the_other_node_and_that_its_session_was_taken(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    """A message waited until the next one was told, and for ever where none came."""
    nats = NatsServer(tmp_path).start()
    two = Pair(tmp_path, postgres, settings=ROOMY, bus=nats.url)
    for node in (two.a, two.b):
        node.environment |= mqtt_environment()
    try:
        two.start()
        thing = Thing.make(two.a, "Board")
        sensor, screen = Board(two.a, thing).opened(), Board(two.b, thing, name="screen").opened()
        screen.subscribe(f"{screen.root}/#")
        nats.kill()
        assert sensor.publish(f"{sensor.root}/event", b"over there") == 0
        assert screen.heard().payload == b"over there"
        Board(two.b, thing).opened()
        assert sensor.ended() == TAKEN_OVER
        assert screen.nothing_more()
    finally:
        two.close()
        nats.kill()
