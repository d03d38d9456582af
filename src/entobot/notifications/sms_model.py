"""A message by SMS and its legal changes. Pure; times are milliseconds since 1970.

    queued → sending → accepted → sent → delivered
       │        ├→ unknown ─┴───────┴─────┤
       └────────┴→ failed | cancelled | not_sent

No state is made up: `accepted` is the provider's answer, `sent` and `delivered` are its receipts. Receipts come in any
order and more than once, so they only ever move a message forward.
"""

from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum

from entobot.core.clock import to_ms

KEEP = timedelta(days=7)
"""How long a message stays in the list: as long as an invite."""
KEEP_NUMBERS = timedelta(days=1)
"""How long a number, or a mark of it, stays with a message: for the limits, which look back a day."""
RECEIPTS_WITHIN = timedelta(days=3)
"""Networks tell of a phone that was switched off for two days; what comes later is nobody's receipt."""
KEEP_RECEIPTS = timedelta(days=30)
"""How long what a provider said is known as a repeat."""
FIRST_BACKOFF = timedelta(seconds=2)
LAST_BACKOFF = timedelta(minutes=1)


class MessageState(StrEnum):
    ACCEPTED = "accepted"
    CANCELLED = "cancelled"
    DELIVERED = "delivered"
    FAILED = "failed"
    NOT_SENT = "not_sent"
    QUEUED = "queued"
    SENDING = "sending"
    SENT = "sent"
    UNKNOWN = "unknown"


class Purpose(StrEnum):
    ANSWER = "answer"
    """To what somebody wrote here. Counted by itself: whoever writes much is still warned of what matters."""
    CODE = "code"
    """Confirms that a number is a person's."""
    INVITE = "invite"
    NOTIFICATION = "notification"


_RANK = {MessageState.UNKNOWN: 0, MessageState.ACCEPTED: 1, MessageState.SENT: 2, MessageState.DELIVERED: 3}
"""How far a receipt moves a message; one that failed or was delivered stays so."""


@dataclass(frozen=True, slots=True)
class Message:
    """`subject` is what it is about (an invite's id), `user_id` who made it be sent. `number_hint` is the number as
    people may see it. `segments` parts of `cost_micros` millionths of the currency in all.
    """

    message_id: str
    purpose: Purpose
    subject: str
    user_id: str
    provider: str
    state: MessageState
    number_hint: str
    region: str
    segments: int
    cost_micros: int
    made_at_ms: int
    due_at_ms: int
    send_until_ms: int
    changed_at_ms: int
    reason: str = ""
    provider_id: str = ""
    attempts: int = 0
    node: str = ""

    def claimed(self, node: str, now_ms: int) -> "Message":
        assert self.state is MessageState.QUEUED
        return replace(
            self, state=MessageState.SENDING, node=node, attempts=self.attempts + 1, changed_at_ms=now_ms, reason=""
        )

    def taken(self, provider_id: str, now_ms: int, *, is_real: bool) -> "Message":
        state = MessageState.ACCEPTED if is_real else MessageState.NOT_SENT
        return self._put(state, now_ms, "" if is_real else "the provider 'console' sends nothing", provider_id)

    def failed(self, reason: str, now_ms: int) -> "Message":
        return self._put(MessageState.FAILED, now_ms, reason)

    def unknown(self, reason: str, now_ms: int) -> "Message":
        return self._put(MessageState.UNKNOWN, now_ms, reason)

    def cancelled(self, reason: str, now_ms: int) -> "Message":
        return self._put(MessageState.CANCELLED, now_ms, reason)

    def again(self, reason: str, now_ms: int) -> "Message":
        """Queued for another attempt; given up where that would come too late."""
        wait_ms = min(to_ms(LAST_BACKOFF), to_ms(FIRST_BACKOFF) * 2 ** min(self.attempts - 1, 10))
        if now_ms + wait_ms >= self.send_until_ms:
            return self.failed(reason, now_ms)
        return replace(
            self, state=MessageState.QUEUED, node="", due_at_ms=now_ms + wait_ms, reason=reason, changed_at_ms=now_ms
        )

    def told(self, state: MessageState, reason: str, provider_id: str, now_ms: int) -> "Message | None":
        """What a receipt makes of it; None where it says nothing new, or of something that is over."""
        known = _RANK.get(self.state, 0 if self.state is MessageState.SENDING else None)
        if known is None or self.state is MessageState.DELIVERED:
            return None
        if state is not MessageState.FAILED and _RANK[state] <= known:
            return None
        return self._put(state, now_ms, reason, provider_id)

    def _put(self, state: MessageState, now_ms: int, reason: str, provider_id: str = "") -> "Message":
        return replace(
            self, state=state, reason=reason, changed_at_ms=now_ms, provider_id=provider_id or self.provider_id
        )


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may be sent. `price_micros` is one part of a message, in millionths of `currency`."""

    per_number_per_hour: int
    answers_per_hour: int
    per_person_per_hour: int
    per_day: int
    price_micros: int
    max_cost_micros_per_day: int
    currency: str


@dataclass(frozen=True, slots=True)
class Used:
    """What was sent: times of messages in the window of each limit, oldest first; the day's with their costs."""

    to_number_ms: tuple[int, ...]
    by_person_ms: tuple[int, ...]
    of_day: tuple[tuple[int, int], ...]


class LimitName(StrEnum):
    COST = "cost"
    PER_DAY = "per_day"
    PER_NUMBER = "per_number"
    PER_PERSON = "per_person"


HOUR_MS, DAY_MS = to_ms(timedelta(hours=1)), to_ms(timedelta(days=1))


def exceeded(limits: Limits, used: Used, cost_micros: int, purpose: Purpose) -> tuple[LimitName, int] | None:
    """The first limit that one more message would break, and when there is room again. `used` is of this purpose, or of
    all but answers.
    """
    is_answer = purpose is Purpose.ANSWER
    to_number = limits.answers_per_hour if is_answer else limits.per_number_per_hour
    by_person = limits.answers_per_hour if is_answer else limits.per_person_per_hour
    for name, times, most, window_ms in (
        (LimitName.PER_NUMBER, used.to_number_ms, to_number, HOUR_MS),
        (LimitName.PER_PERSON, used.by_person_ms, by_person, HOUR_MS),
        (LimitName.PER_DAY, tuple(at for at, _ in used.of_day), limits.per_day, DAY_MS),
    ):
        if len(times) >= most:
            return name, times[len(times) - most] + window_ms
    left = sum(cost for _, cost in used.of_day) + cost_micros - limits.max_cost_micros_per_day
    for at_ms, cost in used.of_day if left > 0 else ():
        left -= cost
        if left <= 0:
            return LimitName.COST, at_ms + DAY_MS
    return None if left <= 0 else (LimitName.COST, 0)
