"""Tables of alerts: the alerts, the messages about them, what was counted, and which node does what."""

import json
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import BigInteger, Column, Index, Integer, Table, Text, bindparam, delete, func, insert, select, update

from entobot.alerts.model import Alert, Facts, Message, MessageKind, MessageState, State
from entobot.core.alert_rules import RuleId, Severity
from entobot.storage.database import Row, Transaction, metadata
from entobot.storage.upsert import upsert

alerts = Table(
    "alerts",
    metadata,
    Column("alert_id", Text, primary_key=True),
    # Of an open alert what it is about, else NULL: one of each is open, however many nodes see it.
    Column("open_key", Text),
    Column("rule", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("node", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("first_at_ms", BigInteger, nullable=False),
    Column("last_at_ms", BigInteger, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("facts", Text, nullable=False),
    Column("acknowledged_by", Text),
    Column("acknowledged_at_ms", BigInteger),
    Column("cleared_at_ms", BigInteger),
    Index("ix_alerts_cleared_at", "cleared_at_ms"),
    Index("ix_alerts_open_key", "open_key", unique=True),
    Index("ix_alerts_state", "state", "alert_id"),
)
messages = Table(
    "alert_messages",
    metadata,
    Column("message_id", Text, primary_key=True),
    Column("alert_id", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("made_at_ms", BigInteger, nullable=False),
    Column("due_at_ms", BigInteger, nullable=False),
    Column("ended_at_ms", BigInteger),
    Column("reason", Text, nullable=False),
    Index("ix_alert_messages_alert", "alert_id", "message_id"),
    Index("ix_alert_messages_channel", "channel", "ended_at_ms"),
    Index("ix_alert_messages_state", "state", "channel", "message_id"),
)
hits = Table(
    "alert_hits",
    metadata,
    Column("rule", Text, primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("subject", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("count", BigInteger, nullable=False),
)
duties = Table(
    "alert_duties",
    metadata,
    Column("name", Text, primary_key=True),
    Column("node", Text, nullable=False),
    Column("number", BigInteger, nullable=False),
)

_INSERT = upsert(alerts).on_conflict_do_nothing()
_BY_KEY = select(alerts).where(alerts.c.open_key == bindparam("key"))
_BY_ID = select(alerts).where(alerts.c.alert_id == bindparam("alert"))
_OPEN = select(alerts).where(alerts.c.open_key.is_not(None))
_OPEN_OF_RULE = select(func.count().label("n")).where(
    alerts.c.open_key.is_not(None), alerts.c.rule == bindparam("of_rule")
)
_COUNT_STATE = select(func.count().label("n")).where(alerts.c.state == bindparam("in_state"))
_SEEN_AGAIN = (
    update(alerts)
    .where(alerts.c.alert_id == bindparam("alert"))
    .values(last_at_ms=bindparam("at"), count=bindparam("to_count"), facts=bindparam("to_facts"))
)
_ACKNOWLEDGE = (
    update(alerts)
    .where(alerts.c.alert_id == bindparam("alert"), alerts.c.state == bindparam("from_state"))
    .values(state=bindparam("to_state"), acknowledged_by=bindparam("by"), acknowledged_at_ms=bindparam("at"))
)
_CLEAR = (
    update(alerts)
    .where(alerts.c.alert_id == bindparam("alert"), alerts.c.open_key.is_not(None))
    .values(state=bindparam("to_state"), open_key=None, cleared_at_ms=bindparam("at"))
)
_PAGE = (
    select(alerts)
    .where(alerts.c.alert_id < bindparam("before"))
    .order_by(alerts.c.alert_id.desc())
    .limit(bindparam("n"))
)
_PAGE_OF_STATE = (
    select(alerts)
    .where(alerts.c.state == bindparam("in_state"), alerts.c.alert_id < bindparam("before"))
    .order_by(alerts.c.alert_id.desc())
    .limit(bindparam("n"))
)
_OLD = select(alerts.c.alert_id).where(alerts.c.cleared_at_ms < bindparam("before")).limit(bindparam("n"))
_DELETE = delete(alerts).where(alerts.c.alert_id == bindparam("alert"))
_DELETE_MESSAGES = delete(messages).where(messages.c.alert_id == bindparam("alert"))

_INSERT_MESSAGE = insert(messages)
_OF_ALERT = (
    select(messages)
    .where(messages.c.alert_id == bindparam("alert"))
    .order_by(messages.c.message_id)
    .limit(bindparam("n"))
)
_QUEUED = (
    select(messages)
    .where(messages.c.state == bindparam("in_state"), messages.c.channel == bindparam("to_channel"))
    .order_by(messages.c.message_id)
    .limit(bindparam("n"))
)
_COUNT_QUEUED = select(func.count().label("n")).where(
    messages.c.state == bindparam("in_state"), messages.c.channel == bindparam("to_channel")
)
_SENT_SINCE = select(func.count().label("n")).where(
    messages.c.channel == bindparam("to_channel"),
    messages.c.ended_at_ms > bindparam("since"),
    messages.c.state == bindparam("in_state"),
    messages.c.kind != bindparam("but_kind"),
)
_LAST_ENDED = (
    select(messages)
    .where(messages.c.channel == bindparam("to_channel"), messages.c.ended_at_ms.is_not(None))
    .order_by(messages.c.ended_at_ms.desc())
    .limit(1)
)
_MOVE_MESSAGE = (
    update(messages)
    .where(messages.c.message_id == bindparam("message"), messages.c.state == bindparam("from_state"))
    .values(
        state=bindparam("to_state"),
        attempts=bindparam("to_attempts"),
        due_at_ms=bindparam("to_due"),
        ended_at_ms=bindparam("to_ended"),
        reason=bindparam("to_reason"),
    )
)
_DROP_TESTS = delete(messages).where(messages.c.alert_id == "", messages.c.ended_at_ms < bindparam("before"))

_INSERT_HIT = upsert(hits).on_conflict_do_nothing()
_SUM_HITS = select(func.sum(hits.c.count).label("n")).where(
    hits.c.rule == bindparam("of_rule"), hits.c.subject == bindparam("of_subject"), hits.c.at_ms > bindparam("since")
)
_DROP_HITS = delete(hits).where(hits.c.rule == bindparam("of_rule"), hits.c.at_ms <= bindparam("until"))
_DROP_HITS_OF = delete(hits).where(hits.c.rule == bindparam("of_rule"), hits.c.subject == bindparam("of_subject"))

_DUTY = select(duties).where(duties.c.name == bindparam("duty"))
_DUTIES = select(duties).where(duties.c.name >= bindparam("begins"), duties.c.name < bindparam("ends"))
_INSERT_DUTY = upsert(duties).on_conflict_do_nothing()
_SET_DUTY = (
    update(duties).where(duties.c.name == bindparam("duty")).values(node=bindparam("to_node"), number=bindparam("to"))
)
_DROP_DUTY = delete(duties).where(duties.c.name == bindparam("duty"))

LAST = "~"
"""Behind every id."""


def open_key(rule: RuleId, subject: str, node: str) -> str:
    return f"{rule}|{node}|{subject}"


def insert_alert(tx: Transaction, alert: Alert) -> bool:
    """False where one of the same rule, subject and node is open already."""
    values = {
        "alert_id": alert.alert_id,
        "open_key": open_key(alert.rule, alert.subject, alert.node),
        "rule": alert.rule,
        "subject": alert.subject,
        "node": alert.node,
        "severity": alert.severity,
        "state": alert.state,
        "first_at_ms": alert.first_at_ms,
        "last_at_ms": alert.last_at_ms,
        "count": alert.count,
        "facts": _json(alert.facts),
        "acknowledged_by": None,
        "acknowledged_at_ms": None,
        "cleared_at_ms": None,
    }
    return tx.run(_INSERT, values) == 1


def find_open(tx: Transaction, rule: RuleId, subject: str, node: str) -> Alert | None:
    row = tx.first(_BY_KEY, {"key": open_key(rule, subject, node)})
    return None if row is None else _alert(row)


def find_alert(tx: Transaction, alert_id: str) -> Alert | None:
    row = tx.first(_BY_ID, {"alert": alert_id})
    return None if row is None else _alert(row)


def all_open(tx: Transaction) -> list[Alert]:
    """Bounded: a rule opens no more than a few dozen."""
    return [_alert(row) for row in tx.rows(_OPEN)]


def count_open(tx: Transaction, rule: RuleId) -> int:
    return _number(tx.first(_OPEN_OF_RULE, {"of_rule": rule}))


def count_state(tx: Transaction, state: State) -> int:
    return _number(tx.first(_COUNT_STATE, {"in_state": state}))


def see_again(tx: Transaction, alert_id: str, count: int, facts: Facts, now_ms: int) -> None:
    tx.run(_SEEN_AGAIN, {"alert": alert_id, "at": now_ms, "to_count": count, "to_facts": _json(facts)})


def acknowledge(tx: Transaction, alert_id: str, user_id: str, now_ms: int) -> bool:
    values = {"alert": alert_id, "from_state": State.FIRING, "to_state": State.ACKNOWLEDGED}
    return tx.run(_ACKNOWLEDGE, values | {"by": user_id, "at": now_ms}) == 1


def clear(tx: Transaction, alert_id: str, now_ms: int) -> bool:
    return tx.run(_CLEAR, {"alert": alert_id, "to_state": State.CLEARED, "at": now_ms}) == 1


def page(tx: Transaction, state: State | None, before: str | None, count: int) -> list[Alert]:
    """Newest first."""
    values: dict[str, object] = {"before": before or LAST, "n": count}
    rows = tx.rows(_PAGE, values) if state is None else tx.rows(_PAGE_OF_STATE, values | {"in_state": state})
    return [_alert(row) for row in rows]


def drop_old(tx: Transaction, before_ms: int, count: int) -> int:
    """Alerts that were over before then, and their messages; how many."""
    old = [row["alert_id"] for row in tx.rows(_OLD, {"before": before_ms, "n": count})]
    for alert_id in old:
        tx.run(_DELETE_MESSAGES, {"alert": alert_id})
        tx.run(_DELETE, {"alert": alert_id})
    tx.run(_DROP_TESTS, {"before": before_ms})
    return len(old)


# -- messages


def insert_message(tx: Transaction, message: Message) -> None:
    values = {
        "message_id": message.message_id,
        "alert_id": message.alert_id,
        "channel": message.channel,
        "kind": message.kind,
        "state": message.state,
        "attempts": message.attempts,
        "made_at_ms": message.made_at_ms,
        "due_at_ms": message.due_at_ms,
        "ended_at_ms": message.ended_at_ms,
        "reason": message.reason,
    }
    tx.run(_INSERT_MESSAGE, values)


def messages_of(tx: Transaction, alert_id: str, count: int = 20) -> list[Message]:
    return [_message(row) for row in tx.rows(_OF_ALERT, {"alert": alert_id, "n": count})]


def queued(tx: Transaction, channel: str, count: int) -> list[Message]:
    """The oldest first."""
    values = {"in_state": MessageState.QUEUED, "to_channel": channel, "n": count}
    return [_message(row) for row in tx.rows(_QUEUED, values)]


def count_queued(tx: Transaction, channel: str) -> int:
    return _number(tx.first(_COUNT_QUEUED, {"in_state": MessageState.QUEUED, "to_channel": channel}))


def sent_since(tx: Transaction, channel: str, since_ms: int) -> int:
    """Tests do not count."""
    values = {"to_channel": channel, "since": since_ms, "in_state": MessageState.SENT, "but_kind": MessageKind.TEST}
    return _number(tx.first(_SENT_SINCE, values))


def last_ended(tx: Transaction, channel: str) -> Message | None:
    row = tx.first(_LAST_ENDED, {"to_channel": channel})
    return None if row is None else _message(row)


def move_messages(tx: Transaction, moved: Iterable[Message]) -> None:
    """As they are now; those that are not queued any more stay."""
    for one in moved:
        values = {
            "message": one.message_id,
            "from_state": MessageState.QUEUED,
            "to_state": one.state,
            "to_attempts": one.attempts,
            "to_due": one.due_at_ms,
            "to_ended": one.ended_at_ms,
            "to_reason": one.reason,
        }
        tx.run(_MOVE_MESSAGE, values)


# -- what was counted in the audit log


def insert_hit(tx: Transaction, rule: RuleId, seq: int, subject: str, at_ms: int, count: int) -> None:
    tx.run(_INSERT_HIT, {"rule": rule, "seq": seq, "subject": subject, "at_ms": at_ms, "count": count})


def sum_hits(tx: Transaction, rule: RuleId, subject: str, since_ms: int) -> int:
    return _number(tx.first(_SUM_HITS, {"of_rule": rule, "of_subject": subject, "since": since_ms}))


def drop_hits(tx: Transaction, rule: RuleId, until_ms: int) -> None:
    tx.run(_DROP_HITS, {"of_rule": rule, "until": until_ms})


def drop_hits_of(tx: Transaction, rule: RuleId, subject: str) -> None:
    tx.run(_DROP_HITS_OF, {"of_rule": rule, "of_subject": subject})


# -- who does what


@dataclass(frozen=True, slots=True)
class Duty:
    """`node` does it; `number` is how far it came."""

    name: str
    node: str
    number: int


def find_duty(tx: Transaction, name: str) -> Duty | None:
    row = tx.first(_DUTY, {"duty": name})
    return None if row is None else _duty(row)


def duties_of(tx: Transaction, prefix: str) -> list[Duty]:
    return [_duty(row) for row in tx.rows(_DUTIES, {"begins": prefix, "ends": prefix + LAST})]


def claim_duty(tx: Transaction, name: str, node_id: str, alive: frozenset[str], first: int) -> Duty | None:
    """The duty as it is this node's now; None while another living node does it. `first` is where a new one begins."""
    tx.run(_INSERT_DUTY, {"name": name, "node": node_id, "number": first})
    found = find_duty(tx, name)
    assert found is not None
    if found.node == node_id:
        return found
    if found.node in alive:
        return None
    set_duty(tx, name, node_id, found.number)
    return Duty(name, node_id, found.number)


def set_duty(tx: Transaction, name: str, node_id: str, number: int) -> None:
    tx.run(_INSERT_DUTY, {"name": name, "node": node_id, "number": number})
    tx.run(_SET_DUTY, {"duty": name, "to_node": node_id, "to": number})


def drop_duty(tx: Transaction, name: str) -> None:
    tx.run(_DROP_DUTY, {"duty": name})


def _json(facts: Facts) -> str:
    return json.dumps(dict(facts), separators=(",", ":"), sort_keys=True)


def _number(row: Row | None) -> int:
    return 0 if row is None or row["n"] is None else int(row["n"])


def _duty(row: Row) -> Duty:
    return Duty(row["name"], row["node"], int(row["number"]))


def _alert(row: Row) -> Alert:
    return Alert(
        alert_id=row["alert_id"],
        rule=RuleId(row["rule"]),
        subject=row["subject"],
        node=row["node"],
        severity=Severity(row["severity"]),
        state=State(row["state"]),
        first_at_ms=int(row["first_at_ms"]),
        last_at_ms=int(row["last_at_ms"]),
        count=int(row["count"]),
        facts=json.loads(row["facts"]),
        acknowledged_by=row["acknowledged_by"],
        acknowledged_at_ms=row["acknowledged_at_ms"],
        cleared_at_ms=row["cleared_at_ms"],
    )


def _message(row: Row) -> Message:
    return Message(
        message_id=row["message_id"],
        alert_id=row["alert_id"],
        channel=row["channel"],
        kind=MessageKind(row["kind"]),
        state=MessageState(row["state"]),
        attempts=int(row["attempts"]),
        made_at_ms=int(row["made_at_ms"]),
        due_at_ms=int(row["due_at_ms"]),
        ended_at_ms=row["ended_at_ms"],
        reason=row["reason"],
    )
