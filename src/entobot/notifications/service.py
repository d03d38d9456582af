"""Post notifications, settle them, mark them read, list them. Methods that take a transaction are parts of units."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import timedelta

from entobot.accounts.service import Accounts
from entobot.audit.events import AuditEvent, Outcome
from entobot.audit.service import Audit
from entobot.bus.bus import Bus
from entobot.core import topics
from entobot.core.clock import Clock, rfc3339, to_ms
from entobot.core.errors import Code, Problem
from entobot.core.ids import Ids, Prefix, is_id, ulid
from entobot.core.permissions import Role, Scope
from entobot.core.principal import Principal
from entobot.notifications import attempt_store, store
from entobot.notifications.checking import checked, cleaned
from entobot.notifications.model import (
    OWN_KINDS,
    Attempt,
    AttemptState,
    Channel,
    Escalation,
    Kind,
    Note,
    Notification,
    State,
)
from entobot.notifications.routing import LIVE_WAIT
from entobot.notifications.rows import created_data
from entobot.storage.database import Database, Transaction
from entobot.stream.service import Stream
from entobot.telemetry.meters import Meters
from entobot.telemetry.metrics import Metric

MAX_PAGE = 100
MAX_OPEN = 1000
"""Of one person. The oldest gives way."""
MAX_AT_ONCE = 500
WINDOW = timedelta(hours=1)
TOLD_EVERY = timedelta(minutes=1)
"""Of one sender that floods: so often the audit log says it."""

Guard = Callable[[Transaction, Principal], None]


def _nobody_is_here(_user_id: str) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Limits:
    """In an hour: what one sender may send, and what one person may be sent by all of them."""

    per_sender: int = 300
    per_person: int = 1000


@dataclass(frozen=True, slots=True)
class Told:
    """A notification, and what was tried. `is_own`: of whoever looks; of others title and text are not shown."""

    notification: Notification
    attempts: list[Attempt]
    is_own: bool = True


@dataclass(frozen=True, slots=True)
class Page:
    """`next` is None on the last page; `unread` of the person who looks, on all pages."""

    rows: list[Told]
    next: str | None
    unread: int


@dataclass(frozen=True, slots=True)
class Recipients:
    """Who is meant: a person (None: whoever sends), or everybody of a role."""

    user_id: str | None = None
    role: Role | None = None


class Notifications:
    """`is_here` says whether a person has a connection to this node: then it is waited for its acknowledgement at once,
    without looking who is connected elsewhere.
    """

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        ids: Ids,
        audit: Audit,
        accounts: Accounts,
        stream: Stream,
        bus: Bus,
        guard: Guard,
        meters: Meters,
        limits: Limits,
    ) -> None:
        self.is_here: Callable[[str], bool] = _nobody_is_here
        self._database = database
        self._clock = clock
        self._ids = ids
        self._audit = audit
        self._accounts = accounts
        self._stream = stream
        self._bus = bus
        self._guard = guard
        self._limits = limits
        self._told_of: dict[str, int] = {}
        own = (*sorted(OWN_KINDS), Kind.NOTICE)
        self._posted = {str(kind): meters.counter(Metric.NOTIFICATIONS, kind=kind) for kind in own}
        self._refused = meters.counter(Metric.LIMITED, limit="notifications")

    # -- for the features above, in their units

    def post(self, tx: Transaction, note: Note, now_ms: int, escalated_from: str | None = None) -> Notification:
        """Tell a person. The row is the work: the router takes it up when this unit is committed.

        One that is open with the same collapse key gives way. What the gateway itself tells of (a title that an agent
        chose) is made to fit; all else raises `invalid` where no notification can be like it.
        """
        note = cleaned(note) if note.kind in OWN_KINDS else checked(note)
        since_ms = self._make_room(tx, note, now_ms)
        notification_id = self._ids.new(Prefix.NOTIFICATION)
        look_at_ms = since_ms + to_ms(LIVE_WAIT) if self.is_here(note.user_id) else now_ms
        one = Notification(
            notification_id=notification_id,
            user_id=note.user_id,
            kind=note.kind,
            priority=note.priority,
            title=note.title,
            body=note.body,
            link=note.link,
            conversation_id=note.conversation_id,
            collapse_key=note.collapse_key,
            sender=note.sender,
            state=State.OPEN,
            event_seq=0 if note.event_seq is None else note.event_seq,
            is_told_by_event=note.event_seq is not None,
            created_at_ms=now_ms,
            since_ms=since_ms,
            look_at_ms=look_at_ms,
            expires_at_ms=note.expires_at_ms,
            escalation=note.escalation,
            escalated_from=escalated_from,
        )
        if note.event_seq is None:
            one = replace(one, event_seq=self._tell(tx, one, "notification.created", created_data(one), now_ms))
        store.insert_notification(tx, one)
        counter = self._posted.get(one.kind, self._posted[Kind.NOTICE])
        tx.after_commit(counter.add)
        if look_at_ms <= now_ms:  # what a device may still show is looked at in time anyway
            self.ring(tx)
        return one

    def settle(self, tx: Transaction, user_id: str, collapse_key: str, now_ms: int) -> None:
        """What it was about is over: nobody needs to be told any more, nor those it was escalated to."""
        one = store.find_open_by_key(tx, user_id, collapse_key)
        if one is not None:
            self.end(tx, one, State.DONE, now_ms)

    def end(self, tx: Transaction, one: Notification, state: State, now_ms: int) -> None:
        """Nothing more is sent for it. Nothing happens where it had ended."""
        ended = replace(one, state=state, look_at_ms=None, ended_at_ms=now_ms)
        if not store.move(tx, ended):
            return
        attempt_store.cancel(tx, one.notification_id, f"the notification is {state}", now_ms)
        if not one.is_told_by_event and state is not State.SEEN:
            data: dict[str, object] = {
                "notification_id": one.notification_id,
                "state": str(state),
                "at": rfc3339(now_ms),
            }
            self._tell(tx, one, "notification.changed", data, now_ms)
        if state is State.DONE:
            for other in store.escalated(tx, one.notification_id):
                self.end(tx, other, State.DONE, now_ms)

    def end_all(self, tx: Transaction, by: Principal, user_id: str, now_ms: int) -> None:
        """Of a person who leaves."""
        del by  # the entry about the person says who
        while found := store.all_open(tx, user_id, MAX_AT_ONCE):
            for one in found:
                self.end(tx, one, State.DONE, now_ms)

    def ring(self, tx: Transaction) -> None:
        """Have the router look once this is committed."""
        tx.after_commit(lambda: self._bus.publish(topics.WORK_NOTIFICATIONS, replaces=True))

    def _make_room(self, tx: Transaction, note: Note, now_ms: int) -> int:
        """Since when the new one is on its way: many in a row that collapse are told as soon as the first would be."""
        if note.event_seq is None and store.count_open(tx, note.user_id) >= MAX_OPEN:
            oldest = store.oldest_open(tx, note.user_id)
            if oldest is not None:
                self.end(tx, oldest, State.EXPIRED, now_ms)
        older = store.find_open_by_key(tx, note.user_id, note.collapse_key) if note.collapse_key else None
        if older is None:
            return now_ms
        self.end(tx, older, State.REPLACED, now_ms)
        is_waiting = older.step == 0 and now_ms - older.since_ms < to_ms(LIVE_WAIT)
        return older.since_ms if is_waiting else now_ms

    def _tell(self, tx: Transaction, one: Notification, kind: str, data: dict[str, object], now_ms: int) -> int:
        return self._stream.append(
            tx,
            one.user_id,
            {"type": kind, "data": data},
            topic=topics.NOTIFICATIONS,
            scope=Scope.NOTIFY,
            now_ms=now_ms,
            expires_at_ms=one.expires_at_ms if kind == "notification.created" else None,
        )

    def people_of(self, tx: Transaction, escalation: Escalation) -> list[str]:
        """Who is told when nobody has settled it."""
        if escalation.role is not None:
            return self._accounts.in_role(tx, escalation.role)
        return [] if escalation.user_id is None else [escalation.user_id]

    # -- what others send

    async def send(self, principal: Principal, note: Note, to: Recipients) -> list[Notification]:
        """Tell somebody; `note.user_id` and `note.sender` are filled here.

        Raises `forbidden` for people other than oneself without `notify.others`, `not_found`, `invalid`, `rate_limited`.
        """
        principal.require(Scope.NOTIFY)
        if note.kind in OWN_KINDS:
            raise Problem(
                Code.INVALID, f"The kind '{note.kind}' is the gateway's own. Use 'notice' or a word of yours."
            )
        sender = principal.device_id or principal.session_id or "local"
        note = checked(replace(note, sender=sender))
        now_ms = self._clock.now_ms()

        def unit(tx: Transaction) -> list[Notification] | Problem:
            self._guard(tx, principal)
            return self.send_within(tx, principal, note, to, now_ms)

        done = await self._database.write(unit)
        if isinstance(done, Problem):
            self._refused.add()
            raise done
        return done

    def send_within(
        self, tx: Transaction, principal: Principal, note: Note, to: Recipients, now_ms: int
    ) -> list[Notification] | Problem:
        """`send` as part of a unit, of a note that says its sender. `rate_limited` is returned, so that it is audited."""
        people = self._recipients(tx, principal, to)
        refusal = self._check_flood(tx, principal, note.sender, people, now_ms)
        if refusal is not None:
            return refusal
        posted = [self.post(tx, replace(note, user_id=user_id), now_ms) for user_id in people]
        if people != [principal.user_id]:
            facts = {"kind": note.kind, "priority": note.priority, "people": len(people)}
            to_whom = to.role or to.user_id or ""
            self._record(tx, AuditEvent.NOTIFICATION_SENT_TO_OTHERS, principal, to_whom, facts, now_ms)
        return posted

    def _recipients(self, tx: Transaction, principal: Principal, to: Recipients) -> list[str]:
        if to.role is None and to.user_id in (None, principal.user_id):
            return [principal.user_id]
        principal.require(Scope.NOTIFY_OTHERS)
        if to.role is not None:
            found = self._accounts.in_role(tx, to.role)
            if not found:
                raise Problem(Code.NOT_FOUND, f"Nobody has the role '{to.role}'.")
            return found
        user = self._accounts.get_user(tx, to.user_id or "") if is_id(to.user_id or "", Prefix.USER) else None
        if user is None or user.disabled_at_ms is not None:
            raise Problem(Code.NOT_FOUND, "There is no such user.")
        return [user.user_id]

    def _check_flood(
        self, tx: Transaction, principal: Principal, sender: str, people: Iterable[str], now_ms: int
    ) -> Problem | None:
        """Returned, not raised, so that its audit entry is committed."""
        if principal.is_local:
            return None
        begin_ms = now_ms - to_ms(WINDOW)
        begin = Prefix.NOTIFICATION + ulid(max(begin_ms, 0), bytes(10))
        what = ""
        if store.count_from(tx, sender, begin_ms) >= self._limits.per_sender:
            what = f"This device sent {self._limits.per_sender} notifications within an hour, which is the limit."
        elif any(store.count_to(tx, user_id, begin) >= self._limits.per_person for user_id in people):
            what = f"This person was sent {self._limits.per_person} notifications within an hour, which is the limit."
        if not what:
            return None
        if now_ms - self._told_of.get(sender, 0) >= to_ms(TOLD_EVERY):
            if len(self._told_of) >= MAX_AT_ONCE:
                self._told_of.clear()
            self._told_of[sender] = now_ms
            self._record(tx, AuditEvent.NOTIFICATION_REFUSED, principal, sender, {}, now_ms, Outcome.DENIED)
        return Problem(Code.RATE_LIMITED, what, retry_after_s=WINDOW.total_seconds() / 10)

    # -- of the person

    def read(
        self,
        tx: Transaction,
        principal: Principal,
        now_ms: int,
        *,
        notification_id: str | None = None,
        conversation_id: str | None = None,
        channel: Channel | None = None,
    ) -> int:
        """Mark one as read, those of a conversation, or all; how many were not before. `channel`: where it was opened.

        Raises `not_found`, also for another person's.
        """
        if notification_id is not None:
            one = self.get(tx, principal.user_id, notification_id)
            found = [one] if one.state is State.OPEN else []
            if channel is not None:
                self._opened_at(tx, one, channel, now_ms)
        else:
            found = store.all_open(tx, principal.user_id, MAX_OPEN, conversation_id)
        for one in found:
            self.end(tx, one, State.READ, now_ms)
        return len(found)

    def _opened_at(self, tx: Transaction, one: Notification, channel: Channel, now_ms: int) -> None:
        for attempt in attempt_store.attempts_of(tx, one.notification_id):
            if attempt.channel is channel and attempt.state in (AttemptState.ACCEPTED, AttemptState.DELIVERED):
                was = attempt.state
                opened = replace(attempt, state=AttemptState.READ, ended_at_ms=now_ms)
                attempt_store.move_attempt(tx, opened, was)

    def get(self, tx: Transaction, user_id: str, notification_id: str) -> Notification:
        """Raises `not_found`, also for another person's."""
        one = store.find(tx, notification_id) if is_id(notification_id, Prefix.NOTIFICATION) else None
        if one is None or one.user_id != user_id:
            raise Problem(Code.NOT_FOUND, "There is no such notification.")
        return one

    async def mark_read(self, principal: Principal, notification_id: str | None) -> int:
        """One, or all; how many were not read before. Raises `not_found`."""
        now_ms = self._clock.now_ms()

        def unit(tx: Transaction) -> int:
            self._guard(tx, principal)
            return self.read(tx, principal, now_ms, notification_id=notification_id)

        return await self._database.write(unit)

    async def find(self, principal: Principal, notification_id: str) -> Told:
        """Raises `not_found`."""

        def unit(tx: Transaction) -> Told:
            self._guard(tx, principal)
            one = self.get(tx, principal.user_id, notification_id)
            return Told(one, attempt_store.attempts_of(tx, one.notification_id))

        return await self._database.read(unit)

    async def find_page(
        self,
        principal: Principal,
        cursor: str | None,
        limit: int,
        *,
        only_unread: bool = False,
        of_all: bool = False,
        kind: str | None = None,
    ) -> Page:
        """Newest first; of everybody, whatever kind, with `of_all`, which needs `audit`. Raises `invalid`, `forbidden`."""
        if of_all:
            principal.require(Scope.AUDIT)
        if cursor is not None and not is_id(cursor, Prefix.NOTIFICATION):
            raise Problem(Code.INVALID, "The cursor is not one that this list gave out.")
        count = max(1, min(limit, MAX_PAGE))
        of_user = None if of_all else principal.user_id

        def unit(tx: Transaction) -> Page:
            self._guard(tx, principal)
            found = store.page(tx, of_user, cursor, count + 1, only_open=only_unread, kind=kind)
            rows = [
                Told(one, attempt_store.attempts_of(tx, one.notification_id), is_own=one.user_id == principal.user_id)
                for one in found[:count]
            ]
            following = found[count - 1].notification_id if len(found) > count else None
            return Page(rows, following, store.count_open(tx, principal.user_id))

        return await self._database.read(unit)

    async def forget(self, keep_for_ms: int) -> None:
        """Drop what ended long ago."""
        before_ms = self._clock.now_ms() - keep_for_ms

        def unit(tx: Transaction) -> int:
            found = store.ended_before(tx, before_ms, MAX_AT_ONCE)
            for notification_id in found:
                drop(tx, notification_id)
            return len(found)

        while await self._database.write(unit) == MAX_AT_ONCE:
            pass

    def _record(
        self,
        tx: Transaction,
        event: AuditEvent,
        by: Principal,
        subject: str,
        facts: dict[str, str | int],
        now_ms: int,
        outcome: Outcome = Outcome.SUCCESS,
    ) -> None:
        self._audit.record(tx, event, now_ms=now_ms, outcome=outcome, actor=by, subject=subject, facts=facts)


def drop(tx: Transaction, notification_id: str) -> None:
    """Forget one, and what was tried for it."""
    attempt_store.drop_of(tx, notification_id)
    store.drop(tx, notification_id)
