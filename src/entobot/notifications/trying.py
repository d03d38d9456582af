"""Send a person a test, or the code that confirms an address, and wait for what becomes of it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from entobot.audit.events import AuditEvent
from entobot.audit.events import Outcome as Told
from entobot.audit.service import Audit
from entobot.core.clock import Clock
from entobot.core.errors import Code, Problem
from entobot.core.ids import Ids, Prefix
from entobot.core.principal import Principal
from entobot.notifications import attempt_store, place_store, store
from entobot.notifications.channel import MAX_REASON_CHARACTERS, Answer, Outcome
from entobot.notifications.model import (
    Attempt,
    AttemptState,
    Channel,
    Kind,
    Notification,
    Place,
    Priority,
    State,
)
from entobot.notifications.places import Places
from entobot.notifications.sending import Sender
from entobot.storage.database import Database, Transaction

SendCode = Callable[[str, str, str, str, str], Awaitable[Answer]]
"""Port: send a code, `(message id, person, name of the gateway, code, address)`."""

TITLE = "This is a test"


class Trying:
    def __init__(
        self,
        places: Places,
        sender: Sender,
        *,
        database: Database,
        clock: Clock,
        ids: Ids,
        audit: Audit,
        node_id: str,
        send_code: Mapping[Channel, SendCode],
    ) -> None:
        self._places = places
        self._sender = sender
        self._database = database
        self._clock = clock
        self._ids = ids
        self._audit = audit
        self._node_id = node_id
        self._send_code = send_code

    async def test(self, principal: Principal, place_id: str) -> Attempt:
        """Send a test there now. A place that does not take it is no error: the attempt says why.

        Raises `not_found`, `invalid` for an address that is not confirmed.
        """
        place = await self._places.find(principal, place_id)
        if not place.is_confirmed:
            raise Problem(Code.INVALID, "Confirm this address first: type the code that was sent there.")
        if place.channel not in self._sender.outlets:
            raise Problem(Code.INVALID, f"This gateway sends nothing by {place.channel}. Its operator can set it up.")
        one, attempt = self._made(place)

        def begin(tx: Transaction) -> None:
            store.insert_notification(tx, one)
            attempt_store.insert_attempt(tx, attempt)

        await self._database.write(begin)
        answer = await self._sender.try_now(one, attempt, place)
        return await self._database.write(lambda tx: self._settle(tx, principal, attempt, answer))

    def _made(self, place: Place) -> tuple[Notification, Attempt]:
        now_ms = self._clock.now_ms()
        one = Notification(
            notification_id=self._ids.new(Prefix.NOTIFICATION),
            user_id=place.user_id,
            kind=Kind.TEST,
            priority=Priority.NORMAL,
            title=TITLE,
            body="",
            link="/notifications",
            conversation_id=None,
            collapse_key="",
            sender="",
            state=State.DONE,
            event_seq=0,
            is_told_by_event=True,
            created_at_ms=now_ms,
            since_ms=now_ms,
            look_at_ms=None,
            expires_at_ms=None,
            ended_at_ms=now_ms,
        )
        attempt = Attempt(
            attempt_id=self._ids.new(Prefix.NOTIFICATION_ATTEMPT),
            notification_id=one.notification_id,
            user_id=place.user_id,
            channel=place.channel,
            place_id=place.place_id,
            state=AttemptState.SENT,
            reason="",
            tries=1,
            made_at_ms=now_ms,
            due_at_ms=now_ms,
            sent_at_ms=now_ms,
            node=self._node_id,
        )
        return one, attempt

    def _settle(self, tx: Transaction, by: Principal, attempt: Attempt, answer: Answer) -> Attempt:
        is_good = answer.outcome in (Outcome.ACCEPTED, Outcome.PENDING)
        now_ms = self._clock.now_ms()
        done = attempt if answer.outcome is Outcome.PENDING else self._end(tx, attempt, answer, now_ms)
        self._audit.record(
            tx,
            AuditEvent.NOTIFICATION_TESTED,
            now_ms=now_ms,
            outcome=Told.SUCCESS if is_good else Told.FAILURE,
            actor=by,
            subject=attempt.place_id,
            facts={"channel": attempt.channel},
        )
        return done

    def _end(self, tx: Transaction, attempt: Attempt, answer: Answer, now_ms: int) -> Attempt:
        is_good = answer.outcome is Outcome.ACCEPTED
        reason = answer.reason[:MAX_REASON_CHARACTERS]
        state = AttemptState.ACCEPTED if is_good else AttemptState.FAILED
        done = replace(attempt, state=state, reason=reason, ended_at_ms=now_ms, node="")
        attempt_store.move_attempt(tx, done, AttemptState.SENT)
        if is_good:
            place_store.note_ok(tx, attempt.place_id, now_ms)
        elif answer.outcome is Outcome.GONE:
            place_store.drop_place(tx, attempt.place_id)
        else:
            place_store.note_failed(tx, attempt.place_id, reason, now_ms)
        return done

    async def send_code(self, principal: Principal, place_id: str, gateway: str) -> Answer:
        """Send the code that confirms an address or a number. Raises `not_found`, `invalid`, `rate_limited`."""
        place = await self._places.find(principal, place_id)
        send = self._send_code.get(place.channel)
        if send is None:
            raise Problem(Code.INVALID, "Only e-mail addresses and telephone numbers are confirmed by a code.")
        if place.is_confirmed:
            raise Problem(Code.INVALID, "This address is confirmed already.")
        code = await self._places.new_code(principal, place_id)
        message_id = self._ids.new(Prefix.NOTIFICATION_ATTEMPT)
        return await send(message_id, principal.user_id, gateway, code, place.address)
