"""Fire alerts, end them, acknowledge them, list them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from entobot.accounts.service import Accounts
from entobot.alerts import store
from entobot.alerts.model import Alert, Facts, Message, MessageKind, MessageState, State, Watched
from entobot.audit.events import AuditEvent
from entobot.audit.model import Fact
from entobot.audit.service import Audit
from entobot.core.alert_rules import RANK, RuleId, Severity
from entobot.core.clock import Clock, rfc3339
from entobot.core.errors import Code, Problem
from entobot.core.ids import Ids, Prefix, is_id
from entobot.core.permissions import Scope
from entobot.core.principal import Principal
from entobot.storage.database import Database, Transaction
from entobot.stream.service import Stream
from entobot.telemetry.meters import Meters
from entobot.telemetry.metrics import Metric

MAX_PAGE = 200
MAX_OPEN = 20
"""Of one rule. What comes beyond it is counted in one alert for all: a fleet that is paired at once floods nobody."""
TOPIC = "alerts"

Guard = Callable[[Transaction, Principal], None]


@dataclass(frozen=True, slots=True)
class Told:
    """An alert, and the messages about it."""

    alert: Alert
    messages: list[Message]


@dataclass(frozen=True, slots=True)
class Page:
    """`next` is None on the last page. `firing`: how many alerts nobody has taken up, on all pages together."""

    rows: list[Told]
    next: str | None
    firing: int


@dataclass(frozen=True, slots=True)
class Sight:
    """What a rule has seen. `count` is how often, where that is counted."""

    subject: str
    node: str
    count: int
    facts: Facts


class Alerts:
    """`channels`: from which severity on each is told. `rules` are those of `model.watched`."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        ids: Ids,
        audit: Audit,
        accounts: Accounts,
        stream: Stream,
        guard: Guard,
        meters: Meters,
        rules: Mapping[RuleId, Watched],
        channels: Mapping[str, Severity],
    ) -> None:
        self.rules = rules
        self._database = database
        self._clock = clock
        self._ids = ids
        self._audit = audit
        self._accounts = accounts
        self._stream = stream
        self._guard = guard
        self._channels = channels
        self._fired = {rule: meters.counter(Metric.ALERTS, rule=rule) for rule in RuleId}

    # -- in the unit of whoever watches

    def fire(self, tx: Transaction, rule: RuleId, sight: Sight, now_ms: int) -> None:
        """Open an alert, or count into the one that is open."""
        if self._count_in(tx, rule, sight, now_ms):
            return
        if sight.subject and store.count_open(tx, rule) >= MAX_OPEN:
            sight = Sight("", sight.node, sight.count, {**sight.facts, "subject": sight.subject, "more": True})
            if self._count_in(tx, rule, sight, now_ms):
                return
        alert = Alert(
            alert_id=self._ids.new(Prefix.ALERT),
            rule=rule,
            subject=sight.subject,
            node=sight.node,
            severity=self.rules[rule].rule.severity,
            state=State.FIRING,
            first_at_ms=now_ms,
            last_at_ms=now_ms,
            count=sight.count,
            facts=sight.facts,
        )
        if not store.insert_alert(tx, alert):
            return
        self._record(tx, AuditEvent.ALERT_FIRED, alert, now_ms, {"rule": rule, "severity": alert.severity})
        self._queue(tx, alert, MessageKind.FIRED, now_ms)
        self._show(tx, alert, now_ms)
        tx.after_commit(self._fired[rule].add)

    def _count_in(self, tx: Transaction, rule: RuleId, sight: Sight, now_ms: int) -> bool:
        open_one = store.find_open(tx, rule, sight.subject, sight.node)
        if open_one is None:
            return False
        store.see_again(tx, open_one.alert_id, open_one.count + sight.count, sight.facts, now_ms)
        return True

    def clear(self, tx: Transaction, alert: Alert, now_ms: int) -> None:
        """It is over. Nothing happens where that is known already."""
        if not store.clear(tx, alert.alert_id, now_ms):
            return
        over = store.find_alert(tx, alert.alert_id) or alert
        self._record(tx, AuditEvent.ALERT_CLEARED, over, now_ms, {"rule": alert.rule})
        if not self.rules[alert.rule].rule.is_news:
            self._queue(tx, over, MessageKind.CLEARED, now_ms)
            self._show(tx, over, now_ms)

    def _queue(self, tx: Transaction, alert: Alert, kind: MessageKind, now_ms: int) -> None:
        for channel, least in self._channels.items():
            if RANK[alert.severity] >= RANK[least]:
                store.insert_message(tx, new_message(self._ids, alert.alert_id, channel, kind, now_ms))

    def _show(self, tx: Transaction, alert: Alert, now_ms: int) -> None:
        """On the stream of everybody who may see alerts. No message is due for it: devices get it when they can."""
        event = {
            "type": "alert.changed",
            "data": {
                "alert_id": alert.alert_id,
                "rule": alert.rule,
                "severity": alert.severity,
                "state": alert.state,
                "title": alert.title,
                "at": rfc3339(now_ms),
            },
        }
        for user_id in self._accounts.holders(tx, Scope.AUDIT):
            self._stream.append(tx, user_id, event, topic=TOPIC, scope=Scope.NOTIFY, now_ms=now_ms)

    def _record(
        self,
        tx: Transaction,
        event: AuditEvent,
        alert: Alert,
        now_ms: int,
        facts: Mapping[str, Fact],
        actor: Principal | None = None,
    ) -> None:
        self._audit.record(tx, event, now_ms=now_ms, actor=actor, subject=alert.alert_id, facts=facts)

    # -- of people

    async def acknowledge(self, principal: Principal, alert_id: str) -> Told:
        """Say that somebody has taken it up. One that is acknowledged or over stays as it is. Raises `not_found`."""
        principal.require(Scope.SETTINGS)
        now_ms = self._clock.now_ms()

        def unit(tx: Transaction) -> Told:
            self._guard(tx, principal)
            alert = store.find_alert(tx, alert_id) if is_id(alert_id, Prefix.ALERT) else None
            if alert is None:
                raise Problem(Code.NOT_FOUND, "There is no such alert. See 'entobot alerts list'.")
            if store.acknowledge(tx, alert_id, principal.user_id, now_ms):
                self._record(tx, AuditEvent.ALERT_ACKNOWLEDGED, alert, now_ms, {"rule": alert.rule}, principal)
                alert = store.find_alert(tx, alert_id) or alert
                self._show(tx, alert, now_ms)
            return Told(alert, store.messages_of(tx, alert_id))

        return await self._database.write(unit)

    async def find_page(self, state: State | None, *, is_open: bool, cursor: str | None, limit: int) -> Page:
        """Newest first. `is_open`: those that are firing or acknowledged, all of them. Raises `invalid`."""
        if cursor is not None and not is_id(cursor, Prefix.ALERT):
            raise Problem(Code.INVALID, "The cursor is not one that this list gave out.")
        count = max(1, min(limit, MAX_PAGE))

        def unit(tx: Transaction) -> Page:
            if is_open:
                found = sorted(store.all_open(tx), key=lambda one: one.alert_id, reverse=True)
                found = [one for one in found if cursor is None or one.alert_id < cursor][: count + 1]
            else:
                found = store.page(tx, state, cursor, count + 1)
            rows = [Told(one, store.messages_of(tx, one.alert_id)) for one in found[:count]]
            following = found[count - 1].alert_id if len(found) > count else None
            return Page(rows, following, store.count_state(tx, State.FIRING))

        return await self._database.read(unit)

    async def forget(self, keep_for_ms: int) -> None:
        """Drop what was over long ago."""
        before_ms = self._clock.now_ms() - keep_for_ms
        await self._database.write(lambda tx: store.drop_old(tx, before_ms, 500))


def new_message(ids: Ids, alert_id: str, channel: str, kind: MessageKind, now_ms: int) -> Message:
    return Message(
        message_id=ids.new(Prefix.ALERT_MESSAGE),
        alert_id=alert_id,
        channel=channel,
        kind=kind,
        state=MessageState.QUEUED,
        attempts=0,
        made_at_ms=now_ms,
        due_at_ms=now_ms,
        ended_at_ms=None,
        reason="",
    )
