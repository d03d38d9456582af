"""The front door: an ASGI application and its WebSockets on TCP (TLS) and on the local socket, other protocols beside.

Uvicorn's protocol classes do HTTP; accepting is ours, so that caps and deadlines hold before a TLS handshake costs
anything. Lifespan events are not sent: the composition root starts and stops its own services.
"""

import asyncio
import errno
import logging
import resource
import socket
import ssl
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any, Protocol

import aiofastnet
from uvicorn.config import Config

from entobot.core.clock import Clock
from entobot.core.networks import plain_address
from entobot.web.arrivals import Arrival, Caps, Waiting
from entobot.web.callers import Callers
from entobot.web.endpoints import Door, TcpEndpoint, UnixEndpoint, open_door, shut_door
from entobot.web.http_protocol import GuardedHttpProtocol, HttpLimits, Shared, Timers
from entobot.web.proxy_protocol import HeaderRefused, read_source
from entobot.web.refusal import App, websocket_only, with_upgrade_hint
from entobot.web.tls import TlsFiles, server_context
from entobot.web.tls_alpn import Goodbye, asks_for_challenge, challenge_context
from entobot.web.unix_socket import peer_credentials

log = logging.getLogger(__name__)

RESERVED_FILES = 256
"""Descriptors kept for the database, logs, outgoing requests."""
_ACCEPTS_PER_WAKE = 64
_ACCEPT_PAUSE_S = 1.0
_OUT_OF_FILES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class WebSocketClass(Protocol):
    """`gateway.websocket.WebSockets`: uvicorn's `ws=` class, and the path that it serves."""

    path: str

    def __call__(self, config: Any, server_state: Any, app_state: Any) -> Any: ...


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
    doors: list[Door] = field(default_factory=list[Door])
    opening: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])
    max_connections: int = 0
    websocket_only: App | None = None
    date_second: int = -1


class Listener:
    """Serves `app` and `websocket` on all `endpoints`.

    `callers` says who may connect and which proxies are believed. `waiting` holds connections whose request has not
    arrived yet, from accept on, per address (an IPv6 /64 is one) and in all; `per_address` counts connections until
    they end. Trusted proxies are not counted by address: each WebSocket that comes through one counts for its caller.
    When `max_connections` (or the process's file limit less a reserve) is reached, the kept-alive connection that has
    been idle longest makes room for a newcomer; newcomers over that and those over the caps are closed at once. The
    local socket's callers are not counted by address. `on_refused` is told (a short reason, fields for the log).
    """

    def __init__(
        self,
        *,
        app: App,
        websocket: WebSocketClass | None,
        endpoints: Sequence[TcpEndpoint | UnixEndpoint],
        clock: Clock,
        timers: Timers,
        waiting: Waiting,
        per_address: Caps | None = None,
        callers: Callers | None = None,
        on_refused: Callable[[str, Mapping[str, str]], None] | None = None,
        limits: HttpLimits | None = None,
        max_connections: int = 20_000,
    ) -> None:
        self._app = app
        self._websocket = websocket
        self._endpoints = tuple(endpoints)
        self._clock = clock
        self._timers = timers
        self._waiting = waiting
        self._per_address = per_address
        self._callers = callers or Callers()
        self._on_refused = on_refused
        self._limits = limits or HttpLimits()
        self._max_connections = max_connections
        self._running: _Running | None = None
        self._challenge: ssl.SSLContext | None = None

    @property
    def port(self) -> int:
        """The port of the first TCP endpoint. Raises LookupError when none is open."""
        for door in self._doors():
            if door.unix_path is None:
                return int(door.listening.getsockname()[1])
        raise LookupError("no TCP endpoint is open")

    @property
    def is_open(self) -> bool:
        """Every endpoint accepts."""
        return bool(self._doors())

    @property
    def connection_count(self) -> int:
        running = self._running
        return len(running.connections) + len(running.opening) if running else 0

    def _doors(self) -> list[Door]:
        return self._running.doors if self._running else []

    async def start(self) -> None:
        """Returns when every endpoint accepts; raises StartupRefused, with nothing left open, when one cannot."""
        running = self._prepare()
        try:
            for endpoint in self._endpoints:
                running.doors.append(open_door(endpoint))
        except BaseException:
            for door in running.doors:
                shut_door(door)
            raise
        self._running = running
        for door in running.doors:
            self._resume(door)

    def _prepare(self) -> _Running:
        app = self._app if self._websocket is None else with_upgrade_hint(self._app, self._websocket.path)
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
        shared = Shared(
            config=config,
            limits=self._limits,
            timers=self._timers,
            callers=self._callers,
            refresh_date=self._refresh_date,
        )
        connections = shared.state.connections = _Connections()
        soft_limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        allowed = soft_limit - RESERVED_FILES if soft_limit != resource.RLIM_INFINITY else self._max_connections
        only = None if self._websocket is None else websocket_only(self._websocket.path)
        most = min(self._max_connections, max(allowed, 1))
        return _Running(shared, connections, max_connections=most, websocket_only=only)

    def use_certificate(self, files: TlsFiles) -> None:
        """Handshakes from now on use these files as they are now; live connections keep what they have.

        Raises OSError or ssl.SSLError, and keeps the old pair, when the new one does not load.
        """
        # A context of its own: one that held an RSA pair before would go on offering it beside the new one.
        doors = [door for door in self._doors() if door.context is not None]
        contexts = {
            authority: server_context(files, authority) for authority in {one.client_authority for one in doors}
        }
        for door in doors:
            door.context = contexts[door.client_authority]

    def use_challenge(self, files: TlsFiles | None) -> None:
        """Show this certificate to whoever asks for `acme-tls/1`, and say nothing more (RFC 8737); None: to nobody.

        Raises OSError or ssl.SSLError when it does not load.
        """
        self._challenge = None if files is None else challenge_context(files)

    def shut(self) -> None:
        """Accept no more; what is open goes on. Idempotent."""
        if self._running is not None:
            _shut_doors(self._running)

    async def stop(self, grace_s: float) -> None:
        """Accept no more, let requests finish, cut what is left; done within `grace_s`."""
        running, self._running = self._running, None
        if running is None:
            return
        end = self._clock.monotonic() + grace_s
        last_words_s = min(0.5, grace_s / 4)
        _shut_doors(running)
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

    def _resume(self, door: Door) -> None:
        if door in self._doors():
            asyncio.get_running_loop().add_reader(door.listening, self._accept, door)

    def _accept(self, door: Door) -> None:
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
            connection.setblocking(False)
            is_full = len(running.connections) + len(running.opening) >= running.max_connections
            if is_full and not running.shared.make_room():
                connection.close()
            elif door.unix_path is None:
                self._receive(running, door, connection, _host(name))
            else:
                self._receive_local(running, door, connection)

    def _receive_local(self, running: _Running, door: Door, connection: socket.socket) -> None:
        caller = peer_credentials(connection)
        if caller is None or not caller.may_enter:
            log.warning("local socket: refused uid %s", caller.uid if caller else "unknown")
            connection.close()
            return
        arrival = Arrival("", waiting=None, per_address=None, cut=connection.close, local_peer=caller)
        self._start(running, self._open_connection(running, door, connection, arrival))

    def _receive(self, running: _Running, door: Door, connection: socket.socket, peer: str) -> None:
        """Everything that can be known before the first byte is read."""
        callers = self._callers
        if not callers.may_connect(peer):
            self._refused("address_not_allowed", peer)
            connection.close()
            return
        arrival = self._arrival(connection, peer, speaks_for_others=callers.is_trusted(peer))
        if not (arrival.speaks_for_others or arrival.count()) or not arrival.wait():
            arrival.over()
            connection.close()
        elif callers.sends_header(peer):
            self._start(running, self._open_forwarded(running, door, connection, arrival))
        else:
            self._start(running, self._open_connection(running, door, connection, arrival))

    def _arrival(self, connection: socket.socket, address: str, *, speaks_for_others: bool) -> Arrival:
        def cut() -> None:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)  # the transport owns the descriptor and sees the end

        return Arrival(
            address,
            waiting=self._waiting,
            per_address=self._per_address,
            cut=cut,
            speaks_for_others=speaks_for_others,
        )

    def _start(self, running: _Running, opening: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(opening)
        running.opening.add(task)
        task.add_done_callback(running.opening.discard)

    async def _open_forwarded(self, running: _Running, door: Door, connection: socket.socket, proxy: Arrival) -> None:
        """A trusted proxy's connection: its PROXY header first, then whoever it names is the caller."""
        accepted_at = self._clock.monotonic()
        arrival = None
        try:
            async with asyncio.timeout(self._limits.request_head.total_seconds()):
                source = await read_source(connection)
            arrival = self._forwarded(connection, proxy, source)
        except (HeaderRefused, OSError, TimeoutError) as error:
            self._refused("proxy_header", proxy.address, why=str(error) or "the PROXY header came too late")
        finally:
            proxy.over()
            if arrival is None:
                connection.close()
        if arrival is not None:
            await self._open_connection(running, door, connection, arrival, accepted_at)

    def _forwarded(self, connection: socket.socket, proxy: Arrival, source: str | None) -> Arrival:
        """The caller behind a PROXY header, with its places taken. Raises HeaderRefused."""
        address = proxy.address if source is None else source
        if not self._callers.may_connect(address):
            raise HeaderRefused("its caller is not among gateway.allowed_networks")
        arrival = self._arrival(connection, address, speaks_for_others=self._callers.is_trusted(address))
        proxy.over()
        if not (arrival.speaks_for_others or arrival.count()) or not arrival.wait():
            arrival.over()
            raise HeaderRefused("its caller has too many connections")
        return arrival

    async def _open_connection(
        self,
        running: _Running,
        door: Door,
        connection: socket.socket,
        arrival: Arrival,
        accepted_at: float | None = None,
    ) -> None:
        started_at = self._clock.monotonic() if accepted_at is None else accepted_at
        task = asyncio.current_task()
        assert task is not None
        is_counted = running.opening.discard

        def protocol() -> asyncio.Protocol:
            if door.speaks is not None:
                return door.speaks(running.connections, arrival, lambda: is_counted(task))
            head_s = self._limits.request_head.total_seconds() - (self._clock.monotonic() - started_at)
            app = running.websocket_only if door.only_websocket else None
            # counted among the connections from `on_made` on
            return GuardedHttpProtocol(
                running.shared, arrival, head_s=head_s, app=app, on_made=lambda: is_counted(task)
            )

        opened = False
        try:
            opened = not await self._answer_challenge(door, connection)
            if opened:
                await self._connect(door.context, protocol, connection)
        except (OSError, ssl.SSLError) as error:  # the stranger's fault, and common
            opened = False
            log.debug("TLS handshake failed: %s", error)
        finally:
            if not opened:
                arrival.over()

    async def _answer_challenge(self, door: Door, connection: socket.socket) -> bool:
        """Whether it was an authority that asked for a challenge, which has its answer now. Nobody asks but in an order."""
        if self._challenge is None or door.context is None:
            return False
        try:
            async with asyncio.timeout(self._limits.tls_handshake.total_seconds()):
                if not await asks_for_challenge(connection):
                    return False
        except BaseException:
            connection.close()  # no transport owns it yet
            raise
        await self._connect(self._challenge, Goodbye, connection)
        return True

    async def _connect(
        self, context: ssl.SSLContext | None, protocol: Callable[[], asyncio.Protocol], connection: socket.socket
    ) -> None:
        loop = asyncio.get_running_loop()
        if context is None:  # here the loop's own transport is the smaller one
            await loop.connect_accepted_socket(protocol, connection)
            return
        await aiofastnet.connect_accepted_socket(
            loop,
            protocol,
            connection,
            ssl=context,
            ssl_handshake_timeout=self._limits.tls_handshake.total_seconds(),
            ssl_shutdown_timeout=_TLS_GOODBYE_S,
            ssl_incoming_bio_size=_TLS_READ_BYTES,
        )

    def _refused(self, reason: str, address: str, **more: str) -> None:
        if self._on_refused is not None:
            self._on_refused(reason, {"address": address, **more})

    def _refresh_date(self) -> None:
        running = self._running
        now_s = self._clock.now_ms() // 1000
        if running is not None and now_s != running.date_second:
            running.date_second = now_s
            running.shared.state.default_headers = [(b"date", formatdate(now_s, usegmt=True).encode("ascii"))]


_TLS_GOODBYE_S = 3.0
_TLS_RECORD_BYTES = 16 * 1024 + 64
_TLS_READ_BYTES = 14 * _TLS_RECORD_BYTES
"""At once from the socket. With a record of which a part was there before, it must hold less than aiofastnet's
DATA_RECEIVED_MAX_SIZE (256 KiB): it hands on so much, and when reading goes on after a pause it looks at the socket alone
(1.2), so that the rest of a body that had arrived whole would stay in its buffer."""


def _host(name: Any) -> str:
    """The peer's address as it is used everywhere, IPv4 also where the socket is IPv6."""
    return str(plain_address(str(name[0])))


def _shut_doors(running: _Running) -> None:
    while running.doors:
        door = running.doors.pop()
        asyncio.get_running_loop().remove_reader(door.listening)
        shut_door(door)
