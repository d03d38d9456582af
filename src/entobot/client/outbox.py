"""Commands on their way: sent again with the same id after each reconnect, until they have a result. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from entobot.client.journal import Pending
from entobot.core.errors import Code, Problem

MAX_IN_FLIGHT = 128
"""Of the 256 that a gateway allows a connection."""
FIRST_RETRY_S, MOST_RETRY_S = 0.5, 30.0
KEPT_MS = 23 * 3600 * 1000
"""A gateway knows an id for 24 hours; after that a repeat would be a second command."""
READS = frozenset({"approval.list", "conversation.history", "conversation.list", "conversation.search", "events.ack"})


@dataclass(slots=True)
class _Entry:
    command: Pending
    is_sent: bool = False
    not_before_s: float = 0.0
    refusals: int = 0


class Outbox:
    """Times in seconds are monotonic; deadlines are wall clock, for they outlive the process."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, command_id: str) -> bool:
        return command_id in self._entries

    def ids(self) -> list[str]:
        return list(self._entries)

    def add(self, command: Pending) -> None:
        self._entries.setdefault(command.id, _Entry(command))

    def link_is_new(self) -> None:
        """Nothing has been sent over it."""
        for entry in self._entries.values():
            entry.is_sent = False

    def to_send(self, now_s: float) -> Iterator[Pending]:
        """What goes out now, oldest first; each counts as sent when it is taken."""
        in_flight = sum(entry.is_sent for entry in self._entries.values())
        for entry in list(self._entries.values()):
            if in_flight >= MAX_IN_FLIGHT:
                return
            if not entry.is_sent and entry.not_before_s <= now_s:
                entry.is_sent = True
                in_flight += 1
                yield entry.command

    def next_due_s(self) -> float | None:
        """When `to_send` has more, if nothing happens until then."""
        waiting = [entry.not_before_s for entry in self._entries.values() if not entry.is_sent]
        return min(waiting, default=None)

    def settle(self, command_id: str) -> Pending | None:
        """It has its result or its final refusal, or nobody wants it any more. None when it is not known."""
        entry = self._entries.pop(command_id, None)
        return None if entry is None else entry.command

    def refused(self, command_id: str, problem: Problem, now_s: float) -> bool:
        """True when it is final; else the command is sent again later."""
        entry = self._entries.get(command_id)
        if entry is None or not problem.retry:
            return True
        wait_s = min(MOST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(entry.refusals, 10))
        entry.refusals += 1
        entry.is_sent = False
        if problem.code is Code.RATE_LIMITED and problem.retry_after_s is not None:
            wait_s = problem.retry_after_s  # a promise; for the others it is the least, and the trouble may last
        entry.not_before_s = now_s + max(wait_s, problem.retry_after_s or 0.0)
        return False

    def one_was_dropped(self, not_before_s: float) -> None:
        """The gateway refused a frame unread and cannot say which: whatever has no answer goes out again."""
        for entry in self._entries.values():
            if entry.is_sent:
                entry.is_sent = False
                entry.not_before_s = max(entry.not_before_s, not_before_s)

    def expired(self, now_ms: int) -> list[Pending]:
        """Those whose deadline is over; their outcome is not known. They are taken out."""
        late = [one.command for one in self._entries.values() if one.command.deadline_at_ms <= now_ms]
        for command in late:
            del self._entries[command.id]
        return late

    def next_deadline_ms(self) -> int | None:
        return min((one.command.deadline_at_ms for one in self._entries.values()), default=None)
