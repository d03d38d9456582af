"""A real gateway in a process of its own, on a free loopback port, and its command line."""

import json
import os
import secrets
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import httpx

from entobot.client.device import Device
from entobot.client.keys import DeviceKey
from entobot.client.local import LocalGateway
from entobot.core.clock import SystemClock
from entobot.core.rates import Rate
from entobot.core.secrets import SystemEntropy
from tests.support.furnished import furnish, may_be_furnished
from tests.support.nursery import Forked, is_like_ours, nursery

GENEROUS_S = 60.0
"""How long a stated deadline is waited for on a busy machine."""
STARTED_WITHIN_S = 2 * GENEROUS_S
ROOMY = {f"ENTOBOT_LIMITS__{rate.upper()}_{part}": "1000000" for rate in Rate for part in ("PER_SECOND", "BURST")}
"""For stories about something other than the limits."""
INVITES = "/api/v1/pairing/invites"
ROOT = Path(__file__).parents[2]
PROGRAM = ("-m", "entobot")


def free_port() -> int:
    """Of those that no system gives to a connection, which could take it before its listener does."""
    while True:
        port = 10_000 + secrets.randbelow(22_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class GatewayProcess:
    """`start`, `kill` (SIGKILL), `stop` (SIGTERM) as often as the story wants; the data folder stays.

    With `is_forked` its processes come from the nursery, but for its very first start where it `is_bare`.
    """

    is_forked = False

    def __init__(
        self,
        home: Path,
        *,
        port: int | None = None,
        environment: Mapping[str, str] | None = None,
        program: Sequence[str] = PROGRAM,
        host: str = "127.0.0.1",
        launcher: Sequence[str] = (),
        python: str | Path = sys.executable,
        is_bare: bool = False,
    ) -> None:
        """`program` stands for `entobot` where a test wants another one: a broken one. `launcher` is put before the whole command: another network. `python` is the interpreter of another installation. `is_bare`: it makes its tables itself, as a first start does; else it finds them made, which saves each test the time of it."""
        self.home = home
        self._is_bare = is_bare or str(python) != sys.executable
        self._program = program
        self._launcher = launcher
        self._python = str(python)
        self.port = port or free_port()
        self.address = self.origin = f"https://{host}:{self.port}"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")},
            "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
            "ENTOBOT_HOME": str(home),
            "ENTOBOT_GATEWAY__PORT": str(self.port),
            "ENTOBOT_GATEWAY__HOST": host,
            "ENTOBOT_GATEWAY__PUBLIC_URL": self.origin,
            "ENTOBOT_ALERTS__EVERY": "300",  # or they write in the middle of what a story compares
            **(environment or {}),
        }
        self.process: subprocess.Popen[str] | Forked | None = None
        self._clients: list[httpx.Client] = []
        self.log = home.with_name(home.name + ".log")

    def start(self, *arguments: str) -> "GatewayProcess":
        """Returns when the banner is complete: the port is open then. Fails after `STARTED_WITHIN_S`."""
        is_elsewhere = self.environment.get("ENTOBOT_STORAGE__URL")
        if not self._is_bare and not is_elsewhere and may_be_furnished(self.home):
            furnish(self.home)
        with self.log.open("a") as errors:
            self.process = self._begin(["up", *arguments], errors)
        assert self.process.stdout is not None
        self.banner = ""
        too_late = threading.Timer(STARTED_WITHIN_S, self.process.kill)
        too_late.daemon = True
        too_late.start()
        try:
            for line in self.process.stdout:
                self.banner += line
                if "Stop with Ctrl-C" in line:
                    return self
        finally:
            too_late.cancel()
        raise AssertionError(f"the gateway did not start: {self.banner}\n{self.log.read_text()[-4000:]}")

    def _begin(self, arguments: list[str], errors: IO[str]) -> subprocess.Popen[str] | Forked:
        is_plain = not self._launcher and tuple(self._program) == PROGRAM and self._python == sys.executable
        if self._is_forked and is_plain and not (self._is_bare and not self.home.exists()):
            reader, writer = os.pipe()
            process = nursery().start(arguments, self.environment, stdout=writer, stderr=errors.fileno())
            os.close(writer)
            process.stdout = os.fdopen(reader, "r", encoding="utf-8")
            return process
        return subprocess.Popen(
            [*self._launcher, self._python, *self._program, *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )

    @property
    def _is_forked(self) -> bool:
        return GatewayProcess.is_forked and is_like_ours(self.environment)

    def read_line(self) -> str:
        assert self.process is not None
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """The exit code after SIGTERM."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        process, self.process = self.process, None
        if process is None:
            return 0
        process.send_signal(number)
        try:
            return process.wait(GENEROUS_S)
        finally:
            process.kill()
            if process.stdout is not None:
                process.stdout.close()

    # -- its people and devices

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        if self._is_forked:
            return self._forked_cli(arguments)
        return subprocess.run(
            [sys.executable, "-m", "entobot", *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=GENEROUS_S,
            check=False,
        )

    def _forked_cli(self, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        with tempfile.TemporaryFile("w+", encoding="utf-8") as said, tempfile.TemporaryFile("w+") as errors:
            done = nursery().start(arguments, self.environment, stdout=said.fileno(), stderr=errors.fileno())
            try:
                code = done.wait(GENEROUS_S)
            finally:
                done.kill()
            said.seek(0)
            errors.seek(0)
            return subprocess.CompletedProcess(list(arguments), code, said.read(), errors.read())

    def ask(self, *arguments: str) -> Any:
        """A command with `--json`, its answer parsed."""
        done = self.cli(*arguments, "--json")
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return json.loads(done.stdout)

    def trust(self) -> ssl.SSLContext:
        """Trusts this gateway's own authority and nothing else."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.home / "tls" / "ca.crt")
        return context

    def http(self) -> httpx.Client:
        client = httpx.Client(base_url=self.address, verify=self.trust(), timeout=GENEROUS_S)
        self._clients.append(client)
        return client

    def close(self) -> None:
        """The end of the test: nothing of it stays open."""
        for client in self._clients:
            client.close()
        self.kill()

    def new_device(self) -> Device:
        return Device(DeviceKey.generate(), self.origin, self.http(), SystemClock(), SystemEntropy())

    def pair(self, name: str = "Phone") -> Device:
        """A phone that went through the documented steps. The operator is at the local socket, where the command line
        is as well: a process for each of two commands would be half of what most stories cost.
        """
        local = LocalGateway(self.home / "gateway.sock")
        made = local.request("POST", INVITES, json={"kind": "qr"})
        device = self.new_device()
        claim = device.claim(
            secret=made["secret"], invite_id=made["invite_id"], device_name=name, platform="web", app_version="1"
        )
        typed = {"claim_id": claim["claim_id"], "code": claim["confirmation_code"]}
        local.request("POST", f"{INVITES}/{made['invite_id']}/confirm", json=typed)
        assert device.collect(claim["claim_id"])
        return device
