"""How a gateway is reached: at its origin over TLS, or at the socket of this machine."""

import contextlib
import ssl
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import httpx

from entobot.client.trust import Trust

TIMEOUT_S = 40.0
"""Longer than the longest wait that a route offers."""
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class Reach(Protocol):
    async def http(self) -> httpx.AsyncClient:
        """A client whose relative URLs are the gateway's. Kept open until `close`."""
        ...

    async def websocket(self) -> tuple[str, ssl.SSLContext | None] | None:
        """Address and TLS context of the WebSocket; None where there is none and events come over HTTP."""
        ...

    async def trust_anew(self) -> None:
        """A handshake failed: the certificate may have been renewed."""
        ...

    async def close(self) -> None: ...


class OriginReach:
    """Over TLS. Plain HTTP only on loopback, for tests behind a proxy."""

    def __init__(self, origin: str, trust: Trust) -> None:
        parts = urlsplit(origin)
        self._host = parts.hostname or ""
        if parts.scheme not in ("http", "https") or not self._host:
            raise ValueError(f"{origin} is no origin: https://HOST:PORT")
        if parts.scheme == "http" and self._host not in LOOPBACK:
            raise ValueError(f"{origin} is not encrypted; only https is spoken beyond this machine")
        self._is_tls = parts.scheme == "https"
        self._port = parts.port or (443 if self._is_tls else 80)
        self._origin = origin
        self._trust = trust
        self._context: ssl.SSLContext | None = None
        self._http: httpx.AsyncClient | None = None

    async def http(self) -> httpx.AsyncClient:
        if self._http is None:
            context = await self._tls()
            verify = True if context is None else context
            self._http = httpx.AsyncClient(base_url=self._origin, verify=verify, timeout=TIMEOUT_S, trust_env=False)
        return self._http

    async def websocket(self) -> tuple[str, ssl.SSLContext | None]:
        return self._origin.replace("http", "ws", 1) + "/ws", await self._tls()

    async def trust_anew(self) -> None:
        self._context = None
        await self.close()

    async def close(self) -> None:
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()

    async def _tls(self) -> ssl.SSLContext | None:
        if not self._is_tls:
            return None
        if self._context is None:
            self._context = await self._trust.context(self._host, self._port)
        return self._context


class SocketReach:
    """The Unix socket of this machine's gateway: REST and events, no WebSocket."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._http: httpx.AsyncClient | None = None
        self._held = contextlib.ExitStack()

    async def http(self) -> httpx.AsyncClient:
        if self._http is None:
            from entobot.web.unix_socket import no_tls, short_socket_path

            short = self._held.enter_context(short_socket_path(self._path))
            transport = httpx.AsyncHTTPTransport(uds=short, verify=no_tls())
            self._http = httpx.AsyncClient(transport=transport, base_url="http://gateway", timeout=TIMEOUT_S)
        return self._http

    async def websocket(self) -> None:
        return None

    async def trust_anew(self) -> None:
        """The kernel says who is there."""

    async def close(self) -> None:
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()
        self._held.close()
