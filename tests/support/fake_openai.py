"""An OpenAI-compatible server on loopback: real HTTP and server-sent events, scripted answers.

It checks the key and the shape of what it is sent, as the real ones do, and refuses a history that they would refuse.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from tests.support.served import Served

KEY = "sk-test-0123456789"
MODEL = "fake-1"
TOOL_NAME_CHARACTERS = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


@dataclass
class Text:
    """Streams the pieces. `after` is waited for before the last one."""

    pieces: Sequence[str]
    after: asyncio.Event | None = None


@dataclass
class Calls:
    """Asks for tools, several at once when there are several: (id, name, arguments as JSON text)."""

    calls: Sequence[tuple[str, str, str]]
    text: str = ""


@dataclass
class Failure:
    """Refuses with a status and a body that must never reach a person."""

    status: int
    body: Any = field(default_factory=lambda: {"error": {"message": "SECRET-PROVIDER-TEXT", "type": "x", "code": "y"}})


@dataclass
class Raw:
    """Sends these bytes as the stream and ends (or, `hangs`, never ends)."""

    data: bytes
    hangs: bool = False


Step = Text | Calls | Failure | Raw


class FakeOpenAI:
    """Answers requests with its script, in order. `requests` are the bodies it got."""

    def __init__(self, *script: Step) -> None:
        self.script = list(script)
        self.requests: list[dict[str, Any]] = []
        self.dropped = asyncio.Event()
        """Set when a client hung up before its answer ended."""
        self.reached = asyncio.Event()
        self._server: Served | None = None

    async def __aenter__(self) -> Self:
        self._server = Served(self._serve)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        await self._server.stop()

    @property
    def base_url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.port}/v1"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            self.dropped.set()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        line = await reader.readline()
        if not line:
            return False
        method, path, _ = line.decode().split()
        headers: dict[str, str] = {}
        while (raw := await reader.readline()) not in (b"\r\n", b""):
            name, _, value = raw.decode().partition(":")
            headers[name.strip().lower()] = value.strip()
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        if headers.get("authorization") != f"Bearer {KEY}":
            await self._json(
                writer, 401, {"error": {"message": "SECRET-PROVIDER-TEXT bad key", "code": "invalid_api_key"}}
            )
            return True
        if (method, path) == ("GET", "/v1/models"):
            await self._json(writer, 200, {"object": "list", "data": [{"id": MODEL, "object": "model"}]})
            return True
        assert (method, path) == ("POST", "/v1/chat/completions"), path
        request = json.loads(body)
        self.requests.append(request)
        self.reached.set()
        if (complaint := _complaint(request)) is not None:
            await self._json(writer, 400, {"error": {"message": complaint, "type": "invalid_request_error"}})
            return True
        step = self.script.pop(0) if self.script else Failure(500)
        if isinstance(step, Failure):
            await self._json(writer, step.status, step.body)
            return True
        return await self._stream(reader, writer, step)

    async def _json(self, writer: asyncio.StreamWriter, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
        writer.write(head.encode() + data)
        await writer.drain()

    async def _stream(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, step: Text | Calls | Raw
    ) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
        await writer.drain()
        if isinstance(step, Raw):
            writer.write(step.data)
            await writer.drain()
            if step.hangs:
                await self._until_dropped(reader)
            return False
        async for chunk in _chunks(step):
            if isinstance(chunk, asyncio.Event):
                waiting = asyncio.create_task(chunk.wait())
                gone = asyncio.create_task(self._until_dropped(reader))
                _, pending = await asyncio.wait({waiting, gone}, return_when=asyncio.FIRST_COMPLETED)
                for task in pending:
                    task.cancel()
                if gone.done():
                    return False
                continue
            writer.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
            await writer.drain()
        writer.write(b"data: [DONE]\n\n")
        await writer.drain()
        return False

    async def _until_dropped(self, reader: asyncio.StreamReader) -> None:
        while await reader.read(1024):
            pass
        self.dropped.set()


async def _chunks(step: Text | Calls) -> AsyncIterator[dict[str, Any] | asyncio.Event]:
    if isinstance(step, Text):
        for place, piece in enumerate(step.pieces):
            if step.after is not None and place == len(step.pieces) - 1:
                yield step.after
            yield _chunk({"role": "assistant", "content": piece})
        yield _chunk({}, "stop")
        return
    if step.text:
        yield _chunk({"role": "assistant", "content": step.text})
    for index, (call_id, name, arguments) in enumerate(step.calls):
        size = max(5, len(arguments) // 20)
        yield _chunk({"tool_calls": [_call(index, arguments[:size], call_id, name)]})
        for start in range(size, len(arguments), size):
            yield _chunk({"tool_calls": [_call(index, arguments[start : start + size])]})
    yield _chunk({}, "tool_calls")


def _call(index: int, arguments: str, call_id: str | None = None, name: str | None = None) -> dict[str, Any]:
    function: dict[str, Any] = {"arguments": arguments}
    call: dict[str, Any] = {"index": index, "function": function}
    if call_id is not None:
        call |= {"id": call_id, "type": "function"}
        function["name"] = name
    return call


def _chunk(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_790_000_000,
        "model": MODEL,
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
    }


def _complaint(request: dict[str, Any]) -> str | None:
    """What a real server would refuse: wrong names, and tool results that do not follow their calls."""
    if not request.get("stream") or not str(request["model"]).startswith(MODEL):
        return "unknown model or not a stream"
    for tool in request.get("tools", []):
        if set(tool["function"]["name"]) - TOOL_NAME_CHARACTERS:
            return f"bad tool name {tool['function']['name']}"
    open_calls: list[str] = []
    for message in request["messages"]:
        if message["role"] == "tool":
            if message["tool_call_id"] not in open_calls:
                return "a tool result without its call"
            open_calls.remove(message["tool_call_id"])
            continue
        if open_calls:
            return "a tool call without its result"
        open_calls = [call["id"] for call in message.get("tool_calls") or []]
    return "a tool call without its result" if open_calls else None
