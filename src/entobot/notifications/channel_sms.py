"""Notifications by SMS: handed to the queue of SMS, with its limits, its cost and its receipts."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

from entobot.core.clock import Clock
from entobot.core.errors import Code, Problem
from entobot.notifications import attempt_store, place_store, store
from entobot.notifications.channel import MAX_REASON_CHARACTERS, Answer, Outcome, Parcel
from entobot.notifications.model import AttemptState, Channel
from entobot.notifications.sms_model import Message, MessageState, Purpose
from entobot.notifications.sms_numbers import Number, parse_number
from entobot.notifications.sms_outbox import Outbox, Posting
from entobot.storage.database import Database, Transaction

MAX_TITLE_CHARACTERS = 80
CODE_LIFE_MS = 15 * 60_000


Offer = Callable[[Transaction, Parcel, int], str]
"""Port: what to say instead of the title so that the message can be answered, in the unit that stores it. Empty: it
cannot."""


def _nothing_to_answer(_tx: Transaction, _parcel: Parcel, _now_ms: int) -> str:
    return ""


class SmsOutlet:
    """See `Outlet`. The queue has the same parcel once, however often it is handed over; what it knows is the answer."""

    channel = Channel.SMS
    is_repeatable = True

    def __init__(self, outbox: Outbox, database: Database, clock: Clock) -> None:
        self.offer: Offer = _nothing_to_answer
        self.service = outbox.provider
        self._outbox = outbox
        self._database = database
        self._clock = clock

    def check(self, text: str) -> Number:
        """A number that may be reached. Reads files: not on the event loop. Raises `number_refused`."""
        return parse_number(text, self._outbox.countries)

    async def send(self, parcel: Parcel) -> Answer:
        """The title and where to look: a number is not a place for more, and each part costs."""
        title = parcel.title[:MAX_TITLE_CHARACTERS]

        def text(tx: Transaction, now_ms: int) -> str:
            said = self.offer(tx, parcel, now_ms) if parcel.shows_content else ""
            return f"{parcel.gateway}: {said or title}\n{parcel.url}"

        life_ms = parcel.ttl_s * 1000
        return await self._post(
            Purpose.NOTIFICATION, parcel.parcel_id, parcel.place.user_id, parcel.place.address, text, life_ms
        )

    async def send_code(self, message_id: str, user_id: str, gateway: str, code: str, address: str) -> Answer:
        """Ask whoever holds the number whether it is theirs."""
        text = (
            f"{code} is the code for notifications of {gateway} to this number. If you did not ask for it, ignore it."
        )
        return await self._post(Purpose.CODE, message_id, user_id, address, lambda _tx, _now_ms: text, CODE_LIFE_MS)

    async def _post(
        self,
        purpose: Purpose,
        subject: str,
        user_id: str,
        address: str,
        text: Callable[[Transaction, int], str],
        life_ms: int,
    ) -> Answer:
        try:
            number = await asyncio.to_thread(self.check, address)
        except Problem as problem:
            return Answer(Outcome.REFUSED, f"SMS: {problem.detail}")
        now_ms = self._clock.now_ms()

        def unit(tx: Transaction) -> Problem | Message:
            known = self._outbox.latest(tx, subject)
            if known is not None:  # it was handed over before, where a node did not live to note it
                return known
            posting = Posting(purpose, subject, user_id, number, text(tx, now_ms), now_ms + life_ms)
            return self._outbox.post(tx, posting, now_ms)

        done = await self._database.write(unit)
        if isinstance(done, Problem):
            is_later = done.code is Code.RATE_LIMITED
            return Answer(Outcome.LATER if is_later else Outcome.REFUSED, f"SMS: {done.detail}", done.retry_after_s)
        state = _ENDS.get(done.state)
        if state is None:
            return Answer(Outcome.PENDING)
        is_good = state in (AttemptState.ACCEPTED, AttemptState.DELIVERED)
        return Answer(Outcome.ACCEPTED) if is_good else Answer(Outcome.REFUSED, f"SMS: {done.reason or done.state}")


_ENDS = {
    MessageState.ACCEPTED: AttemptState.ACCEPTED,
    MessageState.CANCELLED: AttemptState.FAILED,
    MessageState.DELIVERED: AttemptState.DELIVERED,
    MessageState.FAILED: AttemptState.FAILED,
    MessageState.NOT_SENT: AttemptState.FAILED,
    MessageState.SENT: AttemptState.ACCEPTED,
    MessageState.UNKNOWN: AttemptState.UNKNOWN,
}


def note_outcome(tx: Transaction, message: Message, now_ms: int) -> None:
    """What becomes of an SMS becomes of the attempt that it was made for; the next step need not wait for one that failed."""
    state = _ENDS.get(message.state)
    attempt = attempt_store.find_attempt(tx, message.subject) if message.purpose is Purpose.NOTIFICATION else None
    if attempt is None or state in (None, attempt.state):
        return
    if attempt.state not in (AttemptState.ACCEPTED, AttemptState.SENT):
        return
    after = replace(attempt, state=state, reason=message.reason[:MAX_REASON_CHARACTERS], ended_at_ms=now_ms, node="")
    if not attempt_store.move_attempt(tx, after, attempt.state):
        return
    if after.has_failed:
        place_store.note_failed(tx, attempt.place_id, after.reason, now_ms)
        store.hurry(tx, attempt.notification_id, now_ms)
    elif state is AttemptState.ACCEPTED:
        place_store.note_ok(tx, attempt.place_id, now_ms)
