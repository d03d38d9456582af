"""The board client against a real gateway: as it runs on MicroPython's Unix port, and on CPython."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.firmware.programs import Program, interpreter, settings_for
from tests.support.board import Board, mqtt_environment
from tests.support.process import ROOMY, ROOT, GatewayProcess
from tests.support.thing import Thing

COUNTING = str(ROOT / "tests" / "firmware" / "counting.py")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    home = tmp_path_factory.mktemp("boards") / "home"
    process = GatewayProcess(home, environment=mqtt_environment() | ROOMY).start()
    yield process
    process.close()


@pytest.fixture(params=["micropython", "cpython"])
def python(request: pytest.FixtureRequest) -> list[str]:
    return interpreter(request.param)


def counted(screen: Board, up_to: int) -> list[int]:
    """What was heard of the board, single or in batches, until this number."""
    found: list[int] = []
    while not found or max(found) < up_to:
        heard = screen.heard()
        said: Any = json.loads(heard.payload)
        if heard.topic.endswith("/telemetry/count"):
            found.append(said["value"])
        elif heard.topic.endswith("/telemetry"):
            found += [one["value"] for one in said["readings"]]
    return found


def test_a_board_loses_no_reading_when_the_gateway_dies_and_its_own_power_is_cut(
    gateway: GatewayProcess, tmp_path: Path, python: list[str]
) -> None:
    thing = Thing.make(gateway, "Board")
    screen = Board(gateway, thing, name="screen", clean=False, expiry_s=3600).opened()
    screen.subscribe(f"{screen.root}/#")
    program = Program([*python, COUNTING], tmp_path / "board", settings_for(gateway, thing), "0")
    try:
        program.until("connected")
        found = counted(screen, 5)
        gateway.kill()
        screen.ended()
        screen.client.loop_stop()
        offline = int(program.until("again in")[-2])
        last = int(program.until(str(offline + 5))[-1])  # by then readings are on flash
        program.kill()
        program = Program([*python, COUNTING], tmp_path / "board", None, "1000")
        program.until("again in")
        gateway.start()
        screen.reconnect()
        found += counted(screen, 1005)
    finally:
        program.kill()
    assert [n for n in range(1, last) if n not in found] == []


def test_a_board_says_nothing_to_whom_it_does_not_know(
    gateway: GatewayProcess, tmp_path: Path, python: list[str]
) -> None:
    thing = Thing.make(gateway, "Board")
    settings = settings_for(gateway, thing)
    settings["gateway"]["pin"] = "A" * 43
    program = Program([*python, COUNTING], tmp_path / "board", settings, "0")
    try:
        assert "the gateway has the key " in program.until("again in")[-1]
    finally:
        program.kill()
    assert gateway.ask("devices", "show", thing.device_id)["last_seen_at"] is None


def test_a_board_talks_with_the_agent_by_the_simple_protocol(
    gateway: GatewayProcess, tmp_path: Path, python: list[str]
) -> None:
    thing = Thing.make(gateway, "Board")
    talk = str(ROOT / "firmware" / "examples" / "talk.py")
    program = Program([*python, talk], tmp_path / "board", settings_for(gateway, thing))
    said = program.rest("hello\nis the garage warm?\n")
    assert said.splitlines() == ["connected to 127.0.0.1", "hello", "is the garage warm?"]
