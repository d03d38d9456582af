"""Uvicorn's HTTP/1.1 protocol with the deadlines and sizes that it does not have."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from entobot.web.arrivals import ARRIVAL, Arrival
from entobot.web.authentication import LOCAL_PEER
from entobot.web.callers import Callers
from entobot.web.refusal import refusal_response


class Timer(Protocol):
    def cancel(self) -> None: ...


class Timers(Protocol):
    def after(self, delay_s: float, callback: Callable[[], None]) -> Timer: ...


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Deadlines and sizes of one connection. `max_body_bytes` None leaves the body to the application."""

    tls_handshake: timedelta = timedelta(seconds=10)
    request_head: timedelta = timedelta(seconds=10)
    request_body: timedelta = timedelta(seconds=30)
    keep_alive: timedelta = timedelta(seconds=75)
    stalled_write: timedelta = timedelta(seconds=60)
    max_head_bytes: int = 16 * 1024
    max_body_bytes: int | None = 1024 * 1024


MAX_PIPELINED = 64
"""Requests of one connection behind the one being answered. One chunk of input may hold ten thousand."""


@dataclass(slots=True)
class Shared:
    """What all connections of a listener have in common."""

    config: Config
    limits: HttpLimits
    timers: Timers
    callers: Callers
    refresh_date: Callable[[], None]
    state: ServerState = field(default_factory=ServerState)
    idle: "dict[GuardedHttpProtocol, None]" = field(default_factory=dict["GuardedHttpProtocol", None])
    """Kept-alive connections between two requests, the one idle longest first."""

    def make_room(self) -> bool:
        """Close the connection that has been idle longest; False when none is: its client simply opens another."""
        if not self.idle:
            return False
        protocol = next(iter(self.idle))
        del self.idle[protocol]
        protocol.transport.close()
        return True


class GuardedHttpProtocol(HttpToolsProtocol):
    """The request's head, its body, silence between requests and a reader that stalls each have a deadline."""

    def __init__(
        self,
        shared: Shared,
        arrival: Arrival,
        *,
        head_s: float,
        app: Any,
        on_made: Callable[[], None],
    ) -> None:
        """`app` replaces the application, None keeps it."""
        super().__init__(shared.config, shared.state, {}, asyncio.get_running_loop())
        self._shared = shared
        self._limits = shared.limits
        self._arrival = arrival
        if app is not None:
            self.app = app
        self._first_head_s = head_s
        self._on_made = on_made
        local = arrival.local_peer
        self._extensions = None if local is None else {LOCAL_PEER: {"uid": local.uid, "pid": local.pid}}
        self._deadline: Timer | None = None
        self._stall: Timer | None = None
        self._running: RequestResponseCycle | None = None
        self._is_refused = False
        self._is_in_head = False
        self._is_in_message = False
        self._has_begun = False
        self._head_bytes = 0
        self._body_bytes = 0

    # connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.client is not None:
            self.client = (self._arrival.address, self.client[1])
        self._on_made()
        self._arm(self._first_head_s, self._head_is_late)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        if self._stall is not None:
            self._stall.cancel()
        self._arrival.over()
        self._tell_disconnected()
        super().connection_lost(exc)

    def _tell_disconnected(self) -> None:
        running = self._running  # uvicorn tells only the newest request, which may be a pipelined one
        if running is not None and not running.response_complete:
            running.disconnected = True
            running.message_event.set()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    @property
    def _is_answering(self) -> bool:
        return self._running is not None and not self._running.response_complete

    def abort(self) -> None:
        transport = cast("asyncio.Transport | None", self.transport)
        if transport is not None:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        had_begun, was_in_head = self._has_begun, self._is_in_head
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._upgrade(bytes_used=int(upgrade.args[0]), byte_count=len(data))
        except httptools.HttpParserError:
            self._refuse(400, "invalid", "This is not an HTTP/1.1 request.")
        if self._is_in_head and not self._is_refused:
            # a head that began behind another request's end in this chunk is counted from the next chunk on
            if was_in_head or not had_begun:
                self._head_bytes += len(data)
            if self._head_bytes > self._limits.max_head_bytes:
                self._refuse_head()
            elif not self._arrival.wait():
                self._refuse(
                    503, "rate_limited", "Too many unfinished requests from this address.", retry_after_s=_BUSY_S
                )

    def _upgrade(self, *, bytes_used: int, byte_count: int) -> None:
        if self._is_refused:
            return
        if not self._should_upgrade():
            self.cycle.keep_alive = False  # the parser has stopped; this answer is the connection's last
            return
        if self._is_answering or bytes_used != byte_count or self.scope["http_version"] != "1.1":
            self._refuse(400, "invalid", "An upgrade comes alone, in HTTP/1.1, and waits for its answer.")
            return
        if self._arrival.speaks_for_others:
            self._arrival.address = self._client_address()
        if not self._arrival.count():
            self._refuse(503, "rate_limited", "This address has too many open connections.", retry_after_s=_BUSY_S)
            return
        self._disarm()
        if self._stall is not None:
            self._stall.cancel()
        self.app_state[ARRIVAL] = self._arrival
        self.handle_websocket_upgrade()
        self.parser = cast("Any", None)  # breaks the cycle: most connections are upgraded and live for hours

    # parser callbacks

    def on_message_begin(self) -> None:
        if self._is_refused:
            return
        super().on_message_begin()
        if self._extensions is not None:
            self.scope["extensions"] = self._extensions  # pyright: ignore[reportGeneralTypeIssues]  ours, not ASGI's
        self._is_in_message = self._is_in_head = True
        self._head_bytes = self._body_bytes = 0
        if self._has_begun:
            self._arm(self._limits.request_head.total_seconds(), self._head_is_late)
        self._has_begun = True

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > self._limits.max_head_bytes:
            self._refuse_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._is_in_head:
            super().on_header(name, value)
            return
        # Trailers: nothing here reads them, and uvicorn would merge them into the head that was checked.
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes > self._limits.max_head_bytes:
            self._refuse_head()

    def on_headers_complete(self) -> None:
        if self._is_refused:
            return
        self._is_in_head = False
        self._head_bytes = 0
        self._arrival.has_asked()
        if (
            len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            > self._limits.max_head_bytes
        ):
            self._refuse_head()
            return
        if self._arrival.speaks_for_others and not self._knows_caller():
            return
        if not self._names_one_host():
            self._refuse(400, "invalid", "Speak HTTP/1.1, and name the host once.")
            return
        if len(self.pipeline) >= MAX_PIPELINED:
            self._refuse(
                429,
                "rate_limited",
                "Too many requests on this connection wait for their answer.",
                retry_after_s=_BUSY_S,
            )
            return
        if self._declares_too_much():
            self._refuse(413, "too_large", "The request's body is too large.")
            return
        self._arm(self._limits.request_body.total_seconds(), self._body_is_late)
        self._shared.refresh_date()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self._is_refused:
            return
        self._body_bytes += len(body)
        limit = self._limits.max_body_bytes
        if limit is not None and self._body_bytes > limit:
            self._refuse(413, "too_large", "The request's body is too large.")
            return
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._is_in_message = False
        if self._is_refused:
            return
        super().on_message_complete()
        cycle = cast("RequestResponseCycle | None", self.cycle)  # None before an upgrade
        if cycle is not None and cycle.response_complete:
            self._arm_idle()
        else:
            self._disarm()

    def on_response_complete(self) -> None:
        """As uvicorn's, but the idle deadline is ours, and stray line ends between requests do not move it."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            self._arm(self._limits.stalled_write.total_seconds(), self.abort)
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        elif not self._is_in_message:
            self._arm_idle()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall = self._shared.timers.after(self._limits.stalled_write.total_seconds(), self.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    # deadlines: one at a time

    def _arm(self, delay_s: float, callback: Callable[[], None]) -> None:
        self._disarm()
        self._deadline = self._shared.timers.after(delay_s, callback)

    def _disarm(self) -> None:
        self._shared.idle.pop(self, None)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _arm_idle(self) -> None:
        self._arm(self._limits.keep_alive.total_seconds(), self.transport.close)
        self._shared.idle[self] = None

    def _head_is_late(self) -> None:
        if self.flow.read_paused:  # a pipelined request waits for us, not we for it
            self._arm(self._limits.request_head.total_seconds(), self._head_is_late)
        elif self._is_in_head:
            self._refuse(408, "invalid", "The request took too long to arrive.")
        else:
            self.abort()

    def _body_is_late(self) -> None:
        if self.flow.read_paused:
            self._arm(self._limits.request_body.total_seconds(), self._body_is_late)
        else:
            self._refuse(408, "invalid", "The request's body took too long to arrive.")

    # refusals

    def _knows_caller(self) -> bool:
        """A proxy's request: find whose it is, and whether that one may ask; False when it was refused."""
        callers = self._shared.callers
        hops = [value for name, value in self.headers if name == b"x-forwarded-for"]
        address = callers.client_of(self._arrival.address, hops)
        if address is None:
            self._refuse(400, "invalid", "The proxy's X-Forwarded-For holds something that is no address.")
        elif not callers.is_allowed(address):
            self._refuse(403, "forbidden", "This address is not among gateway.allowed_networks.")
        else:
            self.scope["client"] = (address, 0)
            return True
        return False

    def _client_address(self) -> str:
        client = self.scope["client"]
        return "" if client is None else client[0]

    def _names_one_host(self) -> bool:
        """RFC 9112 §3.2: an HTTP/1.1 request without exactly one Host is refused, for whoever stands in front of us. So
        is everything that the parser takes and is neither 1.1 nor 1.0, such as a line without a version.
        """
        count = sum(name == b"host" for name, _ in self.headers)
        version = self.parser.get_http_version()
        return (count == 1 and version in ("1.1", "1.0")) or (count == 0 and version == "1.0")

    def _declares_too_much(self) -> bool:
        limit = self._limits.max_body_bytes
        if limit is None:
            return False
        return any(name == b"content-length" and int(value) > limit for name, value in self.headers)

    def _refuse_head(self) -> None:
        self._refuse(431, "too_large", "The request's head is too large.")

    def _refuse(self, status: int, code: str, detail: str, *, retry_after_s: int | None = None) -> None:
        """Answer, unless an answer has begun, and hang up."""
        if self._is_refused:
            return
        self._is_refused = True
        self._arrival.has_asked()
        if not self._is_answering or (self._running is self.cycle and not self.cycle.response_started):
            self.transport.write(refusal_response(status, code, detail, retry_after_s=retry_after_s))
        self._tell_disconnected()
        self.transport.close()
        self._arm(_LAST_WORDS_S, self.abort)


_LAST_WORDS_S = 2.0
_BUSY_S = 5
"""After this a crowded address is worth another try."""
