"""Rules on audit events: every entry of the log is looked at once, whatever stops in between.

A number in the store says up to which entry everything was counted. It moves in the unit that counts and fires.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from entobot.alerts import store
from entobot.alerts.model import Alert, Watched
from entobot.alerts.service import Sight
from entobot.alerts.watching import Watching
from entobot.audit.events import AuditEvent
from entobot.audit.model import Entry
from entobot.core.alert_rules import RuleId, Watches
from entobot.core.permissions import Role
from entobot.storage.database import Transaction

DUTY = "log"
BATCH = 256
MIGHTY = frozenset({Role.ADMIN, Role.OWNER})


@dataclass(frozen=True, slots=True)
class Hit:
    """An entry that a rule counts. `is_end`: it ends the alert instead."""

    rule: RuleId
    subject: str = ""
    count: int = 1
    is_end: bool = False


def _counted(rule: RuleId) -> Callable[[Entry], Hit]:
    return lambda entry: Hit(rule, count=_count(entry))


def _thing(rule: RuleId) -> Callable[[Entry], Hit]:
    return lambda entry: Hit(rule, entry.subject)


def _raised(entry: Entry) -> Hit | None:
    role = entry.facts.get("role")
    return Hit(RuleId.PERSON_RAISED, entry.subject) if role in MIGHTY and role != entry.facts.get("before") else None


def _sink(*, is_end: bool) -> Callable[[Entry], Hit]:
    return lambda entry: Hit(RuleId.AUDIT_SINK_FAILED, str(entry.facts.get("sink", "")), is_end=is_end)


def _renewed(_: Entry) -> Hit:
    return Hit(RuleId.CERTIFICATE_RENEWAL_FAILED, is_end=True)


def _count(entry: Entry) -> int:
    """Some entries stand for many that came soon after one another."""
    count = entry.facts.get("count")
    return count if isinstance(count, int) and count > 0 else 1


HITS: dict[str, Callable[[Entry], Hit | None]] = {
    AuditEvent.API_KEY_CREATED: _thing(RuleId.DEVICE_PAIRED),
    AuditEvent.AUDIT_SINK_FAILED: _sink(is_end=False),
    AuditEvent.AUDIT_SINK_RECOVERED: _sink(is_end=True),
    AuditEvent.CERTIFICATE_ISSUED: _renewed,
    AuditEvent.CERTIFICATE_RENEWAL_FAILED: _counted(RuleId.CERTIFICATE_RENEWAL_FAILED),
    AuditEvent.CERTIFICATE_REPLACED: _renewed,
    AuditEvent.DEVICE_ENROLLED: _thing(RuleId.DEVICE_PAIRED),
    AuditEvent.DEVICE_PAIRED: _thing(RuleId.DEVICE_PAIRED),
    AuditEvent.INVITE_CLAIM_REFUSED: _counted(RuleId.PAIRING_REFUSED),
    AuditEvent.SIGN_IN_REFUSED: _counted(RuleId.SIGN_INS_REFUSED),
    AuditEvent.SMS_FAILED: _counted(RuleId.SMS_FAIL),
    AuditEvent.TOKEN_FAMILY_REVOKED: _thing(RuleId.TOKEN_REUSED),
    AuditEvent.USER_ADDED: _raised,
    AuditEvent.USER_CHANGED: _raised,
}
"""Which entries rules count. None of alerts themselves: those would feed on one another."""
assert not any(event.startswith("alert.") for event in HITS)


def hit_of(entry: Entry) -> Hit | None:
    """Which rule an entry is about."""
    made = HITS.get(entry.event)
    return None if made is None else made(entry)


class LogWatch:
    """`look` again and again. Of several nodes one counts, for as long as it lives.

    What is in a log that nobody ever looked at is no news: the very first look begins at its end.
    """

    def __init__(self, at: Watching) -> None:
        self._alerts, self._audit = at.alerts, at.audit
        self._database, self._clock = at.database, at.clock
        self._node_id, self._alive = at.node_id, at.alive
        self._rules: Mapping[RuleId, Watched] = {
            rule: one for rule, one in at.alerts.rules.items() if one.rule.watches is Watches.LOG
        }

    async def look(self) -> None:
        """Count what is new, and end what has passed."""
        while await self._step():
            pass

    async def _step(self) -> bool:
        if not await self._database.read(self._is_waiting, is_small=True):
            return False
        return await self._database.write(self._count)

    def _is_waiting(self, tx: Transaction) -> bool:
        """Whether a write is worth it: something is new, an alert is over, or the duty of a node that died is to take."""
        duty = store.find_duty(tx, DUTY)
        if duty is None or duty.node != self._node_id:
            return duty is None or duty.node not in self._alive(tx)
        return self._audit.last_seq(tx) > duty.number or bool(self._ended(tx))

    def _count(self, tx: Transaction) -> bool:
        """Whether there is more."""
        duty = store.claim_duty(tx, DUTY, self._node_id, self._alive(tx), self._audit.last_seq(tx))
        if duty is None:
            return False
        now_ms = self._clock.now_ms()
        seen, touched = duty.number, dict[tuple[RuleId, str], int]()
        for seq, entry in self._audit.entries_after(tx, duty.number, BATCH):
            seen = seq
            hit = None if entry is None else hit_of(entry)
            if entry is not None and hit is not None and self._rules[hit.rule].is_enabled:
                self._take(tx, seq, entry, hit, touched)
        if seen != duty.number:
            store.set_duty(tx, DUTY, self._node_id, seen)
        for (rule, subject), count in touched.items():
            self._judge(tx, rule, subject, count, now_ms)
        for alert in self._ended(tx):
            self._alerts.clear(tx, alert, now_ms)
            store.drop_hits(tx, alert.rule, now_ms - self._rules[alert.rule].window_ms)
        return seen - duty.number >= BATCH

    def _take(self, tx: Transaction, seq: int, entry: Entry, hit: Hit, touched: dict[tuple[RuleId, str], int]) -> None:
        if hit.is_end:
            store.drop_hits_of(tx, hit.rule, hit.subject)
            touched.pop((hit.rule, hit.subject), None)
            return
        store.insert_hit(tx, hit.rule, seq, hit.subject, entry.at_ms, hit.count)
        touched[hit.rule, hit.subject] = touched.get((hit.rule, hit.subject), 0) + hit.count

    def _judge(self, tx: Transaction, rule: RuleId, subject: str, count: int, now_ms: int) -> None:
        of = self._rules[rule]
        total = store.sum_hits(tx, rule, subject, now_ms - of.window_ms)
        is_open = store.find_open(tx, rule, subject, "") is not None
        if is_open or of.is_beyond(total):
            facts = {"subject": subject} if subject else {}
            facts |= {"in_window": total, "window_s": of.window_ms // 1000}
            self._alerts.fire(tx, rule, Sight(subject, "", count if is_open else total, facts), now_ms)

    def _ended(self, tx: Transaction) -> list[Alert]:
        now_ms = self._clock.now_ms()
        return [one for one in store.all_open(tx) if one.rule in self._rules and self._is_over(tx, one, now_ms)]

    def _is_over(self, tx: Transaction, alert: Alert, now_ms: int) -> bool:
        of = self._rules[alert.rule]
        since_ms = now_ms - of.window_ms
        if not of.is_enabled:
            return True
        if of.rule.is_news:  # the one for all that came beyond the first has no hits of its own
            return alert.last_at_ms <= since_ms
        return of.is_over(store.sum_hits(tx, alert.rule, alert.subject, since_ms))
