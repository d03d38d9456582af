"""When a board reads something, people hear of it and other boards move: a real gateway, paho's client, kill -9."""

import asyncio
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.stories.test_approvals import Deciding
from tests.stories.test_things import GARAGE, a_garage, answer
from tests.support.board import V5, Board, mqtt_environment, wait_for
from tests.support.phone import connected
from tests.support.process import ROOMY, GatewayProcess

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "automations.md"
WARM = """
name = "Shed too warm"

[when]
thing = "Shed"
reading = "temperature"
above = 25
back = 24

[[then]]
do = "notify"
title = "It is warm in the shed"

[[then]]
do = "command"
thing = "Shed"
command = "light"
args = { on = true }
"""
OPEN = """
name = "Air"

[when]
thing = "Front"
reading = "temperature"
above = 30

[[then]]
do = "command"
thing = "Front"
command = "open"
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


def settled(gateway: GatewayProcess, name: str) -> None:
    """Wait until it has fired, and all that was to be done is over."""

    def is_over() -> bool:
        rows = gateway.ask("automations", "history", name)
        return bool(rows) and all(one["ended_at"] for row in rows for one in row["actions"])

    wait_for(is_over)


def test_a_reading_that_crosses_is_told_and_moves_a_board_once_although_the_gateway_is_killed(
    gateway: GatewayProcess, tmp_path: Path
) -> None:
    thing, board = a_garage(gateway, "Shed")
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
    settled(gateway, "Shed too warm")
    again = Board(gateway, thing, clean=False, expiry_s=3600, version=V5).opened()
    assert again.publish(f"{again.root}/telemetry/temperature", "28") == 0, "it is warm still"
    heard: list[Any] = [] if not board.nothing_more() else [json.loads(again.heard().payload)]
    for one in (board, again):
        while not one.nothing_more():
            heard.append(json.loads(one.heard().payload))
    assert [one["args"] for one in heard][:1] == [{"on": True}]
    assert len({one["command_id"] for one in heard}) == 1, "what was not acknowledged comes again under its own id"
    assert history(gateway, "Shed too warm") == [("fired", 26.5, [("notify", "done"), ("command", "done")])]
    told = [one for one in gateway.ask("notifications", "list") if one["title"] == "It is warm in the shed"]
    assert [one["body"] for one in told] == ["Shed: temperature 26.5 °C."]
    shown = gateway.cli("automations", "history", "Shed too warm").stdout
    assert "Shed: temperature 26.5 °C, since" in shown
    assert [one["via"][:4] for one in gateway.ask("things", "commands", "Shed")] == ["aut_"]


async def test_a_door_opens_by_itself_only_after_somebody_said_yes(gateway: GatewayProcess, tmp_path: Path) -> None:
    _, board = await asyncio.to_thread(a_garage, gateway, "Front")
    await asyncio.to_thread(board.subscribe, f"{board.root}/command")
    await asyncio.to_thread(add, gateway, tmp_path, OPEN)
    device = await asyncio.to_thread(gateway.pair)
    deciding = Deciding(device, b"key")
    async with connected(gateway, device) as phone:
        await asyncio.to_thread(board.publish, f"{board.root}/telemetry/temperature", "31")
        asked = (await phone.until_event("approval.requested"))["data"]
        assert (asked["title"], asked["risk"]) == ("Air: Front: open", "high")
        assert board.nothing_more()
        decided = await asyncio.to_thread(lambda: deciding.decide(asked, deciding.sign(asked, None)))
        assert isinstance(decided, dict), decided
        assert (await asyncio.to_thread(answer, board))["name"] == "open"
    await asyncio.to_thread(settled, gateway, "Air")
    assert await asyncio.to_thread(history, gateway, "Air") == [("fired", 31, [("command", "done")])]


def test_what_was_made_on_a_device_ends_with_it_and_a_board_makes_nothing(gateway: GatewayProcess) -> None:
    rule = {"name": "Tea", "when": {"at": "16:00"}, "then": [{"do": "notify"}]}
    device = gateway.pair("Lost")
    device.request("POST", "/api/v1/automations", json=rule)
    assert gateway.ask("automations", "show", "Tea")["is_on"]
    gateway.ask("devices", "revoke", "Lost")
    after = gateway.ask("automations", "show", "Tea")
    assert (after["is_on"], after["next_at"]) == (False, None)
    assert "revoked" in after["why_off"]
    thing, _ = a_garage(gateway, "Stolen")
    assert thing.request("POST", "/api/v1/automations", json=rule).status_code == 403
    at = f"/api/v1/automations/{after['automation_id']}"
    for method, path in (("POST", f"{at}/disable"), ("POST", f"{at}/enable"), ("DELETE", at)):
        assert thing.request(method, path).status_code == 403, path


def test_the_page_is_followed_as_it_is_written(gateway: GatewayProcess, tmp_path: Path) -> None:
    _, board = a_garage(gateway, "Garage")
    assert board.publish(f"{board.root}/telemetry/temperature", "20") == 0
    text = PAGE.read_text("utf-8")
    blocks = re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL)
    files = [block for kind, block in blocks if kind == "toml"]
    (tmp_path / "warm.toml").write_text(files[0])
    lines = [line for kind, block in blocks if kind == "sh" for line in block.splitlines()]
    said: list[str] = []
    for line in lines:
        program, *words = shlex.split(line)
        assert program == "entobot"
        done = gateway.cli(*(str(tmp_path / word) if word == "warm.toml" else word for word in words))
        assert done.returncode == 0, (line, done.stderr)
        said.append(done.stdout)
    assert [line.split()[2] for line in lines] == ["add", "try", "history"]
    assert "temperature of Garage above 25 for 5 minutes → notify me, command light to Garage" in said[0]
    assert "It would not have fired in the last 24 hours." in said[1]
    assert "It has not fired yet." in said[2]
    (tmp_path / "warm.toml").write_text(files[0].replace("above = 25", "above = 30"))
    changed = gateway.ask("automations", "add", str(tmp_path / "warm.toml"), "--replace", "Garage too warm")
    assert "above 30" in changed["text"]
    for verb, is_on in (("disable", False), ("enable", True)):
        assert gateway.ask("automations", verb, "Garage too warm")["is_on"] is is_on
    assert "Garage too warm" in gateway.cli("automations", "list").stdout
    assert '"above": 30' in gateway.cli("automations", "show", "Garage too warm").stdout
    assert gateway.cli("automations", "remove", "Garage too warm").returncode == 0
    assert "Garage too warm" not in gateway.cli("automations", "list").stdout
