"""MQTT over TCP, with TLS or on loopback without: asyncio's protocol under a session."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

from entobot.gateway.link import Timer, Timers
from entobot.mqtt.parts import MqttParts
from entobot.mqtt.session import MqttSession
from entobot.web.arrivals import Arrival

GOODBYE_S = 5.0
"""After which a connection is cut whose client does not take our last words."""


class MqttProtocol(asyncio.Protocol):
    """One accepted connection. `connections` is the listener's set, `on_made` is called when it is among them."""

    __slots__ = ("_arrival", "_connections", "_goodbye", "_on_made", "_session", "_timers", "_transport", "is_writable")

    def __init__(self, parts: MqttParts, connections: set[Any], arrival: Arrival, on_made: Callable[[], None]) -> None:
        self._arrival = arrival
        self._connections = connections
        self._on_made = on_made
        self._timers: Timers = parts.timers
        self._transport: asyncio.Transport | None = None
        self._goodbye: Timer | None = None
        self._session = MqttSession(self, parts)
        self.is_writable = True

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._connections.add(self)
        self._on_made()
        self._arrival.has_asked()  # from here on it waits among the strangers
        self._session.opened()

    def data_received(self, data: bytes) -> None:
        self._session.received(bytes(data))

    def pause_writing(self) -> None:
        self.is_writable = False

    def resume_writing(self) -> None:
        self.is_writable = True
        self._session.writable()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._connections.discard(self)
        self._arrival.over()
        if self._goodbye is not None:
            self._goodbye.cancel()
        self._session.closed()

    # session.Wire

    @property
    def peer(self) -> str:
        return self._arrival.address

    @property
    def certificate(self) -> bytes | None:
        tls = None if self._transport is None else self._transport.get_extra_info("ssl_object")
        return None if tls is None else tls.getpeercert(True)

    @property
    def buffered_bytes(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def send(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def close(self) -> None:
        transport = self._transport
        if transport is None or self._goodbye is not None:
            return
        self._goodbye = self._timers.after(GOODBYE_S, self.abort)
        if transport.can_write_eof() and not transport.is_closing():
            # closed with unread bytes, plain TCP is reset, and our last words are lost: those are read and thrown away
            transport.resume_reading()
            transport.write_eof()
        else:
            transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def pause(self, *, is_paused: bool) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if is_paused:
            transport.pause_reading()
        else:
            transport.resume_reading()

    def let_in(self) -> None: ...

    # what the listener calls when it stops

    def shutdown(self) -> None:
        self._session.drain()
