"""Bus adapter over NATS core, version 2: one subject, at most once, nothing stored. For fleets of many nodes."""

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from entobot.bus.remote import RemoteBus, TransportFailed
from entobot.bus.sealing import Seal
from entobot.core.errors import StartupRefused
from entobot.core.secrets import Entropy
from entobot.core.urls import place_of

CONNECT_S = 3.0
PING_EVERY_S = 5
MAX_BYTES = 256 * 1024
PACE_S = 0.002


@dataclass(frozen=True, slots=True)
class NatsPlace:
    """Where the servers are: `nats://` or `tls://`, several with commas; who one is stands in the first of them."""

    servers: tuple[SplitResult, ...]

    @classmethod
    def parse(cls, url: str) -> "NatsPlace":
        """Raises StartupRefused. The text of it holds no credentials."""
        parts = [part.strip() for part in url.split(",") if part.strip()]
        try:
            servers = tuple(urlsplit(part) for part in parts)
            is_right = all(one.scheme in ("nats", "tls") and one.hostname and (one.port or 1) for one in servers)
        except ValueError:  # its text may quote a piece of the password
            servers, is_right = (), False
        if not servers or not is_right or not all(map(place_of, parts)):
            raise StartupRefused(
                "bus.url: write nats://host:4222 or tls://host:4222, several with commas. "
                "Special characters of a password are percent-encoded."
            )
        return cls(servers)

    @property
    def shown(self) -> str:
        return ", ".join(f"{server.hostname}:{server.port or 4222}" for server in self.servers)

    def credentials(self) -> dict[str, str]:
        """`user:password@` or `token@`, percent-encoded."""
        first = self.servers[0]
        if first.username is None:
            return {}
        if first.password is None:
            return {"token": unquote(first.username)}
        return {"user": unquote(first.username), "password": unquote(first.password)}


class NatsTransport:
    """See `Transport`. Servers are tried in turn, beginning with number `first`. `trust` is for those of `tls://`."""

    kind = "nats"
    max_bytes = MAX_BYTES
    pace_s = PACE_S

    def __init__(self, place: NatsPlace, subject: str, *, first: int, trust: ssl.SSLContext | None) -> None:
        self.place = place.shown
        self._servers = place
        self._subject = subject
        self._trust = trust
        self._turn = first
        self._client: Any = None
        self._lost = asyncio.Event()

    async def open(self, heard: Callable[[bytes], None]) -> None:
        from nats.errors import Error

        self._lost = lost = asyncio.Event()

        async def ended() -> None:
            lost.set()

        async def told(_: Exception) -> None:
            """Whatever it is, `ended` follows where it matters."""

        async def got(message: Any) -> None:
            heard(message.data)

        server = self._servers.servers[self._turn % len(self._servers.servers)]
        self._turn += 1
        client = self._client = nats_client(must_encrypt=server.scheme == "tls")
        try:
            async with asyncio.timeout(CONNECT_S):
                await client.connect(
                    f"{server.scheme}://{_host(server)}:{server.port or 4222}",
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    connect_timeout=int(CONNECT_S),
                    ping_interval=PING_EVERY_S,
                    no_echo=True,
                    name="entobot",
                    disconnected_cb=ended,
                    closed_cb=ended,
                    error_cb=told,
                    tls=self._trust if server.scheme == "tls" else None,
                    **self._servers.credentials(),
                )
                await client.subscribe(self._subject, cb=got)
                for _ in range(2):  # the client's ping overtakes what waits to be written: the second one follows it
                    await client.flush(int(CONNECT_S))
        except (Error, OSError, TimeoutError, ValueError) as error:
            raise TransportFailed(_reason(error)) from None

    async def send(self, sealed: bytes) -> None:
        from nats.errors import Error

        try:
            await self._client.publish(self._subject, sealed)
        except (Error, OSError) as error:
            raise TransportFailed(_reason(error)) from None

    async def lost(self) -> None:
        await self._lost.wait()

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with suppress(Exception):  # the server may be gone in any way
                async with asyncio.timeout(CONNECT_S):
                    await client.close()


def nats_bus(
    url: str, *, subject: str, node_id: str, seal: Seal, entropy: Entropy, authority: str | None = None
) -> RemoteBus:
    """`authority` is a PEM file to trust instead of the system's authorities. Blocks.

    Raises StartupRefused when the URL or the file is not right, or the extra is not installed. Credentials are never shown.
    """
    place = NatsPlace.parse(url)
    try:
        import nats  # noqa: F401  # pyright: ignore[reportUnusedImport]  asked for now, so that a start says what is missing
    except ImportError:
        raise StartupRefused("bus.url names NATS, but its client is missing: pip install 'entobot[nats]'") from None
    trust = _trust(authority) if any(server.scheme == "tls" for server in place.servers) else None
    transport = NatsTransport(place, subject, first=entropy.bytes(1)[0], trust=trust)
    return RemoteBus(transport, node_id, seal, entropy)


def nats_client(*, must_encrypt: bool) -> Any:
    """With `must_encrypt` it hangs up on a server that offers no TLS, or on somebody who says so in its place. The
    library alone would go on in the clear, and send the password.
    """
    from nats.aio.client import Client
    from nats.errors import Error

    class EncryptedClient(Client):
        def _connect_command(self) -> bytes:
            if not self._server_info.get("tls_required"):
                raise Error("the server offers no TLS, and its address is tls://")
            return super()._connect_command()

    return EncryptedClient() if must_encrypt else Client()


def _trust(authority: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=authority)
    except OSError as error:  # an SSLError is one, too
        raise StartupRefused(f"bus.authority: {authority} cannot be used ({error.strerror or error}).") from None


def _host(server: SplitResult) -> str:
    host = server.hostname or ""
    return f"[{host}]" if ":" in host else host


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return (str(error) or type(error).__name__).removeprefix("nats: ")
