"""Append to, read and acknowledge a user's stream; publish what is live only."""

from collections.abc import Callable, Mapping

import msgspec

from entobot.bus.bus import Bus
from entobot.core import topics
from entobot.core.errors import Code, Problem
from entobot.core.ids import Ids, Prefix
from entobot.core.permissions import Scope
from entobot.gateway.feed import Writing
from entobot.gateway.live import Live
from entobot.gateway.wire import MAX_FRAME_BYTES
from entobot.storage.database import Transaction
from entobot.stream import store
from entobot.stream.model import Head, StreamEvent
from entobot.stream.texts import Texts

PAGE = 300
MAX_EVENT_BYTES = MAX_FRAME_BYTES - 1024
"""Of an event's JSON text; the rest is for the envelope."""


def _to_nobody(_user_id: str, _event: StreamEvent) -> None:
    """No connections on this node."""


class Stream:
    """`appended(user_id, event)` is called on the loop after each commit, in commit order and before the bell: what
    this node's connections are about to ask for is at hand. Other nodes read it.
    """

    def __init__(self, bus: Bus, ids: Ids) -> None:
        self._bus = bus
        self._ids = ids
        self._texts = Texts()
        self.appended: Callable[[str, StreamEvent], None] = _to_nobody

    def open(self, tx: Transaction, user_id: str) -> None:
        """Create the empty stream of a new user."""
        store.create_head(tx, user_id, self._ids.new(Prefix.STREAM))

    def append(
        self,
        tx: Transaction,
        user_id: str,
        event: Mapping[str, object],
        *,
        topic: str,
        scope: Scope | None,
        now_ms: int,
    ) -> int:
        """Add a durable event to the user's stream in the caller's transaction and return its `seq`.

        Connected devices that hold `scope` are told after the commit. Raises `too_large` for an event that would not
        fit a frame: stored, it would end every connection that comes to it.
        """
        text = _json(event)
        if not _fits(text):
            raise Problem(Code.TOO_LARGE, "This is too large to be sent to devices. Make it smaller.")
        seq = store.next_seq(tx, user_id)
        stored = StreamEvent(seq, now_ms, scope, topic, text)
        store.insert_event(tx, user_id, stored)

        def ring() -> None:
            self._texts.settle(user_id, event, topic)
            self.appended(user_id, stored)
            self._bus.publish(topics.user(user_id), str(seq).encode())

        tx.after_commit(ring)
        return seq

    def show(self, user_id: str, event: Mapping[str, object], *, topic: str, scope: Scope | None, now_ms: int) -> None:
        """Send an event that is not stored to the user's connected devices. Loop thread only.

        Texts (AG-UI `TEXT_MESSAGE_START`, `_CONTENT`, `_END`) are kept until their end, for whoever connects meanwhile.
        """
        piece = self._texts.follow(user_id, event, topic=topic, scope=scope, now_ms=now_ms)
        text = _json(event)
        if not _fits(text):  # a text is shown anew with the next piece, in pieces that fit
            return
        live = Live(now_ms, scope, topic, text, piece)
        self._bus.publish(topics.user(user_id), msgspec.json.encode(live))

    def writing(self, user_id: str) -> list[Writing]:
        """The texts that are being written for this user now, each as a start and one piece."""
        return self._texts.writing(user_id)

    def head(self, tx: Transaction, user_id: str) -> Head:
        head = store.find_head(tx, user_id)
        assert head is not None, "a user's stream head is made with the user"
        return head

    def first_seq(self, tx: Transaction, user_id: str) -> int:
        """The oldest `seq` that can still be replayed; the next one to come when retention took them all."""
        first = store.first_seq(tx, user_id)
        return self.head(tx, user_id).seq + 1 if first is None else first

    def after(self, tx: Transaction, user_id: str, after: int, count: int = PAGE) -> list[StreamEvent]:
        return store.events_after(tx, user_id, after, count)

    def acknowledge(self, tx: Transaction, device_id: str, user_id: str, seq: int, now_ms: int) -> None:
        """Note that this device has seen everything up to `seq`. Never moves backwards; of a user who is gone, nothing."""
        head = store.find_head(tx, user_id)
        if head is not None:
            store.move_cursor(tx, device_id, user_id, min(seq, head.seq), now_ms)

    def seen(self, tx: Transaction, device_id: str) -> int:
        """The highest acknowledged `seq` of a device, 0 when it never acknowledged."""
        return store.find_cursor(tx, device_id) or 0


def _json(event: Mapping[str, object]) -> str:
    return msgspec.json.encode(event).decode()


def _fits(text: str) -> bool:
    return len(text) * 4 <= MAX_EVENT_BYTES or len(text.encode()) <= MAX_EVENT_BYTES
