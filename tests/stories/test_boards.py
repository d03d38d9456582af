"""The board client against a real gateway: as it runs on MicroPython's Unix port, and on CPython."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.firmware.programs import Program, interpreter, settings_for
from tests.support.board import Board, Heard, mqtt_environment, wait_for
from tests.support.fake_openai import KEY, Calls, FakeOpenAI, Text
from tests.support.process import GENEROUS_S, ROOMY, ROOT, GatewayProcess
from tests.support.programs import program
from tests.support.thing import Thing

COUNTING = str(ROOT / "tests" / "firmware" / "counting.py")


LONGEST_PAUSE_S = 240.0
"""A board waits up to 78 s before it tries again, and the machine may be busy."""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    home = tmp_path_factory.mktemp("boards") / "home"
    layouts = {"ENTOBOT_MQTT__LAYOUTS": '[{"name": "topdog"}, {"name": "unhidra"}]'}
    process = GatewayProcess(home, environment=mqtt_environment() | ROOMY | layouts).start()
    yield process
    process.close()


@pytest.fixture(params=["micropython", "cpython"])
def python(request: pytest.FixtureRequest) -> list[str]:
    return interpreter(request.param)


def counted(screen: Board, up_to: int) -> list[int]:
    """What was heard of the board, single or in batches, until this number."""
    found: list[int] = []
    while not found or max(found) < up_to:
        heard = screen.messages.get(timeout=LONGEST_PAUSE_S)
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
        print(program.said)  # noqa: T201  shown where the story fails
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


PAGE = (ROOT / "docs" / "start" / "board.md").read_text("utf-8")


def walk(name: str) -> str:
    found = re.search(rf"<!-- walk: {name} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    assert found, name
    return found[1]


async def test_the_page_from_a_blank_board_to_the_first_reading_in_the_chat_is_followed(tmp_path: Path) -> None:
    micropython = program("micropython")
    assert tomllib.loads(walk("settings")) == {"mqtt": {"enabled": True}}
    read = Calls([("c1", "things_read", '{"thing": "Greenhouse"}')])
    async with FakeOpenAI(read, Text(["It has 21.5 degrees."])) as model:
        own = {"ENTOBOT_AGENT__BASE_URL": model.base_url, "ENTOBOT_AGENT__API_KEY": KEY}
        gateway = GatewayProcess(tmp_path / "home", environment=mqtt_environment() | ROOMY | own)
        try:
            await asyncio.to_thread(gateway.start)
            await asyncio.to_thread(follow_the_page, gateway, tmp_path, micropython)
        finally:
            await asyncio.to_thread(gateway.close)
    assert "21.5" in json.dumps(model.requests[-1]["messages"])


def follow_the_page(gateway: GatewayProcess, folder: Path, micropython: str) -> None:
    shims = folder / "bin"
    shims.mkdir()
    for name, command in (("entobot", f"{sys.executable} -m entobot"), ("micropython", micropython)):
        (shims / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (shims / name).chmod(0o755)
    (folder / "firmware").symlink_to(ROOT / "firmware")
    environment = {**gateway.environment, "PATH": f"{shims}:{os.environ['PATH']}"}

    def bash(block: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", "-euc", block],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    assert bash(walk("folder")).communicate(timeout=GENEROUS_S) == ("", None)
    board = bash(walk("unix"))
    try:
        assert board.stdout is not None
        assert board.stdout.readline() == "connected to 127.0.0.1\n"
        wait_for(lambda: "21.5" in bash(walk("see")).communicate(timeout=GENEROUS_S)[0])
        assert "It has 21.5 degrees." in bash(walk("chat")).communicate(timeout=GENEROUS_S)[0]
    finally:
        os.killpg(board.pid, signal.SIGKILL)
        board.communicate()


def test_settings_for_a_board_are_refused_before_a_key_is_made_where_mqtt_is_off(
    shared_gateway: GatewayProcess,
) -> None:
    before = shared_gateway.ask("devices", "list")
    done = shared_gateway.cli("devices", "add-key", "Greenhouse", "--board")
    assert (done.returncode, "mqtt.enabled = true" in done.stderr) == (1, True)
    assert shared_gateway.ask("devices", "list") == before


def test_simulated_things_tell_readings_through_losses_and_malice_achieves_nothing(gateway: GatewayProcess) -> None:
    options = ("--things", "6", "--every", "0.2", "--seconds", "3", "--drops", "4", "--malice", "0.34", "--seed", "1")
    summary = gateway.ask("simulate", "things", *options)
    assert (summary["things"], summary["malicious"], summary["violations"]) == (6, 2, [])
    assert summary["readings"] == summary["acknowledged"] > 20
    assert summary["dropped"] > 0
    assert summary["batches"] > 0
    tried = {"foreign_topics", "forged_ids", "nonsense", "oversized", "own_commands", "wildcards"}
    assert tried <= set(summary["refused"])
    left = [one for one in gateway.ask("devices", "list") if one["device_name"].startswith("Simulated")]
    assert [one["status"] for one in left] == ["revoked"] * 6
    refused = gateway.cli("simulate", "things", "--kinds", "rocket")
    assert (refused.returncode, "thermometer" in refused.stderr) == (1, True)


@pytest.mark.parametrize(
    ("layout", "root", "name", "ours"),
    [
        ("topdog", "topdog/{user}/{device}", "heartbeat", "event/heartbeat"),
        ("unhidra", "unhidra/devices/{device}", "event", "event"),
    ],
)
def test_boards_of_earlier_systems_keep_their_topics(
    gateway: GatewayProcess, layout: str, root: str, name: str, ours: str
) -> None:
    thing, other = Thing.make(gateway, "Board"), Thing.make(gateway, "Other")
    user_id = gateway.ask("devices", "show", thing.device_id)["user_id"]
    theirs, foreign = (root.format(user=user_id, device=one.device_id) for one in (thing, other))
    board, screen = Board(gateway, thing, name=layout), Board(gateway, thing, name="screen").opened()
    board.client.will_set(f"{theirs}/{name}", b"gone", 1)
    assert board.opened().subscribe(f"{theirs}/#", f"{foreign}/#") == [1, 0x87]
    screen.subscribe(f"{screen.root}/#")
    assert board.publish(f"{theirs}/{name}", b"beat") == 0
    assert screen.heard() == Heard(f"{screen.root}/{ours}", b"beat", 1, False, False)
    assert board.heard() == Heard(f"{theirs}/{name}", b"beat", 1, False, False)
    assert board.publish(f"{foreign}/{name}", b"forged") == 0x87
    board.vanish()
    assert screen.heard() == Heard(f"{screen.root}/{ours}", b"gone", 1, False, False)
    assert screen.nothing_more()


LOCK = """
name = "door_lock"
title = "Lock"

[readings.is_open]
kind = "boolean"

[commands.open]
risk = "high"

[commands.lock]
risk = "low"
"""


def test_a_lock_enrols_with_one_key_and_obeys_each_command_once_over_a_restart(
    gateway: GatewayProcess, tmp_path: Path, python: list[str]
) -> None:
    (tmp_path / "lock.toml").write_text(LOCK)
    assert gateway.cli("things", "types", "add", str(tmp_path / "lock.toml")).returncode == 0
    name = f"Shed {python[0][-6:]}"
    made = gateway.ask("enrolment", "create", name, "--type", "door_lock")
    settings = settings_for(gateway, Thing(gateway, name, {"device_id": "", "api_key": ""}))
    del settings["device"]
    settings["enrolment"] = {"key": made["enrolment_key"], "name": name}
    command = [*python, str(ROOT / "firmware" / "examples" / "lock.py")]
    lock = Program(command, tmp_path / "board", settings)
    try:
        device_id = lock.until("enrolled as")[-1].split()[-1]
        lock.until("connected")
        done = gateway.ask("things", "command", device_id, "open")
        assert (done["state"], done["result"]) == ("done", {"is_open": True})
        lock.kill()
        lock = Program(command, tmp_path / "board")
        assert lock.until("connected")[0].startswith("connected")  # it does not enrol again
        done = gateway.ask("things", "command", device_id, "lock")
        assert (done["state"], done["result"]) == ("done", {"is_open": False})
    finally:
        lock.kill()
    told = [one["state"] for one in gateway.ask("things", "commands", device_id)]
    assert told == ["done", "done"]
