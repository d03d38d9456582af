"""Things on the phone: what boards read, as numbers and lines, and what they are told to do."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import NewWindow, make_gateway
from tests.browser.test_pages import Album
from tests.support.board import Board, mqtt_environment
from tests.support.process import GatewayProcess
from tests.support.thing import Thing

TYPE: dict[str, Any] = {
    "name": "garage",
    "title": "Garage",
    "readings": {
        "temperature": {"kind": "number", "title": "Temperature", "unit": "°C"},
        "door_open": {"kind": "boolean", "title": "Door open"},
    },
    "commands": {
        "light": {
            "title": "Light",
            "risk": "none",
            "args": {
                "type": "object",
                "properties": {
                    "on": {"type": "boolean", "title": "On"},
                    "colour": {"type": "string", "title": "Colour", "enum": ["warm", "cold"]},
                },
                "required": ["on"],
            },
        },
        "open": {"title": "Open the door", "risk": "high"},
    },
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, tls_folder: Path) -> Iterator[tuple[GatewayProcess, Board]]:
    """A gateway with a garage that has been read for a day."""
    folder = tmp_path_factory.mktemp("things")
    gateway = make_gateway(folder, tls_folder)
    gateway.environment.update(mqtt_environment())
    gateway.start()
    (folder / "garage.json").write_text(json.dumps(TYPE))
    assert gateway.cli("things", "types", "add", str(folder / "garage.json")).returncode == 0
    board = Board(gateway, Thing.make(gateway, "Garage"))
    gateway.ask("things", "set-type", "Garage", "garage")
    board.opened().subscribe(f"{board.root}/command")
    rows = [{"name": "temperature", "value": 18 + (n % 24) / 4, "age_ms": (96 - n) * 900_000} for n in range(96)]
    board.publish(f"{board.root}/telemetry", json.dumps({"batch": "day", "readings": rows}))
    board.publish(f"{board.root}/telemetry/temperature", "21.5")
    board.publish(f"{board.root}/telemetry/door_open", "false")
    board.publish(f"{board.root}/event", '{"event": "pressed"}')
    board.publish(f"{board.root}/telemetry/smell", "3")
    yield gateway, board
    gateway.close()


def test_a_thing_is_looked_at_and_told_what_to_do(home: tuple[GatewayProcess, Board], new_window: NewWindow) -> None:
    gateway, board = home
    window = new_window(gateway)
    window.pair("Looker")
    window.open("/device")
    window.link("Things: what boards read").click()
    window.heading("Things")
    window.link(re.compile("Garage")).click()
    window.heading("Garage")
    window.sees("21.5 °C")
    window.sees(re.compile("1 message did not fit its type"))
    expect(window.page.get_by_role("img", name=re.compile("Temperature: from 18 °C to 23.75 °C"))).to_be_visible()
    window.page.get_by_label("On").check()
    window.page.get_by_label("Colour").select_option("warm")
    window.button("Send: Light").click()
    heard = json.loads(board.heard().payload)
    assert (heard["name"], heard["args"]) == ("light", {"on": True, "colour": "warm"})
    board.publish(f"{board.root}/result", json.dumps({"command_id": heard["command_id"], "state": "done"}))
    window.sees("Light: done")
    window.button("Send: Open the door").dblclick()
    expect(window.button("Really? Open the door")).to_be_visible()
    assert board.nothing_more()
    window.button("Really? Open the door").click()
    heard = json.loads(board.heard().payload)
    said = {"command_id": heard["command_id"], "state": "failed", "error": "it is stuck"}
    board.publish(f"{board.root}/result", json.dumps(said))
    window.sees("Open the door: failed: it is stuck")
    board.publish(f"{board.root}/telemetry/door_open", "true")
    expect(window.page.get_by_text("yes", exact=True)).to_be_visible()
    board.publish(f"{board.root}/telemetry/door_open", "false")


def test_things_are_accessible_in_both_themes_and_speak_german(
    home: tuple[GatewayProcess, Board], new_window: NewWindow
) -> None:
    window = new_window(home[0])
    album = Album(window)
    window.pair("Looked at")
    window.open("/device")
    window.page.get_by_label("Language").select_option("Deutsch")
    window.heading("Dieses Gerät")
    window.open("/things")
    window.heading("Dinge")
    window.sees("verbunden")
    album.add("things")
    window.link(re.compile("Garage")).click()
    window.sees("21,5 °C")
    expect(window.page.get_by_role("img")).to_be_visible()
    window.button("Senden: Open the door").click()
    expect(window.button("Wirklich? Open the door")).to_be_visible()
    album.add("thing")
    assert album.found == {}
