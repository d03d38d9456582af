"""M: boards by MQTT. What they publish with QoS 1, and what an idle one costs, beside other brokers in the same run."""

import asyncio
import struct
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import cast

import uvloop

from benchmarks import brokers, seed
from benchmarks.brokers import Server
from benchmarks.crowd import DEVICE_CONNECTIONS, OPENING_AT_ONCE, SOURCES, seeded
from benchmarks.echo_ws import cpu_s
from benchmarks.rig import Figure, milliseconds, percentile
from benchmarks.seed import Seeded
from benchmarks.start import resident_mb
from tests.support.process import GatewayProcess, free_port

PUBLISHERS = 50
IN_FLIGHT = 16
PUBLISH_S = 5.0
PAYLOAD = b'{"value": 21.5, "at": "2026-11-20T09:30:00Z"}'
IDLE_SIZES = (1_000, 5_000, 10_000)
ALONE = 500
"""Publishes of one board while the most are held, one after another."""
WAIT_S = 120.0
KEEP_ALIVE_S = 600
CONNACK, PUBLISH, PUBACK, SUBACK = 0x20, 0x30, 0x40, 0x90


def _text(value: str) -> bytes:
    encoded = value.encode()
    return struct.pack("!H", len(encoded)) + encoded


def _packet(kind: int, body: bytes) -> bytes:
    """Of at most 16,383 bytes."""
    size = len(body)
    length = bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7])
    return bytes([kind]) + length + body


def _connect(client_id: str, board: Seeded) -> bytes:
    """Version 3.1.1, a clean session, user name and password."""
    header = _text("MQTT") + struct.pack("!BBH", 4, 0xC2, KEEP_ALIVE_S)
    return _packet(0x10, header + _text(client_id) + _text(board.device_id) + _text(board.api_key))


class Board(asyncio.Protocol):
    """One connection: speaks as little as it must, and tells of acknowledgements."""

    def __init__(self, board: Seeded, name: str) -> None:
        self.is_lost = False
        self.opened: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.subscribed: asyncio.Future[int] | None = None
        self.on_acknowledged: Callable[[], None] = lambda: None
        self.heard = 0
        self._hello = _connect(f"{board.device_id}/{name}", board)
        self._topic = _text(f"devices/{board.device_id}/telemetry/temperature")
        self._number = 0
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none of its classes
        self.transport.write(self._hello)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        for one in (self.opened, self.subscribed):
            if one is not None and not one.done():
                one.set_exception(exc or ConnectionError("closed"))

    async def subscribe(self) -> None:
        self.subscribed = asyncio.get_running_loop().create_future()
        self.transport.write(_packet(0x82, b"\x00\x01" + self._topic + b"\x01"))
        assert await self.subscribed == 1

    def publish(self) -> None:
        self._number = self._number % 65_000 + 1
        self.transport.write(_packet(0x32, self._topic + struct.pack("!H", self._number) + PAYLOAD))

    def data_received(self, data: bytes) -> None:
        data, at = self._rest + data, 0
        while at + 2 <= len(data):
            size, start = data[at + 1], at + 2
            if size & 128:
                if start >= len(data):
                    break
                size, start = size & 127 | data[start] << 7, start + 1
            if start + size > len(data):
                break
            self._packet(data[at] & 0xF0, data[start : start + size])
            at = start + size
        self._rest = data[at:]

    def _packet(self, kind: int, body: bytes) -> None:
        if kind == PUBACK:
            self.on_acknowledged()
        elif kind == PUBLISH:
            self.heard += 1
            end = 2 + int.from_bytes(body[:2])
            self.transport.write(_packet(PUBACK, body[end : end + 2]))
        elif kind == CONNACK and not self.opened.done():
            self.opened.set_result(body[1])
        elif kind == SUBACK and self.subscribed is not None:
            self.subscribed.set_result(body[2])


async def _open(server: Server, wanted: Sequence[tuple[Seeded, str]]) -> list[Board]:
    slots = asyncio.Semaphore(OPENING_AT_ONCE)

    async def one(number: int, board: Seeded, name: str) -> Board:
        async with slots, asyncio.timeout(WAIT_S):
            _, made = await asyncio.get_running_loop().create_connection(
                lambda: Board(board, name), "127.0.0.1", server.port, local_addr=(f"127.0.0.{1 + number % SOURCES}", 0)
            )
            assert await made.opened == 0
            return made

    return list(await asyncio.gather(*(one(number, *board) for number, board in enumerate(wanted))))


async def publishing(server: Server, devices: Sequence[Seeded]) -> tuple[float, float]:
    """Publishes with QoS 1 that were acknowledged a second, each heard by another connection; the server's µs for one."""
    boards = await _open(server, [(one, "board") for one in devices[:PUBLISHERS]])
    screens = await _open(server, [(one, "screen") for one in devices[:PUBLISHERS]])
    for screen in screens:
        await screen.subscribe()
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
    await asyncio.sleep(1)
    before, count, began = cpu_s(server.pid), 0, time.perf_counter()
    await asyncio.sleep(PUBLISH_S)
    rate, spent = count / (time.perf_counter() - began), cpu_s(server.pid) - before
    done, is_over = count, True
    await asyncio.sleep(1)
    assert sum(screen.heard for screen in screens) >= done * 0.9, "the other connections hear what is published"
    for one in (*boards, *screens):
        one.transport.abort()
    return rate, spent / max(1, done) * 1e6


async def idling(server: Server, devices: Sequence[Seeded]) -> tuple[list[tuple[int, float]], float, int]:
    """KiB of a connection at each size, p99 of a publish with the most of them held, and how many were lost."""
    await asyncio.sleep(2)
    empty_mb = resident_mb(server.pid)
    seats = [(device, str(number)) for device in devices for number in range(DEVICE_CONNECTIONS)]
    boards: list[Board] = []
    points: list[tuple[int, float]] = []
    for size in IDLE_SIZES:
        boards += await _open(server, seats[len(boards) : size])
        await asyncio.sleep(2)
        points.append((size, (resident_mb(server.pid) - empty_mb) * 1024 / size))
    times = await _alone(boards[0])
    lost = sum(board.is_lost for board in boards)
    for board in boards:
        board.transport.abort()
    return points, percentile(times, 0.99), lost


async def _alone(board: Board) -> list[float]:
    waiting: deque[asyncio.Future[None]] = deque()
    board.on_acknowledged = lambda: waiting.popleft().set_result(None)
    times: list[float] = []
    for _ in range(ALONE):
        waiting.append(asyncio.get_running_loop().create_future())
        began = time.perf_counter()
        board.publish()
        async with asyncio.timeout(WAIT_S):
            await waiting[0]
        times.append(time.perf_counter() - began)
    return times


def figures() -> list[Figure]:
    """The gateway first: its devices' ids and keys are what the other brokers are told too, which ask nobody."""
    port = free_port()
    names = {"ENTOBOT_MQTT__ENABLED": "true", "ENTOBOT_MQTT__PORT": "0", "ENTOBOT_MQTT__PLAIN_PORT": str(port)}
    found: list[Figure] = []

    def sow(gateway: GatewayProcess) -> list[Seeded]:
        return seed.with_keys(gateway, users=50, devices_each=-(-IDLE_SIZES[-1] // DEVICE_CONNECTIONS // 50))

    with seeded(sow, has_tls=False, **names) as (place, devices):
        found += _of(Server("entobot", place.pid, port), devices)
    for name in brokers.BROKERS:
        try:
            with brokers.running(name) as server:
                found += _of(server, devices)
        except FileNotFoundError as error:
            found.append(Figure("M", name, "–", f"not measured: {error}", met=None))
    return found


def _of(server: Server, devices: Sequence[Seeded]) -> list[Figure]:
    rate, micros = uvloop.run(publishing(server, devices))
    points, p99, lost = uvloop.run(idling(server, devices))
    shown = ", ".join(f"{kib:.1f} at {size}" for size, kib in points)
    held = f"{IDLE_SIZES[-1]} held, {lost} lost"
    is_ours = server.name == "entobot"
    return [
        Figure(
            "M", f"{server.name}: QoS 1 publishes, heard once", "–", f"{rate:,.0f}/s, {micros:.0f} µs each", met=None
        ),
        Figure("M", f"{server.name}: idle connection, plain", "–", f"{shown} KiB", met=None),
        Figure(
            "M",
            f"{server.name}: publish p99, {held}",
            "≤ 100 ms" if is_ours else "–",
            milliseconds(p99),
            (p99 <= 0.1 and not lost) if is_ours else None,
        ),
    ]
