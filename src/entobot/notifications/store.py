"""The table of notifications. A row leaves `open` once."""

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    Table,
    Text,
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    select,
    update,
)

from entobot.core.permissions import Role
from entobot.notifications.model import (
    Escalation,
    Notification,
    Priority,
    State,
)
from entobot.storage.database import Row, Transaction, metadata
from entobot.storage.partial_index import partial_index

notifications = Table(
    "notifications",
    metadata,
    Column("notification_id", Text, primary_key=True),
    Column("user_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("priority", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("link", Text, nullable=False),
    Column("conversation_id", Text),
    Column("collapse_key", Text, nullable=False),
    Column("sender", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("event_seq", BigInteger, nullable=False),
    Column("is_told_by_event", Integer, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("since_ms", BigInteger, nullable=False),
    Column("look_at_ms", BigInteger),
    Column("expires_at_ms", BigInteger),
    Column("ended_at_ms", BigInteger),
    Column("step", Integer, nullable=False),
    Column("escalate_at_ms", BigInteger),
    Column("escalate_to", Text),
    Column("escalated_from", Text),
    Column("folded_into", Text),
    Index("ix_notifications_user", "user_id", "notification_id"),
    Index("ix_notifications_sender", "sender", "created_at_ms"),
    Index("ix_notifications_ended", "ended_at_ms"),
    Index("ix_notifications_escalated", "escalated_from"),
    partial_index("ix_notifications_due", "look_at_ms", where="state = 'open'"),
    partial_index("ix_notifications_open", "user_id", "notification_id", where="state = 'open'"),
    partial_index(
        "ix_notifications_collapse",
        "user_id",
        "collapse_key",
        where="state = 'open' AND collapse_key <> ''",
        unique=True,
    ),
)
_N = notifications.c
_IS_OPEN = literal_column("state") == literal_column(f"'{State.OPEN}'")
LAST = "~"
"""Sorts after every id: where a first page begins."""

_INSERT = insert(notifications)
_BY_ID = select(notifications).where(_N.notification_id == bindparam("notification"))
_BY_KEY = select(notifications).where(
    _N.user_id == bindparam("user"),
    _N.collapse_key == bindparam("key"),
    _IS_OPEN,
    literal_column("collapse_key") != literal_column("''"),
)
_DUE = (
    select(notifications)
    .where(_IS_OPEN, _N.look_at_ms <= bindparam("now"))
    .order_by(_N.look_at_ms)
    .limit(bindparam("count"))
)
_PAGE = (
    select(notifications)
    .where(_N.user_id == bindparam("user"), _N.notification_id < bindparam("before"))
    .order_by(_N.notification_id.desc())
    .limit(bindparam("count"))
)
_OPEN_PAGE = _PAGE.where(_IS_OPEN)
_PAGE_OF_KIND = _PAGE.where(_N.kind == bindparam("kind"))
_OPEN_PAGE_OF_KIND = _PAGE_OF_KIND.where(_IS_OPEN)
_PAGE_OF_ALL = (
    select(notifications)
    .where(_N.notification_id < bindparam("before"))
    .order_by(_N.notification_id.desc())
    .limit(bindparam("count"))
)
_OPEN_OF_CONVERSATION = select(notifications).where(
    _N.user_id == bindparam("user"), _IS_OPEN, _N.conversation_id == bindparam("conversation")
)
_ALL_OPEN = (
    select(notifications)
    .where(_N.user_id == bindparam("user"), _IS_OPEN)
    .order_by(_N.notification_id)
    .limit(bindparam("count"))
)
_COUNT_OPEN = select(func.count().label("n")).where(_N.user_id == bindparam("user"), _IS_OPEN)
_COUNT_FROM = select(func.count().label("n")).where(
    _N.sender == bindparam("sender"), _N.created_at_ms > bindparam("since")
)
_LOW = (
    select(notifications)
    .where(
        _N.user_id == bindparam("user"),
        _IS_OPEN,
        _N.priority == str(Priority.LOW),
        _N.folded_into.is_(None),
        _N.since_ms <= bindparam("until"),
    )
    .order_by(_N.notification_id)
    .limit(bindparam("count"))
)
_FOLD = (
    update(notifications)
    .where(_N.notification_id == bindparam("notification"))
    .values(folded_into=bindparam("into"), look_at_ms=bindparam("to_look"))
)
_MOVE = (
    update(notifications)
    .where(_N.notification_id == bindparam("notification"), _IS_OPEN)
    .values(
        state=bindparam("to_state"),
        look_at_ms=bindparam("to_look"),
        ended_at_ms=bindparam("to_ended"),
        since_ms=bindparam("to_since"),
        step=bindparam("to_step"),
        escalate_at_ms=bindparam("to_escalate_at"),
        escalate_to=bindparam("to_escalate_to"),
    )
)
_HURRY = (
    update(notifications)
    .where(_N.notification_id == bindparam("notification"), _IS_OPEN)
    .values(look_at_ms=bindparam("now"))
)
_ESCALATED = select(notifications).where(_N.escalated_from == bindparam("source"), _IS_OPEN)
_COUNT_TO = (
    select(func.count().label("n"))
    .select_from(notifications)
    .where(_N.user_id == bindparam("user"), _N.notification_id > bindparam("after"), _N.sender != "")
)
_DELETE = delete(notifications).where(_N.notification_id == bindparam("notification"))
_OLD = select(_N.notification_id).where(_N.ended_at_ms < bindparam("before")).limit(bindparam("count"))
_OLDEST_OPEN = (
    select(_N.notification_id).where(_N.user_id == bindparam("user"), _IS_OPEN).order_by(_N.notification_id).limit(1)
)
_STOP_ALL = (
    update(notifications)
    .where(_IS_OPEN)
    .values(state=bindparam("to_state"), ended_at_ms=bindparam("now"), look_at_ms=None)
)


# -- notifications


def insert_notification(tx: Transaction, one: Notification) -> None:
    tx.add(_INSERT, _values(one))


def find(tx: Transaction, notification_id: str) -> Notification | None:
    row = tx.first(_BY_ID, {"notification": notification_id})
    return None if row is None else _notification(row)


def find_open_by_key(tx: Transaction, user_id: str, collapse_key: str) -> Notification | None:
    row = tx.first(_BY_KEY, {"user": user_id, "key": collapse_key})
    return None if row is None else _notification(row)


def due(tx: Transaction, now_ms: int, count: int) -> list[Notification]:
    return [_notification(row) for row in tx.rows(_DUE, {"now": now_ms, "count": count})]


def page(
    tx: Transaction, user_id: str | None, before: str | None, count: int, *, only_open: bool, kind: str | None = None
) -> list[Notification]:
    """Newest first; of everybody without `user_id`, and then of all kinds."""
    given: dict[str, object] = {"before": before or LAST, "count": count}
    if user_id is None:
        return [_notification(row) for row in tx.rows(_PAGE_OF_ALL, given)]
    given["user"] = user_id
    if kind is None:
        return [_notification(row) for row in tx.rows(_OPEN_PAGE if only_open else _PAGE, given)]
    statement = _OPEN_PAGE_OF_KIND if only_open else _PAGE_OF_KIND
    return [_notification(row) for row in tx.rows(statement, given | {"kind": kind})]


def all_open(tx: Transaction, user_id: str, count: int, conversation_id: str | None = None) -> list[Notification]:
    if conversation_id is not None:
        rows = tx.rows(_OPEN_OF_CONVERSATION, {"user": user_id, "conversation": conversation_id})
    else:
        rows = tx.rows(_ALL_OPEN, {"user": user_id, "count": count})
    return [_notification(row) for row in rows]


def low(tx: Transaction, user_id: str, until_ms: int, count: int) -> list[Notification]:
    """What is low, began by then and stands in no digest yet."""
    return [_notification(row) for row in tx.rows(_LOW, {"user": user_id, "until": until_ms, "count": count})]


def fold(tx: Transaction, one: Notification, into: str) -> None:
    tx.run(_FOLD, {"notification": one.notification_id, "into": into, "to_look": one.expires_at_ms})


def count_open(tx: Transaction, user_id: str) -> int:
    row = tx.first(_COUNT_OPEN, {"user": user_id})
    return 0 if row is None else int(row["n"])


def count_from(tx: Transaction, sender: str, since_ms: int) -> int:
    row = tx.first(_COUNT_FROM, {"sender": sender, "since": since_ms})
    return 0 if row is None else int(row["n"])


def count_to(tx: Transaction, user_id: str, after_id: str) -> int:
    """What others sent to this person, by ids that are later than this one."""
    row = tx.first(_COUNT_TO, {"user": user_id, "after": after_id})
    return 0 if row is None else int(row["n"])


def escalated(tx: Transaction, notification_id: str) -> list[Notification]:
    """What others were told because nobody settled this one."""
    return [_notification(row) for row in tx.rows(_ESCALATED, {"source": notification_id})]


def move(tx: Transaction, after: Notification) -> bool:
    """Write where it stands now; False where it was not open any more."""
    escalation = after.escalation
    values = {
        "notification": after.notification_id,
        "to_state": after.state,
        "to_look": after.look_at_ms,
        "to_ended": after.ended_at_ms,
        "to_since": after.since_ms,
        "to_step": after.step,
        "to_escalate_at": None if escalation is None else escalation.at_ms,
        "to_escalate_to": None if escalation is None else _escalate_to(escalation),
    }
    return tx.run(_MOVE, values) == 1


def hurry(tx: Transaction, notification_id: str, now_ms: int) -> None:
    """Have it looked at now."""
    tx.run(_HURRY, {"notification": notification_id, "now": now_ms})


def drop(tx: Transaction, notification_id: str) -> None:
    tx.run(_DELETE, {"notification": notification_id})


def oldest_open(tx: Transaction, user_id: str) -> Notification | None:
    row = tx.first(_OLDEST_OPEN, {"user": user_id})
    return None if row is None else _notification(row)


def ended_before(tx: Transaction, before_ms: int, count: int) -> list[str]:
    return [row["notification_id"] for row in tx.rows(_OLD, {"before": before_ms, "count": count})]


def stop_all(tx: Transaction, now_ms: int) -> None:
    """Nothing that is open goes on."""
    tx.run(_STOP_ALL, {"to_state": State.EXPIRED, "now": now_ms})


# -- rows


def _escalate_to(escalation: Escalation) -> str:
    return f"role:{escalation.role}" if escalation.role is not None else f"user:{escalation.user_id}"


def _escalation(row: Row) -> Escalation | None:
    at_ms, to = row["escalate_at_ms"], row["escalate_to"]
    if to is None:
        return None
    what, _, name = to.partition(":")
    due_ms = _or_none(at_ms)
    return Escalation(due_ms, None, Role(name)) if what == "role" else Escalation(due_ms, name)


def _values(one: Notification) -> dict[str, object]:
    escalation = one.escalation
    return {
        "notification_id": one.notification_id,
        "user_id": one.user_id,
        "kind": one.kind,
        "priority": one.priority,
        "title": one.title,
        "body": one.body,
        "link": one.link,
        "conversation_id": one.conversation_id,
        "collapse_key": one.collapse_key,
        "sender": one.sender,
        "state": one.state,
        "event_seq": one.event_seq,
        "is_told_by_event": int(one.is_told_by_event),
        "created_at_ms": one.created_at_ms,
        "since_ms": one.since_ms,
        "look_at_ms": one.look_at_ms,
        "expires_at_ms": one.expires_at_ms,
        "ended_at_ms": one.ended_at_ms,
        "step": one.step,
        "escalate_at_ms": None if escalation is None else escalation.at_ms,
        "escalate_to": None if escalation is None else _escalate_to(escalation),
        "escalated_from": one.escalated_from,
        "folded_into": one.folded_into,
    }


def _or_none(value: int | None) -> int | None:
    return None if value is None else int(value)


def _notification(row: Row) -> Notification:
    return Notification(
        notification_id=row["notification_id"],
        user_id=row["user_id"],
        kind=row["kind"],
        priority=Priority(row["priority"]),
        title=row["title"],
        body=row["body"],
        link=row["link"],
        conversation_id=row["conversation_id"],
        collapse_key=row["collapse_key"],
        sender=row["sender"],
        state=State(row["state"]),
        event_seq=int(row["event_seq"]),
        is_told_by_event=bool(row["is_told_by_event"]),
        created_at_ms=int(row["created_at_ms"]),
        since_ms=int(row["since_ms"]),
        look_at_ms=_or_none(row["look_at_ms"]),
        expires_at_ms=_or_none(row["expires_at_ms"]),
        ended_at_ms=_or_none(row["ended_at_ms"]),
        step=int(row["step"]),
        escalation=_escalation(row),
        escalated_from=row["escalated_from"],
        folded_into=row["folded_into"],
    )
