"""Records to a syslog server over TLS (RFC 5425), each with its length before it."""

import asyncio
import ssl
from collections.abc import Callable, Sequence

from entobot.audit.sink import SinkFailed

CONNECT_S = 10.0
SEND_S = 30.0


class SyslogSink:
    """See `Sink`. Syslog has no receipts: what was under way when a connection broke is sent again on the next one."""

    overlap = 256

    def __init__(self, host: str, port: int, context: Callable[[], ssl.SSLContext]) -> None:
        self._host = host
        self._port = port
        self._context = context
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._listening: asyncio.Task[bytes] | None = None

    @property
    def is_open(self) -> bool:
        return self._writer is not None and self._listening is not None and not self._listening.done()

    async def send(self, records: Sequence[str]) -> None:
        try:
            writer = self._writer if self._writer is not None and self.is_open else await self._open()
            for record in records:
                data = record.encode("utf-8")
                writer.write(b"%d " % len(data) + data)
            async with asyncio.timeout(SEND_S):
                await writer.drain()
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

    async def _open(self) -> asyncio.StreamWriter:
        await self.close()
        context = await asyncio.to_thread(self._context)
        async with asyncio.timeout(CONNECT_S):
            self._reader, self._writer = await asyncio.open_connection(
                self._host, self._port, ssl=context, server_hostname=self._host
            )
        # A syslog server says nothing: what can be read is the end of the connection.
        self._listening = asyncio.get_running_loop().create_task(self._reader.read(1), name="audit syslog")
        self._listening.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._writer


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or "TLS"
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else type(error).__name__
