"""Use cases of questions. Methods that take a transaction are units, or parts of them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from entobot.accounts.model import UserState
from entobot.accounts.service import Accounts
from entobot.audit.events import AuditEvent
from entobot.audit.service import Audit
from entobot.bus.bus import Bus
from entobot.callbacks.model import Kind as Posted
from entobot.callbacks.service import Callbacks
from entobot.core import topics
from entobot.core.clock import to_ms
from entobot.core.errors import Code, Problem
from entobot.core.ids import Ids, Prefix
from entobot.core.permissions import Scope
from entobot.core.principal import Principal
from entobot.notifications.model import Kind as Kinds
from entobot.notifications.model import Note, Priority
from entobot.notifications.service import Notifications
from entobot.questions import store
from entobot.questions.form import Field, check_answer
from entobot.questions.model import (
    MAX_LIFE_S,
    MAX_OPEN,
    MAX_TITLE_CHARACTERS,
    MIN_LIFE_S,
    Asker,
    Kind,
    Question,
    State,
    check_open,
)
from entobot.questions.rows import closed_data, question_row
from entobot.storage.database import Database, Transaction
from entobot.stream.service import Stream

MAX_PAGE = 100
SWEEP_COUNT = 100
KEPT_FOR = timedelta(days=30)
"""After they were closed."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a program asks. `to` is a person's id or login; None is the person whose program it is."""

    kind: Kind
    title: str
    text: str
    fields: tuple[Field, ...]
    to: str | None
    life_s: int
    key: str | None
    callback_url: str | None = None


class Questions:
    """`guard` refuses credentials that have ended since, as `devices.guard`."""

    def __init__(
        self,
        *,
        ids: Ids,
        stream: Stream,
        bus: Bus,
        audit: Audit,
        accounts: Accounts,
        notifications: Notifications,
        callbacks: Callbacks,
        guard: Callable[[Transaction, Principal], None],
    ) -> None:
        self._ids = ids
        self._stream = stream
        self._bus = bus
        self._audit = audit
        self._accounts = accounts
        self._notifications = notifications
        self._callbacks = callbacks
        self._guard = guard

    # -- asking

    def ask(self, tx: Transaction, principal: Principal, wish: Wish, now_ms: int) -> Question:
        """Put it to the person's devices. With a key that the asker has used before: that question, as it is now.

        Raises `forbidden` for another person without the scope `notify.others`, `rate_limited` while too many wait,
        `idempotency_mismatch` for a known key with other words, `address_refused`, `invalid` and `too_large`.
        """
        self._guard(tx, principal)
        person = self._person(tx, principal, wish.to)
        asker = Asker(principal.user_id, principal.device_id)
        question = self._question(wish, person, asker, now_ms)
        known = None if wish.key is None else store.find_by_key(tx, asker, wish.key)
        if known is not None:
            return _same(known, question)
        if store.count_open(tx, person, asker.user_id) >= MAX_OPEN:
            said = f"{MAX_OPEN} questions wait for an answer already. Wait, or take some back."
            raise Problem(Code.RATE_LIMITED, said, retry_after_s=60)
        if not store.insert_question(tx, question):
            raise Problem(Code.RATE_LIMITED, "This is being asked at this moment. Ask again.", retry_after_s=1)
        self._callbacks.register(tx, principal, Posted.QUESTION, question.question_id, wish.callback_url, now_ms)
        seq = self._tell(tx, question, "question.asked", question_row(question), now_ms)
        self._notify(tx, question, seq, now_ms)
        self._record(tx, AuditEvent.QUESTION_ASKED, question, now_ms, principal)
        return question

    def _person(self, tx: Transaction, principal: Principal, to: str | None) -> str:
        if to is None or to == principal.user_id:
            return principal.user_id
        found = self._accounts.find_by_login(tx, to)
        if found is not None and found.user_id == principal.user_id:
            return principal.user_id
        principal.require(Scope.NOTIFY_OTHERS)
        user = self._accounts.get_user(tx, to) if found is None else found
        if user.state is not UserState.ACTIVE:
            raise Problem(Code.NOT_FOUND, "There is no such person, or they have left.")
        return user.user_id

    def _question(self, wish: Wish, person: str, asker: Asker, now_ms: int) -> Question:
        if not MIN_LIFE_S <= wish.life_s <= MAX_LIFE_S:
            raise Problem(Code.INVALID, f"A question waits for {MIN_LIFE_S} to {MAX_LIFE_S} seconds.")
        return Question(
            question_id=self._ids.new(Prefix.QUESTION),
            user_id=person,
            asker=asker,
            key=wish.key,
            kind=wish.kind,
            title=wish.title,
            text=wish.text,
            fields=wish.fields,
            state=State.OPEN,
            created_at_ms=now_ms,
            expires_at_ms=now_ms + wish.life_s * 1000,
        )

    def take_back(self, tx: Transaction, principal: Principal, question_id: str, now_ms: int) -> Question:
        """By who asked. Raises `not_found` and `question_closed`."""
        self._guard(tx, principal)
        question = self.get(tx, principal, question_id)
        if question.asker.user_id != principal.user_id:
            raise Problem(Code.FORBIDDEN, "Only who asked can take a question back. Decline it instead.")
        check_open(question, now_ms)
        return self._close(tx, question, State.CANCELLED, AuditEvent.QUESTION_CANCELLED, now_ms, principal)

    # -- answering

    def answer(self, tx: Transaction, principal: Principal, question_id: str, answer: Any, now_ms: int) -> Question:
        """The first answer counts. Raises `forbidden`, `not_found`, `question_closed` and `invalid`."""
        question = self._to_close(tx, principal, question_id, now_ms)
        kept = check_answer(question.fields, answer, is_form=question.kind is Kind.FORM)
        answered = replace(question, answer=kept)
        return self._close(tx, answered, State.ANSWERED, AuditEvent.QUESTION_ANSWERED, now_ms, principal)

    def decline(self, tx: Transaction, principal: Principal, question_id: str, now_ms: int) -> Question:
        """The person will not answer. Raises as `answer`."""
        question = self._to_close(tx, principal, question_id, now_ms)
        return self._close(tx, question, State.DECLINED, AuditEvent.QUESTION_DECLINED, now_ms, principal)

    def _to_close(self, tx: Transaction, principal: Principal, question_id: str, now_ms: int) -> Question:
        """An answer is a person's: a program that holds a token must not answer what it has asked."""
        self._guard(tx, principal)
        if principal.device_id is not None and principal.key_thumbprint is None:
            raise Problem(Code.FORBIDDEN, "Questions are answered on a paired phone or in a browser, not with a token.")
        question = store.find(tx, question_id)
        if question is None or question.user_id != principal.user_id:
            raise _unknown()
        check_open(question, now_ms)
        return question

    # -- ending without an answer

    async def expire(self, database: Database, now_ms: int) -> int:
        """Close what nobody answered in time. Returns how many."""
        total = 0
        while await database.read(lambda tx: bool(store.overdue(tx, now_ms, 1)), is_small=True):
            total += await database.write(lambda tx: self._expire_some(tx, now_ms))
        return total

    def _expire_some(self, tx: Transaction, now_ms: int) -> int:
        overdue = store.overdue(tx, now_ms, SWEEP_COUNT)
        for question in overdue:
            self._close(tx, question, State.EXPIRED, AuditEvent.QUESTION_EXPIRED, now_ms, None)
        return len(overdue)

    async def forget(self, database: Database, now_ms: int) -> None:
        """Drop what was closed long ago, with its answers."""
        await database.write(lambda tx: store.forget(tx, now_ms - to_ms(KEPT_FOR)))

    def end_all(self, tx: Transaction, by: Principal, user_id: str, now_ms: int) -> None:
        """A person leaves: nobody waits for their answers, and their programs ask nobody."""
        del by  # the entry about the person says who
        for question in store.open_with(tx, user_id):
            self._close(tx, question, State.CANCELLED, AuditEvent.QUESTION_CANCELLED, now_ms, None)

    def _close(
        self,
        tx: Transaction,
        question: Question,
        state: State,
        event: AuditEvent,
        now_ms: int,
        principal: Principal | None,
    ) -> Question:
        device_id = None if principal is None else principal.device_id
        closed = replace(question, state=state, closed_at_ms=now_ms, closed_by_device_id=device_id)
        won = store.close(tx, closed)
        assert won, "the row was open in this very unit"
        self._tell(tx, closed, "question.closed", closed_data(closed), now_ms)
        self._record(tx, event, closed, now_ms, principal)
        self._notifications.settle(tx, closed.user_id, closed.question_id, now_ms)
        self._callbacks.ended(tx, closed.question_id, now_ms)
        bell = closed.question_id.encode("ascii")
        tx.after_commit(lambda: self._bus.publish(topics.CONTROL_QUESTIONS, bell))
        return closed

    # -- reading

    def find(self, tx: Transaction, question_id: str) -> Question | None:
        """For the gateway's own work: whoever's it is."""
        return store.find(tx, question_id)

    def get(self, tx: Transaction, principal: Principal, question_id: str) -> Question:
        """For who is asked, and for who asks. Raises `not_found`, also for others'."""
        question = store.find(tx, question_id)
        if question is None or principal.user_id not in (question.user_id, question.asker.user_id):
            raise _unknown()
        return question

    def list(
        self,
        tx: Transaction,
        principal: Principal,
        *,
        is_asker: bool = False,
        only_open: bool = False,
        cursor: str | None = None,
        limit: int = MAX_PAGE,
    ) -> tuple[list[Question], str | None]:
        """A page, newest first, and the cursor of the next: those put to this person, or those of their programs."""
        limit = max(1, min(limit, MAX_PAGE))
        before = cursor or store.LAST
        rows = store.page(tx, principal.user_id, before, limit + 1, is_asker=is_asker, only_open=only_open)
        return rows[:limit], rows[limit - 1].question_id if len(rows) > limit else None

    # -- telling

    def _notify(self, tx: Transaction, question: Question, seq: int, now_ms: int) -> None:
        """For when no device shows it in time."""
        note = Note(
            user_id=question.user_id,
            kind=Kinds.QUESTION,
            title=question.title or question.text[:MAX_TITLE_CHARACTERS],
            priority=Priority.HIGH,
            link=f"/questions/{question.question_id}",
            collapse_key=question.question_id,
            expires_at_ms=question.expires_at_ms,
            sender=question.asker.device_id or "",
            event_seq=seq,
        )
        self._notifications.post(tx, note, now_ms)

    def _tell(self, tx: Transaction, question: Question, kind: str, data: dict[str, object], now_ms: int) -> int:
        return self._stream.append(
            tx,
            question.user_id,
            {"type": kind, "data": data},
            topic=topics.QUESTIONS,
            scope=Scope.NOTIFY,
            now_ms=now_ms,
            expires_at_ms=question.expires_at_ms if question.state is State.OPEN else None,
        )

    def _record(
        self, tx: Transaction, event: AuditEvent, question: Question, now_ms: int, actor: Principal | None
    ) -> None:
        facts = {"user_id": question.user_id, "kind": str(question.kind)}
        self._audit.record(tx, event, now_ms=now_ms, actor=actor, subject=question.question_id, facts=dict(facts))


def _same(known: Question, asked: Question) -> Question:
    if not known.same_words(asked):
        raise Problem(Code.IDEMPOTENCY_MISMATCH, "Another question was asked under this key. Take another key.")
    return known


def _unknown() -> Problem:
    return Problem(Code.NOT_FOUND, "There is no such question.")
