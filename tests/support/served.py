"""A server of a test, on loopback: at its end no connection of it is left, not even one that was just coming in.

`asyncio.start_server` of Python 3.11 leaves those open; whoever collects the garbage later is then told of them.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Self

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Served:
    """Listens on `port`, 0 for a free one. `serve` has each connection in a task of its own, which `stop` cancels."""

    def __init__(
        self, serve: Serve, port: int = 0, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
    ) -> None:
        self._serve = serve
        self._tls = tls
        self._listener = socket.create_server((host, port), backlog=256)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._is_open = True
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._listener, self._accept)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Nothing where it has been stopped. Who is still served is cut off without a word."""
        if not self._is_open:
            return
        self._is_open = False
        self._loop.remove_reader(self._listener)
        self._listener.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            connection, _ = self._listener.accept()
            task = self._loop.create_task(self._take(connection))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(lambda _: connection.close())  # it may have been cancelled before it began

    async def _take(self, connection: socket.socket) -> None:
        reader = asyncio.StreamReader()
        writers: list[asyncio.StreamWriter] = []
        protocol = asyncio.StreamReaderProtocol(reader, lambda _, writer: writers.append(writer))
        with contextlib.suppress(OSError):  # whoever is there hangs up, or does not like the certificate
            await self._loop.connect_accepted_socket(lambda: protocol, connection, ssl=self._tls)
            (writer,) = writers
            try:
                await self._serve(reader, writer)
                if self._is_open:
                    writer.close()
                    await writer.wait_closed()
            finally:
                writer.transport.abort()
                await writer.wait_closed()
