"""REST: `POST /api/v1/commands` and `GET /api/v1/events`, the WebSocket's commands and events over plain HTTP."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Annotated

import msgspec
from fastapi import Request, Response
from msgspec import Meta, Raw, Struct
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from entobot.core.clock import Clock
from entobot.core.errors import Code, Problem
from entobot.core.principal import Principal
from entobot.gateway import wire
from entobot.gateway.delivery import Delivery
from entobot.gateway.executor import Executor
from entobot.gateway.feed import Feed, Opening, Standing, standing_of
from entobot.gateway.frames import CloseCode
from entobot.gateway.hub import SOONEST_RETURN_S, Hub
from entobot.gateway.link import Timer, Timers
from entobot.gateway.live import Live
from entobot.gateway.meters import ConnectionMeters
from entobot.gateway.session import EXPIRES_NEVER_S
from entobot.gateway.wire import Close, Resume
from entobot.storage.database import Database, Transaction
from entobot.telemetry.meters import Meters
from entobot.web.authentication import caller
from entobot.web.routes import Api

COMMENT_EVERY_S = 15.0
MAX_STREAM_NAME = 64
COMMAND_PROBLEMS = (
    Code.ACTION_NOT_PRESENTABLE,
    Code.APPROVAL_ALREADY_DECIDED,
    Code.APPROVAL_EXPIRED,
    Code.HASH_MISMATCH,
    Code.IDEMPOTENCY_MISMATCH,
    Code.NOT_FOUND,
    Code.SIGNATURE_INVALID,
)
"""What a command may answer beyond what every route may."""


class CommandBody(Struct, forbid_unknown_fields=True):
    id: Annotated[str, Meta(min_length=26, max_length=26)]
    name: Annotated[str, Meta(max_length=64)]
    data: Raw = Raw(b"{}")


class LoopTimers:
    """`link.Timers` on the running loop; for parts that have no timer wheel."""

    def after(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        return asyncio.get_running_loop().call_later(delay_s, callback)


@dataclass(frozen=True, slots=True)
class EventParts:
    database: Database
    clock: Clock
    hub: Hub
    feed: Feed
    timers: Timers = field(default_factory=LoopTimers)
    meters: ConnectionMeters = field(default_factory=lambda: ConnectionMeters(Meters(), "sse"))
    come_back_s: Callable[[], float] = lambda: SOONEST_RETURN_S
    """When somebody who is sent away should come back; each time another one."""


class EventStream:
    """`hub.Subscriber` and `delivery.Outlet` in one: events as Server-Sent Events (WHATWG HTML §9.2).

    What it holds is let go when it ends, not when its reader notices: a reader that stopped reading may never.
    """

    def __init__(self, parts: EventParts, principal: Principal, address: str) -> None:
        self._address = address
        self._parts = parts
        self._principal = principal
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._wake = asyncio.Event()
        self._ended: str | None = None
        self._opened_s = parts.clock.monotonic()
        self._is_counted = self._is_ready = False
        self._code: int = CloseCode.NORMAL
        self._timer: Timer | None = None
        self._stream_id = ""
        self._delivery = Delivery(
            database=parts.database,
            feed=parts.feed,
            principal=principal,
            outlet=self,
            end=self.end,
            clock=parts.clock,
            timers=parts.timers,
            meters=parts.meters.delivery,
        )

    # -- hub.Subscriber

    @property
    def principal(self) -> Principal:
        return self._principal

    @property
    def last_heard_s(self) -> float:
        return self._opened_s

    @property
    def transport(self) -> str:
        return "sse"

    @property
    def address(self) -> str:
        return self._address

    @property
    def joined_s(self) -> float:
        return self._opened_s

    def news(self) -> None:
        self._delivery.news()

    def show(self, live: Live, payload: bytes) -> None:
        self._delivery.show(live, payload)

    def acknowledged(self, seq: int) -> None:
        self._delivery.device_has(seq)

    def end(self, code: Close, reason: str, retry_after_s: float | None = None) -> None:
        """Nothing is sent any more but a comment that says why. Idempotent."""
        if self._ended is None:
            if retry_after_s is None and code is Close.DRAINING:
                retry_after_s = self._parts.come_back_s()
            retry = "" if retry_after_s is None else f"retry: {round(retry_after_s * 1000)}\n"
            self._ended = f"{retry}: {code.value} {reason}\n\n"
            self._code = code
        self.release()

    def drain(self, retry_after_s: float) -> None:
        self.end(Close.DRAINING, "the gateway stops", retry_after_s)

    def release(self) -> None:
        """Idempotent."""
        if self._ended is None:
            self._ended = ": over\n\n"
        self._queue.clear()
        self._queued_bytes = 0
        if self._timer is not None:
            self._timer.cancel()
        self._delivery.stop()
        self._parts.hub.leave(self)
        if self._is_counted:
            self._is_counted = False
            self._parts.meters.closed(self._code, was_ready=self._is_ready)
        self._wake.set()

    # -- delivery.Outlet

    @property
    def buffered_bytes(self) -> int:
        return self._queued_bytes

    def send(self, payload: bytes) -> None:
        if self._ended is None:
            self._put(self._encode(payload))

    def _put(self, text: bytes) -> None:
        self._queue.append(text)
        self._queued_bytes += len(text)
        self._wake.set()

    # -- the response

    async def open(self, resume: Resume | None) -> None:
        """Join, then verify. Raises Problem when the device may not listen any more."""
        parts, principal = self._parts, self._principal
        if parts.hub.is_draining:
            raise Problem(Code.DRAINING, "The gateway stops. Come back in a moment.", retry_after_s=parts.come_back_s())
        self._is_counted = True
        parts.meters.opened()
        channel = parts.hub.join(self)

        def unit(tx: Transaction) -> Opening | Standing:
            return standing_of(parts.feed, tx, principal) or parts.feed.open(tx, principal, resume)

        try:
            opening = await parts.hub.read_opening(unit, is_small=False)
        except BaseException:
            self.release()
            raise
        if isinstance(opening, Standing):
            self.release()
            raise _refusal(opening)
        if self._ended is not None:  # revoked, or one stream too many, while the store was asked
            raise Problem(Code.UNAUTHENTICATED, "The device may not listen any more. Refresh, then try again.")
        self._stream_id = opening.stream_id
        self.send(
            wire.ready(
                device_id=principal.device_id or "",
                user_id=principal.user_id,
                scopes=principal.scopes,
                stream=opening.stream_id,
                seq=opening.seq,
                expires_in_s=int(self._remaining_s()),
            )
        )
        parts.hub.opened(principal, opening)
        self._is_ready = True
        parts.meters.ready(parts.clock.monotonic() - self._opened_s)
        self._delivery.open(opening, channel)
        self._schedule()

    async def body(self) -> AsyncIterator[bytes]:
        try:
            while self._ended is None:
                while self._queue:
                    text = self._queue.popleft()
                    self._queued_bytes -= len(text)
                    yield text
                if self._ended is None:
                    self._wake.clear()
                    self._delivery.writable()
                    await self._wake.wait()
            yield self._ended.encode()
        finally:
            self.release()

    # -- time

    def _schedule(self) -> None:
        if self._ended is None:
            self._timer = self._parts.timers.after(min(COMMENT_EVERY_S, self._remaining_s()), self._tick)

    def _tick(self) -> None:
        if self._remaining_s() <= 0:
            self.end(Close.TOKEN_EXPIRED, "the token expired")
            return
        if self._ended is None and not self._queue:
            self._put(b":\n\n")
        self._schedule()

    def _remaining_s(self) -> float:
        expires_at_ms = self._principal.expires_at_ms
        if expires_at_ms is None:
            return EXPIRES_NEVER_S
        return max(0.0, (expires_at_ms - self._parts.clock.now_ms()) / 1000)

    def _encode(self, payload: bytes) -> bytes:
        position = msgspec.json.decode(payload, type=_Position)
        mark = f"id: {self._stream_id}:{position.seq}\n".encode() if position.is_reached else b""
        return mark + b"data: " + payload + b"\n\n"


def _refusal(standing: Standing) -> Problem:
    if standing.code is Close.SUSPENDED:
        return Problem(Code.DEVICE_SUSPENDED, standing.reason)
    return Problem(Code.UNAUTHENTICATED, standing.reason)


class _Response(StreamingResponse):
    """Lets go of its stream also when the reader left before the first byte, and the body never began."""

    def __init__(self, stream: EventStream) -> None:
        super().__init__(
            stream.body(),
            media_type="text/event-stream",
            headers={"X-Accel-Buffering": "no"},
        )
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._stream.release()


class _Position(Struct):
    """The part of a frame that says how far a client is once it has it."""

    type: str = ""
    seq: int | None = None
    more: bool = False

    @property
    def is_reached(self) -> bool:
        return self.seq is not None and not self.more and self.type in ("event", "resume_done", "snapshot")


def add_routes(api: Api, executor: Executor, parts: EventParts) -> None:
    async def run_command(request: Request) -> Response:
        try:
            payload = await request.body()
            body = msgspec.json.decode(payload, type=CommandBody)
            wire.refuse_repeated(payload)
        except (*wire.UNREADABLE, wire.MalformedFrame) as error:
            raise Problem(Code.INVALID, f"The body is not a command: {str(error)[:200]}") from None
        result = await executor.execute(caller(request), body.id, body.name, bytes(body.data))
        return Response(wire.command_answer(body.id, result), media_type="application/json")

    async def stream_events(request: Request) -> Response:
        principal = caller(request)
        if principal.session_id is not None:  # nothing would end the stream together with the session
            raise Problem(Code.FORBIDDEN, "The event stream is for devices. Pair one.")
        stream = EventStream(parts, principal, request.client.host if request.client else "")
        await stream.open(_resume(request))
        return _Response(stream)

    api.add_raw(
        "POST",
        "/api/v1/commands",
        run_command,
        max_body_bytes=wire.MAX_FRAME_BYTES,
        problems=COMMAND_PROBLEMS,
        operation=_RUN_COMMAND,
    )
    api.add_raw("GET", "/api/v1/events", stream_events, operation=_STREAM_EVENTS)


def _resume(request: Request) -> Resume | None:
    """The position from `Last-Event-ID: <stream>:<seq>`, else from `stream` and `after`. Raises `invalid`.

    The header wins: a reader that reconnects by itself asks for the same address again.
    """
    stream, after = request.query_params.get("stream"), request.query_params.get("after")
    last = request.headers.get("last-event-id")
    if last:
        stream, _, after = last.rpartition(":")
    if stream is None and after is None:
        return None
    is_number = after is not None and after.isascii() and after.isdigit() and len(after) < 16
    if not stream or len(stream) > MAX_STREAM_NAME or not is_number or after is None:
        raise Problem(Code.INVALID, "A position is stream=<id>&after=<number>, or Last-Event-ID: <id>:<number>.")
    return Resume(stream, int(after))


_RUN_COMMAND: dict[str, object] = {
    "operationId": "run_command",
    "summary": "Run one device command; the same commands as over the WebSocket.",
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["id", "name"],
                    "additionalProperties": False,
                    "properties": {
                        "id": {"type": "string", "pattern": "^[0-7][0-9A-HJKMNP-TV-Z]{25}$", "description": "ULID"},
                        "name": {"type": "string", "maxLength": 64},
                        "data": {"type": "object"},
                    },
                }
            }
        },
    },
    "responses": {
        "200": {
            "description": "The effect is committed.",
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["id", "data"],
                        "properties": {"id": {"type": "string"}, "data": {"type": "object"}},
                    }
                }
            },
        }
    },
}
_STREAM_EVENTS: dict[str, object] = {
    "operationId": "stream_events",
    "summary": "Events as Server-Sent Events, from a position or with a snapshot first.",
    "parameters": [
        {"name": "stream", "in": "query", "schema": {"type": "string", "maxLength": 64}},
        {"name": "after", "in": "query", "schema": {"type": "integer", "minimum": 0, "maximum": 2**49}},
    ],
    "responses": {
        "200": {"description": "Frames of the WebSocket protocol.", "content": {"text/event-stream": {}}},
    },
}
