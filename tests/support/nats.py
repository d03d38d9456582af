"""A real nats-server in a process of its own, on a free loopback port, JetStream off."""

import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.support.process import GENEROUS_S, free_port


def nats_program() -> str:
    beside = Path(sys.executable).with_name("nats-server")
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    assert found, "nats-server is missing: install requirements-dev.lock"
    return found


class NatsServer:
    """`start`, `kill`, `pause` and `resume` as often as the test wants; the port stays."""

    def __init__(self, folder: Path, *, extra: str = "") -> None:
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self._folder = folder
        self.extra = extra
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def start(self) -> "NatsServer":
        """Returns when it answers."""
        folder = self._folder / f"nats-{self.port}"
        folder.mkdir(exist_ok=True)
        configuration = folder / "nats.conf"
        configuration.write_text(f"listen: 127.0.0.1:{self.port}\nmax_payload: 1MB\n{self.extra}\n")
        with (folder / "nats.log").open("ab") as log:
            self._process = subprocess.Popen(
                [nats_program(), "-c", str(configuration)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        end = time.monotonic() + GENEROUS_S
        while time.monotonic() < end:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1) as probe:
                    if probe.recv(4) == b"INFO":
                        return self
            except OSError:
                time.sleep(0.02)
        raise AssertionError("nats-server did not start")

    def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait(GENEROUS_S)

    def pause(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)
