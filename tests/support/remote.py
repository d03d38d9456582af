"""Agents behind a URL, on loopback: those of libraries in a thread of their own, and those that keep to nothing."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Self

import uvicorn

from tests.support.served import Served


class InThread:
    """An ASGI application, served by a loop that is not the test's."""

    def __init__(self, make: Callable[[str], Any]) -> None:
        """`make` is given the address that it will have."""
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(make(self.url), log_config=None, lifespan="off", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=lambda: self._server.run([self._socket]), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()


@dataclass
class Asked:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """Whoever asked has closed the connection."""


Answer = Callable[[Asked], AsyncIterator[bytes]]
"""The bytes of an answer, head and all, as they are sent."""


class Rogue:
    """An HTTP server that answers whatever it is told to: bytes, whether they mean something or not."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[Asked] = []
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = Served(self._serve)
        self.url = f"http://127.0.0.1:{self._server.port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            method, path, _ = (await reader.readline()).decode().split(" ", 2)
            headers: dict[str, str] = {}
            while (raw := await reader.readline()) not in (b"\r\n", b""):
                name, _, value = raw.decode().partition(":")
                headers[name.strip().lower()] = value.strip()
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            asked = Asked(method, path, headers, body)
            self.asked.append(asked)
            watch = asyncio.create_task(_watch(reader, asked))
            try:
                async for piece in self.answer(asked):
                    writer.write(piece)
                    await writer.drain()
            finally:
                watch.cancel()


async def _watch(reader: asyncio.StreamReader, asked: Asked) -> None:
    with contextlib.suppress(ConnectionError):
        while await reader.read(1024):
            pass
    asked.gone.set()


def head(status: int = 200, media_type: str = "text/event-stream", **more: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"content-type: {media_type}", "connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in more.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
