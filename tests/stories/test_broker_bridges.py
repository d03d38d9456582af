"""A site that has a broker keeps it: readings come over it and go to it, by a real mosquitto with TLS and a password."""

import json
import re
import sqlite3
import tomllib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from entobot.mqtt.codec import encode
from entobot.mqtt.packets import Publish, Version
from tests.support.board import Board, mqtt_environment, wait_for
from tests.support.mosquitto import USER, Mosquitto
from tests.support.nodes import Pair
from tests.support.postgres import PostgresServer
from tests.support.process import ROOMY, ROOT, GatewayProcess
from tests.support.rude_broker import RudeBroker
from tests.support.thing import Thing


def bridge(broker: Mosquitto, **more: Any) -> dict[str, Any]:
    """As `[[mqtt.bridges]]` says it."""
    return {
        "name": "factory",
        "url": broker.url,
        "ca_file": str(broker.ca_file),
        "username": USER,
        "password_file": str(broker.password_file),
        "devices": ["*"],
        "by": "name",
        "in": [
            {"topic": "factory/{device}/temp", "to": "telemetry/temperature"},
            {"topic": "zigbee/{device}", "to": "telemetry/humidity", "value": "/humidity"},
        ],
        "out": [{"of": "telemetry", "topic": "house/{device}/{name}"}, {"of": "status", "topic": "house/{device}"}],
    } | more


def bridged(*bridges: dict[str, Any]) -> dict[str, str]:
    return mqtt_environment() | ROOMY | {"ENTOBOT_MQTT__BRIDGES": json.dumps(bridges)}


def state(gateway: GatewayProcess, name: str = "factory") -> dict[str, Any]:
    rows = {row["name"]: row for row in gateway.ask("mqtt", "bridges")}
    return rows[name]


def wait_until(gateway: GatewayProcess, name: str = "factory", **wanted: object) -> None:
    wait_for(lambda: wanted.items() <= state(gateway, name).items())


def readings(gateway: GatewayProcess, thing: Thing) -> dict[str, object]:
    """None as well while it is no thing yet."""
    if gateway.cli("things", "show", thing.device_id).returncode:
        return {}
    shown = gateway.ask("things", "show", thing.device_id)
    return {row["name"]: row["value"] for row in shown["readings"]}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    one = Mosquitto(tmp_path_factory.mktemp("broker") / "mosquitto").start()
    yield one
    one.kill()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, broker: Mosquitto) -> Iterator[GatewayProcess]:
    """One for stories that do not disturb one another."""
    home = tmp_path_factory.mktemp("bridged") / "home"
    process = GatewayProcess(home, environment=bridged(bridge(broker))).start()
    wait_until(process, state="connected")
    yield process
    process.close()


def test_what_a_machine_tells_its_own_broker_is_a_reading_of_the_thing_here(
    gateway: GatewayProcess, broker: Mosquitto
) -> None:
    oven = Thing.make(gateway, "oven")
    broker.publish("factory/oven/temp", "181.5")
    broker.publish("zigbee/oven", '{"humidity": 40, "linkquality": 92}')
    wait_for(lambda: readings(gateway, oven) == {"temperature": 181.5, "humidity": 40})
    assert gateway.ask("things", "show", oven.device_id)["status"] == "online"


def test_what_a_board_tells_here_is_on_the_site_s_own_broker_but_not_what_came_from_there(
    gateway: GatewayProcess, broker: Mosquitto
) -> None:
    broker.subscribe_for_good("screen", "house/#")
    thing = Thing.make(gateway, "lamp 1/2")
    board = Board(gateway, thing).opened()
    assert board.publish(f"{board.root}/telemetry/power_w", "60.5") == 0
    batch = {"batch": "1", "readings": [{"name": "power_w", "value": 61, "age_ms": 5000}]}
    assert board.publish(f"{board.root}/telemetry", json.dumps(batch)) == 0
    oven = Thing.make(gateway, "kiln")

    def told() -> bool:
        broker.publish(
            "factory/kiln/temp", "900"
        )  # again and again, as machines do: new names are looked for each second
        return readings(gateway, oven) == {"temperature": 900}

    wait_for(told)
    assert board.publish(f"{board.root}/telemetry/power_w", "62") == 0
    assert broker.read("screen", "house/#", 4) == [
        "house/lamp 1_2 online",
        "house/lamp 1_2/power_w 60.5",
        "house/lamp 1_2/power_w 61",
        "house/lamp 1_2/power_w 62",
    ], "and nothing of the kiln, which came over the bridge"


def test_nothing_of_qos_1_is_lost_when_the_broker_stops_and_the_gateway_is_killed(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path / "mosquitto").start()
    gateway = GatewayProcess(tmp_path / "home", environment=bridged(bridge(broker, protocol="3.1.1"))).start()
    try:
        wait_until(gateway, state="connected")
        broker.subscribe_for_good("screen", "house/+/watts")
        oven = Thing.make(gateway, "oven")
        board = Board(gateway, oven).opened()
        broker.stop()
        wait_for(lambda: "refuses connections" in state(gateway)["error"])  # first it says that the connection ended
        wait_until(gateway, state="waiting")
        for number in range(5):
            assert board.publish(f"{board.root}/telemetry/watts", str(number)) == 0
        wait_until(gateway, waiting=6)  # and that it is online
        gateway.kill()
        board.ended()
        broker.start()
        for number in range(5):
            broker.publish("factory/oven/temp", str(number))
        broker.stop()
        broker.start()
        gateway.start()
        assert broker.read("screen", "house/+/watts", 5) == [f"house/oven/watts {number}" for number in range(5)]
        wait_for(lambda: readings(gateway, oven).get("temperature") == 4)
        with closing(sqlite3.connect(gateway.home / "entobot.db")) as database:
            found = database.execute(
                "SELECT payload FROM mqtt_messages WHERE topic LIKE '%/temperature' ORDER BY id"
            ).fetchall()
        assert [payload for (payload,) in found] == [b"%d" % number for number in range(5)]
        wait_until(gateway, waiting=0, taken=5, told=6, dropped=0)
    finally:
        gateway.close()
        broker.kill()


GARAGE = """
name = "lamp"
[commands.light]
risk = "none"
"""


def test_each_bridge_is_by_itself_and_says_what_is_wrong_with_it_and_what_to_do(
    tmp_path: Path, broker: Mosquitto
) -> None:
    said = [
        encode(Publish(topic, payload, 1, packet_id=number, retain=retain), Version.V5)
        for number, (topic, payload, retain) in enumerate(
            [
                ("devices/dev_1/status", b"online", False),
                ("rude/nobody/temp", b"1", False),
                ("rude/oven/temp", b"x" * 200_000, False),
                ("rude/oven/temp", b"{}", False),
                ("rude/oven/temp", b"1", True),
                ("rude/oven/temp", b"7", False),
            ],
            1,
        )
    ]
    rude = RudeBroker(said, b"\x00\x00")
    wrong = tmp_path / "wrong"
    wrong.write_text("not the password of anybody")
    taken = [{"topic": "rude/{device}/temp", "to": "telemetry/temp"}]
    commanded = {
        "in": [{"topic": "lamps/{device}/done", "to": "result"}],
        "out": [{"of": "command", "topic": "lamps/{device}/do"}],
        "types": ["lamp"],
        "devices": [],
    }
    bridges = (
        bridge(broker, name="lamps", **commanded),
        bridge(broker, name="wrong", password_file=str(wrong)),
        {key: value for key, value in bridge(broker, name="untrusted").items() if key != "ca_file"},
        {"name": "rude", "url": rude.url, "devices": ["oven"], "by": "name", "in": taken},
        bridge(broker, name="no-file", password_file=str(tmp_path / "none")),
    )
    (tmp_path / "lamp.toml").write_text(GARAGE)
    gateway = GatewayProcess(tmp_path / "home", environment=bridged(*bridges)).start()
    try:
        wait_until(gateway, "lamps", state="connected", error="")
        for name, error in (
            ("wrong", "Look at username"),
            ("untrusted", "Name its authority in ca_file."),
            ("no-file", "Look at its path and its owner."),
            ("rude", "sent what no broker may"),
        ):
            wait_for(lambda n=name, e=error: e in state(gateway, n)["error"])
        oven = Thing.make(gateway, "oven")
        wait_for(lambda: readings(gateway, oven) == {"temp": 7})
        row = state(gateway, "rude")
        assert rude.acknowledged == set(range(1, 7)), "what changes nothing is acknowledged: it would come again"
        assert row["refused"] >= 5
        events = [one["facts"]["reason"] for one in gateway.ask("audit", "list", "--event", "bridge.refused")]
        assert sorted(events) == ["device", "large", "old", "payload", "protocol", "topic"], "each once"
        shown = gateway.cli("mqtt", "bridges").stdout + gateway.cli("config", "show").stdout + gateway.log.read_text()
        assert "not the password" not in shown

        lamp = Thing.make(gateway, "lamp", "--type", "lamp")
        assert gateway.cli("things", "types", "add", str(tmp_path / "lamp.toml")).returncode == 0
        gateway.ask("things", "set-type", "lamp", "lamp")
        broker.subscribe_for_good("wall", "lamps/#")
        made = gateway.ask("things", "command", lamp.device_id, "light", "--wait", "0")
        (line,) = broker.read("wall", "lamps/#", 1)
        topic, _, payload = line.partition(" ")
        assert (topic, json.loads(payload)["command_id"]) == ("lamps/lamp/do", made["command_id"])
        broker.publish("lamps/lamp/done", json.dumps({"command_id": made["command_id"], "state": "done"}))
        wait_for(lambda: gateway.ask("things", "commands", "lamp")[0]["state"] == "done")
    finally:
        gateway.close()
        rude.close()


def test_a_command_that_was_cancelled_while_the_broker_was_away_is_not_told_to_it(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path / "mosquitto").start()
    told = {"in": [], "out": [{"of": "command", "topic": "lamps/{device}/do"}]}
    gateway = GatewayProcess(tmp_path / "home", environment=bridged(bridge(broker, **told))).start()
    (tmp_path / "lamp.toml").write_text(GARAGE)
    try:
        wait_until(gateway, state="connected")
        broker.subscribe_for_good("wall", "lamps/#")
        lamp = Thing.make(gateway, "lamp")
        assert gateway.cli("things", "types", "add", str(tmp_path / "lamp.toml")).returncode == 0
        gateway.ask("things", "set-type", "lamp", "lamp")
        broker.stop()
        wait_until(gateway, state="waiting")
        cancelled, wanted = (
            gateway.ask("things", "command", lamp.device_id, "light", "--wait", "0")["command_id"] for _ in range(2)
        )
        assert gateway.ask("things", "cancel", "lamp", cancelled)["state"] == "cancelled"
        broker.start()
        (line,) = broker.read("wall", "lamps/#", 1)
        assert json.loads(line.partition(" ")[2])["command_id"] == wanted
        wait_until(gateway, waiting=0, told=1, dropped=1)
    finally:
        gateway.close()
        broker.kill()


def test_of_two_nodes_one_holds_the_bridge_and_the_other_takes_it_when_that_one_dies(
    tmp_path: Path, postgres: PostgresServer, broker: Mosquitto
) -> None:
    two = Pair(tmp_path, postgres, settings=ROOMY)
    one = bridge(broker, name="shared", **{"out": [], "in": [{"topic": "two/{device}", "to": "telemetry/temp"}]})
    for node in (two.a, two.b):
        node.environment |= bridged(one)
    try:
        two.start()
        wait_until(two.b, "shared", state="connected")
        oven = Thing.make(two.a, "oven")
        holder = state(two.b, "shared")["node"]
        broker.publish("two/oven", "1")
        wait_for(lambda: readings(two.b, oven) == {"temp": 1})
        two.a.kill()
        broker.publish("two/oven", "2")
        wait_for(lambda: readings(two.b, oven) == {"temp": 2})
        row = state(two.b, "shared")
        assert (row["state"], row["taken"]) == ("connected", 2)
        assert row["node"] != holder, "the one that started first had it"
    finally:
        two.close()


def test_the_manual_s_bridge_does_what_it_says(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "how-to" / "bridge-a-broker.md").read_text("utf-8")
    settings, aws = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert tomllib.loads(aws)["mqtt"]["bridges"][0]["alpn"] == "x-amzn-mqtt-ca"
    broker = Mosquitto(tmp_path / "mosquitto", user="entobot").start()
    here = (
        (f'"{"mqtts://broker.example.org"}"', f'"{broker.url}"'),
        ("/etc/entobot/broker-ca.crt", str(broker.ca_file)),
        ("/etc/entobot/broker.password", str(broker.password_file)),
    )
    for word, place in here:
        assert word in settings
        settings = settings.replace(word, place)
    gateway = GatewayProcess(tmp_path / "home", environment=ROOMY)
    try:
        gateway.start()
        gateway.stop()
        (gateway.home / "entobot.toml").write_text(settings)
        gateway.start()
        assert gateway.cli("devices", "add-key", "oven").returncode == 0
        wait_until(gateway, state="connected")
        assert gateway.cli("mqtt", "bridges").stdout.split()[8:10] == ["factory", "connected"]
        broker.publish("factory/oven/temp", "181.5")
        broker.publish("zigbee/oven", '{"humidity": 40}')
        wait_for(lambda: "181.5" in gateway.cli("things", "show", "oven").stdout)
        wait_for(lambda: "humidity" in gateway.cli("things", "show", "oven").stdout)
    finally:
        gateway.close()
        broker.kill()
