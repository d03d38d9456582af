"""JSON-RPC messages as lines of an agent's pipes, within bounds: an agent decides neither how much memory it takes nor
how long one of its lines is.
"""

import asyncio
import json
from collections.abc import Callable
from typing import Any, cast

MAX_LINE_BYTES = 4 * 1024 * 1024
MAX_STRAY_LINES = 50
"""Lines that are no message, in a row: a program that greets is forgiven, one that speaks something else is not."""


class NotTheProtocol(Exception):  # noqa: N818  reads as what happened
    """What comes from the agent is no ACP. The text is for people."""


class Lines:
    """A `Transport` of the ACP library. `is_full` says whether those who take messages want no more for now, and
    `has_room` wakes when they do again.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        has_room: asyncio.Event,
        on_end: Callable[[str], None],
        on_eof: Callable[[str], None],
    ) -> None:
        """`on_end` is told why nothing more is read, `on_eof` that nothing more comes; one of them, once."""
        self._reader = reader
        self._writer = writer
        self._has_room = has_room
        self._on_end = on_end
        self._on_eof = on_eof
        self._strays = 0

    async def send(self, message: dict[str, Any]) -> None:
        """Raises ConnectionError, OSError."""
        self._writer.write(json.dumps(message, ensure_ascii=True, separators=(",", ":")).encode() + b"\n")
        await self._writer.drain()

    async def receive(self) -> dict[str, Any] | None:
        try:
            return await self._next()
        except NotTheProtocol as refusal:
            self._on_end(str(refusal))
            return None

    async def close(self) -> None:
        self._writer.close()

    async def _next(self) -> dict[str, Any] | None:
        while True:
            await self._has_room.wait()
            line = await self._line()
            if line is None:
                self._on_eof("it ended its output")
                return None
            message = _message(line)
            if message is not None:
                self._strays = 0
                return message
            self._strays += bool(line.strip())
            if self._strays > MAX_STRAY_LINES:
                raise NotTheProtocol("it writes something else than ACP to its standard output")

    async def _line(self) -> bytes | None:
        try:
            return await self._reader.readuntil(b"\n")
        except asyncio.IncompleteReadError:
            return None
        except asyncio.LimitOverrunError:
            raise NotTheProtocol(f"a line of its output is longer than {MAX_LINE_BYTES} bytes") from None
        except OSError:
            return None


def _message(line: bytes) -> dict[str, Any] | None:
    try:
        value: object = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    message = cast("dict[str, Any]", value)
    if not isinstance(message.get("method", ""), str) or not isinstance(message.get("id", 0), int | str | None):
        return None
    error = message.get("error")
    if "method" not in message and "result" not in message and not isinstance(error, dict):
        return None
    return message
