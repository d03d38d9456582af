"""Send what is queued: each message at least once, each channel no more often than it may be told.

The queue is rows that were stored with the alert. Of several nodes one sends to a channel, for as long as it lives.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import timedelta

from entobot.alerts import store, wording
from entobot.alerts.channel import Channel, ChannelFailed, Notice
from entobot.alerts.model import Alert, Message, MessageKind, MessageState
from entobot.alerts.service import new_message
from entobot.core.clock import Clock, to_ms
from entobot.core.ids import Ids
from entobot.core.secrets import Entropy
from entobot.storage.database import Database, Transaction
from entobot.telemetry.log import get_logger
from entobot.telemetry.meters import Meters
from entobot.telemetry.metrics import Metric

HOUR_MS = to_ms(timedelta(hours=1))
FIRST_BACKOFF = timedelta(seconds=10)
LAST_BACKOFF = timedelta(minutes=30)
GIVEN_UP_AFTER = timedelta(days=1)
BATCH = 1000
MAX_REASON_CHARACTERS = 300

Alive = Callable[[Transaction], frozenset[str]]
log = get_logger("alerts")


@dataclass(frozen=True, slots=True)
class Outlet:
    """A configured channel."""

    name: str
    kind: str
    channel: Channel
    per_hour: int


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be sent next: one message, or a digest of `folded`."""

    message: Message
    notice: Notice
    folded: tuple[Message, ...] = ()


class Sender:
    """Runs one outlet. `gateway` and `origin` name this installation in what is sent."""

    def __init__(
        self,
        outlet: Outlet,
        *,
        database: Database,
        clock: Clock,
        ids: Ids,
        entropy: Entropy,
        meters: Meters,
        gateway: str,
        origin: str,
        node_id: str,
        alive: Alive,
    ) -> None:
        self.outlet = outlet
        self._database = database
        self._clock = clock
        self._ids = ids
        self._entropy = entropy
        self._gateway, self._origin = gateway, origin
        self._node_id = node_id
        self._alive = alive
        outcomes = ("failed", "retried", "sent")
        self._counted = {
            one: meters.counter(Metric.ALERT_MESSAGES, channel=outlet.name, outcome=one) for one in outcomes
        }

    async def look(self) -> None:
        """Send everything that is due and may be sent. Raises StorageFailed; what was sent then may be sent again."""
        while await self._step():
            pass

    async def _step(self) -> bool:
        """Whether something was sent, or given up."""
        if not await self._database.read(lambda tx: store.queued(tx, self.outlet.name, 1), is_small=True):
            return False
        work = await self._database.write(self._take)
        if work is None:
            return False
        reason = await self._send(work.notice)
        moved = self._after(work, reason)
        await self._database.write(lambda tx: store.move_messages(tx, moved))
        return not reason

    def _take(self, tx: Transaction) -> Work | None:
        """The next to send. A digest is stored before it is sent: a repeat after a crash has the same id."""
        name, now_ms = self.outlet.name, self._clock.now_ms()
        if store.claim_duty(tx, f"send {name}", self._node_id, self._alive(tx), 0) is None:
            return None
        waiting = [(one, store.find_alert(tx, one.alert_id)) for one in store.queued(tx, name, BATCH)]
        told = [(one, alert) for one, alert in waiting if alert is not None and one.kind is not MessageKind.DIGEST]
        digests = [one for one, _ in waiting if one.kind is MessageKind.DIGEST]
        room = self.outlet.per_hour - store.sent_since(tx, name, now_ms - HOUR_MS)
        first = digests[0] if digests else told[0][0] if told else None
        if first is None or first.due_at_ms > now_ms or room <= 0:
            return None  # nothing overtakes what is tried again: it is the channel that does not work
        if digests or (room == 1 and len(told) > 1):
            return self._digest(tx, digests, told, now_ms)
        message, alert = told[0]
        return Work(message, wording.single(message, alert, self._gateway, self._origin))

    def _digest(self, tx: Transaction, digests: list[Message], told: list[tuple[Message, Alert]], now_ms: int) -> Work:
        if digests:
            message = digests[0]
        else:
            message = new_message(self._ids, told[0][0].alert_id, self.outlet.name, MessageKind.DIGEST, now_ms)
            store.insert_message(tx, message)
        notice = wording.digest(message, told, self._gateway, self._origin)
        return Work(message, notice, tuple(one for one, _ in told))

    async def _send(self, notice: Notice) -> str:
        """Why it failed, empty when it did not."""
        try:
            await self.outlet.channel.send(notice)
        except ChannelFailed as failure:
            return wording.plain(str(failure))[:MAX_REASON_CHARACTERS] or "no reason"
        return ""

    def _after(self, work: Work, reason: str) -> list[Message]:
        now_ms = self._clock.now_ms()
        one = replace(work.message, attempts=work.message.attempts + 1, reason=reason)
        if not reason:
            self._counted["sent"].add()
            log.info("alert.sent", channel=self.outlet.name, message=one.message_id, kind=str(one.kind))
            done = replace(one, state=MessageState.SENT, ended_at_ms=now_ms)
            return [done, *_ended(work.folded, MessageState.FOLDED, now_ms, f"told of in {one.message_id}")]
        log.warning("alert.not_sent", channel=self.outlet.name, message=one.message_id, reason=reason)
        if now_ms - one.made_at_ms >= to_ms(GIVEN_UP_AFTER):
            self._counted["failed"].add()
            given_up = replace(one, state=MessageState.FAILED, ended_at_ms=now_ms)
            return [given_up, *_ended(work.folded, MessageState.FAILED, now_ms, reason)]
        self._counted["retried"].add()
        return [replace(one, due_at_ms=now_ms + self._backoff_ms(one.attempts))]

    def _backoff_ms(self, attempts: int) -> int:
        """Twice as long each time, and of that between half and all of it."""
        longest = min(to_ms(LAST_BACKOFF), to_ms(FIRST_BACKOFF) * 2 ** min(attempts - 1, 20))
        return longest // 2 + longest // 2 * int.from_bytes(self._entropy.bytes(2), "big") // 65_536

    # -- looked at and tried by people

    async def test(self) -> Message:
        """Send a test now, once, and say how that went. It counts for no limit."""
        made = new_message(self._ids, "", self.outlet.name, MessageKind.TEST, self._clock.now_ms())
        reason = await self._send(wording.trial(made, self._gateway, self._origin))
        state = MessageState.FAILED if reason else MessageState.SENT
        done = replace(made, state=state, attempts=1, ended_at_ms=self._clock.now_ms(), reason=reason)
        await self._database.write(lambda tx: store.insert_message(tx, done))
        return done


def _ended(messages: Iterable[Message], state: MessageState, now_ms: int, reason: str) -> list[Message]:
    return [replace(one, state=state, ended_at_ms=now_ms, reason=reason) for one in messages]
