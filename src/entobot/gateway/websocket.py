"""picows under uvicorn: the one file that knows the parts of picows that are not its public promise.

picows parses and unmasks frames; everything that reaches the wire is written by `websocket_link.py`. What is relied
on is stated in `tests/gateway/test_picows.py`: the positional constructor, get_buffer/buffer_updated, one
`on_ws_frame` a frame with `rsv1..3`, `fin`, `tail_size` and `last_in_buffer`, and that a parser error is told by
writing a close frame. picows is given a stand-in for the transport, so it can neither write past our queue nor close
behind our back.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

from picows import WSListener

from entobot.core.rates import RATES, Allowance, Rate
from entobot.gateway.frames import CloseCode
from entobot.gateway.link import MakeHandler, Timers
from entobot.gateway.upgrade import Admit, UpgradeRequest, accepted_response, handshake_fault, parse_request
from entobot.gateway.websocket_link import MAX_MESSAGE_BYTES, Flusher, WebSocketLink
from entobot.web.arrivals import ARRIVAL, Arrival
from entobot.web.refusal import refusal_response

if TYPE_CHECKING:

    class WSProtocol(asyncio.BufferedProtocol):
        listener: WSListener | None

        def __init__(self, *settings: object) -> None: ...
        def connection_made(self, transport: object) -> None: ...
        def get_buffer(self, sizehint: int) -> memoryview: ...
else:
    from picows.picows import WSProtocol

log = logging.getLogger(__name__)

READ_BUFFER_BYTES = 2048
_parse = WSProtocol.buffer_updated


class ConnectionSet(Protocol):
    """The part of uvicorn's ServerState that a protocol class uses."""

    connections: set[Any]


@dataclass(frozen=True, slots=True)
class Service:
    """What is spoken at one path."""

    admit: Admit
    make: MakeHandler
    link_class: type[WebSocketLink] = WebSocketLink


class WebSockets:
    """`further` services are at other paths than `path`. What uvicorn's `Config(ws=…)` takes: called once per upgrade, returns the protocol that takes over."""

    link_class: ClassVar[type[WebSocketLink]] = WebSocketLink

    def __init__(
        self,
        *,
        admit: Admit,
        make: MakeHandler,
        timers: Timers,
        path: str = "/ws",
        pings: Allowance = RATES[Rate.PINGS].default,
        further: Mapping[str, Service] | None = None,
    ) -> None:
        self.services = {path: Service(admit, make, self.link_class), **(further or {})}
        self.timers = timers
        self.path = path
        self.pings = pings
        self.flusher = Flusher()

    def __call__(
        self, config: object, server_state: ConnectionSet, app_state: Mapping[str, Any], _loop: object = None
    ) -> "WebSocketProtocol":
        del config, _loop
        return WebSocketProtocol(self, server_state.connections, app_state[ARRIVAL])


class WebSocketProtocol(WSProtocol):
    __slots__ = ("_arrival", "_connections", "_link", "_settings", "_socket_transport")

    def __init__(self, settings: WebSockets, connections: set[Any], arrival: Arrival) -> None:
        super().__init__(
            None,  # host_port: client only
            None,  # ws_path: client only
            False,  # is_client_side
            self._give_link,  # ws_listener_factory
            _QUIET,  # logger
            False,  # disconnect_on_exception: the link catches its handler's exceptions
            None,  # websocket_handshake_timeout: the listener's header deadline covers it
            False,  # enable_auto_ping
            None,  # auto_ping_idle_timeout
            None,  # auto_ping_reply_timeout
            0,  # auto_ping_strategy
            False,  # enable_auto_pong
            MAX_MESSAGE_BYTES,  # max_frame_size
            None,  # extra_headers: client only
            READ_BUFFER_BYTES,  # read_buffer_init_size
        )
        self._settings = settings
        self._connections = connections
        self._arrival = arrival
        self._link: WebSocketLink | None = None
        self._socket_transport: asyncio.Transport | None = None

    def _give_link(self, _request: object) -> WebSocketLink | None:
        return self._link

    def connection_made(self, transport: object) -> None:
        self._socket_transport = cast("asyncio.Transport", transport)  # uvloop's and TLS transports do not derive
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        """The upgrade request, handed over by uvicorn, whole and alone. After it get_buffer/buffer_updated are used."""
        transport = self._socket_transport
        assert transport is not None
        if self._link is not None:
            self._parse(data)
            return
        try:
            refusal = self._take_over(data, transport)
        except Exception:
            log.exception("upgrade refused: its policy or its handler failed")
            refusal = refusal_response(500, "internal", "The gateway could not open this WebSocket.", retry_after_s=5)
        if refusal is not None:
            self._link = None
            transport.write(refusal)
            transport.close()

    def _take_over(self, head: bytes, transport: asyncio.Transport) -> bytes | None:
        response, accepted = self._answer(head, transport)
        if accepted is None:
            return response
        request, subprotocol = accepted
        settings = self._settings
        service = settings.services[request.path]
        link = service.link_class(
            transport,
            settings.flusher,
            settings.timers,
            peer=request.peer,
            subprotocol=subprotocol,
            pings=settings.pings,
        )
        self._link = link
        super().connection_made(_Outlet(link))
        self._parse(_ANY_UPGRADE)
        link.pending_bytes = link.received_bytes = 0  # these were our own
        handler = service.make(link, request)
        link.begin(handler, response)
        return None

    def _answer(
        self, head: bytes, transport: asyncio.Transport
    ) -> tuple[bytes, tuple[UpgradeRequest, str | None] | None]:
        is_secure = transport.get_extra_info("sslcontext") is not None
        request = parse_request(head, peer=self._arrival.address, is_secure=is_secure)
        if request is None:
            return refusal_response(400, "invalid", "A WebSocket upgrade is a GET request."), None
        service = self._settings.services.get(request.path)
        if service is None:
            return refusal_response(404, "not_found", f"The WebSocket is at {self._settings.path}."), None
        fault = handshake_fault(request)
        if fault is not None:
            return fault, None
        admission = service.admit(request.headers, request.peer)
        if admission.refusal is not None:
            return admission.refusal, None
        return accepted_response(request, admission.subprotocol), (request, admission.subprotocol)

    def _parse(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            room = super().get_buffer(len(view))
            size = min(len(room), len(view))
            room[:size] = view[:size]
            view = view[size:]
            self.buffer_updated(size)

    def buffer_updated(self, nbytes: int) -> None:
        link = self._link
        if link is None:
            return
        link.received_bytes += nbytes
        if link.is_deaf:  # picows is not told, and the next bytes overwrite these
            return
        link.pending_bytes += nbytes
        link.hold_flush()
        _parse(self, nbytes)
        if (link.parser_error or link.pending_bytes >= link.max_pending_bytes) and not link.is_deaf:
            link.give_up_parsing()
        link.flush()

    def pause_writing(self) -> None:
        if self._link is not None:
            self._link.set_writable(is_writable=False)

    def resume_writing(self) -> None:
        if self._link is not None:
            self._link.set_writable(is_writable=True)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._arrival.over()
        if self._link is not None:
            super().connection_lost(exc)
            self._link.lost()

    # what a listener calls when it stops

    def shutdown(self) -> None:
        if self._link is not None:
            self._link.close(CloseCode.SERVICE_RESTART)

    def abort(self) -> None:
        if self._socket_transport is not None:
            self._socket_transport.abort()


class _Outlet:
    """The transport that picows believes in: it swallows the 101 and reports close frames, the parser's only words."""

    __slots__ = ("_link", "_saw_handshake")

    def __init__(self, link: WebSocketLink) -> None:
        self._link = link
        self._saw_handshake = False

    def get_extra_info(self, name: str, default: object = None) -> object:
        return _NO_SOCKET if name == "socket" else default

    def get_write_buffer_size(self) -> int:
        return 1  # never 0: picows would send on the socket itself

    def write(self, data: bytes) -> None:
        if not self._saw_handshake:
            self._saw_handshake = True
        else:
            self._link.parser_error = int.from_bytes(data[2:4], "big")

    def close(self) -> None:
        """Asked for 10 ms after a parser error; by then the link ends in its own way."""

    abort = close


class _NoSocket:
    """Spares each connection four system calls that picows makes for its log line."""

    def setsockopt(self, *_: object) -> None: ...
    def getsockopt(self, *_: object) -> int:
        return 0

    def fileno(self) -> int:
        return -1


class _QuietLogger:
    """picows logs each connection at INFO and each stranger's protocol error at ERROR; only its own faults matter."""

    def isEnabledFor(self, _level: int) -> bool:  # noqa: N802  logging's name
        return False

    def log(self, *_: object, **__: object) -> None: ...

    debug = info = warning = error = log

    def exception(self, text: str, *values: object) -> None:
        log.exception(text, *values)  # noqa: LOG004  picows calls this inside its handlers


_NO_SOCKET = _NoSocket()
_QUIET = _QuietLogger()
_ANY_UPGRADE = (
    b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
"""Brings picows' parser into its frame state; the real handshake is `upgrade.py`'s."""
