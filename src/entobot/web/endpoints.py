"""Where the gateway listens: TCP ports with or without TLS, and the local socket."""

import asyncio
import errno
import ipaddress
import resource
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entobot.core.errors import StartupRefused
from entobot.web.addresses import is_loopback
from entobot.web.arrivals import Arrival
from entobot.web.tls import TlsFiles, server_context
from entobot.web.unix_socket import bind_private

BACKLOG = 4096
_DEAD_PEER_MS = 60_000


class AddressTaken(StartupRefused):
    code = "address_in_use"


class PlainBeyondLoopback(StartupRefused, ValueError):  # noqa: N818  a refusal, told to the operator at start
    code = "plain_beyond_loopback"


Speak = Callable[[set[Any], Arrival, Callable[[], None]], asyncio.Protocol]
"""Makes the protocol of one accepted connection, of `connections` (it adds itself when it is made, calls the function
then, and takes itself away when it is lost), and whose connection it is.
"""


@dataclass(frozen=True, slots=True)
class TcpEndpoint:
    """`host` is a literal address or `localhost`; port 0 picks a free one. `tls` None is plain, on loopback only.

    With `only_websocket` everything but the WebSocket is answered with 404. `says_nothing_secret` lets plain HTTP be
    reached from anywhere: for what only sends people to HTTPS. `speaks`: another protocol than HTTP.
    `client_authority` (PEM): whose certificates clients may show.
    """

    host: str
    port: int
    tls: TlsFiles | None = None
    only_websocket: bool = False
    says_nothing_secret: bool = False
    speaks: Speak | None = None
    client_authority: str = ""

    def __post_init__(self) -> None:
        if self.tls is None and not self.says_nothing_secret and not is_loopback(self.host):
            raise PlainBeyondLoopback(
                f"Listening on {self.host} without TLS would send tokens in clear. "
                "Use TLS, or listen on 127.0.0.1 behind a proxy that ends TLS."
            )


@dataclass(frozen=True, slots=True)
class UnixEndpoint:
    path: Path
    runtime_dir: Path | None = None


@dataclass(slots=True, eq=False)
class Door:
    """One listening socket."""

    listening: socket.socket
    context: ssl.SSLContext | None = None
    unix_path: Path | None = None
    only_websocket: bool = False
    speaks: Speak | None = None
    client_authority: str = ""


def raise_file_limit() -> int:
    """Let this process open as many files as the system allows it; the limit that now holds. Call it once at start."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):  # macOS names a hard limit that it does not grant
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def open_door(endpoint: TcpEndpoint | UnixEndpoint) -> Door:
    """A socket that listens, with its certificate loaded. Raises StartupRefused."""
    if isinstance(endpoint, UnixEndpoint):
        listening = bind_private(endpoint.path, backlog=BACKLOG, runtime_dir=endpoint.runtime_dir)
        return Door(listening, unix_path=endpoint.path)
    context = None
    if endpoint.tls is not None:
        try:
            context = server_context(endpoint.tls, endpoint.client_authority)
        except (OSError, ssl.SSLError) as error:
            raise StartupRefused(f"The certificate {endpoint.tls.certificate} does not load: {error}") from None
    listening = _bind_tcp(endpoint.host, endpoint.port)
    return Door(
        listening,
        context=context,
        only_websocket=endpoint.only_websocket,
        speaks=endpoint.speaks,
        client_authority=endpoint.client_authority,
    )


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
        if error.errno == errno.EACCES:
            raise StartupRefused(
                f"Ports below 1024, as {port}, are for root alone here. Take a higher one and forward {port} to it, or "
                "allow it (docs/how-to/public-certificate.md)."
            ) from None
        raise StartupRefused(f"Cannot listen on {host} port {port}: {error.strerror}.") from None
    return listening


def shut_door(door: Door) -> None:
    door.listening.close()
    if door.unix_path is not None:
        door.unix_path.unlink(missing_ok=True)
