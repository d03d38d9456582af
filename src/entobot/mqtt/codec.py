"""MQTT packets to bytes and back, 3.1.1 and 5, both directions. Pure.

`Framer` cuts a stream into packets and knows a packet's size before it keeps any of it; `decode` reads one.
"""

from collections.abc import Callable
from typing import TypeVar

from entobot.mqtt import fields, properties
from entobot.mqtt.fields import Reader
from entobot.mqtt.packets import (
    FAILURE,
    NOTHING,
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    Malformed,
    Packet,
    PingReq,
    PingResp,
    Properties,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    Reason,
    SubAck,
    Subscribe,
    Subscription,
    UnsubAck,
    Unsubscribe,
    Version,
    Will,
)
from entobot.mqtt.properties import Where
from entobot.mqtt.topics import check_filter, check_name

Frame = tuple[int, bytes]
"""A packet's first byte, and everything behind its remaining length."""

_CONNECT, _CONNACK, _PUBLISH, _PUBACK, _PUBREC, _PUBREL, _PUBCOMP = range(1, 8)
_SUBSCRIBE, _SUBACK, _UNSUBSCRIBE, _UNSUBACK, _PINGREQ, _PINGRESP, _DISCONNECT, _AUTH = range(8, 16)
_FLAGS = {_PUBREL: 2, _SUBSCRIBE: 2, _UNSUBSCRIBE: 2}
"""The four low bits of the first byte, 0 for every other packet but PUBLISH."""

_V3_CONNACK = {
    Reason.SUCCESS: 0,
    Reason.UNSUPPORTED_PROTOCOL_VERSION: 1,
    Reason.CLIENT_IDENTIFIER_NOT_VALID: 2,
    Reason.SERVER_UNAVAILABLE: 3,
    Reason.BAD_USER_NAME_OR_PASSWORD: 4,
    Reason.NOT_AUTHORIZED: 5,
}
_V3_CONNACK_BACK = {code: reason for reason, code in _V3_CONNACK.items()}
_UNAVAILABLE_V3 = 3


class Framer:
    """Bytes in, whole packets out. It holds at most one packet that is not whole, of at most `max_bytes`."""

    __slots__ = ("_buffer", "max_bytes")

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._buffer = b""

    @property
    def has_begun(self) -> bool:
        """A part of a packet is here."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> list[Frame]:
        """The packets that are whole now. Raises Malformed, `packet_too_large` included; then it is of no use any more.

        What came before a packet that is refused is returned first; the next call raises.
        """
        buffer = self._buffer + data if self._buffer else data
        found: list[Frame] = []
        at, end = 0, len(buffer)
        while at < end:
            try:
                body, size = self._measured(buffer, at)
            except Malformed:
                if not found:
                    raise
                break
            if body == at or end - body < size:
                break
            found.append((buffer[at], buffer[body : body + size]))
            at = body + size
        self._buffer = buffer[at:] if at else buffer
        return found

    def _measured(self, buffer: bytes, at: int) -> tuple[int, int]:
        body, size = length_at(buffer, at)
        if body - at + size > self.max_bytes:
            raise Malformed(Reason.PACKET_TOO_LARGE, f"a packet has at most {self.max_bytes} bytes here")
        return body, size


def length_at(buffer: bytes, at: int) -> tuple[int, int]:
    """Where the body begins and how long it is; `(at, 0)` where the length itself is not whole."""
    size = shift = 0
    for position in range(at + 1, min(at + 5, len(buffer))):
        byte = buffer[position]
        size |= (byte & 0x7F) << shift
        if byte < 0x80:
            if byte == 0 and shift:
                raise Malformed(Reason.MALFORMED_PACKET, "the remaining length is longer than it need be")
            return position + 1, size
        shift += 7
    if shift == 28:
        raise Malformed(Reason.MALFORMED_PACKET, "the remaining length has more than four bytes")
    return at, 0


def decode(frame: Frame, version: Version) -> Packet:
    """One packet; a CONNECT says its version itself. Raises Malformed."""
    first, body = frame
    kind, flags = first >> 4, first & 0x0F
    if kind == _PUBLISH:
        return _publish(flags, body, version)
    read = _READ.get(kind)
    if read is None or flags != _FLAGS.get(kind, 0) or (kind == _AUTH and version is not Version.V5):
        raise Malformed(Reason.MALFORMED_PACKET, f"there is no packet that begins with {first:#04x}")
    reader = Reader(body)
    packet = read(reader, version)
    reader.end()
    return packet


def _publish(flags: int, body: bytes, version: Version) -> Publish:
    reader = Reader(body)
    qos, dup = flags >> 1 & 3, bool(flags & 8)
    if qos == 3 or (dup and not qos):
        raise Malformed(Reason.MALFORMED_PACKET, "a QoS that is none, or a repeat at QoS 0")
    topic = reader.text()
    packet_id = _packet_id(reader) if qos else 0
    found = properties.read(reader, Where.PUBLISH) if version is Version.V5 else NOTHING
    if topic:
        check_name(topic)
    elif found.topic_alias is None:
        raise Malformed(Reason.PROTOCOL_ERROR, "a message has a topic or a topic alias")
    payload = reader.rest()
    _check_format(found, payload)
    return Publish(topic, payload, qos, bool(flags & 1), dup, packet_id, found)


def _check_format(found: Properties, payload: bytes) -> None:
    if found.payload_format and not _is_utf8(payload):
        raise Malformed(Reason.PAYLOAD_FORMAT_INVALID, "the payload says that it is UTF-8, and is not")


def _is_utf8(payload: bytes) -> bool:
    try:
        payload.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _packet_id(reader: Reader) -> int:
    packet_id = reader.two()
    if not packet_id:
        raise Malformed(Reason.PROTOCOL_ERROR, "a packet identifier is never 0")
    return packet_id


def _connect(reader: Reader, _: Version) -> Connect:
    name, level = reader.binary(), reader.byte()
    if name != b"MQTT" or level not in (Version.V3, Version.V5):
        raise Malformed(Reason.UNSUPPORTED_PROTOCOL_VERSION, "MQTT 3.1.1 and 5 are spoken here")
    version, flags = Version(level), reader.byte()
    has_will, will_qos = bool(flags & 4), flags >> 3 & 3
    if flags & 1 or will_qos == 3 or (not has_will and flags & 0x38):
        raise Malformed(Reason.MALFORMED_PACKET, "the flags of CONNECT contradict one another")
    if version is Version.V3 and flags & 0xC0 == 0x40:
        raise Malformed(Reason.MALFORMED_PACKET, "3.1.1 knows no password without a user name")
    keep_alive_s = reader.two()
    found = properties.read(reader, Where.CONNECT) if version is Version.V5 else NOTHING
    if found.authentication_data is not None and found.authentication_method is None:
        raise Malformed(Reason.PROTOCOL_ERROR, "authentication data without a method")
    client_id = reader.text()
    will = _will(reader, version, will_qos, bool(flags & 0x20)) if has_will else None
    return Connect(
        version,
        client_id,
        bool(flags & 2),
        keep_alive_s,
        reader.text() if flags & 0x80 else None,
        reader.binary() if flags & 0x40 else None,
        will,
        found,
    )


def _will(reader: Reader, version: Version, qos: int, retain: bool) -> Will:  # noqa: FBT001  a flag of the packet
    found = properties.read(reader, Where.WILL) if version is Version.V5 else NOTHING
    topic, payload = reader.text(), reader.binary()
    check_name(topic)
    _check_format(found, payload)
    return Will(topic, payload, qos, retain, found)


def _connack(reader: Reader, version: Version) -> ConnAck:
    flags, code = reader.byte(), reader.byte()
    if flags > 1:
        raise Malformed(Reason.MALFORMED_PACKET, "reserved bits of CONNACK are set")
    if version is Version.V5:
        return ConnAck(_reason(code), bool(flags), properties.read(reader, Where.CONNACK))
    if code not in _V3_CONNACK_BACK:
        raise Malformed(Reason.PROTOCOL_ERROR, "a return code that is none")
    return ConnAck(_V3_CONNACK_BACK[code], bool(flags))


_Acknowledging = TypeVar("_Acknowledging", bound=PubAck)


def _ack(make: type[_Acknowledging]) -> Callable[[Reader, Version], _Acknowledging]:
    def read(reader: Reader, version: Version) -> _Acknowledging:
        packet_id = _packet_id(reader)
        if version is not Version.V5 or not reader.left:
            return make(packet_id)
        reason = _reason(reader.byte())
        return make(packet_id, reason, properties.read(reader, Where.PUBACK) if reader.left else NOTHING)

    return read


def _subscribe(reader: Reader, version: Version) -> Subscribe:
    packet_id = _packet_id(reader)
    found = properties.read(reader, Where.SUBSCRIBE) if version is Version.V5 else NOTHING
    wanted: list[Subscription] = []
    while reader.left or not wanted:
        if not reader.left:
            raise Malformed(Reason.PROTOCOL_ERROR, "SUBSCRIBE names at least one filter")
        text, options = reader.text(), reader.byte()
        wanted.append(_subscription(text, options, version))
    return Subscribe(packet_id, tuple(wanted), found)


def _subscription(text: str, options: int, version: Version) -> Subscription:
    if options & (0xC0 if version is Version.V5 else 0xFC):
        raise Malformed(Reason.MALFORMED_PACKET, "reserved bits of a subscription's options are set")
    qos, handling = options & 3, options >> 4 & 3
    if qos == 3 or handling == 3:
        raise Malformed(Reason.PROTOCOL_ERROR, "a subscription's options hold what does not exist")
    is_shared = check_filter(text)
    no_local = bool(options & 4)
    if is_shared and no_local:
        raise Malformed(Reason.PROTOCOL_ERROR, "a shared subscription cannot leave out what comes from its own")
    return Subscription(text, qos, no_local, bool(options & 8), handling)


def _suback(reader: Reader, version: Version) -> SubAck:
    packet_id = _packet_id(reader)
    found = properties.read(reader, Where.SUBACK) if version is Version.V5 else NOTHING
    return SubAck(packet_id, tuple(_reason(code) for code in reader.rest()), found)


def _unsubscribe(reader: Reader, version: Version) -> Unsubscribe:
    packet_id = _packet_id(reader)
    found = properties.read(reader, Where.UNSUBSCRIBE) if version is Version.V5 else NOTHING
    filters: list[str] = []
    while reader.left:
        text = reader.text()
        check_filter(text)
        filters.append(text)
    if not filters:
        raise Malformed(Reason.PROTOCOL_ERROR, "UNSUBSCRIBE names at least one filter")
    return Unsubscribe(packet_id, tuple(filters), found)


def _unsuback(reader: Reader, version: Version) -> UnsubAck:
    packet_id = _packet_id(reader)
    found = properties.read(reader, Where.UNSUBACK) if version is Version.V5 else NOTHING
    return UnsubAck(packet_id, tuple(_reason(code) for code in reader.rest()), found)


def _disconnect(reader: Reader, version: Version) -> Disconnect:
    if version is not Version.V5 or not reader.left:
        return Disconnect()
    reason = _reason(reader.byte())
    return Disconnect(reason, properties.read(reader, Where.DISCONNECT) if reader.left else NOTHING)


def _auth(reader: Reader, _: Version) -> Auth:
    if not reader.left:
        return Auth()
    reason = _reason(reader.byte())
    return Auth(reason, properties.read(reader, Where.AUTH) if reader.left else NOTHING)


def _reason(code: int) -> Reason:
    try:
        return Reason(code)
    except ValueError:
        raise Malformed(Reason.PROTOCOL_ERROR, f"there is no reason {code:#04x}") from None


_READ: dict[int, Callable[[Reader, Version], Packet]] = {
    _CONNECT: _connect,
    _CONNACK: _connack,
    _PUBACK: _ack(PubAck),
    _PUBREC: _ack(PubRec),
    _PUBREL: _ack(PubRel),
    _PUBCOMP: _ack(PubComp),
    _SUBSCRIBE: _subscribe,
    _SUBACK: _suback,
    _UNSUBSCRIBE: _unsubscribe,
    _UNSUBACK: _unsuback,
    _PINGREQ: lambda _reader, _version: PingReq(),
    _PINGRESP: lambda _reader, _version: PingResp(),
    _DISCONNECT: _disconnect,
    _AUTH: _auth,
}

# writing

_ACK_KINDS = {PubAck: _PUBACK, PubRec: _PUBREC, PubRel: _PUBREL, PubComp: _PUBCOMP}


def encode(packet: Packet, version: Version) -> bytes:  # noqa: C901, PLR0911  one line a packet
    """Raises ValueError for what cannot be said in this version."""
    is_v5 = version is Version.V5
    match packet:
        case Publish():
            return _write_publish(packet, is_v5=is_v5)
        case PubAck():  # and those that derive from it
            return _write_ack(packet, is_v5=is_v5)
        case PingResp():
            return b"\xd0\0"
        case PingReq():
            return b"\xc0\0"
        case SubAck():
            reasons = packet.reasons if is_v5 else tuple(0x80 if one >= FAILURE else one for one in packet.reasons)
            return _packet(_SUBACK, _two(packet.packet_id), _write(packet, Where.SUBACK, is_v5=is_v5), bytes(reasons))
        case UnsubAck():
            reasons = bytes(packet.reasons) if is_v5 else b""
            return _packet(_UNSUBACK, _two(packet.packet_id), _write(packet, Where.UNSUBACK, is_v5=is_v5), reasons)
        case ConnAck():
            code = int(packet.reason) if is_v5 else _V3_CONNACK.get(packet.reason, _UNAVAILABLE_V3)
            flags = bytes((packet.session_present, code))
            return _packet(_CONNACK, flags, _write(packet, Where.CONNACK, is_v5=is_v5))
        case Connect():
            return _write_connect(packet)
        case Subscribe():
            wanted = b"".join(fields.text(one.filter) + _options(one) for one in packet.subscriptions)
            return _packet(_SUBSCRIBE, _two(packet.packet_id), _write(packet, Where.SUBSCRIBE, is_v5=is_v5), wanted)
        case Unsubscribe():
            filters = b"".join(map(fields.text, packet.filters))
            return _packet(
                _UNSUBSCRIBE, _two(packet.packet_id), _write(packet, Where.UNSUBSCRIBE, is_v5=is_v5), filters
            )
        case Disconnect():
            return _write_reason(_DISCONNECT, packet, Where.DISCONNECT, is_v5=is_v5)
        case Auth():
            return _write_reason(_AUTH, packet, Where.AUTH, is_v5=is_v5)


def _write(packet: ConnAck | SubAck | UnsubAck | Subscribe | Unsubscribe, where: Where, *, is_v5: bool) -> bytes:
    return properties.write(packet.properties, where) if is_v5 else b""


def _two(value: int) -> bytes:
    return value.to_bytes(2, "big")


def _packet(kind: int, *parts: bytes, flags: int | None = None) -> bytes:
    body = b"".join(parts)
    low = _FLAGS.get(kind, 0) if flags is None else flags
    return bytes((kind << 4 | low,)) + fields.variable(len(body)) + body


def _write_publish(packet: Publish, *, is_v5: bool) -> bytes:
    flags = packet.dup << 3 | packet.qos << 1 | packet.retain
    topic = fields.text(packet.topic)
    packet_id = _two(packet.packet_id) if packet.qos else b""
    said = properties.write(packet.properties, Where.PUBLISH) if is_v5 else b""
    return _packet(_PUBLISH, topic, packet_id, said, packet.payload, flags=flags)


def _write_ack(packet: PubAck, *, is_v5: bool) -> bytes:
    kind = _ACK_KINDS[type(packet)]
    if not is_v5 or (packet.reason is Reason.SUCCESS and packet.properties is NOTHING):
        return bytes((kind << 4 | _FLAGS.get(kind, 0), 2)) + _two(packet.packet_id)
    said = properties.write(packet.properties, Where.PUBACK)
    return _packet(kind, _two(packet.packet_id), bytes((packet.reason,)), b"" if said == b"\0" else said)


def _write_reason(kind: int, packet: Disconnect | Auth, where: Where, *, is_v5: bool) -> bytes:
    if not is_v5 or (packet.reason is Reason.SUCCESS and packet.properties is NOTHING):
        return bytes((kind << 4, 0))
    return _packet(kind, bytes((packet.reason,)), properties.write(packet.properties, where))


def _options(one: Subscription) -> bytes:
    return bytes((one.qos | one.no_local << 2 | one.retain_as_published << 3 | one.retain_handling << 4,))


def _write_connect(packet: Connect) -> bytes:
    is_v5, will = packet.version is Version.V5, packet.will
    flags = packet.clean << 1 | (packet.username is not None) << 7 | (packet.password is not None) << 6
    parts = [fields.text("MQTT"), bytes((packet.version,)), b"", _two(packet.keep_alive_s)]
    if is_v5:
        parts.append(properties.write(packet.properties, Where.CONNECT))
    parts.append(fields.text(packet.client_id))
    if will is not None:
        flags |= 4 | will.qos << 3 | will.retain << 5
        parts += [properties.write(will.properties, Where.WILL)] if is_v5 else []
        parts += [fields.text(will.topic), fields.binary(will.payload)]
    if packet.username is not None:
        parts.append(fields.text(packet.username))
    if packet.password is not None:
        parts.append(fields.binary(packet.password))
    parts[2] = bytes((flags,))
    return _packet(_CONNECT, *parts)
