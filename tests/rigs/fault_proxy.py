"""A TCP proxy with faults: delay, a slow line, a line that is dead without saying so, a reset, a cut in mid-message."""

import asyncio
import random
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.support.served import Served

CHUNK = 65536


@dataclass
class Faults:
    """Changed while connections are open. All of it holds for both directions."""

    delay_s: float = 0.0
    jitter_s: float = 0.0
    bytes_per_s: float | None = None
    is_dead: bool = False
    """Bytes are taken and never delivered; nothing is closed. New connections are accepted and stay silent."""
    is_refusing: bool = False
    reset_after: int | None = None
    """Bytes that a connection may still carry; then it is reset, in the middle of whatever it was."""


@dataclass
class _Pair:
    writers: tuple[asyncio.StreamWriter, asyncio.StreamWriter]
    carried: int = 0

    def reset(self) -> None:
        for writer in self.writers:
            raw = writer.get_extra_info("socket")
            with suppress(OSError):
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


@dataclass
class FaultProxy:
    """Listens at `host`, on a free port, while it is entered; carries each connection to `upstream` (host, port) or one of
    the `others`, whichever answers.
    """

    upstream: tuple[str, int]
    host: str = "127.0.0.1"
    seed: int = 0
    faults: Faults = field(default_factory=Faults)
    port: int = 0
    others: Sequence[tuple[str, int]] = ()
    _pairs: list[_Pair] = field(default_factory=list[_Pair])

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        self._random = random.Random(self.seed)
        self._server = Served(self._serve, self.port, host=self.host)
        self.port = self._server.port

    async def stop(self) -> None:
        await self._server.stop()

    @property
    def open(self) -> int:
        return len(self._pairs)

    def reset(self) -> None:
        """Break every open connection with a RST."""
        for pair in tuple(self._pairs):
            pair.reset()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.CancelledError):
            await self._carry(reader, writer)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.faults.is_refusing:
            _Pair((writer, writer)).reset()
            return
        upstream_reader, upstream_writer = await self._reach()
        pair = _Pair((writer, upstream_writer))
        self._pairs.append(pair)
        try:
            await asyncio.gather(self._pump(reader, upstream_writer, pair), self._pump(upstream_reader, writer, pair))
        finally:
            self._pairs.remove(pair)
            upstream_writer.close()

    async def _reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        places = [self.upstream, *self.others]
        for upstream in self._random.sample(places, len(places)):
            with suppress(OSError):
                return await asyncio.open_connection(*upstream)
        raise ConnectionRefusedError("nobody answers")

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pair: _Pair) -> None:
        while data := await reader.read(CHUNK):
            while self.faults.is_dead:  # noqa: ASYNC110  the test sets a plain value, from wherever it is
                await asyncio.sleep(0.05)
            faults = self.faults  # as they are now: a test may have put others in their place
            pause_s = faults.delay_s + self._random.uniform(0, faults.jitter_s)
            pause_s += len(data) / faults.bytes_per_s if faults.bytes_per_s else 0
            if pause_s:
                await asyncio.sleep(pause_s)
            pair.carried += len(data)
            if faults.reset_after is not None and pair.carried > faults.reset_after:
                writer.write(data[: max(0, len(data) - (pair.carried - faults.reset_after))])
                await asyncio.sleep(0)
                pair.reset()
                return
            writer.write(data)
            await writer.drain()
        with suppress(OSError):
            writer.write_eof()
