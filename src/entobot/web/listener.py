"""The front door: one ASGI application and its WebSockets on TCP (TLS) and on the local socket.

Uvicorn's protocol classes do HTTP; accepting is ours, so that caps and deadlines hold before a TLS handshake costs
anything. Lifespan events are not sent: the composition root starts and stops its own services.
"""

import asyncio
import errno
import ipaddress
import logging
import resource
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any, Protocol

from uvicorn.config import Config

from entobot.core.clock import Clock
from entobot.core.errors import StartupRefused
from entobot.web.addresses import address_key, is_loopback
from entobot.web.http_protocol import Caps, GuardedHttpProtocol, HttpLimits, Place, Shared, Timers
from entobot.web.refusal import refusal_body
from entobot.web.tls import TlsFiles, reload_files, server_context
from entobot.web.unix_socket import LocalPeer, bind_private, peer_credentials

log = logging.getLogger(__name__)

App = Callable[[Any, Any, Any], Any]

BACKLOG = 4096
RESERVED_FILES = 256
"""Descriptors kept for the database, logs, outgoing requests."""
_ACCEPTS_PER_WAKE = 64
_ACCEPT_PAUSE_S = 1.0
_DEAD_PEER_MS = 60_000
_OUT_OF_FILES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class WebSocketClass(Protocol):
    """`gateway.websocket.WebSockets`: uvicorn's `ws=` class, and the path that it serves."""

    path: str

    def __call__(self, config: Any, server_state: Any, app_state: Any) -> Any: ...


class AddressTaken(StartupRefused):
    code = "address_in_use"


class PlainBeyondLoopback(StartupRefused, ValueError):  # noqa: N818  a refusal, told to the operator at start
    code = "plain_beyond_loopback"


@dataclass(frozen=True, slots=True)
class TcpEndpoint:
    """`host` is a literal address or `localhost`; port 0 picks a free one. `tls` None is plain, on loopback only."""

    host: str
    port: int
    tls: TlsFiles | None = None

    def __post_init__(self) -> None:
        if self.tls is None and not is_loopback(self.host):
            raise PlainBeyondLoopback(
                f"Listening on {self.host} without TLS would send tokens in clear. "
                "Use TLS, or listen on 127.0.0.1 behind a proxy that ends TLS."
            )


@dataclass(frozen=True, slots=True)
class UnixEndpoint:
    path: Path
    runtime_dir: Path | None = None


@dataclass(slots=True, eq=False)
class _Door:
    """One listening socket."""

    listening: socket.socket
    context: ssl.SSLContext | None = None
    tls: TlsFiles | None = None
    unix_path: Path | None = None


class _Connections(set[Any]):
    """Uvicorn's set of live protocols, which also says when it runs empty."""

    def __init__(self) -> None:
        super().__init__()
        self.emptied = asyncio.Event()

    def discard(self, element: Any) -> None:
        super().discard(element)
        if not self:
            self.emptied.set()


@dataclass(slots=True)
class _Running:
    shared: Shared
    connections: _Connections
    doors: list[_Door] = field(default_factory=list[_Door])
    opening: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])
    max_connections: int = 0
    date_second: int = -1


class Listener:
    """Serves `app` and `websocket` on all `endpoints`.

    `waiting` counts connections whose request has not arrived yet, from accept on, per address (an IPv6 /64 is one)
    and in all. When `max_connections` (or the process's file limit less a reserve) is reached, the kept-alive
    connection that has been idle longest makes room for a newcomer; newcomers over that and those over the caps
    are closed at once. The local socket's callers are not counted there.
    """

    def __init__(
        self,
        *,
        app: App,
        websocket: WebSocketClass | None,
        endpoints: Sequence[TcpEndpoint | UnixEndpoint],
        clock: Clock,
        timers: Timers,
        waiting: Caps,
        limits: HttpLimits | None = None,
        max_connections: int = 20_000,
    ) -> None:
        self._app = app
        self._websocket = websocket
        self._endpoints = tuple(endpoints)
        self._clock = clock
        self._timers = timers
        self._waiting = waiting
        self._limits = limits or HttpLimits()
        self._max_connections = max_connections
        self._running: _Running | None = None

    @property
    def port(self) -> int:
        """The port of the first TCP endpoint. Raises LookupError when none is open."""
        for door in self._doors():
            if door.unix_path is None:
                return int(door.listening.getsockname()[1])
        raise LookupError("no TCP endpoint is open")

    @property
    def connection_count(self) -> int:
        running = self._running
        return len(running.connections) + len(running.opening) if running else 0

    def _doors(self) -> list[_Door]:
        return self._running.doors if self._running else []

    async def start(self) -> None:
        """Returns when every endpoint accepts; raises StartupRefused, with nothing left open, when one cannot."""
        running = self._prepare()
        try:
            for endpoint in self._endpoints:
                running.doors.append(_open(endpoint))
        except BaseException:
            for door in running.doors:
                _shut(door)
            raise
        self._running = running
        for door in running.doors:
            self._resume(door)

    def _prepare(self) -> _Running:
        app = self._app if self._websocket is None else _with_upgrade_hint(self._app, self._websocket.path)
        config = Config(
            app,
            http=GuardedHttpProtocol,
            ws=self._websocket or "none",  # pyright: ignore[reportArgumentType]  uvicorn only calls it
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
        )
        config.load()
        shared = Shared(config=config, limits=self._limits, timers=self._timers, refresh_date=self._refresh_date)
        connections = shared.state.connections = _Connections()
        soft_limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        allowed = soft_limit - RESERVED_FILES if soft_limit != resource.RLIM_INFINITY else self._max_connections
        return _Running(shared, connections, max_connections=min(self._max_connections, max(allowed, 1)))

    def reload_certificate(self) -> None:
        """Use the certificate files as they are now for new connections; live ones stay.

        Raises OSError or ssl.SSLError, and keeps the old pair, when the new one does not load.
        """
        for door in self._doors():
            if door.context is not None and door.tls is not None:
                reload_files(door.context, door.tls)

    async def stop(self, grace_s: float) -> None:
        """Accept no more, let requests finish, cut what is left; done within `grace_s`."""
        running, self._running = self._running, None
        if running is None:
            return
        end = self._clock.monotonic() + grace_s
        last_words_s = min(0.5, grace_s / 4)
        for door in running.doors:
            asyncio.get_running_loop().remove_reader(door.listening)
            _shut(door)
        for task in running.opening:
            task.cancel()
        for connection in list(running.connections):
            connection.shutdown()
        await self._drain(running, end - last_words_s)
        for connection in list(running.connections):
            connection.abort()
        for task in list(running.shared.state.tasks):
            task.cancel()
        await self._drain(running, end)

    async def _drain(self, running: _Running, end: float) -> None:
        """Wait until no connection and no request is left, but not beyond `end`."""
        while running.connections or running.shared.state.tasks or running.opening:
            left_s = end - self._clock.monotonic()
            if left_s <= 0:
                return
            tasks = [*running.shared.state.tasks, *running.opening]
            if tasks:
                await asyncio.wait(tasks, timeout=left_s)
            else:
                running.connections.emptied.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(running.connections.emptied.wait(), left_s)

    # accepting

    def _resume(self, door: _Door) -> None:
        if door in self._doors():
            asyncio.get_running_loop().add_reader(door.listening, self._accept, door)

    def _accept(self, door: _Door) -> None:
        running = self._running
        if running is None:
            return
        for _ in range(_ACCEPTS_PER_WAKE):
            try:
                connection, name = door.listening.accept()
            except OSError as error:
                if error.errno in _OUT_OF_FILES:
                    log.warning("no file descriptors left: accepting pauses for %s s", _ACCEPT_PAUSE_S)
                    asyncio.get_running_loop().remove_reader(door.listening)
                    self._timers.after(_ACCEPT_PAUSE_S, lambda: self._resume(door))
                return
            is_full = len(running.connections) + len(running.opening) >= running.max_connections
            if is_full and not running.shared.make_room():
                connection.close()
            elif door.unix_path is None:
                self._admit(running, door, connection, Place(self._waiting, address_key(str(name[0]))), None)
            else:
                self._admit_local(running, door, connection)

    def _admit_local(self, running: _Running, door: _Door, connection: socket.socket) -> None:
        caller = peer_credentials(connection)
        if caller is None or not caller.may_enter:
            log.warning("local socket: refused uid %s", caller.uid if caller else "unknown")
            connection.close()
            return
        self._admit(running, door, connection, Place(None, ""), caller)

    def _admit(
        self, running: _Running, door: _Door, connection: socket.socket, place: Place, caller: LocalPeer | None
    ) -> None:
        if not place.take():
            connection.close()
            return
        connection.setblocking(False)
        accepted_at = self._clock.monotonic()

        def protocol() -> GuardedHttpProtocol:
            spent_s = self._clock.monotonic() - accepted_at
            head_s = self._limits.request_head.total_seconds() - spent_s
            return GuardedHttpProtocol(running.shared, place, head_s=head_s, local_peer=caller, on_made=is_open)

        def is_open() -> None:  # counted among the connections from here on
            running.opening.discard(task)

        task = asyncio.get_running_loop().create_task(self._open_connection(door, connection, place, protocol))
        running.opening.add(task)
        task.add_done_callback(running.opening.discard)

    async def _open_connection(
        self, door: _Door, connection: socket.socket, place: Place, protocol: Callable[[], GuardedHttpProtocol]
    ) -> None:
        timeout_s = None if door.context is None else self._limits.tls_handshake.total_seconds()
        opened = False
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                protocol,
                connection,
                ssl=door.context,
                ssl_handshake_timeout=timeout_s,
                ssl_shutdown_timeout=None if timeout_s is None else _TLS_GOODBYE_S,
            )
            opened = True
        except (OSError, ssl.SSLError) as error:  # the stranger's fault, and common
            log.debug("TLS handshake failed: %s", error)
        finally:
            if not opened:
                place.release()

    def _refresh_date(self) -> None:
        running = self._running
        now_s = self._clock.now_ms() // 1000
        if running is not None and now_s != running.date_second:
            running.date_second = now_s
            running.shared.state.default_headers = [(b"date", formatdate(now_s, usegmt=True).encode("ascii"))]


_TLS_GOODBYE_S = 3.0


def raise_file_limit() -> int:
    """Let this process open as many files as the system allows it; the limit that now holds. Call it once at start."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):  # macOS names a hard limit that it does not grant
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _open(endpoint: TcpEndpoint | UnixEndpoint) -> _Door:
    if isinstance(endpoint, UnixEndpoint):
        listening = bind_private(endpoint.path, backlog=BACKLOG, runtime_dir=endpoint.runtime_dir)
        return _Door(listening, unix_path=endpoint.path)
    context = None
    if endpoint.tls is not None:
        try:
            context = server_context(endpoint.tls)
        except (OSError, ssl.SSLError) as error:
            raise StartupRefused(f"The certificate {endpoint.tls.certificate} does not load: {error}") from None
    return _Door(_bind_tcp(endpoint.host, endpoint.port), context=context, tls=endpoint.tls)


def _bind_tcp(host: str, port: int) -> socket.socket:
    address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not address.is_unspecified))
        # accepted sockets inherit these
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _DEAD_PEER_MS)
        listening.bind((str(address), port))
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise AddressTaken(
                f"{host} port {port} is taken by another program. Stop it or choose another port."
            ) from None
        raise StartupRefused(f"Cannot listen on {host} port {port}: {error.strerror}.") from None
    return listening


def _shut(door: _Door) -> None:
    door.listening.close()
    if door.unix_path is not None:
        door.unix_path.unlink(missing_ok=True)


def _with_upgrade_hint(app: App, path: str) -> App:
    """A plain request to the WebSocket's path is told what to do; the application never sees it."""
    body = refusal_body(426, "invalid", "This address speaks WebSocket only.")
    start = {
        "type": "http.response.start",
        "status": 426,
        "headers": [
            (b"upgrade", b"websocket"),
            (b"connection", b"upgrade"),
            (b"content-type", b"application/problem+json"),
            (b"content-length", str(len(body)).encode("ascii")),
            (b"cache-control", b"no-store"),
        ],
    }

    async def hinted(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] == path:
            await send(start)
            await send({"type": "http.response.body", "body": body})
        else:
            await app(scope, receive, send)

    return hinted
