"""What is to be sent by SMS: a row that is stored with its reason, within limits that hold whoever asks."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

from entobot.audit.events import AuditEvent, Outcome
from entobot.audit.service import Audit, Fact
from entobot.core.clock import to_ms
from entobot.core.errors import Code, Problem
from entobot.core.ids import Ids, Prefix
from entobot.core.secrets import Entropy, b64u, keyed_digest
from entobot.notifications import sms_store as store
from entobot.notifications.sms import Sms, SmsSender
from entobot.notifications.sms_model import (
    DAY_MS,
    HOUR_MS,
    KEEP,
    KEEP_NUMBERS,
    KEEP_RECEIPTS,
    LimitName,
    Limits,
    Message,
    MessageState,
    Purpose,
    Used,
    exceeded,
)
from entobot.notifications.sms_numbers import SHOWN_DIGITS, Number
from entobot.notifications.sms_text import segments
from entobot.signin.refusals import Refusals, Refused
from entobot.signin.sealing import Seal
from entobot.storage.database import Transaction
from entobot.telemetry.meters import Meters
from entobot.telemetry.metrics import Metric

_SAID: dict[LimitName, str] = {
    LimitName.COST: "The day's money for SMS is spent (sms.max_cost_per_day).",
    LimitName.PER_DAY: "This gateway has sent as many SMS as it may in a day (sms.per_day).",
    LimitName.PER_NUMBER: "This number got as many SMS as it may in an hour (sms.per_number_per_hour).",
    LimitName.PER_PERSON: "You have sent as many SMS as you may in an hour (sms.per_person_per_hour).",
}


@dataclass(frozen=True, slots=True)
class Posting:
    """`user_id` is who makes it be sent; `subject` what it is about; of no use after `send_until_ms`."""

    purpose: Purpose
    subject: str
    user_id: str
    number: Number
    text: str
    send_until_ms: int


@dataclass(frozen=True, slots=True)
class Spent:
    """What SMS of the last 24 hours came to, in all."""

    messages: int
    cost_micros: int


class Outbox:
    """`server_key` is this purpose's own. `on_posted` is called on the loop once a message is stored."""

    def __init__(
        self,
        *,
        sender: SmsSender,
        limits: Limits,
        countries: tuple[str, ...],
        ids: Ids,
        entropy: Entropy,
        audit: Audit,
        meters: Meters,
        server_key: bytes,
        resend_after: timedelta,
    ) -> None:
        self.provider, self.is_real = sender.name, sender.is_real
        self.countries = countries
        self.resend_after = resend_after
        self.on_posted: Callable[[], None] = lambda: None
        self.limits = limits
        self._ids = ids
        self._audit = audit
        self._mark_key = keyed_digest(server_key, b"entobot sms: mark of a number")
        self._seal = Seal(keyed_digest(server_key, b"entobot sms: seal"), entropy)
        self._refusals = Refusals()
        self._refused = {
            name: meters.counter(Metric.SMS_REFUSED, reason=name)
            for name in (*(str(one) for one in LimitName), "number", "stopped")
        }

    # -- in the caller's unit

    def post(self, tx: Transaction, posting: Posting, now_ms: int) -> Message | Problem:
        """Store the message, to be sent after the commit. A refusal is returned, so that its audit entry stays:
        `rate_limited` (a limit, with the time when there is room again), `number_refused` (it said STOP).
        """
        number, mark = posting.number, self.mark(posting.number.e164)
        if store.is_stopped(tx, mark):
            detail = "Whoever has this number said STOP. They can say START; until then nothing is sent there."
            return self.refuse(tx, posting.user_id, "stopped", Problem(Code.NUMBER_REFUSED, detail), now_ms)
        parts = segments(posting.text)
        cost_micros = parts * self.limits.price_micros
        over = exceeded(
            self.limits, self._used(tx, mark, posting.user_id, posting.purpose, now_ms), cost_micros, posting.purpose
        )
        if over is not None:
            name, free_at_ms = over
            wait_s = max(1, -(-(free_at_ms - now_ms) // 1000)) if free_at_ms else DAY_MS // 1000
            problem = Problem(Code.RATE_LIMITED, _SAID[name], retry_after_s=wait_s)
            return self.refuse(tx, posting.user_id, name, problem, now_ms)
        message = Message(
            message_id=self._ids.new(Prefix.SMS),
            purpose=posting.purpose,
            subject=posting.subject,
            user_id=posting.user_id,
            provider=self.provider,
            state=MessageState.QUEUED,
            number_hint=number.hint,
            region=number.region,
            segments=parts,
            cost_micros=cost_micros,
            made_at_ms=now_ms,
            due_at_ms=now_ms,
            send_until_ms=posting.send_until_ms,
            changed_at_ms=now_ms,
        )
        store.insert_message(tx, message, mark, *self._sealed(message.message_id, number, posting.text))
        tx.after_commit(self.on_posted)
        return message

    def may_answer(self, tx: Transaction, e164: str, user_id: str, now_ms: int) -> bool:
        """Whether an answer of one part could be sent to this number now."""
        mark = self.mark(e164)
        used = self._used(tx, mark, user_id, Purpose.ANSWER, now_ms)
        is_over = exceeded(self.limits, used, self.limits.price_micros, Purpose.ANSWER) is not None
        return not is_over and not store.is_stopped(tx, mark)

    def known_number(self, e164: str) -> Number:
        """Of a number that was parsed before."""
        return Number(e164, f"{e164[:3]}•••{e164[-SHOWN_DIGITS:]}", "")

    def latest(self, tx: Transaction, subject: str) -> Message | None:
        """The newest message about something."""
        found = store.of_subject(tx, subject)
        return found[0] if found else None

    def number_of(self, tx: Transaction, message: Message) -> Number | None:
        """None once it is forgotten."""
        sealed, _ = store.find_sealed(tx, message.message_id)
        plain = None if sealed is None else self._seal.open(f"{message.message_id} number", sealed)
        return None if plain is None else Number(plain.decode(), message.number_hint, message.region)

    def sms_of(self, tx: Transaction, message: Message) -> Sms | None:
        """What is to be sent; None where it was forgotten, or sealed by another gateway's key."""
        number, (_, sealed) = self.number_of(tx, message), store.find_sealed(tx, message.message_id)
        text = None if sealed is None else self._seal.open(f"{message.message_id} text", sealed)
        if number is None or text is None:
            return None
        return Sms(message.message_id, number.e164, text.decode(), message.send_until_ms)

    def mark(self, e164: str) -> str:
        """What a number is counted and found under: tells nothing without this gateway's key."""
        return b64u(keyed_digest(self._mark_key, e164.encode("ascii")))

    def spent(self, tx: Transaction, now_ms: int) -> Spent:
        day = store.of_day(tx, now_ms - DAY_MS)
        return Spent(len(day), sum(one.cost_micros for one in day))

    # -- refusals

    def refuse(self, tx: Transaction, user_id: str, reason: str, problem: Problem, now_ms: int) -> Problem:
        """Count a refusal, and say so in the audit log: at once for the first of its kind, then by number."""
        self._refused[reason].add()
        noted = self._refusals.note(user_id, "", reason, now_ms)
        if noted is not None:
            self._tell(tx, noted, now_ms)
        return problem

    def settle_refusals(self, tx: Transaction, now_ms: int) -> None:
        for refused in self._refusals.take_due(now_ms):
            self._tell(tx, refused, now_ms)

    def _tell(self, tx: Transaction, refused: Refused, now_ms: int) -> None:
        facts: dict[str, Fact] = {"reason": refused.reason, "count": refused.count, "user_id": refused.user_id}
        self._audit.record(
            tx, AuditEvent.SMS_REFUSED, now_ms=now_ms, outcome=Outcome.DENIED, subject=refused.user_id, facts=facts
        )

    def _used(self, tx: Transaction, mark: str, user_id: str, purpose: Purpose, now_ms: int) -> Used:
        is_answer = purpose is Purpose.ANSWER
        day = store.of_day(tx, now_ms - DAY_MS)
        hour = [one for one in day if one.made_at_ms > now_ms - HOUR_MS and one.is_answer == is_answer]
        return Used(
            to_number_ms=store.times_to_number(tx, mark, now_ms - HOUR_MS, is_answer=is_answer),
            by_person_ms=tuple(one.made_at_ms for one in hour if one.user_id == user_id),
            of_day=tuple((one.made_at_ms, one.cost_micros) for one in day),
        )

    def _sealed(self, message_id: str, number: Number, text: str) -> tuple[bytes, bytes]:
        """Sealed apart: the number is needed once more to send again, the text never."""
        return (
            self._seal.close(f"{message_id} number", number.e164.encode("ascii")),
            self._seal.close(f"{message_id} text", text.encode()),
        )


def end(tx: Transaction, subject: str, reason: str, now_ms: int) -> None:
    """What messages were about is over: those that wait are not sent, and their numbers are forgotten."""
    call_off(tx, subject, reason, now_ms)
    store.drop_numbers(tx, subject)


def call_off(tx: Transaction, subject: str, reason: str, now_ms: int) -> None:
    """Messages about something that wait are not sent."""
    for message in store.of_subject(tx, subject):
        if message.state is MessageState.QUEUED:
            store.move(tx, message, message.cancelled(reason, now_ms))


def call_off_number(tx: Transaction, number_mark: str, reason: str, now_ms: int) -> None:
    """Messages to a number that wait are not sent."""
    for message in store.queued_to(tx, number_mark):
        store.move(tx, message, message.cancelled(reason, now_ms))


def call_off_all(tx: Transaction, reason: str, now_ms: int) -> None:
    """For a store that was restored: whether what waits there was sent after the copy was made, nobody knows."""
    for state in (MessageState.QUEUED, MessageState.SENDING):
        while found := store.in_state(tx, state, 500):
            for message in found:
                store.move(tx, message, replace(message.cancelled(reason, now_ms), node=""))


def forget(tx: Transaction, now_ms: int) -> None:
    """Numbers after a day, messages after a week."""
    store.forget(tx, now_ms - to_ms(KEEP_NUMBERS), now_ms - to_ms(KEEP), now_ms - to_ms(KEEP_RECEIPTS))
