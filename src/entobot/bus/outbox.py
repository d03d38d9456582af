"""What waits to be sent to other nodes: in order, merged where it can be, bounded. Pure."""

from dataclasses import dataclass

MAX_WAITING_BYTES = 4 * 1024 * 1024
MESSAGE_OVERHEAD_BYTES = 24
"""Of one message in a batch, at most: the places and lengths of its parts, and that it counts at all."""


@dataclass(slots=True)
class _Waiting:
    topic: str
    payload: bytes
    replaces: bool
    may_drop: bool
    since_s: float

    @property
    def size(self) -> int:
        return len(self.topic.encode()) + len(self.payload) + MESSAGE_OVERHEAD_BYTES


class Outbox:
    """`dropped` counts what was given up: too large for a batch, worthless when late, or the oldest of too many."""

    def __init__(self, max_batch_bytes: int, max_waiting_bytes: int = MAX_WAITING_BYTES) -> None:
        self.max_batch_bytes = max_batch_bytes
        self._max_waiting_bytes = max_waiting_bytes
        self._waiting: dict[int, _Waiting] = {}
        self._last_of_topic: dict[str, int] = {}
        self._next = 0
        self._bytes = 0
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def oldest_since_s(self) -> float | None:
        """The `now_s` of the first that waits, or of the one whose place it took; None when nothing waits."""
        oldest = next(iter(self._waiting.values()), None)
        return None if oldest is None else oldest.since_s

    def add(self, topic: str, payload: bytes, *, replaces: bool, may_drop: bool, now_s: float = 0.0) -> None:
        last = self._waiting.get(self._last_of_topic.get(topic, -1))
        if last is not None and replaces and last.replaces:
            self._bytes += len(payload) - len(last.payload)
            last.payload = payload
            return
        message = _Waiting(topic, payload, replaces, may_drop, now_s)
        if message.size > self.max_batch_bytes:
            self.dropped += 1
            return
        self._waiting[self._next] = message
        self._last_of_topic[topic] = self._next
        self._next += 1
        self._bytes += message.size
        while self._bytes > self._max_waiting_bytes:
            self._drop(next(iter(self._waiting)))

    def drop_what_may_be(self) -> None:
        """Other nodes cannot be reached: only what is still worth something later is kept."""
        for number in [number for number, message in self._waiting.items() if message.may_drop]:
            self._drop(number)

    def take(self) -> list[tuple[str, bytes]]:
        """The oldest messages that fit one batch; none when nothing waits."""
        batch: list[tuple[str, bytes]] = []
        size = 0
        for number, message in tuple(self._waiting.items()):
            size += message.size
            if size > self.max_batch_bytes:
                break
            batch.append((message.topic, message.payload))
            self._remove(number)
        return batch

    def _drop(self, number: int) -> None:
        self._remove(number)
        self.dropped += 1

    def _remove(self, number: int) -> None:
        message = self._waiting.pop(number)
        self._bytes -= message.size
        if self._last_of_topic.get(message.topic) == number:
            del self._last_of_topic[message.topic]
