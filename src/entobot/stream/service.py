"""Append to, read and acknowledge a user's stream; publish what is live only."""

from collections.abc import Callable, Mapping, Sequence

import msgspec

from entobot.bus.bus import Bus
from entobot.core import topics
from entobot.core.clock import to_ms
from entobot.core.errors import Code, Problem
from entobot.core.ids import Ids, Prefix
from entobot.core.permissions import Scope
from entobot.gateway.feed import EventsGone, Writing
from entobot.gateway.live import Live
from entobot.gateway.wire import MAX_FRAME_BYTES
from entobot.storage.database import Transaction
from entobot.stream import store
from entobot.stream.model import SEEN_WITHIN, Head, StreamEvent, has_expired
from entobot.stream.texts import Texts, ending

PAGE = 300
MAX_PAGE_CHARACTERS = 1024 * 1024
"""Of the events of one page: as much as a connection is sent before it acknowledges, so more would only be held."""
SURE_TO_FIT = 4
"""Events of any size that make no page too large. Most reads find fewer, and need no second look."""
MOST_ASKED = 300
"""Devices of one person that are asked whether they have seen something."""
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
        bus.subscribe_others(topics.user("*"), self._hear_live)
        bus.subscribe_others(topics.texts("*"), self._hear_end)

    def open(self, tx: Transaction, user_id: str) -> None:
        """Create the empty stream of a new user."""
        store.create_head(tx, user_id, self._ids.new(Prefix.STREAM))

    def replace_all(self, tx: Transaction) -> int:
        """Give every stream a new id: whoever knows the old one is ahead of a history that was replaced, and starts
        over. Returns how many there are.
        """
        users = store.users(tx)
        for user_id in users:
            store.rename(tx, user_id, self._ids.new(Prefix.STREAM))
        return len(users)

    def append(
        self,
        tx: Transaction,
        user_id: str,
        event: Mapping[str, object],
        *,
        topic: str,
        scope: Scope | None,
        now_ms: int,
        expires_at_ms: int | None = None,
    ) -> int:
        """Add a durable event to the user's stream in the caller's transaction and return its `seq`.

        Who has not got it by `expires_at_ms` does not get it; its number is left out for them then. Connected devices that hold `scope` are told after the commit. Raises `too_large` for an event that would not
        fit a frame: stored, it would end every connection that comes to it.
        """
        text = _json(event)
        if not _fits(text):
            raise Problem(Code.TOO_LARGE, "This is too large to be sent to devices. Make it smaller.")
        seq = store.next_seq(tx, user_id)
        stored = StreamEvent(seq, now_ms, scope, topic, text, expires_at_ms)
        store.insert_event(tx, user_id, stored)

        def ring() -> None:
            self._texts.settle(user_id, event, topic)
            self.appended(user_id, stored)
            self._bus.publish(topics.user(user_id), str(seq).encode(), replaces=True)
            ended = ending(event, topic)
            if ended is not None:
                self._bus.publish(topics.texts(user_id), ended.encode())

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
        self._bus.publish(topics.user(user_id), msgspec.json.encode(live), may_drop=True)

    def writing(self, user_id: str) -> list[Writing]:
        """The texts that are being written for this user now, each as a start and one piece."""
        return self._texts.writing(user_id)

    def forget_silent_texts(self) -> None:
        """To be called every few seconds; see `Texts.tick`."""
        self._texts.tick()

    def _hear_live(self, topic: str, payload: bytes) -> None:
        if payload.startswith(b"{"):
            self._texts.hear(topic.removeprefix(topics.user("")), msgspec.json.decode(payload, type=Live))

    def _hear_end(self, topic: str, payload: bytes) -> None:
        self._texts.hear_end(topic.removeprefix(topics.texts("")), payload.decode())

    def heads(self, tx: Transaction, user_ids: Sequence[str]) -> list[tuple[str, int]]:
        """The newest `seq` of each of these users."""
        return store.find_heads(tx, user_ids)

    def head(self, tx: Transaction, user_id: str) -> Head:
        head = store.find_head(tx, user_id)
        assert head is not None, "a user's stream head is made with the user"
        return head

    def after(self, tx: Transaction, user_id: str, after: int, count: int = PAGE) -> list[StreamEvent]:
        """The next events, expired ones included, without a hole: at most `count`, and fewer where they are large.

        Empty only at the end of the log. Raises EventsGone when retention took some of them: a replay from here on
        would be a partial one.
        """
        found = store.events_after(tx, user_id, after, min(count, SURE_TO_FIT))
        if len(found) == SURE_TO_FIT < count:
            found += self._more_after(tx, user_id, found, count - SURE_TO_FIT)
        is_joined = bool(found) and found[0].seq == after + 1
        if not is_joined and after < self.head(tx, user_id).trimmed_to:
            raise EventsGone
        return found

    def _more_after(self, tx: Transaction, user_id: str, begun: list[StreamEvent], count: int) -> list[StreamEvent]:
        """What follows on the same page. Looked at by size first: a page of 300 large events would be 75 MB."""
        after, room = begun[-1].seq, MAX_PAGE_CHARACTERS - sum(len(one.event) for one in begun)
        fitting = 0
        for size in store.sizes_after(tx, user_id, after, count):
            room -= size
            if room < 0:
                break
            fitting += 1
        return store.events_after(tx, user_id, after, fitting) if fitting else []

    # -- what devices have seen

    def acknowledge(
        self,
        tx: Transaction,
        device_id: str,
        user_id: str,
        seq: int,
        now_ms: int,
        *,
        is_known: Callable[[], bool] = lambda: True,
    ) -> None:
        """Note that this device has everything up to `seq`. Never moves back; of a user who is gone, nothing.

        `is_known` is asked before the first note of a device: one that was revoked meanwhile leaves none behind.
        """
        head = store.find_head(tx, user_id)
        if head is None:
            return
        seq = min(seq, head.seq)
        if store.move_cursor(tx, device_id, seq, head.seq, now_ms):
            return
        if store.find_cursor(tx, device_id) is None and is_known():
            store.create_cursor(tx, device_id, user_id, seq, now_ms)

    def seen(self, tx: Transaction, user_id: str, device_id: str) -> int:
        """The highest acknowledged `seq` of a device, 0 when it never acknowledged; never beyond the head."""
        return min(store.find_cursor(tx, device_id) or 0, self.head(tx, user_id).seq)

    def acknowledged_by(self, tx: Transaction, user_id: str, seq: int) -> list[str]:
        """The devices that have acknowledged this event, whoever did something last first; some hundred at most."""
        return store.acknowledged_by(tx, user_id, seq, MOST_ASKED)

    def unseen(
        self, tx: Transaction, user_id: str, device_id: str, now_ms: int, count: int = PAGE
    ) -> list[StreamEvent]:
        """Events that the device had 10 s to acknowledge and did not, oldest first; expired ones are left out.

        What was trimmed before anybody saw it is left out, too. `scope` says whether the device may see one at all.
        """
        seen = max(self.seen(tx, user_id, device_id), self.head(tx, user_id).trimmed_to)
        before = now_ms - to_ms(SEEN_WITHIN)
        found = store.events_after(tx, user_id, seen, count)
        return [one for one in found if one.at_ms <= before and not has_expired(one, now_ms)]

    def forget_device(self, tx: Transaction, device_id: str) -> None:
        """Of a device that was revoked."""
        store.drop_cursor(tx, device_id)


def _json(event: Mapping[str, object]) -> str:
    return msgspec.json.encode(event).decode()


def _fits(text: str) -> bool:
    return len(text) * 4 <= MAX_EVENT_BYTES or len(text.encode()) <= MAX_EVENT_BYTES
