"""A real listener on loopback, its WebSockets, and raw clients to be rude with."""

import asyncio
import struct
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import uvloop

from entobot.core.clock import SystemClock
from entobot.gateway.limits import CountCaps, WaitingRoom
from entobot.gateway.link import Link, MakeHandler
from entobot.gateway.upgrade import OriginPolicy, UpgradeRequest
from entobot.gateway.websocket import WebSockets
from entobot.gateway.wheel import TimerWheel
from entobot.web.callers import Callers
from entobot.web.endpoints import TcpEndpoint, UnixEndpoint
from entobot.web.http_protocol import HttpLimits
from entobot.web.listener import Listener

PATIENCE_S = 20.0
ORIGIN = "https://gateway.example:18790"
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@dataclass
class Recorder:
    """A LinkHandler that remembers; `heard` is set by every call."""

    link: Link
    request: UpgradeRequest
    events: list[tuple[str, Any]] = field(default_factory=list)
    heard: asyncio.Event = field(default_factory=asyncio.Event)

    def _note(self, name: str, value: Any = None) -> None:
        self.events.append((name, value))
        self.heard.set()

    def opened(self) -> None:
        self._note("opened")

    def text(self, payload: bytes) -> None:
        self._note("text", payload)

    def binary(self) -> None:
        self._note("binary")
        self.link.close(4503, "binary")

    def too_large(self) -> None:
        self._note("too_large")
        self.link.close(4505, "too large")

    def pong(self) -> None:
        self._note("pong")

    def over_limit(self, wait_s: float) -> None:
        self._note("over_limit", wait_s)
        self.link.close(4004, "too many pings")

    def writable(self) -> None:
        self._note("writable")

    def closed(self, code: int) -> None:
        self._note("closed", code)

    def values(self, name: str) -> list[Any]:
        return [value for event, value in self.events if event == name]

    async def hears(self, name: str, count: int = 1) -> list[Any]:
        async with asyncio.timeout(PATIENCE_S):
            while len(self.values(name)) < count:
                self.heard.clear()
                await self.heard.wait()
        return self.values(name)


class Recorders:
    """Makes one Recorder a link; `kind` may be a subclass."""

    def __init__(self, kind: type[Recorder] = Recorder) -> None:
        self.kind = kind
        self.made: list[Recorder] = []

    def __call__(self, link: Link, request: UpgradeRequest) -> Recorder:
        recorder = self.kind(link, request)
        self.made.append(recorder)
        return recorder


async def hello_app(scope: Any, receive: Any, send: Any) -> None:
    """Reads the body, then answers what it was asked."""
    body = b""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message["body"]
        more = message["more_body"]
    local = scope.get("extensions", {}).get("entobot.local_peer")
    text = f"{scope['method']} {scope['path']} {len(body)} {local and local['uid']} {scope['client'] and scope['client'][0]}"
    answer = text.encode()
    headers = [(b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


@dataclass
class Serving:
    listener: Listener
    wheel: TimerWheel
    waiting: WaitingRoom
    recorders: Recorders

    @property
    def port(self) -> int:
        return self.listener.port


@asynccontextmanager
async def serving(
    *,
    app: Any = hello_app,
    recorders: Recorders | None = None,
    make: MakeHandler | None = None,
    websockets: type[WebSockets] = WebSockets,
    endpoints: Sequence[TcpEndpoint | UnixEndpoint] = (TcpEndpoint("127.0.0.1", 0),),
    limits: HttpLimits | None = None,
    waiting: WaitingRoom | None = None,
    per_address: CountCaps | None = None,
    callers: Callers | None = None,
    max_connections: int = 1000,
) -> AsyncGenerator[Serving]:
    clock = SystemClock()
    wheel = TimerWheel(clock, asyncio.get_running_loop().call_later, slot_s=0.02)
    waiting = waiting or WaitingRoom(per_key=100, total=400, clock=clock)
    recorders = recorders or Recorders()
    policy = OriginPolicy(origins=[ORIGIN], subprotocols=["entobot.v1"])
    listener = Listener(
        app=app,
        websocket=websockets(admit=policy, make=make or recorders, timers=wheel),
        endpoints=endpoints,
        clock=clock,
        timers=wheel,
        waiting=waiting,
        per_address=per_address,
        callers=callers,
        limits=limits,
        max_connections=max_connections,
    )
    await listener.start()
    try:
        yield Serving(listener, wheel, waiting, recorders)
    finally:
        await listener.stop(2.0)
        wheel.close()


@dataclass
class Raw:
    """A client that sends bytes."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def stop_reading(self) -> None:
        transport: Any = self.writer.transport
        transport.pause_reading()

    def read_again(self) -> None:
        transport: Any = self.writer.transport
        transport.resume_reading()

    async def until(self, end: bytes) -> bytes:
        async with asyncio.timeout(PATIENCE_S):
            return await self.reader.readuntil(end)

    async def exactly(self, count: int) -> bytes:
        async with asyncio.timeout(PATIENCE_S):
            return await self.reader.readexactly(count)

    async def to_end(self) -> bytes:
        """All that comes until the server ends the connection; a reset is an end."""
        data = b""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    chunk = await self.reader.read(65536)
                except ConnectionError:
                    return data
                if not chunk:
                    return data
                data += chunk

    async def response(self) -> tuple[int, bytes, bytes]:
        head = await self.until(b"\r\n\r\n")
        size = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                size = int(line.split(b":")[1])
        return int(head.split()[1]), head, await self.exactly(size)

    async def frame(self) -> tuple[int, bytes]:
        """The next frame: its first byte without FIN, and its payload."""
        first, size = await self.exactly(2)
        if size == 126:
            size = int.from_bytes(await self.exactly(2), "big")
        elif size == 127:
            size = int.from_bytes(await self.exactly(8), "big")
        return first & 0x7F, await self.exactly(size)

    async def close_code(self) -> int:
        opcode, payload = await self.frame()
        assert opcode == 8
        return int.from_bytes(payload[:2], "big")


@asynccontextmanager
async def raw(port: int, **options: Any) -> AsyncGenerator[Raw]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22, **options)
    try:
        yield Raw(reader, writer)
    finally:
        writer.transport.abort()


def upgrade_request(path: str = "/ws", **headers: str) -> bytes:
    fields = {
        "Host": "gateway.example",
        "Upgrade": "websocket",
        "Connection": "keep-alive, Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    } | {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items() if value)]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def masked(opcode: int, payload: bytes = b"", *, is_final: bool = True, rsv: int = 0) -> bytes:
    """A client's frame."""
    key = b"\x12\x34\x56\x78"  # fixed: frames are parameters of tests, and their ids must not change
    first = (0x80 if is_final else 0) | rsv << 4 | opcode
    size = len(payload)
    if size < 126:
        head = bytes((first, 0x80 | size))
    elif size < 1 << 16:
        head = struct.pack("!BBH", first, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, size)
    repeated = (key * (size // 4 + 1))[:size]
    body = (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(size, "big") if size else b""
    return head + key + body


@asynccontextmanager
async def websocket(serving: Serving, **headers: str) -> AsyncGenerator[tuple[Raw, Recorder]]:
    """A link, both ends in hand."""
    async with raw(serving.port) as client:
        await client.send(upgrade_request(**headers))
        head = await client.until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        yield client, serving.recorders.made[-1]


Condition = Callable[[], bool]


async def eventually(condition: Condition) -> None:
    """Wait for a state of another task; fails after a generous time."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110  the state is the product's, which has nobody to tell
            await asyncio.sleep(0.01)
