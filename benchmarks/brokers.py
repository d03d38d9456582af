"""Other MQTT brokers for the same load in the same run: mosquitto (Debian) and nats-server with JetStream on disk.

Neither syncs to disk before PUBACK as it comes: mosquitto saves when it stops, nats-server every two minutes. The
third, `nats-server, synced`, syncs each message, which is what a gateway's PUBACK promises.
"""

import contextlib
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.rig import SERVER_CORE, pin
from tests.support.nats import nats_program
from tests.support.process import free_port
from tests.support.programs import found

READY_WITHIN_S = 30.0
BROKERS = ("mosquitto", "nats-server", "nats-server, synced")


@dataclass(frozen=True, slots=True)
class Server:
    """A process that speaks MQTT 3.1.1 without TLS on a loopback port."""

    name: str
    pid: int
    port: int


@contextmanager
def running(name: str) -> Generator[Server]:
    """Raises FileNotFoundError where the program is not installed."""
    with tempfile.TemporaryDirectory(prefix="entobot-bench-") as folder:
        port = free_port()
        command = _mosquitto(Path(folder), port) if name == "mosquitto" else _nats(Path(folder), port, name)
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _wait_for(port)
            pin(process.pid, SERVER_CORE)
            yield Server(name, process.pid, port)
        finally:
            process.kill()
            process.wait()


def _mosquitto(folder: Path, port: int) -> list[str]:
    program = found("mosquitto")
    if program is None:
        raise FileNotFoundError("mosquitto is not here (Debian: mosquitto; tools/rigs.sh unpacks it)")
    file = folder / "mosquitto.conf"
    file.write_text(
        f"user root\nlistener {port} 127.0.0.1\nallow_anonymous true\npersistence true\n"
        f"persistence_location {folder}/\nmax_inflight_messages 64\nmax_queued_messages 100000\n"
    )
    return [program, "-c", str(file)]


def _nats(folder: Path, port: int, name: str) -> list[str]:
    sync = "sync_interval: always" if name.endswith("synced") else ""
    file = folder / "nats.conf"
    file.write_text(
        f"server_name: bench\nlisten: 127.0.0.1:{free_port()}\nmax_connections: 100000\n"
        f"jetstream {{ store_dir: {folder}/jetstream\n{sync} }}\n"
        f"mqtt {{ listen: 127.0.0.1:{port}\nmax_ack_pending: 64 }}\n"
    )
    return [nats_program(), "-c", str(file)]


def _wait_for(port: int) -> None:
    until = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        time.sleep(0.02)
    raise TimeoutError("the broker does not listen")
