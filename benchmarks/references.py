"""The same load on other servers, in the same run: bare picows, `websockets`, nats-server's WebSocket."""

import asyncio
import contextlib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import picows

from benchmarks.rig import LOAD_CORE, SERVER_CORE, median, pin
from benchmarks.start import resident_mb
from tests.support.process import ROOT, free_port

EVENT_BYTES = 200
OPENING_AT_ONCE = 64
REFERENCES = ("picows", "websockets", "nats-server")
ARRIVAL_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Reference:
    """A running server and what its clients say: after connecting, and to reach everybody."""

    name: str
    pid: int
    port: int
    greeting: bytes
    publish: bytes
    kind: picows.WSMsgType


@contextmanager
def running(name: str) -> Generator[Reference]:
    with tempfile.TemporaryDirectory(prefix="entobot-bench-") as folder:
        process, port = _start_nats(Path(folder)) if name == "nats-server" else _start_python(name)
        try:
            pin(process.pid, SERVER_CORE)
            pin(0, LOAD_CORE)
            if name == "nats-server":
                event = b"PUB all %d\r\n%s\r\n" % (EVENT_BYTES, b"x" * EVENT_BYTES)
                greeting = b'CONNECT {"verbose":false}\r\nSUB all 1\r\n'
                yield Reference(name, process.pid, port, greeting, event, picows.WSMsgType.BINARY)
            else:
                yield Reference(name, process.pid, port, b"", b"!" * EVENT_BYTES, picows.WSMsgType.TEXT)
        finally:
            process.kill()
            process.wait()


def _start_python(name: str) -> tuple[subprocess.Popen[str], int]:
    command = [sys.executable, "-m", "benchmarks.reference_servers", name]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def _start_nats(folder: Path) -> tuple[subprocess.Popen[str], int]:
    port = free_port()
    settings = folder / "nats.conf"
    settings.write_text(
        f"listen: 127.0.0.1:{free_port()}\nmax_connections: 100000\nping_interval: 300\n"
        f"websocket {{ listen: 127.0.0.1:{port}, no_tls: true, compression: false }}\n"
    )
    binary = Path(sys.executable).with_name("nats-server")
    process = subprocess.Popen([binary, "-c", settings], text=True, stderr=subprocess.DEVNULL)
    until = time.monotonic() + ARRIVAL_WITHIN_S
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return process, port
        time.sleep(0.02)
    raise TimeoutError("nats-server does not listen")


class Listener(picows.WSListener):
    """Counts the events that reach it."""

    def __init__(self, arrived: Callable[[], None]) -> None:
        self._arrived = arrived

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        payload = frame.get_payload_as_bytes()
        if payload.startswith(b"PING"):
            transport.send(picows.WSMsgType.BINARY, b"PONG\r\n")
        elif payload.startswith((b"!", b"MSG")):
            self._arrived()


async def open_many(server: Reference, count: int, arrived: Callable[[], None]) -> list[picows.WSTransport]:
    url = f"ws://127.0.0.1:{server.port}/"
    opened: list[picows.WSTransport] = []

    async def one() -> None:
        transport, _ = await picows.ws_connect(lambda: Listener(arrived), url, enable_auto_ping=False)  # pyright: ignore[reportUnknownMemberType]  picows leaves **kwargs open
        if server.greeting:
            transport.send(server.kind, server.greeting)
        opened.append(transport)

    while len(opened) < count:
        await asyncio.gather(*(one() for _ in range(min(OPENING_AT_ONCE, count - len(opened)))))
    return opened


async def last_delivery_s(server: Reference, connections: int, rounds: int) -> float:
    """Median time from one publish to its arrival at the last of `connections`."""
    waiting, done = 0, asyncio.Event()

    def arrived() -> None:
        nonlocal waiting
        waiting -= 1
        if not waiting:
            done.set()

    opened = await open_many(server, connections, arrived)
    await asyncio.sleep(1)
    times: list[float] = []
    for _ in range(rounds):
        waiting = connections
        done.clear()
        began = time.perf_counter()
        opened[0].send(server.kind, server.publish)
        await asyncio.wait_for(done.wait(), ARRIVAL_WITHIN_S)
        times.append(time.perf_counter() - began)
        await asyncio.sleep(0.1)
    for transport in opened:
        transport.disconnect(graceful=False)
    return median(times)


async def idle_kib(server: Reference, sizes: tuple[int, ...]) -> list[tuple[int, float]]:
    """Resident KiB a connection over the empty server, at growing numbers of idle connections."""
    empty_mb = resident_mb(server.pid)
    opened: list[picows.WSTransport] = []
    found: list[tuple[int, float]] = []
    for size in sizes:
        opened += await open_many(server, size - len(opened), lambda: None)
        await asyncio.sleep(1)
        found.append((size, (resident_mb(server.pid) - empty_mb) * 1024 / size))
    for transport in opened:
        transport.disconnect(graceful=False)
    return found
