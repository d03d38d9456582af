"""MCP over streamable HTTP, in the gateway's own process. Loaded when the first agent speaks it.

Every request stands for itself, so any node answers it. What the tools do goes through the gateway's own REST routes,
with the credentials of the request: an agent has no more here than there, and is counted alike.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from contextvars import Context, ContextVar
from typing import Any

import httpx
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from entobot.core.clock import Clock
from entobot.core.errors import Code, Problem
from entobot.mcp.courier import offer_contents
from entobot.mcp.human import Row
from entobot.mcp.human_rest import RestHuman
from entobot.mcp.server import build

_CALLER: ContextVar[RestHuman] = ContextVar("caller")
_OF_THE_TRANSPORT = (b"accept", b"content-length", b"mcp-session-id")
"""Headers that say nothing here: both kinds of answer are given, the body was read, and there are no sessions."""
_REQUEST = "http.request"
"""Of ASGI: the body."""
_ANSWERS = (b"accept", b"application/json, text/event-stream")


class CallersHuman:
    """`mcp.human.Human` for whoever's request is being answered. Once `is_over` nobody is waited for any more."""

    def __init__(self) -> None:
        self.is_over = False

    def _unless_over(self, row: Row) -> Row:
        if self.is_over and row["state"] in ("open", "pending"):
            raise Problem(Code.DRAINING, "The gateway is being stopped. It waits on; look again in a minute.")
        return row

    async def send(self, method: str, path: str, **options: Any) -> Row:
        """See `courier.Send`."""
        return await _CALLER.get().send(method, path, **options)

    async def notify(self, note: Mapping[str, Any]) -> Row:
        return await _CALLER.get().notify(note)

    async def ask(self, question: Mapping[str, Any]) -> Row:
        return await _CALLER.get().ask(question)

    async def look(self, question_id: str, wait_s: float) -> Row:
        return self._unless_over(await _CALLER.get().look(question_id, wait_s))

    async def take_back(self, question_id: str) -> Row:
        return await _CALLER.get().take_back(question_id)

    async def request(self, wish: Mapping[str, Any]) -> Row:
        return await _CALLER.get().request(wish)

    async def look_at_request(self, request_id: str, wait_s: float) -> Row:
        return self._unless_over(await _CALLER.get().look_at_request(request_id, wait_s))

    async def take_back_request(self, request_id: str) -> Row:
        return await _CALLER.get().take_back_request(request_id)


class Streaming:
    """`await start()`, `answer` as often as wanted, `await stop()`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._people = CallersHuman()
        server = build(self._people, clock)
        offer_contents(server, self._people.send)
        # Whose page may speak with us, and under which name, the gateway has checked for every route.
        trusting = TransportSecuritySettings(enable_dns_rebinding_protection=False)
        server.streamable_http_app(stateless_http=True, transport_security=trusting)
        self._manager: StreamableHTTPSessionManager = server.session_manager
        self._is_ready, self._is_over = asyncio.Event(), asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        # Not in the context of the request that came first: what is bound to it would stand in every later line of log.
        self._task = asyncio.create_task(self._keep(), context=Context())
        await self._is_ready.wait()

    def end_waits(self) -> None:
        """Calls that wait for a person say so, and end with their next look."""
        self._people.is_over = True

    async def stop(self) -> None:
        """Calls that are still open end without an answer."""
        self._is_over.set()
        if self._task is not None:
            with suppress(asyncio.CancelledError):
                await self._task

    async def _keep(self) -> None:
        """The SDK wants its context entered and left by the same task."""
        async with self._manager.run():
            self._is_ready.set()
            await self._is_over.wait()

    async def answer(self, app: ASGIApp, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        """One request, whose body was read; `app` is the gateway's own, as the tools reach it."""
        headers = [(name, value) for name, value in scope["headers"] if name not in _OF_THE_TRANSPORT]
        async with self._human(app, scope) as http:
            token = _CALLER.set(RestHuman(http, self._clock))
            try:
                inner = {**scope, "headers": [*headers, _ANSWERS]}
                await self._manager.handle_request(inner, _again(body, receive), send)
            finally:
                _CALLER.reset(token)

    def _human(self, app: ASGIApp, scope: Scope) -> httpx.AsyncClient:
        """REST as the same caller: from the same address, with the same token or over the same local socket."""
        outer = scope.get("extensions", {})

        async def relay(inner: Scope, receive: Receive, send: Send) -> None:
            await app({**inner, "extensions": outer}, receive, send)

        host, port = scope.get("client") or ("", 0)
        transport = httpx.ASGITransport(relay, client=(host, port))
        sent = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        credentials = {name: sent[name] for name in ("authorization",) if name in sent}
        return httpx.AsyncClient(transport=transport, base_url="http://gateway", headers=credentials)


def _again(body: bytes, receive: Receive) -> Receive:
    is_told = False

    async def told() -> Message:
        nonlocal is_told
        if is_told:
            return await receive()
        is_told = True
        return {"type": _REQUEST, "body": body, "more_body": False}

    return told
