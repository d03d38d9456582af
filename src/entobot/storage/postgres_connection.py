"""How a connection to PostgreSQL is opened: address, credentials, session settings; for the store, the bus and the CLI."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast
from urllib.parse import parse_qs, urlsplit

import asyncpg

from entobot.core.urls import place_of
from entobot.storage.database import Row

CONNECT_WITHIN_S = 4.0
SCHEMES = ("postgresql", "postgres")
SESSION: Mapping[str, str] = {
    "application_name": "entobot",
    "timezone": "UTC",
    "jit": "off",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "15000",
}
"""Of every session. The server itself notices within seconds that a node is gone, and lets go of its locks."""


class Prepared(Protocol):
    """A statement that the server has parsed; lives as long as its connection."""

    async def fetch(self, *values: object) -> list[Row]: ...
    async def fetchrow(self, *values: object) -> Row | None: ...
    def get_statusmsg(self) -> str: ...


class Connection(Protocol):
    """What is used of `asyncpg.Connection`, which comes without types."""

    async def execute(self, sql: str, *values: object) -> str: ...
    async def copy_records_to_table(
        self, table_name: str, *, records: Sequence[Sequence[object]], columns: Sequence[str]
    ) -> str: ...
    async def fetch(self, sql: str, *values: object) -> list[Row]: ...
    async def fetchrow(self, sql: str, *values: object) -> Row | None: ...
    async def fetchval(self, sql: str, *values: object) -> Any: ...
    async def prepare(self, sql: str) -> Prepared: ...
    async def close(self, *, timeout: float | None = None) -> None: ...
    def get_server_version(self) -> Sequence[int]: ...
    def is_closed(self) -> bool: ...
    def terminate(self) -> None: ...


Connect = Callable[[], Awaitable[Connection]]

NOT_REACHED = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, ssl.SSLError)
"""What opening a connection may raise."""


@dataclass(frozen=True, slots=True)
class PostgresAddress:
    """`url` is `postgresql://user@host[:port][,host2…]/database[?sslmode=…&target_session_attrs=read-write]`.

    The password comes from `password_file`, the URL, PGPASSWORD or the passfile, in this order; it is never shown.
    """

    url: str = field(repr=False)
    password_file: Path | None = None

    def __str__(self) -> str:
        """For people: without password, and without the query, which may hold one."""
        host = place_of(self.url)
        if host is None:
            return "the PostgreSQL address"
        try:
            parts = urlsplit(self.url)
            user = parts.username or ""
            host = host or parse_qs(parts.query).get("host", ["the local socket"])[0]
        except ValueError:
            return "the PostgreSQL address"
        return f"postgresql://{user + '@' if user else ''}{host}{parts.path}"

    async def connect(self, session: Mapping[str, str] = {}) -> Connection:
        """Raises one of NOT_REACHED, or ValueError when the address or its files are not right."""
        file = self.password_file
        password = None if file is None else (await asyncio.to_thread(file.read_text, "utf-8")).strip()
        connect = cast("Callable[..., Awaitable[Connection]]", asyncpg.connect)  # pyright: ignore[reportUnknownMemberType]  comes without types
        return await connect(
            self.url,
            password=password,
            timeout=CONNECT_WITHIN_S,
            statement_cache_size=0,  # statements are prepared by their users, who keep them as long as the connection
            server_settings={**SESSION, **session},
        )


def is_postgres(url: str) -> bool:
    return url.partition("://")[0] in SCHEMES


def reason(error: BaseException) -> str:
    """One line about a failure to connect or to commit. Holds no part of the address."""
    if isinstance(error, asyncpg.PostgresError):
        return str(getattr(error, "message", "") or type(error).__name__)
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    if isinstance(error, asyncpg.InterfaceError) and not isinstance(error, ValueError):
        return str(error)
    # The text of these may quote a piece of the URL.
    return "the address is not right (special characters of a password are percent-encoded)"
