"""The channels as people look at them and try them."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from entobot.alerts import store
from entobot.alerts.model import Message, MessageState
from entobot.alerts.sending import HOUR_MS, Sender
from entobot.audit.events import AuditEvent, Outcome
from entobot.audit.service import Audit
from entobot.core.alert_rules import Severity
from entobot.core.clock import Clock
from entobot.core.errors import Code, Problem
from entobot.core.principal import Principal
from entobot.storage.database import Database, Transaction


class ChannelState(StrEnum):
    FAILING = "failing"
    """What was tried last did not arrive; it is tried again."""
    FULL = "full"
    """It was told as often as it may be told in an hour; what waits is told in one."""
    OK = "ok"
    UNUSED = "unused"
    """Nothing was ever sent there."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A channel as it is now. `last` is the newest message that ended, or that failed and is tried again."""

    name: str
    kind: str
    place: str
    severity: Severity
    per_hour: int
    sent_last_hour: int
    queued: int
    state: ChannelState
    last: Message | None


class Desk:
    def __init__(
        self, *, database: Database, clock: Clock, audit: Audit, senders: Sequence[tuple[Sender, Severity]]
    ) -> None:
        self._database = database
        self._clock = clock
        self._audit = audit
        self._senders = senders

    async def channels(self) -> list[Shown]:
        now_ms = self._clock.now_ms()
        return await self._database.read(lambda tx: [self._shown(tx, *one, now_ms) for one in self._senders])

    async def test(self, principal: Principal, name: str) -> Message:
        """Send a test there now. A channel that does not take it is no error: the message says why. Raises `not_found`."""
        sender = next((one for one, _ in self._senders if one.outlet.name == name), None)
        if sender is None:
            raise Problem(Code.NOT_FOUND, "There is no such channel. The settings name them under [[alerts.channels]].")
        done = await sender.test()
        outcome = Outcome.SUCCESS if done.state is MessageState.SENT else Outcome.FAILURE
        now_ms, facts = self._clock.now_ms(), {"channel": name}
        await self._database.write(
            lambda tx: self._audit.record(
                tx, AuditEvent.ALERT_TESTED, now_ms=now_ms, outcome=outcome, actor=principal, facts=facts
            )
        )
        return done

    def _shown(self, tx: Transaction, sender: Sender, severity: Severity, now_ms: int) -> Shown:
        outlet = sender.outlet
        last = store.last_ended(tx, outlet.name)
        waiting = store.queued(tx, outlet.name, 1)
        sent = store.sent_since(tx, outlet.name, now_ms - HOUR_MS)
        tried = waiting[0] if waiting and waiting[0].attempts else last
        return Shown(
            name=outlet.name,
            kind=outlet.kind,
            place=outlet.channel.place,
            severity=severity,
            per_hour=outlet.per_hour,
            sent_last_hour=sent,
            queued=store.count_queued(tx, outlet.name),
            state=_state(tried, is_full=sent >= outlet.per_hour),
            last=tried,
        )


def _state(tried: Message | None, *, is_full: bool) -> ChannelState:
    if tried is None:
        return ChannelState.UNUSED
    if tried.state in (MessageState.QUEUED, MessageState.FAILED):
        return ChannelState.FAILING
    return ChannelState.FULL if is_full else ChannelState.OK
