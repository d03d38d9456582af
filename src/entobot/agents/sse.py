"""Server-sent events as they arrive in pieces (WHATWG HTML §9.2.6): the data of each, and nothing else. Pure."""

import re

_END = re.compile(rb"\r\n|\r|\n")
_BOM = b"\xef\xbb\xbf"


class TooLarge(Exception):  # noqa: N818  reads as what happened
    """One event, or one line, is longer than anybody keeps."""


class Reading:
    """`feed` what arrived; it returns the data of the events that are whole. An event that never ends is dropped, as the
    standard wants it.
    """

    def __init__(self, max_event_bytes: int) -> None:
        self._most = max_event_bytes
        self._line = bytearray()
        self._data: list[bytes] = []
        self._size = 0
        self._ends_with_cr = False
        self._is_first = True

    def feed(self, piece: bytes) -> list[bytes]:
        """Raises TooLarge."""
        if self._ends_with_cr and piece.startswith(b"\n"):
            piece = piece[1:]
        if not piece:
            return []
        self._ends_with_cr = piece.endswith(b"\r")
        *whole, rest = _END.split(piece)
        events: list[bytes] = []
        for line in whole:
            self._keep(line)
            self._take(bytes(self._line), events)
            self._line.clear()
        self._keep(rest)
        return events

    def _keep(self, part: bytes) -> None:
        self._line += part
        if len(self._line) + self._size > self._most:
            raise TooLarge

    def _take(self, line: bytes, events: list[bytes]) -> None:
        if self._is_first:
            self._is_first = False
            line = line.removeprefix(_BOM)
        if not line:
            if self._data:
                events.append(b"\n".join(self._data))
            self._data, self._size = [], 0
            return
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
            self._size += len(value) + 1
