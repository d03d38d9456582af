"""A site that has a broker keeps it: readings come over it and go to it, by a real mosquitto with TLS and a password."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.board import Board, mqtt_environment, wait_for
from tests.support.mosquitto import USER, Mosquitto
from tests.support.process import ROOMY, GatewayProcess
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
    broker.publish("factory/kiln/temp", "900")
    wait_for(lambda: readings(gateway, oven) == {"temperature": 900})
    assert board.publish(f"{board.root}/telemetry/power_w", "62") == 0
    assert broker.read("screen", "house/#", 4) == [
        "house/lamp 1_2 online",
        "house/lamp 1_2/power_w 60.5",
        "house/lamp 1_2/power_w 61",
        "house/lamp 1_2/power_w 62",
    ], "and nothing of the kiln, which came over the bridge"
