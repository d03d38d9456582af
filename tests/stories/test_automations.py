"""When a board reads something, people hear of it and other boards move: a real gateway, paho's client, kill -9."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.stories.test_things import GARAGE, a_garage
from tests.support.board import V5, Board, mqtt_environment, wait_for
from tests.support.process import ROOMY, GatewayProcess

WARM = """
name = "Garage too warm"

[when]
thing = "Garage"
reading = "temperature"
above = 25
back = 24

[[then]]
do = "notify"
title = "It is warm in the garage"

[[then]]
do = "command"
thing = "Garage"
command = "light"
args = { on = true }
"""
OWN = {"ENTOBOT_APPROVALS__NUMBER_MATCH": "never", "ENTOBOT_APPROVALS__USER_VERIFICATION": "never"}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("automations")
    (folder / "garage.toml").write_text(GARAGE)
    process = GatewayProcess(folder / "home", environment=mqtt_environment() | ROOMY | OWN).start()
    assert process.cli("things", "types", "add", str(folder / "garage.toml")).returncode == 0
    yield process
    process.close()


def add(gateway: GatewayProcess, folder: Path, text: str) -> dict[str, Any]:
    (folder / "rule.toml").write_text(text)
    return gateway.ask("automations", "add", str(folder / "rule.toml"))


def history(gateway: GatewayProcess, name: str) -> list[tuple[str, Any, list[tuple[str, str]]]]:
    """Of each firing: its state, the value, and what became of its actions."""
    return [
        (one["state"], one["value"], [(action["kind"], action["state"]) for action in one["actions"]])
        for one in gateway.ask("automations", "history", name)
    ]


def titles(gateway: GatewayProcess) -> list[str]:
    return [one["title"] for one in gateway.ask("notifications", "list")]


def settled(gateway: GatewayProcess, name: str, count: int) -> None:
    """Wait until it has fired so often, and all that was to be done is over."""

    def is_over() -> bool:
        rows = gateway.ask("automations", "history", name)
        return len(rows) == count and all(one["ended_at"] for row in rows for one in row["actions"])

    wait_for(is_over)


def test_a_reading_that_crosses_is_told_and_moves_a_board_once_although_the_gateway_is_killed(
    gateway: GatewayProcess, tmp_path: Path
) -> None:
    thing, board = a_garage(gateway, "Garage")
    board.disconnect()
    board = Board(gateway, thing, clean=False, expiry_s=3600, version=V5).opened()
    board.subscribe(f"{board.root}/command")
    add(gateway, tmp_path, WARM)
    for value in ("24.5", "25", "26.5", "24.5", "27"):
        assert board.publish(f"{board.root}/telemetry/temperature", value) == 0
    gateway.kill()
    board.ended()
    board.client.loop_stop()
    gateway.start()
    settled(gateway, "Garage too warm", 1)
    again = Board(gateway, thing, clean=False, expiry_s=3600, version=V5).opened()
    assert again.publish(f"{again.root}/telemetry/temperature", "28") == 0, "it is warm still"
    heard: list[Any] = [] if not board.nothing_more() else [json.loads(again.heard().payload)]
    for one in (board, again):
        while not one.nothing_more():
            heard.append(json.loads(one.heard().payload))
    assert [one["args"] for one in heard][:1] == [{"on": True}]
    assert len({one["command_id"] for one in heard}) == 1, "what was not acknowledged comes again under its own id"
    assert history(gateway, "Garage too warm") == [("fired", 26.5, [("notify", "done"), ("command", "done")])]
    assert titles(gateway).count("It is warm in the garage") == 1
    shown = gateway.cli("automations", "history", "Garage too warm").stdout
    assert "Garage: temperature 26.5 °C, since" in shown
    assert [one["via"][:4] for one in gateway.ask("things", "commands", "Garage")] == ["aut_"]
