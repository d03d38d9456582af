"""Records to a syslog server over TLS (RFC 5425), each with its length before it."""

import asyncio
import fcntl
import ssl
import struct
import sys
import termios
from collections import deque
from collections.abc import Callable, Sequence

from entobot.audit.sink import SinkFailed

CONNECT_S = 10.0
SEND_S = 30.0
FIRST_OVERLAP = 256
"""Records that a new process sends again: it does not know how far the one before it came."""
UNREAD_BYTES = 4 * 1024 * 1024
"""So much may lie at the receiver's system, confirmed by it and read by nobody, when a connection breaks."""
LOOK_EVERY_S = 0.01


class SyslogSink:
    """See `Sink`. Syslog has no receipts. Sent is what the receiver's system has confirmed; what its program may not
    have read when a connection breaks is sent again on the next one.
    """

    def __init__(self, host: str, port: int, context: Callable[[], ssl.SSLContext]) -> None:
        self._under_way: deque[int] = deque()
        """Sizes of the newest records on this connection, UNREAD_BYTES together."""
        self._bytes_under_way = 0
        self._unknown = FIRST_OVERLAP
        self._host = host
        self._port = port
        self._context = context
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._listening: asyncio.Task[bytes] | None = None

    @property
    def overlap(self) -> int:
        return self._unknown + len(self._under_way)

    @property
    def is_open(self) -> bool:
        return self._writer is not None and self._listening is not None and not self._listening.done()

    async def send(self, records: Sequence[str]) -> None:
        try:
            writer = self._writer if self._writer is not None and self.is_open else await self._open()
            for record in records:
                data = record.encode("utf-8")
                writer.write(b"%d " % len(data) + data)
                self._note(len(data))
            async with asyncio.timeout(SEND_S):
                await writer.drain()
                await _confirmed(writer)
        except (OSError, TimeoutError) as error:
            await self.close()
            raise SinkFailed(f"the receiver cannot be reached ({_why(error)})") from None
        if not self.is_open:
            await self.close()
            raise SinkFailed("the receiver closed the connection")

    async def close(self) -> None:
        listening, writer = self._listening, self._writer
        self._listening = self._reader = self._writer = None
        if listening is not None:
            listening.cancel()
        if writer is not None:
            writer.close()
            try:
                async with asyncio.timeout(1):
                    await writer.wait_closed()
            except (OSError, TimeoutError):
                writer.transport.abort()

    def _note(self, size: int) -> None:
        self._under_way.append(size)
        self._bytes_under_way += size
        while self._bytes_under_way > UNREAD_BYTES:
            self._bytes_under_way -= self._under_way.popleft()

    async def _open(self) -> asyncio.StreamWriter:
        await self.close()
        self._under_way.clear()
        self._bytes_under_way = self._unknown = 0
        context = await asyncio.to_thread(self._context)
        async with asyncio.timeout(CONNECT_S):
            self._reader, self._writer = await asyncio.open_connection(
                self._host, self._port, ssl=context, server_hostname=self._host
            )
        # A syslog server says nothing: what can be read is the end of the connection.
        self._listening = asyncio.get_running_loop().create_task(self._reader.read(1), name="audit syslog")
        self._listening.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._writer


async def _confirmed(writer: asyncio.StreamWriter) -> None:
    """Until the other system has acknowledged every byte (tcp(7), SIOCOUTQ), seen twice: between two writes of the
    transport the queue may be empty for a moment. Only Linux says so.
    """
    socket, seen = writer.get_extra_info("socket"), 0
    while sys.platform == "linux" and seen < 2 and not writer.transport.is_closing():
        queued = struct.unpack("i", fcntl.ioctl(socket.fileno(), termios.TIOCOUTQ, bytes(4)))[0]
        seen = 0 if queued or writer.transport.get_write_buffer_size() else seen + 1
        await asyncio.sleep(LOOK_EVERY_S if queued else 0)


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or "TLS"
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else type(error).__name__
