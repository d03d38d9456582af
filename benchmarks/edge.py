"""How many boards an edge holds, and how many readings a second reach the store: `python -m benchmarks.edge [boards] [seconds]`.

A nats-server as the how-to sets it up, one gateway on SQLite behind it, all on loopback without TLS. Every board comes with
its own key; then 50 of them publish `telemetry/temperature` by QoS 1, with 16 under way each, while the others are held.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import uvloop

from benchmarks import seed
from benchmarks.boards import IN_FLIGHT, PUBLISHERS, Board
from benchmarks.crowd import OPENING_AT_ONCE, PLAIN, SOURCES
from benchmarks.echo_ws import cpu_s
from benchmarks.seed import Seeded
from benchmarks.start import resident_mb
from tests.support.board import mqtt_environment, wait_for
from tests.support.edge import EdgeServer
from tests.support.process import ROOMY, GatewayProcess
from tests.support.thing import Thing

USERS = 50
WAIT_S = 120.0


class Metrics:
    def __init__(self, gateway: GatewayProcess) -> None:
        self._thing = Thing.make(gateway, "Prometheus", "--scopes", "metrics")
        self._client = httpx.Client(base_url=gateway.address, headers=self._thing.headers)

    def of(self, series: str) -> float:
        rows = [line.rpartition(" ") for line in self._client.get("/metrics").text.splitlines()]
        return sum(float(value) for name, _, value in rows if name == series)

    @property
    def taken(self) -> float:
        return self.of('entobot_edge_messages_total{outcome="taken"}')


async def connect(port: int, devices: list[Seeded]) -> list[Board]:
    slots = asyncio.Semaphore(OPENING_AT_ONCE)

    async def one(number: int, device: Seeded) -> Board:
        async with slots, asyncio.timeout(WAIT_S):
            _, made = await asyncio.get_running_loop().create_connection(
                lambda: Board(device, "board"), "127.0.0.1", port, local_addr=(f"127.0.0.{1 + number % SOURCES}", 0)
            )
            assert await made.opened == 0, "not admitted"
            return made

    return list(await asyncio.gather(*(one(number, device) for number, device in enumerate(devices))))


async def publish(boards: list[Board], seconds: float) -> int:
    """How many the edge acknowledged."""
    count, is_over = 0, False

    def goes_on(board: Board) -> Callable[[], None]:
        def acknowledged() -> None:
            nonlocal count
            count += 1
            if not is_over:
                board.publish()

        return acknowledged

    for board in boards:
        board.on_acknowledged = goes_on(board)
        for _ in range(IN_FLIGHT):
            board.publish()
    await asyncio.sleep(seconds)
    is_over = True
    await asyncio.sleep(2)
    return count


async def measure(server: EdgeServer, gateway: GatewayProcess, devices: list[Seeded], seconds: float) -> None:
    assert server.pid is not None
    assert gateway.process is not None
    metrics, gateway_pid = Metrics(gateway), gateway.process.pid
    began, cpu, empty_mb = time.perf_counter(), cpu_s(gateway_pid), resident_mb(server.pid)
    boards = await connect(server.mqtt_port, devices)
    spent, used = time.perf_counter() - began, cpu_s(gateway_pid) - cpu
    each = (resident_mb(server.pid) - empty_mb) * 1024 / len(boards)
    print(f"boards       {len(boards)} in {spent:.1f} s, {len(boards) / spent:.0f}/s")
    print(f"of each      {used / len(boards) * 1e6:.0f} µs of the gateway's CPU, {each:.1f} KiB of the server's memory")
    await asyncio.to_thread(wait_for, lambda: metrics.of("entobot_edge_boards") == len(boards))
    before, began, cpu = metrics.taken, time.perf_counter(), cpu_s(gateway_pid)
    said = await publish(boards[:PUBLISHERS], seconds)
    told = said / seconds
    while metrics.taken - before < said:
        assert time.perf_counter() - began < WAIT_S, "the store did not take what the edge acknowledged"
        await asyncio.sleep(0.2)
    spent, used = time.perf_counter() - began, cpu_s(gateway_pid) - cpu
    print(f"acknowledged {told:.0f} readings/s by the server, for {seconds:.0f} s")
    print(
        f"stored       {said} in {spent:.1f} s, {said / spent:.0f}/s, {used / said * 1e6:.0f} µs of the gateway's CPU each"
    )
    print(f"lost         {sum(board.is_lost for board in boards)} connections")
    for board in boards:
        board.transport.abort()


def main() -> None:
    count, seconds = int((sys.argv[1:] or ["5000"])[0]), float((sys.argv[2:] or ["10"])[0])
    with tempfile.TemporaryDirectory() as folder:
        server = EdgeServer(Path(folder))
        environment = ROOMY | PLAIN | mqtt_environment() | {"ENTOBOT_MQTT__PORT": "0"} | server.environment
        gateway = GatewayProcess(Path(folder) / "home", environment=environment)
        gateway.address = gateway.origin = f"http://127.0.0.1:{gateway.port}"
        try:
            gateway.start()
            gateway.stop()
            devices = seed.with_keys(gateway, users=USERS, devices_each=-(-count // USERS))[:count]
            gateway.start()
            server.begin(gateway)
            metrics = Metrics(gateway)
            wait_for(lambda: metrics.of("entobot_edge_up") == 1)
            uvloop.run(measure(server, gateway, devices, seconds))
        finally:
            gateway.close()
            server.kill()


if __name__ == "__main__":
    main()
