"""The gateway's two connections to the edge: one of the boards' account, one that may ask who is connected, and cut."""

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from entobot.config_edge import EdgeSettings
from entobot.mqtt.edge_present import Connection, Place, read_rows

CALL_S = 5.0
ANSWERS_S = 0.3
"""So long servers are waited for that may answer too."""
PAGE = 1024
OVERLAP = 256
"""Rows that are asked for twice: others end meanwhile, and those behind them move up."""

Heard = Callable[[Any], Awaitable[None]]


class EdgeLine:
    def __init__(self, settings: EdgeSettings) -> None:
        self._settings = settings
        self._client: Any = None
        self._system: Any = None

    @property
    def is_open(self) -> bool:
        return all(one is not None and one.is_connected for one in (self._client, self._system))

    async def open(self) -> None:
        """Raises whatever the library does, and OSError."""
        settings = self._settings
        self._client = await self._connect(settings.user, settings.password_file)
        self._system = await self._connect(settings.system_user, settings.system_password_file)

    async def _connect(self, user: str, password_file: Path | None) -> Any:
        from entobot.bus.bus_nats import nats_client

        password, trust = await asyncio.to_thread(self._read_files, password_file)
        client = nats_client(must_encrypt=trust is not None)
        try:
            async with asyncio.timeout(CALL_S):  # the library tries for minutes where nobody answers
                await client.connect(
                    self._settings.url,
                    user=user,
                    password=password,
                    tls=trust,
                    name="entobot",
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    connect_timeout=round(CALL_S),
                    error_cb=_nothing,
                )
        except TimeoutError:
            await client.close()
            raise TimeoutError(f"no answer within {CALL_S:.0f} s") from None
        return client

    def _read_files(self, password_file: Path | None) -> tuple[str, ssl.SSLContext | None]:
        assert password_file is not None, "the settings see to it"
        password = password_file.read_text(encoding="utf-8").strip()
        if not self._settings.url.startswith("tls://"):
            return password, None
        authority = self._settings.ca_file
        return password, ssl.create_default_context(cafile=None if authority is None else str(authority))

    async def close(self) -> None:
        for client in (self._client, self._system):
            if client is not None:
                with suppress(Exception):  # the server may be gone in any way
                    async with asyncio.timeout(CALL_S):
                        await client.close()
        self._client = self._system = None

    # -- as the boards' account

    def stream(self) -> Any:
        return self._client.jetstream()

    async def answer(self, subject: str, heard: Heard, *, group: str) -> None:
        await self._client.subscribe(subject, queue=group, cb=heard)

    async def say(self, subject: str, payload: bytes) -> None:
        """To whoever is connected; nobody, where the line is down."""
        client = self._client
        if client is not None:
            with suppress(Exception):  # the server went meanwhile
                await client.publish(subject, payload)

    # -- as the system's

    async def hear(self, subject: str, heard: Heard, *, group: str = "") -> None:
        """What a server tells of an account. With a `group` one of its members hears each."""
        await self._system.subscribe(subject, queue=group, cb=heard)

    async def connections(self) -> list[Connection]:
        """Of boards, on every server. Raises whatever the library does."""
        await self._system.flush(timeout=round(CALL_S))  # what is subscribed to is heard from here on
        found: dict[Place, Connection] = {}
        for server_id in await self._servers():
            offset, is_more = 0, True
            while is_more:
                rows = await self._rows(server_id, offset)
                found |= {one.place: one for one in read_rows(server_id, rows)}
                is_more = len(rows) == PAGE
                offset += PAGE - OVERLAP
        return list(found.values())

    async def _servers(self) -> list[str]:
        found: list[str] = []
        inbox = self._system.new_inbox()
        source = await self._system.subscribe(inbox)
        await self._system.publish("$SYS.REQ.SERVER.PING.CONNZ", b'{"limit":1}', reply=inbox)
        with suppress(Exception):  # the library's time-out: no further server answers
            while True:
                message = await source.next_msg(timeout=CALL_S if not found else ANSWERS_S)
                found.append(json.loads(message.data)["server"]["id"])
        await source.unsubscribe()
        return found

    async def _rows(self, server_id: str, offset: int) -> list[dict[str, Any]]:
        asked = {"auth": True, "limit": PAGE, "offset": offset, "acc": self._settings.account}
        said = await self._system.request(
            f"$SYS.REQ.SERVER.{server_id}.CONNZ", json.dumps(asked).encode(), timeout=CALL_S
        )
        return json.loads(said.data)["data"].get("connections") or []

    async def cut(self, place: Place) -> None:
        """Raises whatever the library does."""
        said = json.dumps({"cid": place.number}).encode()
        await self._system.request(f"$SYS.REQ.SERVER.{place.server_id}.KICK", said, timeout=CALL_S)


async def _nothing(_: Exception) -> None:
    """What ends a connection is seen by whoever waits for it."""
