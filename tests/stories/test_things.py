"""From a board's first reading to an answer of the agent, and back: a real gateway, paho's client, a model on loopback."""

import asyncio
import json
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import MQTTMessage

from tests.stories.test_approvals import Deciding
from tests.support.board import V5, Board, mqtt_environment
from tests.support.fake_openai import KEY, Calls, FakeOpenAI, Text
from tests.support.phone import Phone, connected
from tests.support.process import GENEROUS_S, ROOMY, GatewayProcess
from tests.support.thing import Thing

GARAGE = """
name = "garage"
title = "Garage"

[readings.temperature]
kind = "number"
unit = "°C"
minimum = -40
maximum = 85

[commands.light]
risk = "none"
[commands.light.args]
type = "object"
required = ["on"]
properties.on = { type = "boolean" }

[commands.open]
risk = "high"
"""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("things")
    (folder / "garage.toml").write_text(GARAGE)
    process = GatewayProcess(folder / "home", environment=mqtt_environment() | ROOMY).start()
    assert process.cli("things", "types", "add", str(folder / "garage.toml")).returncode == 0
    yield process
    process.close()


def a_garage(gateway: GatewayProcess, name: str) -> tuple[Thing, Board]:
    thing = Thing.make(gateway, name)
    gateway.ask("things", "set-type", name, "garage")
    board = Board(gateway, thing).opened()
    return thing, board


def answer(board: Board, **more: Any) -> dict[str, Any]:
    """The next command that the board hears, answered as said."""
    heard = json.loads(board.heard().payload)
    said = {"command_id": heard["command_id"], "state": "done"} | more
    assert board.publish(f"{board.root}/result", json.dumps(said)) == 0
    return heard


def test_what_a_board_reads_is_shown_with_its_history(gateway: GatewayProcess) -> None:
    thing, board = a_garage(gateway, "Garage")
    for n in range(3):
        assert board.publish(f"{board.root}/telemetry/temperature", f"2{n}.5") == 0
    assert board.publish(f"{board.root}/telemetry/temperature", '"warm"') == 0
    (row,) = [one for one in gateway.ask("things", "list") if one["device_id"] == thing.device_id]
    assert (row["status"], row["refused"]) == ("online", 1)
    assert [(one["name"], one["value"], one["unit"]) for one in row["readings"]] == [("temperature", 22.5, "°C")]
    history = gateway.ask("things", "history", "Garage", "temperature")["rows"]
    assert (sum(one["count"] for one in history), history[-1]["high"]) == (3, 22.5)
    shown = gateway.cli("things", "show", "Garage").stdout
    assert "22.5 °C" in shown
    assert "1 messages did not fit" in shown


def test_a_command_waits_for_a_board_that_is_away_comes_once_and_its_result_is_told(gateway: GatewayProcess) -> None:
    thing, board = a_garage(gateway, "Away")
    board.disconnect()
    made = gateway.ask("things", "command", "Away", "light", "on=true", "--wait", "0")
    assert made["state"] == "queued"
    again = Board(gateway, thing, clean=False, expiry_s=3600, version=V5).opened()
    again.subscribe(f"{again.root}/command")
    heard = json.loads(again.heard().payload)
    assert (heard["command_id"], heard["name"], heard["args"]) == (made["command_id"], "light", {"on": True})
    again.disconnect()
    second = gateway.ask("things", "command", "Away", "open", "--wait", "0")
    third = Board(gateway, thing, clean=False, expiry_s=3600, version=V5).opened()
    assert json.loads(third.heard().payload)["command_id"] == second["command_id"]
    assert third.nothing_more(), "what waits in its session is not sent anew"
    for _ in range(2):  # the second time it is over, and changes nothing
        said = {"command_id": made["command_id"], "state": "done", "result": {"lux": 300}}
        assert third.publish(f"{third.root}/result", json.dumps(said)) == 0
    stolen = a_garage(gateway, "Other")[1]
    assert (
        stolen.publish(f"{stolen.root}/result", json.dumps({"command_id": second["command_id"], "state": "done"})) == 0
    )
    rows = gateway.ask("things", "commands", "Away")
    assert [(one["name"], one["state"], one["result"]) for one in rows] == [
        ("open", "queued", None),
        ("light", "done", {"lux": 300}),
    ]
    assert gateway.ask("things", "cancel", "Away", second["command_id"])["state"] == "cancelled"


def test_a_command_that_was_cancelled_does_not_reach_a_board_that_returns(gateway: GatewayProcess) -> None:
    thing = Thing.make(gateway, "Called off")
    gateway.ask("things", "set-type", "Called off", "garage")
    board = Board(gateway, thing, clean=False, expiry_s=3600).opened()
    board.subscribe(f"{board.root}/command")
    board.disconnect()
    cancelled = gateway.ask("things", "command", "Called off", "open", "--wait", "0")
    wanted = gateway.ask("things", "command", "Called off", "light", "on=true", "--wait", "0")
    assert gateway.ask("things", "cancel", "Called off", cancelled["command_id"])["state"] == "cancelled"
    again = Board(gateway, thing, clean=False, expiry_s=3600).opened()
    assert json.loads(again.heard().payload)["command_id"] == wanted["command_id"]
    assert again.nothing_more()


def test_a_command_that_was_cancelled_does_not_reach_a_board_that_is_busy(gateway: GatewayProcess) -> None:
    thing, _ = a_garage(gateway, "Busy")
    board = Board(gateway, thing, name="slow", receive_maximum=1, manual_ack=True).opened()
    heard: queue.Queue[MQTTMessage] = queue.Queue()
    board.client.on_message = lambda _client, _userdata, one: heard.put(one)
    board.subscribe(f"{board.root}/command")
    first, cancelled, wanted = [
        gateway.ask("things", "command", "Busy", "light", "on=true", "--wait", "0")["command_id"] for _ in range(3)
    ]
    one = heard.get(timeout=GENEROUS_S)
    assert json.loads(one.payload)["command_id"] == first
    assert gateway.ask("things", "cancel", "Busy", cancelled)["state"] == "cancelled"
    board.client.ack(one.mid, one.qos)
    assert json.loads(heard.get(timeout=GENEROUS_S).payload)["command_id"] == wanted


def test_who_commands_hears_what_became_of_it(gateway: GatewayProcess) -> None:
    _, board = a_garage(gateway, "Quick")
    board.subscribe(f"{board.root}/command")
    said = {"state": "failed", "error": "no bulb"}
    answering = threading.Thread(target=answer, args=(board,), kwargs=said)
    answering.start()
    done = gateway.cli("things", "command", "Quick", "light", "on=true", "--wait", "30")
    answering.join()
    assert (done.returncode, done.stdout) == (1, "Quick could not do it: no bulb\n")
    for wrong in (["light", "on=maybe"], ["light"], ["dance"]):
        assert gateway.cli("things", "command", "Quick", *wrong).returncode != 0


def test_a_stolen_board_commands_nothing_and_gives_itself_no_type(gateway: GatewayProcess) -> None:
    thing, _ = a_garage(gateway, "Stolen")
    at = f"/api/v1/things/{thing.device_id}"
    for method, path, body in (
        ("POST", f"{at}/commands", {"name": "open"}),
        ("PUT", f"{at}/type", {"type": None}),
        ("PUT", "/api/v1/thing-types/garage", {"commands": {"open": {"risk": "none"}}}),
        ("DELETE", "/api/v1/thing-types/garage", None),
    ):
        options = {} if body is None else {"json": body}
        assert thing.request(method, path, **options).status_code == 403, path
    assert "Things are of this type" in gateway.cli("things", "types", "remove", "garage").stderr


async def test_the_agent_answers_from_readings_and_asks_before_it_opens_a_door(tmp_path: Path) -> None:
    model = FakeOpenAI(
        Calls([("c1", "things_list", "{}"), ("c2", "things_read", '{"thing": "Garage"}')]),
        Text(["It is 21.5 °C in the garage."]),
        Calls([("c3", "things_command", '{"thing": "Garage", "command": "light", "args": {"on": true}}')]),
        Text(["The light is on."]),
        Calls([("c4", "things_command", '{"thing": "Garage", "command": "open"}')]),
        Text(["The door is open."]),
        Calls([("c5", "things_command", '{"thing": "Old garage", "command": "explode"}')]),
        Text(["It cannot do that."]),
    )
    async with model:
        own = {
            "ENTOBOT_AGENT__BASE_URL": model.base_url,
            "ENTOBOT_AGENT__API_KEY": KEY,
            "ENTOBOT_APPROVALS__NUMBER_MATCH": "never",  # another story's
            "ENTOBOT_APPROVALS__USER_VERIFICATION": "never",
        }
        gateway = GatewayProcess(tmp_path / "home", environment=mqtt_environment() | ROOMY | own)
        (tmp_path / "garage.toml").write_text(GARAGE)
        try:
            await asyncio.to_thread(gateway.start)
            await asyncio.to_thread(gateway.cli, "things", "types", "add", str(tmp_path / "garage.toml"))
            _, board = await asyncio.to_thread(a_garage, gateway, "Garage")
            await asyncio.to_thread(board.subscribe, f"{board.root}/command")
            await asyncio.to_thread(board.publish, f"{board.root}/telemetry/temperature", "21.5")
            device = await asyncio.to_thread(gateway.pair)
            async with connected(gateway, device) as phone:
                await _talk(phone, model, board, gateway, Deciding(device, b"key"))
        finally:
            await asyncio.to_thread(gateway.close)


async def _talk(phone: Phone, model: FakeOpenAI, board: Board, gateway: GatewayProcess, deciding: Deciding) -> None:
    await phone.say("Is the garage warm?")
    await phone.until_event("RUN_FINISHED")
    told = [message["content"] for message in model.requests[-1]["messages"] if message["role"] == "tool"]
    assert "temperature 21.5 °C" in told[0]
    assert "temperature: 21.5 °C, read 20" in told[1]
    await phone.say("Light, please.")
    assert (await asyncio.to_thread(answer, board, result={"lux": 300}))["args"] == {"on": True}
    await phone.until_event("RUN_FINISHED")
    told = [message["content"] for message in model.requests[-1]["messages"] if message["role"] == "tool"]
    assert told[-1] == 'Done. Result: {"lux":300}'
    assert phone.events("approval.requested") == []
    await phone.say("Open the door.")
    asked = (await phone.until_event("approval.requested"))["data"]
    assert (asked["title"], asked["risk"]) == ("Garage: open", "high")
    assert board.nothing_more()
    await asyncio.to_thread(gateway.cli, "devices", "rename", board.thing.device_id, "Old garage")
    other = await asyncio.to_thread(Thing.make, gateway, "Garage")
    assert other.device_id != board.thing.device_id, "what was asked for is the thing that had the name then"
    decided = await asyncio.to_thread(lambda: deciding.decide(asked, deciding.sign(asked, None)))
    assert isinstance(decided, dict), decided
    assert (await asyncio.to_thread(answer, board))["name"] == "open"
    await phone.until_event("RUN_FINISHED")
    await phone.say("Explode.")
    await phone.until_event("RUN_FINISHED")
    told = [message["content"] for message in model.requests[-1]["messages"] if message["role"] == "tool"]
    assert "no such command" in told[-1]
