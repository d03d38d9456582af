"""Keep notes, to-dos and reminders, and tell people what they wanted to be reminded of."""

from collections.abc import Callable

from entobot.core.clock import Clock
from entobot.core.errors import Code, Problem
from entobot.core.ids import Ids, Prefix
from entobot.core.principal import Principal
from entobot.memos import store
from entobot.memos.model import MAX_OPEN, MAX_TEXT_CHARACTERS, Kind, Memo
from entobot.notifications.model import Kind as NewsKind
from entobot.notifications.model import Note, Priority
from entobot.notifications.service import Notifications
from entobot.storage.database import Database, Transaction

BATCH = 50


class Memos:
    """`on_reminded` is called in the unit in which a reminder fires: others may tell of it too."""

    def __init__(self, *, database: Database, clock: Clock, ids: Ids, notifications: Notifications) -> None:
        self.on_reminded: list[Callable[[Transaction, Memo, int], None]] = []
        self._database = database
        self._clock = clock
        self._ids = ids
        self._notifications = notifications

    def add(
        self, tx: Transaction, user_id: str, kind: Kind, text: str, now_ms: int, due_at_ms: int | None = None
    ) -> Memo:
        """Raises `invalid` for a text that is empty or too long, a time that is over, and for too many."""
        text = " ".join(text.split())
        if not 0 < len(text) <= MAX_TEXT_CHARACTERS or not text.isprintable():
            raise Problem(Code.INVALID, f"Write between 1 and {MAX_TEXT_CHARACTERS} characters.")
        if kind is Kind.REMINDER and (due_at_ms is None or due_at_ms <= now_ms):
            raise Problem(Code.INVALID, "A reminder needs a time that is still to come.")
        known = store.of_kind(tx, user_id, kind)
        if len(known) >= MAX_OPEN:
            raise Problem(Code.INVALID, f"There are {MAX_OPEN} of these already. Remove some first.")
        # Several come in one message and keep its order.
        created_at_ms = max([now_ms, *(one.created_at_ms + 1 for one in known)])
        one = Memo(self._ids.new(Prefix.MEMO), user_id, kind, text, created_at_ms, due_at_ms)
        store.insert_memo(tx, one)
        return one

    def of_kind(self, tx: Transaction, user_id: str, kind: Kind) -> list[Memo]:
        """Oldest first."""
        return store.of_kind(tx, user_id, kind)

    def remove(self, tx: Transaction, user_id: str, memo_id: str) -> None:
        """What is done, or not wanted. Raises `not_found`, also for another's."""
        if not store.delete_memo(tx, user_id, memo_id):
            raise Problem(Code.NOT_FOUND, "There is no such memo.")

    def end_reminders(self, tx: Transaction, by: Principal, user_id: str, now_ms: int) -> None:
        """Of a person who leaves: nobody is told any more. What they wrote stays, as their conversations do."""
        del by, now_ms  # the entry about the person tells who and when
        store.delete_reminders(tx, user_id)

    async def remind(self) -> None:
        """Tell of everything that is due. Of several nodes each reminder is told by one."""
        now_ms = self._clock.now_ms()
        if not await self._database.read(lambda tx: store.due(tx, now_ms, 1), is_small=True):
            return
        await self._database.write(lambda tx: self._tell_due(tx, now_ms))

    def _tell_due(self, tx: Transaction, now_ms: int) -> None:
        for one in store.due(tx, now_ms, BATCH):
            if not store.delete_memo(tx, one.user_id, one.memo_id):
                continue
            note = Note(one.user_id, NewsKind.REMINDER, one.text[:100], body=one.text, priority=Priority.HIGH)
            self._notifications.post(tx, note, now_ms)
            for tell in self.on_reminded:
                tell(tx, one, now_ms)
