"""MQTT 3.1.1 packets, as far as a board needs them. Pure; the same on MicroPython and CPython."""

CONNACK = 0x20
PUBLISH = 0x30
PUBACK = 0x40
SUBACK = 0x90
PINGRESP = 0xD0

PING = b"\xc0\x00"
DISCONNECT = b"\xe0\x00"


class Malformed(Exception):  # noqa: N818  it says what the bytes are
    """What came is no MQTT, or more than was asked for."""


def connect(device_id: str, key: str, keep_alive_s: int, will_topic: str, will: bytes) -> bytes:
    """With a session that lasts, and a retained will at QoS 1."""
    flags = 0x80 | 0x40 | 0x20 | 0x08 | 0x04  # user name, password, will: retained, QoS 1
    head = _text("MQTT") + bytes((4, flags)) + keep_alive_s.to_bytes(2, "big")
    return _packet(0x10, head + _text(device_id) + _text(will_topic) + _binary(will) + _text(device_id) + _text(key))


def publish(topic: str, payload_bytes: int, packet_id: int, *, retain: bool = False) -> bytes:
    """At QoS 1: what stands before a payload of so many bytes, which is written after it rather than copied."""
    head = _text(topic) + packet_id.to_bytes(2, "big")
    return _packet(PUBLISH | 2 | (1 if retain else 0), head, payload_bytes)


def subscribe(packet_id: int, filters: "list[str]") -> bytes:
    """At QoS 1."""
    return _packet(0x82, packet_id.to_bytes(2, "big") + b"".join([_text(one) + b"\x01" for one in filters]))


def puback(packet_id: int) -> bytes:
    return b"\x40\x02" + packet_id.to_bytes(2, "big")


def read_publish(first: int, body: bytes) -> "tuple[str, bytes, int]":
    """Topic, payload, and packet identifier: 0 at QoS 0. Raises Malformed."""
    qos = first >> 1 & 3
    size = int.from_bytes(body[:2], "big")
    at = 2 + size + (2 if qos else 0)
    if qos > 1 or len(body) < at:
        raise Malformed("a message that was not asked for")
    try:
        topic = body[2 : 2 + size].decode()
    except (UnicodeError, ValueError):
        raise Malformed("a topic that is not UTF-8") from None
    return topic, body[at:], int.from_bytes(body[at - 2 : at], "big") if qos else 0


class Framer:
    """Bytes in, whole packets out; a packet of more than `max_bytes` is refused before it is kept."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held = b""

    def feed(self, data: bytes) -> "list[tuple[int, bytes]]":
        """First byte and body of each. Raises Malformed."""
        held = self._held + data
        found: list[tuple[int, bytes]] = []
        at = 0
        while True:
            begins, size = self._measure(held, at)
            if begins == 0 or len(held) < begins + size:
                break
            found.append((held[at], held[begins : begins + size]))
            at = begins + size
        self._held = held[at:]
        return found

    def _measure(self, held: bytes, at: int) -> "tuple[int, int]":
        """Where the body begins, 0 if that is not known yet, and its size."""
        size = 0
        for n in range(4):
            if len(held) <= at + 1 + n:
                return 0, 0
            byte = held[at + 1 + n]
            size |= (byte & 127) << 7 * n
            if byte < 128:
                if size > self._max_bytes:
                    raise Malformed("a packet of " + str(size) + " bytes")
                return at + 2 + n, size
        raise Malformed("a size of more than four bytes")


def _packet(first: int, body: bytes, bytes_more: int = 0) -> bytes:
    head = bytearray((first,))
    size = len(body) + bytes_more
    while size > 127:
        head.append(size & 127 | 128)
        size >>= 7
    head.append(size)
    return bytes(head) + body


def _text(value: str) -> bytes:
    return _binary(value.encode())


def _binary(value: bytes) -> bytes:
    return len(value).to_bytes(2, "big") + value
