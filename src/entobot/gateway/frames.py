"""RFC 6455 rules that picows leaves to its user. Pure: bytes in, messages or a close code out."""

from dataclasses import dataclass
from enum import IntEnum
from struct import pack


class Opcode(IntEnum):
    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


class CloseCode(IntEnum):
    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    NO_STATUS = 1005  # never on the wire: the peer's close frame had no code
    ABNORMAL = 1006  # never on the wire: TCP ended without a closing handshake
    INVALID_TEXT = 1007
    TOO_BIG = 1009
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012


MAX_CONTROL_PAYLOAD_BYTES = 125


def masked_header_bytes(payload_bytes: int) -> int:
    """Of a client's frame (RFC 6455 §5.2): 2, the extended length, 4 of mask."""
    return 6 if payload_bytes < 126 else 8 if payload_bytes < 1 << 16 else 14


_PEER_CODES_BELOW_3000 = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})


class FrameError(Exception):
    """The peer broke the protocol; `code` is what the close frame says."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Message:
    """One complete message; TEXT payloads are valid UTF-8."""

    opcode: Opcode
    payload: bytes


class Reassembler:
    """Joins fragments into messages (RFC 6455 §5.4) and refuses what breaks the rules.

    Fragments are copied into one growing buffer, so that endless empty fragments cost no memory.
    """

    __slots__ = ("_buffer", "_opcode")

    def __init__(self) -> None:
        self._opcode: Opcode | None = None
        self._buffer = bytearray()

    @property
    def is_idle(self) -> bool:
        """True between messages."""
        return self._opcode is None

    def feed(self, opcode: int, payload: bytes, *, is_final: bool, max_bytes: int) -> Message | None:
        """The message that this data frame completes, or None while more fragments are to come.

        Raises FrameError 1002 for a continuation out of place, a new message inside another or a reserved opcode,
        1007 for text that is not UTF-8, 1009 as soon as the message exceeds `max_bytes`.
        """
        kind = self._begin_or_continue(opcode)
        if len(self._buffer) + len(payload) > max_bytes:
            raise FrameError(CloseCode.TOO_BIG, "message too large")
        if not is_final:
            self._buffer += payload
            return None
        if self._buffer:
            payload = bytes(self._buffer + payload)
            self._buffer.clear()
        self._opcode = None
        if kind is Opcode.TEXT:
            require_utf8(payload)
        return Message(kind, payload)

    def _begin_or_continue(self, opcode: int) -> Opcode:
        if opcode == Opcode.CONTINUATION:
            if self._opcode is None:
                raise FrameError(CloseCode.PROTOCOL_ERROR, "continuation without a message")
            return self._opcode
        if opcode not in (Opcode.TEXT, Opcode.BINARY):
            raise FrameError(CloseCode.PROTOCOL_ERROR, "reserved opcode")
        if self._opcode is not None:
            raise FrameError(CloseCode.PROTOCOL_ERROR, "new message inside a fragmented one")
        self._opcode = Opcode(opcode)
        return self._opcode


def require_utf8(payload: bytes) -> None:
    """Raise FrameError 1007 unless the bytes are UTF-8."""
    if payload.isascii():
        return
    try:
        payload.decode("utf-8")
    except UnicodeDecodeError:
        raise FrameError(CloseCode.INVALID_TEXT, "text is not UTF-8") from None


def peer_close_code(payload: bytes) -> int:
    """The code in a received close frame; 1005 when it has none.

    Raises FrameError 1002 for a payload of one byte, an oversized one or a code that may not travel,
    1007 for a reason that is not UTF-8 (RFC 6455 §5.5.1, §7.4).
    """
    if not payload:
        return CloseCode.NO_STATUS
    if len(payload) == 1 or len(payload) > MAX_CONTROL_PAYLOAD_BYTES:
        raise FrameError(CloseCode.PROTOCOL_ERROR, "close frame of a wrong size")
    code = int.from_bytes(payload[:2], "big")
    if not (code in _PEER_CODES_BELOW_3000 or 3000 <= code <= 4999):
        raise FrameError(CloseCode.PROTOCOL_ERROR, "close code that may not travel")
    require_utf8(payload[2:])
    return code


_SHORT_TEXT = tuple(bytes((0x80 | Opcode.TEXT, size)) for size in range(126))


def text_frame(payload: bytes) -> bytes:
    """One unmasked text frame, as a server sends it. Build it once for a broadcast."""
    size = len(payload)
    if size < 126:
        return _SHORT_TEXT[size] + payload
    return frame(Opcode.TEXT, payload)


def frame(opcode: int, payload: bytes) -> bytes:
    """One unmasked, final frame of any opcode."""
    first = 0x80 | opcode
    size = len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 1 << 16:
        return pack("!BBH", first, 126, size) + payload
    return pack("!BBQ", first, 127, size) + payload


def close_frame(code: int, reason: str = "") -> bytes:
    """A close frame; a reason that does not fit into 123 bytes is cut at a character's end."""
    if code in (CloseCode.NO_STATUS, CloseCode.ABNORMAL):
        return frame(Opcode.CLOSE, b"")
    text = reason.encode("utf-8")[: MAX_CONTROL_PAYLOAD_BYTES - 2].decode("utf-8", "ignore").encode("utf-8")
    return frame(Opcode.CLOSE, pack("!H", code) + text)


PING_FRAME = frame(Opcode.PING, b"")
