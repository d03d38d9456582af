"""Many connections to one gateway: P3 idle, P4 reconnect storm, P6 durable messages, P7 one event to everybody."""

import asyncio
import json
import ssl
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import picows
import uvloop

from benchmarks import references, seed
from benchmarks.echo_ws import cpu_s
from benchmarks.rig import LOAD_CORE, SERVER_CORE, Figure, median, milliseconds, percentile, pin, running_gateway
from benchmarks.seed import Seeded
from benchmarks.start import resident_mb
from entobot.client.proofs import dpop_proof
from entobot.core.clock import SystemClock
from entobot.core.secrets import SystemEntropy
from tests.support.process import GatewayProcess

DEVICE_CONNECTIONS = 4
OPENING_AT_ONCE = 64
SOURCES = 4
"""Loopback addresses that the load comes from: one has 28,000 ports."""
WAIT_S = 120.0
ROOMY = {
    "ENTOBOT_LIMITS__UNAUTHENTICATED_PER_ADDRESS": "2000",
    "ENTOBOT_LIMITS__UNAUTHENTICATED": "2000",
    "ENTOBOT_LIMITS__OPENING_PER_ADDRESS": "2000",
    "ENTOBOT_LIMITS__OPENING": "2000",
}
PLAIN = {"ENTOBOT_TLS__MODE": "off", "ENTOBOT_GATEWAY__PUBLIC_URL": ""}
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class Member(picows.WSListener):
    """One connection of the crowd. Speaks as little as it must, and hands every later frame to `on_frame`."""

    __slots__ = ("after", "device", "gateway", "is_lost", "on_frame", "on_ready", "seq", "stream", "transport")

    def __init__(self, gateway: GatewayProcess, device: Seeded, on_ready: Callable[["Member"], None]) -> None:
        self.gateway = gateway
        self.device = device
        self.on_ready = on_ready
        self.on_frame: Callable[[Member, bytes], object] | None = None
        self.transport: picows.WSTransport | None = None
        self.after: dict[str, Any] | None = None
        self.stream = ""
        self.seq = 0
        self.is_lost = False

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self.transport = transport

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:
        del transport
        self.is_lost = True

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type == picows.WSMsgType.PING:
            transport.send_pong(frame.get_payload_as_bytes())
        elif frame.msg_type == picows.WSMsgType.CLOSE:
            transport.disconnect()
        elif self.on_frame is not None:
            self.on_frame(self, frame.get_payload_as_bytes())
        else:
            self._open(frame.get_payload_as_bytes())

    def say(self, frame: dict[str, Any]) -> None:
        self.send(json.dumps(frame).encode())

    def send(self, payload: bytes) -> None:
        assert self.transport is not None
        self.transport.send(picows.WSMsgType.TEXT, payload)

    def _open(self, payload: bytes) -> None:
        frame = json.loads(payload)
        kind = frame["type"]
        if kind == "hello":
            self.say({"type": "auth", **self._credentials(frame["nonce"]), "resume": self.after})
        elif kind == "ready":
            self.stream, self.seq = frame["stream"], frame["seq"]
        elif kind == "resume_done" or (kind == "snapshot" and not frame.get("more")):
            self.on_frame = _ignore
            self.on_ready(self)

    def _credentials(self, nonce: str) -> dict[str, Any]:
        device = self.device
        if device.key is None:
            return {"api_key": device.api_key}
        proof = dpop_proof(
            device.key,
            method="GET",
            url=f"{self.gateway.origin}/ws",
            now_ms=CLOCK.now_ms(),
            entropy=ENTROPY,
            access_token=device.token,
            nonce=nonce,
        )
        return {"token": device.token, "proof": proof}


CLOCK, ENTROPY = SystemClock(), SystemEntropy()


def _ignore(_: Member, __: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class Place:
    """A running gateway as the crowd reaches it."""

    gateway: GatewayProcess
    pid: int
    context: ssl.SSLContext | None

    @property
    def url(self) -> str:
        scheme = "ws" if self.context is None else "wss"
        return f"{scheme}://127.0.0.1:{self.gateway.port}/ws"


@contextmanager
def seeded(
    sow: Callable[[GatewayProcess], list[Seeded]], *, has_tls: bool, **more: str
) -> Generator[tuple[Place, list[Seeded]]]:
    """A gateway whose data folder was seeded between its first start and this one."""
    environment = ROOMY | ({} if has_tls else PLAIN) | more
    with running_gateway(**environment) as gateway:
        if not has_tls:
            gateway.origin = f"http://127.0.0.1:{gateway.port}"
        gateway.stop()
        devices = sow(gateway)
        gateway.start()
        assert gateway.process is not None
        pin(gateway.process.pid, SERVER_CORE)
        pin(0, LOAD_CORE)
        yield Place(gateway, gateway.process.pid, gateway.trust() if has_tls else None), devices


async def gather_crowd(place: Place, devices: list[Seeded], after: list[dict[str, Any]] | None = None) -> list[Member]:
    """Everybody connected, authenticated and up to date; a few at a time."""
    members: list[Member] = []
    slots = asyncio.Semaphore(OPENING_AT_ONCE)

    async def one(number: int, device: Seeded) -> None:
        async with slots:
            ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

            def on_ready(_: Member) -> None:
                if not ready.done():
                    ready.set_result(None)

            member = Member(place.gateway, device, on_ready)
            if after is not None:
                member.after = after[number]
            await picows.ws_connect(  # pyright: ignore[reportUnknownMemberType]  picows leaves **kwargs open
                lambda: member,
                place.url,
                ssl_context=place.context,
                enable_auto_ping=False,
                extra_headers={"Sec-WebSocket-Protocol": "entobot.v1"},
                local_addr=(f"127.0.0.{1 + number % SOURCES}", 0),
            )
            await asyncio.wait_for(ready, WAIT_S)
            members.append(member)

    await asyncio.gather(*(one(number, device) for number, device in enumerate(devices)))
    return members


def disperse(members: list[Member]) -> None:
    for member in members:
        if member.transport is not None:
            member.transport.disconnect(graceful=False)


# -- P3


def idle(sizes: tuple[int, ...], *, has_tls: bool) -> tuple[list[Figure], list[tuple[int, float]]]:
    """Resident KiB a connection at growing sizes, and how commands fare while the most are held."""

    def sow(gateway: GatewayProcess) -> list[Seeded]:
        return seed.with_keys(gateway, users=50, devices_each=-(-sizes[-1] // DEVICE_CONNECTIONS // 50))

    async def work(place: Place, devices: list[Seeded]) -> tuple[list[tuple[int, float]], list[float], int]:
        await asyncio.sleep(2)
        empty_mb = resident_mb(place.pid)
        seats = [device for device in devices for _ in range(DEVICE_CONNECTIONS)]
        members: list[Member] = []
        points: list[tuple[int, float]] = []
        for size in sizes:
            members += await gather_crowd(place, seats[len(members) : size])
            await asyncio.sleep(2)
            points.append((size, (resident_mb(place.pid) - empty_mb) * 1024 / size))
        times = await command_times(members[0], 2000)
        lost = sum(member.is_lost for member in members)
        disperse(members)
        return points, times, lost

    with seeded(sow, has_tls=has_tls) as (place, devices):
        points, times, lost = uvloop.run(work(place, devices))
    limit, kind = (45, "TLS") if has_tls else (14, "plain")
    worst_kib, p99 = max(kib for _, kib in points), percentile(times, 0.99)
    held = f"{sizes[-1]} held, {lost} dropped"
    shown = ", ".join(f"{kib:.1f} at {size}" for size, kib in points)
    return [
        Figure(
            "P3",
            f"idle authenticated connection, {kind}",
            f"≤ {limit} KiB",
            f"{worst_kib:.1f} KiB ({shown})",
            worst_kib <= limit,
        ),
        Figure("P3", f"command p99 meanwhile, {kind}, {held}", "≤ 100 ms", milliseconds(p99), p99 <= 0.1 and not lost),
    ], points


async def command_times(member: Member, count: int) -> list[float]:
    answered = asyncio.Event()

    def on_frame(_: Member, payload: bytes) -> None:
        if payload.startswith((b'{"type":"result"', b'{"type":"error"')):
            answered.set()

    member.on_frame = on_frame
    times: list[float] = []
    for number in range(count):
        answered.clear()
        began = time.perf_counter()
        member.send(b'{"type":"command","id":"%s","name":"conversation.list","data":{}}' % ulid(number))
        await asyncio.wait_for(answered.wait(), WAIT_S)
        times.append(time.perf_counter() - began)
    return times


_LAUNCH_MS = CLOCK.now_ms()


def ulid(number: int) -> bytes:
    """The `number`-th id of this run."""
    text = ""
    value = (_LAUNCH_MS << 80) + number
    for _ in range(26):
        text = CROCKFORD[value & 31] + text
        value >>= 5
    return text.encode()


# -- P4


def storm(count: int, filler: int) -> tuple[float, float]:
    """`count` devices come back at once: seconds until the last is ready, and the gateway's CPU µs for each."""

    def sow(gateway: GatewayProcess) -> list[Seeded]:
        if filler:
            seed.paired(gateway, users=100, devices_each=filler // 100, has_tokens=False)
        return seed.paired(gateway, users=50, devices_each=count // 50, has_tokens=True)

    async def work(place: Place, devices: list[Seeded]) -> tuple[float, float]:
        members = await gather_crowd(place, devices)
        positions = {member.device.device_id: {"stream": member.stream, "after": member.seq} for member in members}
        disperse(members)
        await asyncio.sleep(1)
        results: list[tuple[float, float]] = []
        for _ in range(5):
            cpu_before, began = cpu_s(place.pid), time.perf_counter()
            members = await gather_crowd(place, devices, [positions[device.device_id] for device in devices])
            took = time.perf_counter() - began
            results.append((took, (cpu_s(place.pid) - cpu_before) / count * 1e6))
            disperse(members)
            await asyncio.sleep(1)
        return median([took for took, _ in results]), median([each for _, each in results])

    with seeded(sow, has_tls=True) as (place, devices):
        return uvloop.run(work(place, devices))


# -- P7


def fanout(connections: int) -> float:
    """Median seconds from a command's sending to the arrival of its event at the last of a user's connections."""

    def sow(gateway: GatewayProcess) -> list[Seeded]:
        return seed.with_keys(gateway, users=1, devices_each=connections // DEVICE_CONNECTIONS)

    async def work(place: Place, devices: list[Seeded]) -> float:
        members = await gather_crowd(place, [device for device in devices for _ in range(DEVICE_CONNECTIONS)])
        waiting, done = 0, asyncio.Event()

        def on_frame(_: Member, payload: bytes) -> None:
            nonlocal waiting
            if b"device.changed" in payload:
                waiting -= 1
                if not waiting:
                    done.set()

        for member in members:
            member.on_frame = on_frame
        await asyncio.sleep(1)
        times: list[float] = []
        for number in range(9):
            waiting = len(members)
            done.clear()
            began = time.perf_counter()
            members[0].send(
                b'{"type":"command","id":"%s","name":"device.rename","data":{"device_name":"%s"}}'
                % (ulid(number), b"x" * 30 + str(number).encode())
            )
            await asyncio.wait_for(done.wait(), WAIT_S)
            times.append(time.perf_counter() - began)
            await asyncio.sleep(0.1)
        disperse(members)
        return median(times)

    with seeded(sow, has_tls=False) as (place, devices):
        return uvloop.run(work(place, devices))


def fanouts(connections: int) -> list[Figure]:
    ours = fanout(connections)
    with references.running("picows") as bare:
        floor = uvloop.run(references.last_delivery_s(bare, connections, 9))
    what = f"one event to {connections} connections, last delivery"
    return [
        Figure("P7", what, "≤ 80 ms", milliseconds(ours), ours <= 0.08),
        Figure(
            "P7",
            "the same against bare picows",
            "≤ 1.6×",
            f"{ours / floor:.2f}× (bare: {milliseconds(floor)})",
            ours <= 1.6 * floor,
        ),
    ]


def storms(count: int, fillers: tuple[int, ...]) -> tuple[list[Figure], list[tuple[int, float]]]:
    """The same storm on gateways with ever more paired devices."""
    points: list[tuple[int, float]] = []
    first_s = 0.0
    for filler in fillers:
        took, each_us = storm(count, filler)
        first_s = first_s or took
        points.append((filler + count, each_us))
    rate, growth = 1e6 / points[0][1], points[-1][1] / points[0][1]
    shown = f"{rate:.0f}/s, {points[0][1]:.0f} µs of CPU each"
    return [
        Figure("P4", "devices back: TLS, token, key proof, ready", "≥ 1200/s a core", shown, rate >= 1200),
        Figure("P4", f"{count} devices back", "≤ 1 s", f"{first_s:.2f} s (load on the other core)", first_s <= 1),
        Figure(
            "P4",
            f"CPU of each with {points[-1][0]} paired devices against {points[0][0]}",
            "≤ 1.1×",
            f"{growth:.2f}×",
            growth <= 1.1,
        ),
    ], points
