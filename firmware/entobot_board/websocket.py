"""A WebSocket (RFC 6455) as a client, texts only, over a link that is open. It polls and never waits."""

import binascii
import hashlib
import os

MAX_BYTES = 16384
"""Of one text, all its parts together."""
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10


class Closed(OSError):  # noqa: N818  it says what happened
    """By the gateway. Codes from 4500 on: another try soon would change nothing."""

    def __init__(self, code: int) -> None:
        super().__init__("the gateway closed, code " + str(code))
        self.code = code


class WebSocket:
    """Methods raise OSError when the connection is of no use any more."""

    def __init__(self, link, host: str, path: str) -> None:
        self._link = link
        self._held = b""
        self._text = b""
        self.is_open = False
        key = binascii.b2a_base64(os.urandom(16)).strip()
        answer = hashlib.sha1(key + _GUID).digest()  # noqa: S324  the protocol's; it protects nothing
        self._accept = binascii.b2a_base64(answer).strip()
        head = (
            "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        )
        link.write(head.format(path, host).encode() + b"Sec-WebSocket-Key: " + key + b"\r\n\r\n")

    def send(self, text: str) -> None:
        self._write(_TEXT, text.encode())

    def receive(self) -> "list[str]":
        """The texts that are whole now."""
        data = self._link.read()
        if data:
            self._held += data
        if not self.is_open and not self._opens():
            return []
        found = []
        while True:
            frame = self._frame()
            if frame is None:
                return found
            self._take(frame[0], frame[1], found)

    def close(self) -> None:
        try:
            self._write(_CLOSE, b"\x03\xe8")
        except OSError:
            pass
        self._link.close()

    def drop(self) -> None:
        self._link.close()

    def _opens(self) -> bool:
        end = self._held.find(b"\r\n\r\n")
        if end < 0:
            if len(self._held) > MAX_BYTES:
                raise OSError("no answer that is one")
            return False
        head, self._held = self._held[:end], self._held[end + 4 :]
        lines = head.split(b"\r\n")
        if not lines[0].startswith(b"HTTP/1.1 101"):
            raise OSError("no WebSocket: " + lines[0].decode())
        for line in lines[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"sec-websocket-accept" and value.strip() == self._accept:
                self.is_open = True
                return True
        raise OSError("no WebSocket: it did not answer this key")

    def _frame(self) -> "tuple[int, bytes] | None":
        """First byte and content of the next one that is whole."""
        held = self._held
        if len(held) < 2:
            return None
        size, begins = held[1], 2
        if size >= 126:
            begins = 4 if size == 126 else 10
            if len(held) < begins:
                return None
            size = int.from_bytes(held[2:begins], "big")
        if size > MAX_BYTES:
            raise OSError("a text of " + str(size) + " bytes")
        if len(held) < begins + size:
            return None
        self._held = held[begins + size :]
        return held[0], held[begins : begins + size]

    def _take(self, first: int, content: bytes, found: list) -> None:
        kind = first & 15
        if kind == _PING:
            self._write(_PONG, content)
        elif kind == _CLOSE:
            raise Closed(int.from_bytes(content[:2], "big"))
        elif kind <= _TEXT:
            self._text += content
            if len(self._text) > MAX_BYTES:
                raise OSError("a text that is too long")
            if first & 128:
                found.append(self._text.decode())
                self._text = b""

    def _write(self, kind: int, content: bytes) -> None:
        size = len(content)
        head = bytes((128 | kind, 128 | size)) if size < 126 else bytes((128 | kind, 254)) + size.to_bytes(2, "big")
        mask = os.urandom(4)
        masked = bytes([byte ^ mask[n & 3] for n, byte in enumerate(content)])
        self._link.write(head + mask + masked)
