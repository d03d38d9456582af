"""Send what the router wrote down. Of several nodes each attempt is sent by one."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from entobot.core.clock import Clock, to_ms
from entobot.core.secrets import Entropy
from entobot.notifications import attempt_store, place_store, store
from entobot.notifications.channel import MAX_REASON_CHARACTERS, Answer, Outcome, Outlet, Parcel
from entobot.notifications.model import Attempt, AttemptState, Channel, Notification, Place, State
from entobot.notifications.wording import general, path_of, tag_of
from entobot.storage.database import Database, Transaction
from entobot.telemetry.log import get_logger
from entobot.telemetry.meters import Meters
from entobot.telemetry.metrics import Metric

BATCH = 50
AT_ONCE = 8
"""Attempts on their way from one node."""
FIRST_BACKOFF = timedelta(seconds=5)
LAST_BACKOFF = timedelta(minutes=15)
GIVEN_UP_AFTER = timedelta(hours=4)
DEFAULT_TTL = timedelta(days=1)
"""How long a push service keeps what expires by itself never."""
LONGEST_TTL = timedelta(days=28)
LOST = "the gateway ended while it was being sent; whether it arrived is not known"

Alive = Callable[[Transaction], frozenset[str]]
log = get_logger("notifications")


@dataclass(frozen=True, slots=True)
class Sending:
    """`allows_content`: whether title and text may leave this gateway at all. `name` and `origin` name it."""

    node_id: str
    alive: Alive
    origin: str
    name: Callable[[], str]
    allows_content: bool


class Sender:
    def __init__(
        self,
        outlets: Mapping[Channel, Outlet],
        at: Sending,
        *,
        database: Database,
        clock: Clock,
        entropy: Entropy,
        meters: Meters,
    ) -> None:
        self.outlets = outlets
        self.troubles: dict[Channel, str] = {}
        """Why what this node sent last by a channel was not taken."""
        self._at = at
        self._database = database
        self._clock = clock
        self._entropy = entropy
        self._turns = asyncio.Semaphore(AT_ONCE)
        outcomes = ("accepted", "failed", "retried", "unknown")
        self._counted = {
            (channel, one): meters.counter(Metric.NOTIFICATION_ATTEMPTS, channel=channel, outcome=one)
            for channel in outlets
            for one in outcomes
        }
        self._failures = {one: meters.counter(Metric.NOTIFICATION_FAILURES, channel=one) for one in outlets}
        self._seconds = {one: meters.histogram(Metric.NOTIFICATION_SECONDS, channel=one) for one in outlets}

    async def look(self) -> None:
        """Send everything that is due. Raises StorageFailed; what was being sent then is `sent` until it is swept."""
        while True:
            now_ms = self._clock.now_ms()
            found = await self._database.read(lambda tx, at=now_ms: attempt_store.queued(tx, at, BATCH), is_small=True)
            if not found:
                return
            done = await asyncio.gather(*(self._one(attempt) for attempt in found), return_exceptions=True)
            for failure in done:
                if isinstance(failure, BaseException):
                    raise failure
            if not any(done):
                return

    async def sweep(self) -> None:
        """Of nodes that are gone: what may arrive twice is sent again, of all else it is said that nobody knows."""
        if not await self._database.read(self._lost, is_small=True):
            return
        await self._database.write(self._take_up)

    def _lost(self, tx: Transaction) -> list[Attempt]:
        found = attempt_store.in_hand(tx, BATCH)
        if not found:
            return []
        alive = self._at.alive(tx)
        return [one for one in found if one.node not in alive]

    def _take_up(self, tx: Transaction) -> None:
        now_ms = self._clock.now_ms()
        for one in self._lost(tx):
            outlet = self.outlets.get(one.channel)
            if outlet is not None and outlet.is_repeatable:
                again = replace(one, state=AttemptState.QUEUED, due_at_ms=now_ms, node="", reason=LOST)
                attempt_store.move_attempt(tx, again, AttemptState.SENT)
                continue
            over = replace(one, state=AttemptState.UNKNOWN, ended_at_ms=now_ms, node="", reason=LOST)
            if attempt_store.move_attempt(tx, over, AttemptState.SENT):
                store.hurry(tx, one.notification_id, now_ms)
                tx.after_commit(lambda one=one: self._count(one.channel, "unknown"))

    # -- one attempt

    async def _one(self, attempt: Attempt) -> bool:
        """Whether this node had it."""
        async with self._turns:
            taken = await self._database.write(lambda tx: self._take(tx, attempt))
            if taken is None:
                return False
            claimed, parcel = taken
            answer = await self._send(claimed.channel, parcel)
            await self._database.write(lambda tx: self._settle(tx, claimed, answer))
            return True

    def _take(self, tx: Transaction, attempt: Attempt) -> tuple[Attempt, Parcel] | None:
        now_ms = self._clock.now_ms()
        claimed = attempt_store.claim(tx, attempt, self._at.node_id, now_ms)
        if claimed is None:
            return None
        one = store.find(tx, claimed.notification_id)
        place = place_store.find_place(tx, claimed.place_id)
        if one is None or one.state is not State.OPEN or place is None or claimed.channel not in self.outlets:
            why = "the place was removed" if place is None else "the notification is over"
            attempt_store.move_attempt(tx, _over(claimed, why, now_ms), AttemptState.SENT)
            return None
        return claimed, self._parcel(tx, claimed, one, place, now_ms)

    async def try_now(self, one: Notification, attempt: Attempt, place: Place) -> Answer:
        """Send this once, outside of the queue. What became of it is the caller's to note."""
        now_ms = self._clock.now_ms()
        parcel = await self._database.read(lambda tx: self._parcel(tx, attempt, one, place, now_ms))
        return await self._send(attempt.channel, parcel)

    def _parcel(self, tx: Transaction, attempt: Attempt, one: Notification, place: Place, now_ms: int) -> Parcel:
        shows = self._at.allows_content and place_store.rules_of(tx, one.user_id).shows_content
        path = path_of(one)
        ends_ms = now_ms + to_ms(DEFAULT_TTL) if one.expires_at_ms is None else one.expires_at_ms
        return Parcel(
            parcel_id=attempt.attempt_id,
            notification_id=one.notification_id,
            kind=one.kind,
            priority=one.priority,
            title=one.title if shows else general(one.kind),
            body=one.body if shows else "",
            path=path,
            url=self._at.origin + path,
            tag=tag_of(one),
            made_at_ms=one.created_at_ms,
            ttl_s=max(0, min(ends_ms - now_ms, to_ms(LONGEST_TTL)) // 1000),
            unread=store.count_open(tx, one.user_id),
            gateway=self._at.name(),
            place=place,
            shows_content=shows,
        )

    async def _send(self, channel: Channel, parcel: Parcel) -> Answer:
        try:
            return await self.outlets[channel].send(parcel)
        except Exception:  # a fault of ours must not leave the attempt without an end
            log.exception("notification.send_failed", channel=str(channel))
            return Answer(Outcome.LATER, "the gateway failed to send it; its log says why")

    def _settle(self, tx: Transaction, attempt: Attempt, answer: Answer) -> None:
        if answer.outcome is Outcome.PENDING:
            return
        now_ms = self._clock.now_ms()
        reason = answer.reason[:MAX_REASON_CHARACTERS]
        if answer.outcome is Outcome.ACCEPTED:
            done = replace(attempt, state=AttemptState.ACCEPTED, reason="", ended_at_ms=now_ms, node="")
            if attempt_store.move_attempt(tx, done, AttemptState.SENT):
                place_store.note_ok(tx, attempt.place_id, now_ms)
                tx.after_commit(lambda: self._took(attempt, now_ms))
            return
        if answer.outcome is not Outcome.GONE:
            tx.after_commit(lambda: self.troubles.update({attempt.channel: reason or "no reason"}))
        if answer.outcome is Outcome.GONE:
            place_store.drop_place(tx, attempt.place_id)
        else:
            place_store.note_failed(tx, attempt.place_id, reason, now_ms)
            tx.after_commit(self._failures[attempt.channel].add)
        again_ms = self._again_ms(tx, attempt, answer, now_ms)
        if again_ms is not None:
            again = replace(attempt, state=AttemptState.QUEUED, reason=reason, due_at_ms=again_ms, node="")
            attempt_store.move_attempt(tx, again, AttemptState.SENT)
            tx.after_commit(lambda: self._count(attempt.channel, "retried"))
        elif attempt_store.move_attempt(tx, _over(attempt, reason, now_ms), AttemptState.SENT):
            store.hurry(tx, attempt.notification_id, now_ms)  # the next step need not wait for this one
            tx.after_commit(lambda: self._count(attempt.channel, "failed"))
        log.warning("notification.not_sent", channel=str(attempt.channel), attempt=attempt.attempt_id, reason=reason)

    def _again_ms(self, tx: Transaction, attempt: Attempt, answer: Answer, now_ms: int) -> int | None:
        if answer.outcome is not Outcome.LATER:
            return None
        one = store.find(tx, attempt.notification_id)
        if one is None or one.state is not State.OPEN:
            return None
        again_ms = now_ms + max(self._backoff_ms(attempt.tries), round((answer.after_s or 0) * 1000))
        end_ms = attempt.made_at_ms + to_ms(GIVEN_UP_AFTER)
        if one.expires_at_ms is not None:
            end_ms = min(end_ms, one.expires_at_ms)
        return again_ms if again_ms < end_ms else None

    def _backoff_ms(self, tries: int) -> int:
        """Twice as long each time, and of that between half and all of it."""
        longest = min(to_ms(LAST_BACKOFF), to_ms(FIRST_BACKOFF) * 2 ** min(max(tries - 1, 0), 20))
        return longest // 2 + longest // 2 * int.from_bytes(self._entropy.bytes(2), "big") // 65_536

    def _took(self, attempt: Attempt, now_ms: int) -> None:
        self.troubles.pop(attempt.channel, None)
        self._count(attempt.channel, "accepted")
        self._seconds[attempt.channel].observe(max(0, now_ms - attempt.made_at_ms) / 1000)
        log.info("notification.accepted", channel=str(attempt.channel), attempt=attempt.attempt_id)

    def _count(self, channel: Channel, outcome: str) -> None:
        counter = self._counted.get((channel, outcome))
        if counter is not None:
            counter.add()


def _over(attempt: Attempt, reason: str, now_ms: int) -> Attempt:
    return replace(attempt, state=AttemptState.FAILED, reason=reason, ended_at_ms=now_ms, node="")
