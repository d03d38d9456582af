"""A client of MQTT whose session outlives its connections: what is not acknowledged is sent again (MQTT 5 §4.4).

Paho 2.2 forgets what it released when it connects in vain, so histories of bad lines need a client of our own. The codec
is the gateway's; Eclipse's suite and four other clients speak for that one.
"""

import asyncio
import random
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import msgspec

from entobot.client.history import Recorder
from entobot.mqtt.codec import Framer, decode, encode
from entobot.mqtt.packets import (
    FAILURE,
    ConnAck,
    Connect,
    Packet,
    PingReq,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    Reason,
    SubAck,
    Subscribe,
    Subscription,
    Version,
)

MAX_PACKET = 64 * 1024
SUBSCRIBE_ID = 60_000
SILENCE_S = 3.0
"""Without a byte while something is awaited: the line is given up."""
PAUSE_S = 0.3


class Gone(Exception):  # noqa: N818  reads as what happened
    """This connection is of no use any more."""


@dataclass(frozen=True, slots=True)
class Place:
    host: str
    port: int
    trust: ssl.SSLContext


@dataclass
class LastingClient:
    """`on_message` is called once for each message that is delivered, `on_kept` when one of its own was acknowledged, and
    `on_room` when nothing of that one is under way any more.
    """

    name: str
    place: Place
    hello: Connect
    recorder: Recorder
    dice: random.Random
    filters: tuple[str, ...] = ()
    on_message: Callable[[Publish], None] = lambda _: None
    on_kept: Callable[[Publish], None] = lambda _: None
    on_room: Callable[[], None] = lambda: None
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    """Connected and subscribed for the first time."""
    refused: list[Reason] = field(default_factory=list[Reason])
    _outgoing: dict[int, Publish | PubRel] = field(default_factory=dict[int, "Publish | PubRel"])
    _bodies: dict[int, Publish] = field(default_factory=dict[int, Publish])
    _incoming: set[int] = field(default_factory=set[int])
    _next: int = 0
    _writer: asyncio.StreamWriter | None = None

    @property
    def under_way(self) -> int:
        return len(self._outgoing)

    def publish(self, topic: str, payload: bytes, qos: int, value: int | None = None) -> None:
        """Sent now, or when there is a connection. With a `value` it is noted."""
        self._next = self._next % 1000 + 1
        assert self._next not in self._outgoing, "fewer are under way than there are numbers"
        one = Publish(topic, payload, qos, packet_id=self._next)
        self._outgoing[one.packet_id] = self._bodies[one.packet_id] = one
        if value is not None:
            self.recorder.note("published", topic=topic, qos=qos, value=value)
        self._send(one)

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            with suppress(OSError, EOFError, TimeoutError, Gone):
                await self._connect()
            await asyncio.sleep(self.dice.random() * PAUSE_S)

    async def _connect(self) -> None:
        place = self.place
        async with asyncio.timeout(SILENCE_S):
            reader, writer = await asyncio.open_connection(
                place.host, place.port, ssl=place.trust, server_hostname=place.host
            )
        try:
            writer.write(encode(self.hello, self.hello.version))
            await self._listen(reader, writer)
        finally:
            if self._writer is not None:
                self._writer = None
                self.recorder.note("broken")
            writer.transport.abort()

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        framer = Framer(MAX_PACKET)
        while data := await self._read(reader):
            for frame in framer.feed(data):
                self._take(decode(frame, self.hello.version), writer)

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        """A ping finds out whether the line still is one."""
        if self._writer is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(SILENCE_S / 3):
                    return await reader.read(65_536)
            self._write(PingReq())
        async with asyncio.timeout(SILENCE_S):
            return await reader.read(65_536)

    def _take(self, packet: Packet, writer: asyncio.StreamWriter) -> None:
        match packet:
            case ConnAck():
                self._opened(packet, writer)
            case SubAck():
                assert all(reason <= Reason.GRANTED_QOS_2 for reason in packet.reasons), packet
                self.ready.set()
            case Publish():
                self._heard(packet)
            case PubRel():
                self._incoming.discard(packet.packet_id)
                self._write(PubComp(packet.packet_id))
            case PubRec():
                self._received(packet)
            case PubComp():
                self._finish(packet.packet_id)
            case PubAck():
                self._acknowledged(packet)
            case _:
                pass

    def _opened(self, packet: ConnAck, writer: asyncio.StreamWriter) -> None:
        if packet.reason is not Reason.SUCCESS:
            raise Gone
        self.recorder.note("connected", present=packet.session_present)
        self._writer = writer
        if self.filters and not (packet.session_present and self.ready.is_set()):
            wanted = tuple(Subscription(one, qos=2) for one in self.filters)
            self._write(Subscribe(SUBSCRIBE_ID, wanted))
        elif not self.filters:
            self.ready.set()
        for one in tuple(self._outgoing.values()):
            self._send(one)

    def _heard(self, one: Publish) -> None:
        if one.qos == 2:
            self._write(PubRec(one.packet_id))
            if one.packet_id in self._incoming:
                return
            self._incoming.add(one.packet_id)
        elif one.qos == 1:
            self._write(PubAck(one.packet_id))
        self.on_message(one)

    def _received(self, packet: PubRec) -> None:
        if packet.packet_id not in self._outgoing:
            self._write(PubRel(packet.packet_id))
        elif packet.reason >= FAILURE:
            self._acknowledged(packet)
        else:
            if isinstance(self._outgoing[packet.packet_id], Publish):
                self.on_kept(self._bodies[packet.packet_id])
            self._outgoing[packet.packet_id] = PubRel(packet.packet_id)
            self._write(PubRel(packet.packet_id))

    def _acknowledged(self, packet: PubAck) -> None:
        one = self._bodies.get(packet.packet_id)
        self._finish(packet.packet_id)
        if packet.reason >= FAILURE:
            self.refused.append(packet.reason)
        elif one is not None:
            self.on_kept(one)

    def _finish(self, packet_id: int) -> None:
        self._outgoing.pop(packet_id, None)
        self._bodies.pop(packet_id, None)
        self.on_room()

    def _send(self, one: Publish | PubRel) -> None:
        if self._writer is None:
            return
        self._write(one)
        if isinstance(one, Publish):
            self._outgoing[one.packet_id] = msgspec.structs.replace(one, dup=True)

    def _write(self, packet: Packet) -> None:
        if self._writer is not None:
            self._writer.write(encode(packet, self.hello.version))


def hello(client_id: str, username: str, password: str, version: Version) -> Connect:
    """For a session that lasts an hour."""
    one = Connect(version, client_id, clean=False, keep_alive_s=30, username=username, password=password.encode())
    if version is not Version.V5:
        return one
    return msgspec.structs.replace(one, properties=msgspec.structs.replace(one.properties, session_expiry_s=3600))
