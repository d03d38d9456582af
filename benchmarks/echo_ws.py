"""Echo over WebSocket: server CPU per message, our class behind the real listener against bare picows, in one run.

    python benchmarks/echo_ws.py [--rounds 5] [--connections 64] [--in-flight 1]

The server runs on core 0, the load on core 1, both on uvloop.
"""

import argparse
import asyncio
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import picows
import uvloop

PAYLOAD = b"x" * 100


class BareEcho(picows.WSListener):
    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        transport.send(frame.msg_type, frame.get_payload_as_bytes())


class CoalescedEcho(picows.WSListener):
    """Bare picows with one write a read, the way that the research measured it."""

    def __init__(self) -> None:
        self.queue: list[bytes] = []

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        payload = frame.get_payload_as_bytes()
        self.queue.append(bytes((0x81, len(payload))) + payload)
        if frame.last_in_buffer:
            transport.underlying_transport.write(b"".join(self.queue))
            self.queue.clear()


async def serve_picows(kind: type[picows.WSListener]) -> int:
    server = await picows.ws_create_server(  # pyright: ignore[reportUnknownMemberType]  picows leaves **kwargs open
        lambda _request: kind(), "127.0.0.1", 0, enable_auto_ping=False, read_buffer_init_size=2048, backlog=4096
    )
    await server.start_serving()
    return server.sockets[0].getsockname()[1]


async def serve_ours() -> int:
    from entobot.core.clock import SystemClock
    from entobot.gateway.limits import WaitingRoom
    from entobot.gateway.link import Link
    from entobot.gateway.upgrade import OriginPolicy, UpgradeRequest
    from entobot.gateway.websocket import WebSockets
    from entobot.gateway.wheel import TimerWheel
    from entobot.web.endpoints import TcpEndpoint
    from entobot.web.listener import Listener

    class Echo:
        def __init__(self, link: Link, _request: UpgradeRequest) -> None:
            self.text = link.send

        def opened(self) -> None: ...
        def binary(self) -> None: ...
        def too_large(self) -> None: ...
        def pong(self) -> None: ...
        def over_limit(self, wait_s: float) -> None: ...
        def writable(self) -> None: ...
        def closed(self, code: int) -> None: ...

    clock = SystemClock()
    wheel = TimerWheel(clock, asyncio.get_running_loop().call_later)
    listener = Listener(
        app=None,  # pyright: ignore[reportArgumentType]  only WebSockets are served here
        websocket=WebSockets(admit=OriginPolicy(origins=(), subprotocols=("entobot.v1",)), make=Echo, timers=wheel),
        endpoints=[TcpEndpoint("127.0.0.1", 0)],
        clock=clock,
        timers=wheel,
        waiting=WaitingRoom(per_key=20_000, total=20_000, clock=clock),
    )
    await listener.start()
    return listener.port


async def serve(kind: str) -> None:
    makers: dict[str, Any] = {
        "ours": serve_ours,
        "bare": lambda: serve_picows(BareEcho),
        "coalesced": lambda: serve_picows(CoalescedEcho),
    }
    print(await makers[kind](), flush=True)
    await asyncio.Event().wait()


class Client(picows.WSListener):
    def __init__(self, in_flight: int) -> None:
        self.in_flight = in_flight
        self.count = 0

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        for _ in range(self.in_flight):
            transport.send(picows.WSMsgType.TEXT, PAYLOAD)

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:  # noqa: ARG002  picows' name
        self.count += 1
        if not transport.is_disconnected:
            transport.send(picows.WSMsgType.TEXT, PAYLOAD)


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def load(pid: int, port: int, connections: int, in_flight: int, seconds: float) -> tuple[float, float]:
    """Messages a second, and the server's CPU µs a message."""
    clients: list[Client] = []

    def make() -> Client:
        clients.append(Client(in_flight))
        return clients[-1]

    url = f"ws://127.0.0.1:{port}/ws"
    links: list[picows.WSTransport] = []
    for _ in range(connections):
        link, _ = await picows.ws_connect(make, url, enable_auto_ping=False)  # pyright: ignore[reportUnknownMemberType]  picows leaves **kwargs open
        links.append(link)
    await asyncio.sleep(0.5)
    before, cpu_before, started = sum(client.count for client in clients), cpu_s(pid), time.monotonic()
    await asyncio.sleep(seconds)
    count = sum(client.count for client in clients) - before
    spent, elapsed = cpu_s(pid) - cpu_before, time.monotonic() - started
    for link in links:
        link.disconnect(graceful=False)
    return count / elapsed, spent / count * 1e6


def measure(kind: str, connections: int, in_flight: int, seconds: float) -> tuple[float, float]:
    command = ["taskset", "-c", "0", sys.executable, __file__, "--serve", kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            return uvloop.run(load(server.pid, port, connections, in_flight, seconds))
        finally:
            server.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", choices=["ours", "bare", "coalesced"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--in-flight", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if options.serve:
        uvloop.run(serve(options.serve))
        return
    os.sched_setaffinity(0, {1})
    results: dict[str, list[tuple[float, float]]] = {"bare": [], "coalesced": [], "ours": []}
    for number in range(options.rounds):
        for kind in sorted(results, reverse=bool(number % 2)):
            results[kind].append(measure(kind, options.connections, options.in_flight, options.seconds))
    middle = {kind: [statistics.median(column) for column in zip(*rows, strict=True)] for kind, rows in results.items()}
    for kind, (rate, cpu_us) in middle.items():
        print(f"{kind:10} {rate:10.0f} echo/s  {cpu_us:6.2f} µs of server CPU an echo")
    for reference in ("bare", "coalesced"):
        print(f"capacity of a core, ours / {reference}: {middle[reference][1] / middle['ours'][1]:.2f}")


if __name__ == "__main__":
    main()
