"""The client's side of one MQTT connection, 3.1.1 and 5, for a bridge: QoS 1 both ways. Pure.

Bytes go in, what happened comes out; what is to be sent is returned as bytes. The other side is not trusted: a packet
that may not come raises Malformed, a message that is too large is passed over without being kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from entobot.mqtt.codec import Frame, decode, encode, length_at
from entobot.mqtt.packets import (
    FAILURE,
    ConnAck,
    Connect,
    Disconnect,
    Malformed,
    Packet,
    PingReq,
    PingResp,
    Properties,
    PubAck,
    Publish,
    Reason,
    SubAck,
    Subscribe,
    Subscription,
    UnsubAck,
    Unsubscribe,
    Version,
)

_PUBLISH = 3
_SUBSCRIBE_ID, _UNSUBSCRIBE_ID = 65_535, 65_534
MAX_INFLIGHT = 64
OVERHEAD_BYTES = 64 * 1024 + 16
"""Of a packet, beside its payload: a topic and properties."""


@dataclass(frozen=True, slots=True)
class Terms:
    version: Version
    client_id: str
    username: str | None
    password: bytes | None = field(repr=False)
    filters: tuple[str, ...] = ()
    keep_alive_s: int = 60
    session_expiry_s: int = 7 * 24 * 3600
    max_payload_bytes: int = 16 * 1024


@dataclass(frozen=True, slots=True)
class Opened:
    """The other broker took us. `has_session`: it kept what came meanwhile, and our subscriptions."""

    has_session: bool
    window: int
    """Messages that may be under way to it."""
    max_packet_bytes: int | None
    can_retain: bool


@dataclass(frozen=True, slots=True)
class Subscribed:
    refused: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Arrived:
    """To be acknowledged where `packet_id` is not 0. `publish` is None where it was too large to be looked at."""

    packet_id: int
    publish: Publish | None


@dataclass(frozen=True, slots=True)
class Delivered:
    packet_id: int
    reason: Reason


Event = Opened | Subscribed | Arrived | Delivered


class Ended(Exception):  # noqa: N818  reads as what happened
    """The other broker ended it, or never took us. `reason` is its own; None: it gave none."""

    def __init__(self, reason: Reason | None, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class Sieve:
    """Bytes in, packets out; of a message that is larger than it may be nothing is kept but its packet identifier."""

    __slots__ = ("_buffer", "_left", "max_bytes")

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._buffer = b""
        self._left = 0

    def feed(self, data: bytes) -> list[Frame | int]:
        """Packets that are whole now, and the packet identifiers (0: none) of those passed over. Raises Malformed."""
        found: list[Frame | int] = []
        buffer = self._buffer + data
        at = 0
        while True:
            passed = min(self._left, len(buffer) - at)
            at, self._left = at + passed, self._left - passed
            if self._left or at >= len(buffer):
                break
            body, size = length_at(buffer, at)
            if body == at:
                break
            if size > self.max_bytes:
                packet_id = self._passed_over(buffer, at, body, size)
                if packet_id is None:
                    break
                found.append(packet_id)
                self._left = body - at + size
                continue
            if len(buffer) - body < size:
                break
            found.append((buffer[at], buffer[body : body + size]))
            at = body + size
        self._buffer = buffer[at:]
        return found

    def _passed_over(self, buffer: bytes, at: int, body: int, size: int) -> int | None:
        """Its packet identifier; None where that is not there yet."""
        if buffer[at] >> 4 != _PUBLISH:
            raise Malformed(Reason.PACKET_TOO_LARGE, "a packet is larger than any of its kind can be")
        if not buffer[at] & 6:
            return 0
        if len(buffer) < body + 2:
            return None
        id_at = body + 2 + int.from_bytes(buffer[body : body + 2], "big")
        if id_at + 2 > body + size:
            raise Malformed(Reason.MALFORMED_PACKET, "a topic is longer than its packet")
        return int.from_bytes(buffer[id_at : id_at + 2], "big") if len(buffer) >= id_at + 2 else None


class Client:
    """One connection. Call `opening`, then `received` with what comes; `tick` at `next_check_s` at the latest."""

    def __init__(self, terms: Terms, now_s: float) -> None:
        self._terms = terms
        self._sieve = Sieve(terms.max_payload_bytes + OVERHEAD_BYTES)
        self._is_open = False
        self._asked: tuple[str, ...] = ()
        self._keep_alive_s = terms.keep_alive_s
        self._sent_s = self._heard_s = now_s
        self._pinged_s: float | None = None

    @property
    def is_v5(self) -> bool:
        return self._terms.version is Version.V5

    def opening(self) -> bytes:
        terms = self._terms
        said = Properties(
            session_expiry_s=terms.session_expiry_s,
            receive_maximum=MAX_INFLIGHT,
            max_packet_bytes=terms.max_payload_bytes + OVERHEAD_BYTES,
        )
        return encode(
            Connect(
                version=terms.version,
                client_id=terms.client_id,
                clean=False,
                keep_alive_s=terms.keep_alive_s,
                username=terms.username,
                password=terms.password,
                properties=said if self.is_v5 else Properties(),
            ),
            terms.version,
        )

    def subscribing(self) -> bytes:
        """Not told what we tell ourselves, and not what was kept from before: nobody knows how old that is."""
        self._asked = self._terms.filters
        wanted = tuple(
            Subscription(one, qos=1, no_local=self.is_v5, retain_handling=2 if self.is_v5 else 0) for one in self._asked
        )
        return encode(Subscribe(_SUBSCRIBE_ID, wanted), self._terms.version)

    def unsubscribing(self, filters: tuple[str, ...]) -> bytes:
        return encode(Unsubscribe(_UNSUBSCRIBE_ID, filters), self._terms.version)

    def publish(self, packet_id: int, topic: str, payload: bytes, *, retain: bool, dup: bool) -> bytes:
        packet = Publish(topic, payload, qos=1, retain=retain, dup=dup, packet_id=packet_id)
        return encode(packet, self._terms.version)

    def acknowledge(self, packet_ids: Sequence[int]) -> bytes:
        return b"".join(encode(PubAck(one), self._terms.version) for one in packet_ids if one)

    def leaving(self, reason: Reason = Reason.SUCCESS) -> bytes:
        """Of no use but to say why: the session stays."""
        return encode(Disconnect(reason), self._terms.version)

    # -- time

    def sent(self, now_s: float) -> None:
        self._sent_s = now_s

    def next_check_s(self) -> float:
        since_s = min(self._sent_s, self._heard_s if self._pinged_s is None else self._pinged_s)
        return since_s + self._keep_alive_s

    def tick(self, now_s: float, *, listens: bool = True) -> bytes:
        """A ping where one is due. Raises Ended where the other broker is silent.

        Where `listens` is false, what it says waits in the socket: it is pinged, so that it stays, and not judged.
        """
        if now_s < self.next_check_s() or not self._keep_alive_s:
            return b""
        is_silent = self._pinged_s is not None and now_s >= self._pinged_s + self._keep_alive_s
        if listens and (is_silent or not self._is_open):
            raise Ended(None, "it does not answer")
        self._pinged_s = now_s
        return encode(PingReq(), self._terms.version)

    def listening(self, now_s: float) -> None:
        """Again, from now on: what it answered meanwhile is still to be read."""
        self._heard_s = now_s
        if self._pinged_s is not None:
            self._pinged_s = now_s

    # -- what comes

    def received(self, data: bytes, now_s: float) -> list[Event]:
        """Raises Malformed, Ended."""
        self._heard_s = now_s
        found: list[Event] = []
        for frame in self._sieve.feed(data):
            event = Arrived(frame, None) if isinstance(frame, int) else self._read(frame)
            if event is not None:
                if not self._is_open:
                    raise Malformed(Reason.PROTOCOL_ERROR, "something came before CONNACK")
                found.append(event)
        return found

    def _read(self, frame: Frame) -> Event | None:
        """What only we do not take is passed over: it would come again with every connection."""
        try:
            return self._take(decode(frame, self._terms.version))
        except Malformed as error:
            if error.reason not in (Reason.TOPIC_NAME_INVALID, Reason.PAYLOAD_FORMAT_INVALID):
                raise
            first, body = frame
            at = 2 + int.from_bytes(body[:2], "big")
            return Arrived(int.from_bytes(body[at : at + 2], "big") if first & 6 else 0, None)

    def _take(self, packet: Packet) -> Event | None:
        match packet:
            case ConnAck() if not self._is_open:
                return self._opened(packet)
            case Publish(qos=0 | 1):
                if packet.properties.topic_alias is not None or not packet.topic:
                    raise Malformed(Reason.TOPIC_ALIAS_INVALID, "a topic alias that was not offered")
                return Arrived(packet.packet_id if packet.qos else 0, packet)
            case SubAck(packet_id=packet_id) if packet_id == _SUBSCRIBE_ID and len(packet.reasons) == len(self._asked):
                pairs = zip(self._asked, packet.reasons, strict=True)
                return Subscribed(tuple(one for one, reason in pairs if reason >= FAILURE or reason == 0))
            case PubAck() if type(packet) is PubAck:
                return Delivered(packet.packet_id, packet.reason)
            case PingResp():
                self._pinged_s = None
                return None
            case Disconnect() if self.is_v5:
                raise Ended(packet.reason, packet.properties.reason_string or "")
            case UnsubAck():
                return None
            case _:
                raise Malformed(Reason.PROTOCOL_ERROR, f"{type(packet).__name__} is nothing that a broker may send now")

    def _opened(self, packet: ConnAck) -> Opened:
        said = packet.properties
        if packet.reason is not Reason.SUCCESS:
            raise Ended(packet.reason, said.reason_string or "")
        self._is_open = True
        if said.server_keep_alive_s is not None:
            self._keep_alive_s = said.server_keep_alive_s
        if said.maximum_qos == 0:
            raise Ended(Reason.QOS_NOT_SUPPORTED, "it takes QoS 0 only")
        return Opened(
            has_session=packet.session_present,
            window=min(MAX_INFLIGHT, said.receive_maximum or MAX_INFLIGHT),
            max_packet_bytes=said.max_packet_bytes,
            can_retain=said.retain_available != 0,
        )
