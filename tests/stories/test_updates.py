"""Updates of boards: a signed release, rolled out to a board that runs it, or goes back."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.firmware.programs import Program, interpreter, settings_for
from tests.support.board import mqtt_environment, wait_for
from tests.support.process import GENEROUS_S, ROOMY, ROOT, GatewayProcess
from tests.support.programs import program
from tests.support.thing import Thing

FIRMWARE = ROOT / "firmware"
PROGRAM = """
import sys

import entobot_board

board = entobot_board.load(sys.argv[1])
board.firmware = "1.0.0"


@board.reading("warmth", every_s=0.2)
def warmth():
    return {value}


board.run()
"""
TYPE = 'name = "sensor"\n[readings.warmth]\nkind = "number"\n'


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    home = tmp_path_factory.mktemp("updates") / "home"
    process = GatewayProcess(home, environment=mqtt_environment() | ROOMY).start()
    yield process
    process.close()


@pytest.fixture(params=["micropython", "cpython"])
def python(request: pytest.FixtureRequest) -> list[str]:
    return interpreter(request.param)


class Workshop:
    """Where releases are made: its key is not on the gateway."""

    def __init__(self, gateway: GatewayProcess, folder: Path, of_type: str = "sensor") -> None:
        self.gateway = gateway
        self.folder = folder
        self.type = of_type
        folder.mkdir(exist_ok=True)
        done = gateway.cli("updates", "keygen", str(folder / "release.key"))
        assert done.returncode == 0, done.stderr
        self.public = done.stdout.strip()

    def register(self) -> None:
        self.gateway.ask("updates", "keys", "add", self.public, "Workshop")

    def sources(self, text: str) -> Path:
        folder = self.folder / "sources"
        if not folder.exists():
            shutil.copytree(FIRMWARE / "entobot_board", folder / "entobot_board")
        (folder / "main.py").write_text(text)
        return folder

    def sign(self, version: str, text: str, *options: str) -> Path:
        out = self.folder / f"{version}.release"
        asked = ("--type", self.type, "--version", version, "--key", str(self.folder / "release.key"))
        done = self.gateway.cli("updates", "sign", str(self.sources(text)), *asked, "--out", str(out), *options)
        assert done.returncode == 0, done.stderr
        return out

    def roll_out(self, version: str, text: str, *options: str) -> str:
        """Signed, added, and begun."""
        self.gateway.ask("updates", "add", str(self.sign(version, text)))
        return self.gateway.ask("updates", "start", self.type, version, "--health", "1", *options)["rollout_id"]


class Updated:
    """A board with two slots, started again whenever it ends, as a board does by itself."""

    def __init__(self, gateway: GatewayProcess, folder: Path, python: list[str], workshop: Workshop) -> None:
        self.folder = folder
        self.gateway = gateway
        self.python = python
        self.thing = Thing.make(gateway, f"Board {folder.name}")
        self.said = ""
        folder.mkdir()
        shutil.copytree(FIRMWARE / "entobot_board", folder / "app_a" / "entobot_board")
        (folder / "app_a" / "main.py").write_text(PROGRAM.format(value=1))
        shutil.copy(FIRMWARE / "slots" / "main.py", folder / "main.py")
        update = {"type": workshop.type, "keys": [workshop.public], "good_after_s": 1}
        self.settings: dict[str, Any] = settings_for(gateway, self.thing, update=update)
        (folder / "settings.json").write_text(json.dumps(self.settings))
        gateway.ask("things", "set-type", self.thing.device_id, workshop.type)
        self.program = self.begin()

    def begin(self) -> Program:
        return Program([*self.python, str(self.folder / "main.py")], self.folder)

    def until(self, text: str) -> None:
        """Over as many starts as it takes."""
        while True:
            try:
                self.program.until(text)
            except AssertionError:
                self.said += self.program.said
                assert len(self.said) < 20_000, self.said
                self.program.kill()
                self.program = self.begin()
            else:
                return

    def close(self) -> None:
        self.program.kill()

    def row(self, rollout_id: str) -> dict[str, Any]:
        rows = self.gateway.ask("updates", "status", rollout_id)["boards"]
        return next(one for one in rows if one["device_id"] == self.thing.device_id)

    def warmth(self) -> float:
        return self.gateway.ask("things", "show", self.thing.device_id)["readings"][0]["value"]


@pytest.fixture
def workshop(gateway: GatewayProcess, tmp_path: Path, request: pytest.FixtureRequest) -> Workshop:
    """Of a type of its own, and known to the gateway."""
    made = Workshop(gateway, tmp_path / "workshop", f"t{zlib.crc32(request.node.name.encode())}")
    (tmp_path / "type.toml").write_text(TYPE.replace("sensor", made.type))
    assert gateway.cli("things", "types", "add", str(tmp_path / "type.toml")).returncode == 0
    made.register()
    return made


@pytest.fixture
def board(gateway: GatewayProcess, tmp_path: Path, python: list[str], workshop: Workshop) -> Iterator[Updated]:
    made = Updated(gateway, tmp_path / "board", python, workshop)
    made.until("connected")
    yield made
    made.close()


def test_a_board_runs_the_new_release_and_is_healthy(
    gateway: GatewayProcess, board: Updated, workshop: Workshop
) -> None:
    rollout = workshop.roll_out("1.1.0", PROGRAM.format(value=2), "--reading", "warmth")
    board.until("loading 1.1.0")
    board.until("connected")
    wait_for(lambda: board.row(rollout)["state"] == "healthy")
    assert board.warmth() == 2
    wait_for(lambda: gateway.ask("updates", "status", rollout)["state"] == "done")
    wait_for(lambda: json.loads((board.folder / "slot.json").read_text())["good"])
    assert gateway.ask("things", "show", board.thing.device_id)["firmware"] == "1.1.0"


def test_a_release_that_does_not_come_up_is_left_and_pauses_the_roll_out(
    gateway: GatewayProcess, board: Updated, workshop: Workshop
) -> None:
    rollout = workshop.roll_out("1.1.0", "raise RuntimeError('boom')")
    for _ in range(3):
        board.until("on trial: RuntimeError boom")
    board.until("connected")
    wait_for(lambda: board.row(rollout)["state"] == "rolled_back")
    assert board.row(rollout)["reason"] == "RuntimeError: boom"
    wait_for(lambda: gateway.ask("updates", "status", rollout)["state"] == "paused")
    assert gateway.ask("updates", "status", rollout)["why"] == "too many devices failed"
    assert board.warmth() == 1
    gateway.ask("updates", "abort", rollout)


def test_a_stolen_gateway_cannot_make_a_board_run_foreign_code(
    gateway: GatewayProcess, board: Updated, workshop: Workshop, tmp_path: Path
) -> None:
    thief = Workshop(gateway, tmp_path / "thief", workshop.type)
    release = thief.sign("6.6.6", PROGRAM.format(value=666))
    refused = gateway.cli("updates", "add", str(release))
    assert (refused.returncode, "which is not registered here" in refused.stderr) == (1, True)
    thief.register()  # whoever has the gateway can
    rollout = thief.roll_out("6.6.6", PROGRAM.format(value=666))
    board.until("not installed: it is signed by a key that this board does not trust")
    board.until("connected")
    wait_for(lambda: board.row(rollout)["state"] == "failed")
    assert "does not trust" in board.row(rollout)["reason"]
    assert (board.warmth(), (board.folder / "slot.json").exists()) == (1, False)
    gateway.ask("updates", "abort", rollout)


FUSE = """
import os

from entobot_board import download, link

ask, read, count = download.Download._ask, link.Link.read, 0


def ask_aloud(self, connection, at, ends):
    print("from", at)
    ask(self, connection, at, ends)


def read_until_it_is_cut(self):
    global count
    data = read(self)
    count += len(data or b"")
    if count > 100000 and not os.path.exists(sys.argv[1] + "/cut"):
        open(sys.argv[1] + "/cut", "w").close()
        print("cut")
        sys.stdin.read()
    return data


download.Download._ask, link.Link.read = ask_aloud, read_until_it_is_cut
"""


def test_a_power_cut_in_the_download_costs_little_of_it(
    gateway: GatewayProcess, tmp_path: Path, workshop: Workshop
) -> None:
    folder = workshop.sources("")
    (folder / "ballast.bin").write_bytes(random.Random(1).randbytes(200_000))
    board = Updated(gateway, tmp_path / "board", interpreter("cpython"), workshop)
    board.close()
    old = PROGRAM.format(value=1).replace("import entobot_board\n", "import entobot_board\n" + FUSE, 1)
    (board.folder / "app_a" / "main.py").write_text(old)
    board.program = board.begin()
    try:
        board.until("connected")
        rollout = workshop.roll_out("1.1.0", PROGRAM.format(value=2))
        board.until("cut")
        board.program.kill()
        kept = (board.folder / "app_b" / "ballast.bin").stat().st_size
        board.program = board.begin()
        assert int(board.program.until("from ")[-1].split()[1]) > kept > 80_000
        board.until("connected")
        wait_for(lambda: board.row(rollout)["state"] == "healthy")
        assert board.warmth() == 2
    finally:
        board.close()


PAGE = (ROOT / "docs" / "how-to" / "update-boards.md").read_text("utf-8")


def walk(name: str) -> str:
    found = re.search(rf"<!-- walk: {name} -->\n```sh\n(.*?)```", PAGE, re.DOTALL)
    assert found, name
    return found[1]


def test_the_page_about_updates_is_followed_as_written(gateway: GatewayProcess, tmp_path: Path) -> None:
    shims = tmp_path / "bin"
    shims.mkdir()
    for name, command in (("entobot", f"{sys.executable} -m entobot"), ("micropython", program("micropython"))):
        (shims / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (shims / name).chmod(0o755)
    (tmp_path / "firmware").symlink_to(FIRMWARE)
    environment = {**gateway.environment, "PATH": f"{shims}:{os.environ['PATH']}"}

    def bash(block: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", "-euc", block],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def done(name: str) -> str:
        shell = bash(walk(name))
        said = shell.communicate(timeout=GENEROUS_S)[0]
        assert shell.returncode == 0, (name, said)
        return said

    for name in ("key", "register", "slots"):
        done(name)
    thing = Thing.make(gateway, "Greenhouse")
    (tmp_path / "greenhouse.toml").write_text('name = "greenhouse"\n[readings.temperature]\nkind = "number"\n')
    assert gateway.cli("things", "types", "add", str(tmp_path / "greenhouse.toml")).returncode == 0
    gateway.ask("things", "set-type", thing.device_id, "greenhouse")
    update = {"type": "greenhouse", "keys": [(tmp_path / "release.pub").read_text().strip()]}
    settings = settings_for(gateway, thing, update=update)
    (tmp_path / "greenhouse" / "settings.json").write_text(json.dumps(settings))
    board = bash(walk("run"))
    try:
        wait_for(
            lambda: (
                [one["firmware"] for one in gateway.ask("things", "list") if one["name"] == "Greenhouse"] == ["1.0.0"]
            )
        )
        assert "greenhouse 1.1.0, 2" in done("sign")
        assert "greenhouse 1.1.0, running" in done("start")
        wait_for(lambda: gateway.ask("updates", "rollouts")[0]["state"] == "done")
        assert gateway.ask("things", "show", thing.device_id)["firmware"] == "1.1.0"
    finally:
        os.killpg(board.pid, signal.SIGKILL)
        board.communicate()
