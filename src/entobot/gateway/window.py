"""Flow control of one connection: how much was sent and not acknowledged. Pure."""

from collections import deque
from collections.abc import Callable

MAX_UNACKED_EVENTS = 256
MAX_UNACKED_BYTES = 1024 * 1024
MAX_PAUSE_S = 30.0
MAX_QUEUED_EVENTS = 1024
"""Events that may come during a pause."""
MIN_PAUSE_S = 1.0
"""However many come: an acknowledgement needs time to travel."""


class Window:
    """Durable events in flight. Sending pauses at 256 events or 1 MiB; acknowledgements are cumulative.

    Events outside a device's scopes are never sent, so they do not count.
    """

    __slots__ = ("_bytes", "_paused_since_s", "_sent")

    def __init__(self) -> None:
        self._sent: deque[tuple[int, int, int]] = deque()
        self._bytes = 0
        self._paused_since_s: float | None = None

    @property
    def is_open(self) -> bool:
        return len(self._sent) < MAX_UNACKED_EVENTS and self._bytes < MAX_UNACKED_BYTES

    @property
    def patience_ends_s(self) -> float:
        """When a pause will have lasted too long; inf while there is none."""
        return float("inf") if self._paused_since_s is None else self._paused_since_s + MAX_PAUSE_S

    def sent(self, seq: int, size_bytes: int, now_s: float, at_ms: int) -> None:
        """`at_ms` is given back when the event is acknowledged."""
        self._sent.append((seq, size_bytes, at_ms))
        self._bytes += size_bytes
        if not self.is_open and self._paused_since_s is None:
            self._paused_since_s = now_s

    def give_up(self) -> int:
        """Nothing is waited for any more; how many events were in flight."""
        count = len(self._sent)
        self._sent.clear()
        self._bytes = 0
        return count

    def acknowledged(self, seq: int, arrived: Callable[[int], None] | None = None) -> bool:
        """Everything up to `seq` arrived. True when sending may go on after a pause. `arrived` is told each `at_ms`."""
        while self._sent and self._sent[0][0] <= seq:
            _, size_bytes, at_ms = self._sent.popleft()
            self._bytes -= size_bytes
            if arrived is not None:
                arrived(at_ms)
        if self._paused_since_s is not None and self.is_open:
            self._paused_since_s = None
            return True
        return False
