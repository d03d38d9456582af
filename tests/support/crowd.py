"""Thousands of devices in one process: bare sockets that speak just enough of docs/protocol.md §5."""

import asyncio
import json
import os
import resource
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from struct import pack
from typing import Any

from tests.support.process import GENEROUS_S

Frame = dict[str, Any]
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
AT_ONCE = 100
"""Handshakes that are under way at once."""
_UPGRADE = (
    "GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: entobot.v1\r\n\r\n"
)


class Member(asyncio.Protocol):
    """One connection. `frames` are kept, `close_code` is 1006 when the line was cut without one."""

    def __init__(self, auth: Frame) -> None:
        self.frames: list[Frame] = []
        self.ready: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self.gone: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.on_frame: Callable[[Frame], None] = lambda _: None
        self.close_code = 1006
        self.auth = auth
        self._buffer = bytearray()
        self._is_open = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(_UPGRADE.encode())

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ready.done():
            self.ready.set_exception(ConnectionError(f"closed with {self.close_code} before ready: {self.frames}"))
        if not self.gone.done():
            self.gone.set_result(self.close_code)

    def send(self, frame: Frame) -> None:
        self._write(TEXT, json.dumps(frame).encode())

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _write(self, opcode: int, payload: bytes) -> None:
        assert self._transport is not None
        if self._transport.is_closing():
            return
        mask = os.urandom(4)
        size = len(payload)
        head = bytes((0x80 | opcode, 0x80 | size)) if size < 126 else bytes((0x80 | opcode, 0xFE)) + pack("!H", size)
        masked = bytes(byte ^ mask[n % 4] for n, byte in enumerate(payload))
        self._transport.write(head + mask + masked)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._is_open:
            head, found, rest = bytes(self._buffer).partition(b"\r\n\r\n")
            if not found:
                return
            assert head.startswith(b"HTTP/1.1 101"), head
            self._is_open, self._buffer = True, bytearray(rest)
        while (parsed := _first_frame(self._buffer)) is not None:
            opcode, payload, used = parsed
            del self._buffer[:used]
            self._receive(opcode, payload)

    def _receive(self, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            self._write(PONG, payload)
        elif opcode == CLOSE:
            self.close_code = int.from_bytes(payload[:2], "big")
            self._write(CLOSE, payload[:2])
            assert self._transport is not None
            self._transport.close()
        elif opcode == TEXT:
            self._read(json.loads(payload))

    def _read(self, frame: Frame) -> None:
        self.frames.append(frame)
        if frame["type"] == "hello":
            self.send({"type": "auth", **self.auth})
        elif frame["type"] == "ready" and not self.ready.done():
            self.ready.set_result(frame)
        elif frame["type"] == "event" and "seq" in frame:
            self.send({"type": "ack", "seq": frame["seq"]})
        self.on_frame(frame)

    def told_to_come_back_s(self) -> float | None:
        named = [frame["retry_after_s"] for frame in self.frames if "retry_after_s" in frame and "id" not in frame]
        return named[-1] if named else None


def _first_frame(buffer: bytearray) -> tuple[int, bytes, int] | None:
    if len(buffer) < 2:
        return None
    size, at = buffer[1], 2
    if size >= 126:
        width = 2 if size == 126 else 8
        if len(buffer) < 2 + width:
            return None
        size, at = int.from_bytes(buffer[2 : 2 + width], "big"), 2 + width
    if len(buffer) < at + size:
        return None
    return buffer[0] & 0x0F, bytes(buffer[at : at + size]), at + size


@asynccontextmanager
async def crowd(port: int, auths: Iterable[Frame]) -> AsyncGenerator[list[Member]]:
    """Connections that are `ready`, one for each of the credentials; plain WebSocket on loopback."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    members: list[Member] = []
    places = asyncio.Semaphore(AT_ONCE)

    async def join(auth: Frame) -> None:
        async with places:
            member = Member(auth)
            members.append(member)
            await asyncio.get_running_loop().create_connection(lambda: member, "127.0.0.1", port)
            await asyncio.wait_for(member.ready, GENEROUS_S)

    try:
        await asyncio.gather(*(join(auth) for auth in auths))
        yield members
    finally:
        for member in members:
            member.close()
