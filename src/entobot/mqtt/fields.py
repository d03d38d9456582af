"""The data types of which MQTT packets are made (MQTT 5 §1.5), read strictly and written. Pure."""

from entobot.mqtt.packets import Malformed, Reason

MAX_VARIABLE = 268_435_455


class Reader:
    """Reads one packet's body from the front. Every method raises Malformed where the bytes do not say what they must."""

    __slots__ = ("_at", "_data", "_end")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._end = len(data)

    @property
    def left(self) -> int:
        return self._end - self._at

    def byte(self) -> int:
        at = self._take(1)
        return self._data[at]

    def two(self) -> int:
        at = self._take(2)
        return self._data[at] << 8 | self._data[at + 1]

    def four(self) -> int:
        at = self._take(4)
        return int.from_bytes(self._data[at : at + 4], "big")

    def variable(self) -> int:
        """At most four bytes, and as few as do."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if byte == 0 and shift:
                    raise Malformed(Reason.MALFORMED_PACKET, "a variable byte integer is longer than it need be")
                return value
            shift += 7
            if shift > 21:
                raise Malformed(Reason.MALFORMED_PACKET, "a variable byte integer has more than four bytes")

    def binary(self) -> bytes:
        size = self.two()
        at = self._take(size)
        return self._data[at : at + size]

    def text(self) -> str:
        return text_of(self.binary())

    def rest(self) -> bytes:
        at, self._at = self._at, self._end
        return self._data[at:]

    def part(self, size: int) -> "Reader":
        at = self._take(size)
        return Reader(self._data[at : at + size])

    def end(self) -> None:
        if self._at != self._end:
            raise Malformed(Reason.MALFORMED_PACKET, "the packet is longer than what it says")

    def _take(self, size: int) -> int:
        at = self._at
        if self._end - at < size:
            raise Malformed(Reason.MALFORMED_PACKET, "the packet ends too early")
        self._at = at + size
        return at


def text_of(data: bytes) -> str:
    """UTF-8 without surrogates and without U+0000 (MQTT 5 §1.5.4). Raises Malformed."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise Malformed(Reason.MALFORMED_PACKET, "a text is not UTF-8") from None
    if "\0" in text:
        raise Malformed(Reason.MALFORMED_PACKET, "a text holds U+0000")
    return text


def variable(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    if value > MAX_VARIABLE:
        raise ValueError("too large for a variable byte integer")
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def binary(data: bytes) -> bytes:
    if len(data) > 0xFFFF:
        raise ValueError("longer than 65,535 bytes")
    return len(data).to_bytes(2, "big") + data


def text(value: str) -> bytes:
    return binary(value.encode("utf-8"))
