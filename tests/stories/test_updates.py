"""Updates of boards: a signed release, rolled out to a board that runs it, or goes back."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.firmware.programs import Program, interpreter, settings_for
from tests.support.board import mqtt_environment, wait_for
from tests.support.process import ROOMY, ROOT, GatewayProcess
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

    def sources(self, program: str) -> Path:
        folder = self.folder / "sources"
        if not folder.exists():
            shutil.copytree(FIRMWARE / "entobot_board", folder / "entobot_board")
        (folder / "main.py").write_text(program)
        return folder

    def sign(self, version: str, program: str, *options: str) -> Path:
        out = self.folder / f"{version}.release"
        asked = ("--type", self.type, "--version", version, "--key", str(self.folder / "release.key"))
        done = self.gateway.cli("updates", "sign", str(self.sources(program)), *asked, "--out", str(out), *options)
        assert done.returncode == 0, done.stderr
        return out

    def roll_out(self, version: str, program: str, *options: str) -> str:
        """Signed, added, and begun."""
        self.gateway.ask("updates", "add", str(self.sign(version, program)))
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


def test_a_board_runs_the_new_release_and_is_healthy(
    gateway: GatewayProcess, tmp_path: Path, python: list[str]
) -> None:
    workshop = Workshop(gateway, tmp_path / "workshop", f"sensor_{len(python)}")
    (tmp_path / "type.toml").write_text(TYPE.replace("sensor", workshop.type))
    assert gateway.cli("things", "types", "add", str(tmp_path / "type.toml")).returncode == 0
    workshop.register()
    board = Updated(gateway, tmp_path / "one", python, workshop)
    try:
        board.until("connected")
        rollout = workshop.roll_out("1.1.0", PROGRAM.format(value=2))
        board.until("loading 1.1.0")
        board.until("connected")
        wait_for(lambda: board.row(rollout)["state"] == "healthy")
        assert board.warmth() == 2
        wait_for(lambda: gateway.ask("updates", "status", rollout)["state"] == "done")
        assert json.loads((board.folder / "slot.json").read_text())["good"] is True
        assert gateway.ask("things", "show", board.thing.device_id)["firmware"] == "1.1.0"
    finally:
        board.close()
