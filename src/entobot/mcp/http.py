"""`POST /mcp`: the Model Context Protocol over streamable HTTP, with an API key."""

import asyncio
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from fastapi import Request, Response
from msgspec import UNSET, UnsetType
from starlette.types import ASGIApp, Receive, Scope, Send

from entobot.core.clock import Clock
from entobot.core.errors import Code, Problem
from entobot.core.unreadable import UNREADABLE
from entobot.web.authentication import caller, is_local
from entobot.web.routes import Api

if TYPE_CHECKING:
    from entobot.mcp.streaming import Streaming

AT = "/mcp"
MAX_BODY_BYTES = 1024 * 1024
MAX_CALLS = 16
"""Of one token at a time: a call that waits for a person holds a connection."""
STOP_WITHIN_S = 2.0
_MESSAGE = {
    "type": "object",
    "required": ["jsonrpc", "method"],
    "properties": {
        "jsonrpc": {"const": "2.0"},
        "method": {"type": "string", "maxLength": 128},
        "id": {"anyOf": [{"type": "string", "maxLength": 128}, {"type": "integer"}]},
        "params": {"type": "object"},
    },
}
_ANSWER = {"application/json": {"schema": {"type": "object"}}}
OPERATION: dict[str, Any] = {
    "summary": "Speak the Model Context Protocol (streamable HTTP, without sessions).",
    "requestBody": {"required": True, "content": {"application/json": {"schema": _MESSAGE}}},
    "responses": {
        "200": {
            "description": "The answer, or events that end with it.",
            "content": _ANSWER | {"text/event-stream": {}},
        },
        "202": {"description": "A notification was taken."},
        "400": {"description": "Not a message of a version that is spoken here.", "content": _ANSWER},
        "404": {"description": "No such method.", "content": _ANSWER},
    },
}


class Message(msgspec.Struct):
    """JSON-RPC 2.0, as far as it is read here."""

    jsonrpc: Literal["2.0"]
    method: str
    id: int | str | UnsetType = UNSET
    params: dict[str, Any] | UnsetType = UNSET


class McpDoor:
    """Refuses before anything is loaded: memory is spent for who holds a token only."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._streaming: Streaming | None = None
        self._loading = asyncio.Lock()
        self._is_idle = asyncio.Event()
        self._calls: Counter[str] = Counter()

    def add_routes(self, api: Api) -> None:
        problems = [Code.INVALID, Code.DRAINING]
        api.add_raw("POST", AT, self.speak_mcp, max_body_bytes=MAX_BODY_BYTES, problems=problems, operation=OPERATION)

    async def speak_mcp(self, request: Request) -> Response:
        principal = caller(request)
        if not is_local(request) and not request.headers.get("authorization", "").lower().startswith("bearer "):
            raise Problem(
                Code.FORBIDDEN, "Agents come here with an API key: entobot devices add-key NAME --scopes notify"
            )
        body = await request.body()
        try:
            msgspec.json.decode(body, type=Message)
        except UNREADABLE as error:
            raise Problem(Code.INVALID, f"This is no message of JSON-RPC 2.0: {error}.") from None
        who = principal.device_id or principal.user_id
        if self._calls[who] >= MAX_CALLS:
            raise Problem(Code.RATE_LIMITED, f"{MAX_CALLS} calls of this token are open.", retry_after_s=5)
        return _Handed(self, who, request.app, body)

    async def answer(self, who: str, app: ASGIApp, body: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        self._calls[who] += 1
        self._is_idle.clear()
        try:
            streaming = await self._loaded()
            await streaming.answer(app, scope, body, receive, send)
        finally:
            self._calls[who] -= 1
            self._calls += Counter()  # what is at zero is dropped
            if not self._calls:
                self._is_idle.set()

    async def _loaded(self) -> "Streaming":
        async with self._loading:
            if self._streaming is None:
                make = await asyncio.to_thread(_load)
                self._streaming = make(self._clock)
                await self._streaming.start()
        return self._streaming

    async def stop(self) -> None:
        """Who waits for a person is told to come back, within two seconds."""
        streaming = self._streaming
        if streaming is None:
            return
        streaming.end_waits()
        if self._calls:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._is_idle.wait(), STOP_WITHIN_S)
        await streaming.stop()


class _Handed(Response):
    """An answer that somebody else writes."""

    def __init__(self, door: McpDoor, who: str, app: ASGIApp, read: bytes) -> None:
        super().__init__()
        self._door, self._who, self._app, self._read = door, who, app, read

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._door.answer(self._who, self._app, self._read, scope, receive, send)


def _load() -> "type[Streaming]":
    """Blocks for a second: the SDK is large."""
    from entobot.mcp.streaming import Streaming

    return Streaming
