"""Bus adapter over PostgreSQL's LISTEN and NOTIFY: no server beside the database.

One connection a node, of its own: LISTEN needs a direct one (no PgBouncer in transaction mode). A NOTIFY takes a lock
at commit that all of the database's notifying transactions share, so it is never part of a message's transaction:
batches follow the commits, at most one in PACE_S.
"""

import asyncio
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from entobot.bus.remote import RemoteBus, TransportFailed
from entobot.bus.sealing import Seal
from entobot.core.secrets import Entropy
from entobot.core.urls import place_of

ANSWER_S = 5.0
ASK_EVERY_S = 5.0
PACE_S = 0.005
MAX_NOTIFY_BYTES = 7999
"""The payload of a NOTIFY is shorter than 8000 bytes."""


class PostgresTransport:
    """See `Transport`. `dsn` is a `postgresql://` URL for a direct connection, of one host or several."""

    kind = "postgresql"
    max_bytes = MAX_NOTIFY_BYTES // 4 * 3
    pace_s = PACE_S

    def __init__(self, dsn: str, channel: str, password_file: Path | None = None) -> None:
        place = place_of(dsn)
        self.place = "its address" if place is None else place or "the local socket"
        self._dsn = dsn
        self._password_file = password_file
        self._channel = channel
        self._connection: Any = None
        self._ended = asyncio.Event()
        self._turn = asyncio.Lock()
        """A connection answers one question at a time."""

    async def open(self, heard: Callable[[bytes], None]) -> None:
        asyncpg: Any = import_module("asyncpg")  # not typed
        self._ended = ended = asyncio.Event()

        def over(_connection: object) -> None:
            ended.set()

        def got(_connection: object, _pid: int, _channel: str, payload: object) -> None:
            with suppress(NotBase64):
                heard(b64decode(str(payload), validate=True))

        try:
            async with asyncio.timeout(ANSWER_S):
                # Nothing is lost that matters when a commit of this connection is: it writes no rows.
                settings = {"application_name": "entobot bus", "synchronous_commit": "off"}
                file = self._password_file
                password = None if file is None else (await asyncio.to_thread(file.read_text, "utf-8")).strip()
                connection: Any = await asyncpg.connect(self._dsn, password=password, server_settings=settings)
                self._connection = connection
                connection.add_termination_listener(over)
                await connection.add_listener(self._channel, got)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError, ValueError) as error:
            raise TransportFailed(_reason(error)) from None

    async def send(self, sealed: bytes) -> None:
        await self._ask("SELECT pg_notify($1, $2)", self._channel, b64encode(sealed).decode("ascii"))

    async def lost(self) -> None:
        """Also when the other end is gone without a word: then a question stays without an answer."""
        while not self._ended.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(ASK_EVERY_S):
                    await self._ended.wait()
            if not self._ended.is_set():
                try:
                    await self._ask("SELECT 1")
                except TransportFailed:
                    return

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def _ask(self, query: str, *values: str) -> None:
        asyncpg: Any = import_module("asyncpg")
        try:
            async with self._turn, asyncio.timeout(ANSWER_S):
                await self._connection.fetchval(query, *values)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
            raise TransportFailed(_reason(error)) from None


def postgres_bus(
    dsn: str, *, channel: str, node_id: str, seal: Seal, entropy: Entropy, password_file: Path | None = None
) -> RemoteBus:
    """The database adapter has made sure that asyncpg is there."""
    return RemoteBus(PostgresTransport(dsn, channel, password_file), node_id, seal, entropy)


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ValueError):  # its text may quote a piece of the URL
        return "the address is not right (special characters of a password are percent-encoded)"
    return str(error) or type(error).__name__
