"""Send what is queued: each message once, by one of several nodes, and say truly what became of it.

A row is claimed by a conditional update before anything is sent. Whoever dies between sending and noting leaves a row
that is `sending` and whose node is gone: its outcome is unknown, and it is sent again only where the provider can tell
a repeat.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from entobot.audit.events import AuditEvent, Outcome
from entobot.audit.service import Audit, Fact
from entobot.core.clock import Clock
from entobot.notifications import sms_outbox
from entobot.notifications import sms_store as store
from entobot.notifications.sms import MAX_REASON_CHARACTERS, Sms, SmsNotTaken, SmsOutcomeUnknown, SmsRefused, SmsSender
from entobot.notifications.sms_model import Message, MessageState
from entobot.notifications.sms_outbox import Outbox
from entobot.storage.database import Database, Transaction
from entobot.telemetry.log import get_logger
from entobot.telemetry.meters import Meters
from entobot.telemetry.metrics import Metric

BATCH = 20
AT_ONCE = 4
"""A provider that is slow holds up so many messages, and the others go on."""
Alive = Callable[[Transaction], frozenset[str]]
log = get_logger("sms")
GATEWAY_DIED = "the gateway ended while it was being sent"


@dataclass(frozen=True, slots=True)
class Done:
    """What an attempt came to. `is_stopped`: the provider says that the number wants nothing."""

    seen: Message
    after: Message
    is_stopped: bool = False


OnTold = Callable[[Transaction, Message, int], None]
"""Port, filled by the composition root: what has become of a message, in the unit that notes it."""


def _nobody_asks(_tx: Transaction, _message: Message, _now_ms: int) -> None:
    return None


class Sending:
    """Runs on each node; `look` again and again."""

    def __init__(
        self,
        *,
        sender: SmsSender,
        outbox: Outbox,
        database: Database,
        clock: Clock,
        audit: Audit,
        meters: Meters,
        node_id: str,
        alive: Alive,
    ) -> None:
        self.on_told: OnTold = _nobody_asks
        self._sender = sender
        self._outbox = outbox
        self._database = database
        self._clock = clock
        self._audit = audit
        self._node_id = node_id
        self._alive = alive
        self._unnoted: list[Done] = []
        self._counted = {
            state: meters.counter(Metric.SMS_MESSAGES, provider=sender.name, outcome=state) for state in MessageState
        }

    async def look(self) -> None:
        """Send everything that is due. Raises StorageFailed; what was sent by then is noted at the next look."""
        await self._note([])
        await self._find_lost()
        for ended in await asyncio.gather(*(self._drain() for _ in range(AT_ONCE)), return_exceptions=True):
            if ended is not None:
                raise ended

    async def _drain(self) -> None:
        while (work := await self._take()) is not None:
            await self._note([await self._attempt(*work)])

    async def tidy(self) -> None:
        """Forget what is old, and tell of refusals that were counted."""
        now_ms = self._clock.now_ms()

        def unit(tx: Transaction) -> None:
            sms_outbox.forget(tx, now_ms)
            self._outbox.settle_refusals(tx, now_ms)

        await self._database.write(unit)

    async def _find_lost(self) -> None:
        """Rows that somebody who is gone was sending."""
        mine = {done.seen.message_id for done in self._unnoted}

        def lost(tx: Transaction) -> list[Message]:
            alive, sending = self._alive(tx), store.in_state(tx, MessageState.SENDING, BATCH)
            return [one for one in sending if one.node not in alive and one.message_id not in mine]

        if not await self._database.read(lost):
            return
        now_ms = self._clock.now_ms()

        def unit(tx: Transaction) -> None:
            for one in lost(tx):
                is_known = self._sender.knows_repeats and self._sender.name == one.provider
                after = one.again(GATEWAY_DIED, now_ms) if is_known else one.unknown(GATEWAY_DIED, now_ms)
                self._put(tx, Done(one, after), now_ms)

        await self._database.write(unit)

    async def _take(self) -> tuple[Message, Sms] | None:
        """What is this node's to send now. One: nothing waits claimed behind a provider that is slow."""
        now_ms = self._clock.now_ms()
        if not await self._database.read(lambda tx: store.due(tx, now_ms, 1), is_small=True):
            return None

        def unit(tx: Transaction) -> tuple[Message, Sms] | None:
            for seen in store.due(tx, now_ms, BATCH):
                sms = None if now_ms >= seen.send_until_ms else self._outbox.sms_of(tx, seen)
                if sms is None:
                    self._put(tx, Done(seen, seen.cancelled("it was too late to send it", now_ms)), now_ms)
                elif seen.provider != self._sender.name:
                    self._put(tx, Done(seen, seen.cancelled("another provider was set up", now_ms)), now_ms)
                elif store.move(tx, seen, claimed := seen.claimed(self._node_id, now_ms)):
                    return claimed, sms
            return None

        return await self._database.write(unit)

    async def _attempt(self, seen: Message, sms: Sms) -> Done:
        try:
            taken = await self._sender.send(sms)
        except SmsRefused as refused:
            return Done(seen, seen.failed(_reason(refused), self._clock.now_ms()), refused.is_stopped)
        except SmsNotTaken as why:
            return Done(seen, seen.again(_reason(why), self._clock.now_ms()))
        except SmsOutcomeUnknown as why:
            now_ms = self._clock.now_ms()
            is_known = self._sender.knows_repeats
            return Done(seen, seen.again(_reason(why), now_ms) if is_known else seen.unknown(_reason(why), now_ms))
        return Done(seen, seen.taken(taken.provider_id, self._clock.now_ms(), is_real=self._sender.is_real))

    async def _note(self, done: list[Done]) -> None:
        """Kept in memory until the store has it: it is true, whatever the store does."""
        self._unnoted += done
        if not self._unnoted:
            return
        noted, now_ms = list(self._unnoted), self._clock.now_ms()

        def unit(tx: Transaction) -> None:
            for one in noted:
                self._put(tx, one, now_ms)

        await self._database.write(unit)
        self._unnoted = [one for one in self._unnoted if one not in noted]
        for one in noted:
            fields = {"message": one.seen.message_id, "state": str(one.after.state), "reason": one.after.reason}
            (log.warning if one.after.reason else log.info)("sms.attempted", **fields)

    def _put(self, tx: Transaction, done: Done, now_ms: int) -> None:
        if not store.move(tx, done.seen, done.after):
            return  # a receipt was faster, and knows more
        if done.is_stopped and (mark := store.mark_of(tx, done.seen.message_id)) and store.stop(tx, mark, now_ms):
            self._audit.record(tx, AuditEvent.SMS_STOPPED, now_ms=now_ms, subject=done.seen.message_id)
        self.tell(tx, done.after, now_ms)

    def tell(self, tx: Transaction, message: Message, now_ms: int) -> None:
        """Count and audit what a message has become, and tell what it was made for."""
        self.on_told(tx, message, now_ms)
        counter = self._counted[message.state]
        tx.after_commit(counter.add)
        event = _EVENTS.get(message.state)
        if event is None:
            return
        is_failure = event is AuditEvent.SMS_FAILED
        facts: dict[str, Fact] = {
            "purpose": message.purpose.value,
            "about": message.subject,
            "provider": message.provider,
            "state": message.state.value,
            "region": message.region,
            "segments": message.segments,
        }
        if message.reason:
            facts["reason"] = message.reason
        outcome = Outcome.FAILURE if is_failure else Outcome.SUCCESS
        self._audit.record(tx, event, now_ms=now_ms, outcome=outcome, subject=message.message_id, facts=facts)


_EVENTS = {
    MessageState.ACCEPTED: AuditEvent.SMS_ACCEPTED,
    MessageState.FAILED: AuditEvent.SMS_FAILED,
    MessageState.UNKNOWN: AuditEvent.SMS_FAILED,
}
"""What the audit log is told of. Receipts of phones are in the list of messages."""


def _reason(why: Exception) -> str:
    return str(why)[:MAX_REASON_CHARACTERS]
