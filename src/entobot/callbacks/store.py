"""The table of callbacks. Every step is a conditional update, so that of several nodes one takes it."""

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    Table,
    Text,
    bindparam,
    insert,
    literal_column,
    select,
    update,
)

from entobot.callbacks.model import Callback, Kind, State
from entobot.storage.database import Row, Transaction, metadata
from entobot.storage.partial_index import partial_index

callbacks = Table(
    "callbacks",
    metadata,
    Column("callback_id", Text, primary_key=True),
    Column("subject", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("device_id", Text),
    Column("url", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("next_at_ms", BigInteger),
    Column("tries", Integer, nullable=False),
    Column("node", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("ended_at_ms", BigInteger),
    Index("ix_callbacks_subject", "subject", unique=True),
    Index("ix_callbacks_user", "user_id", "callback_id"),
    Index("ix_callbacks_created", "created_at_ms"),
    partial_index("ix_callbacks_due", "next_at_ms", where="state = 'due'"),
    partial_index("ix_callbacks_sending", "callback_id", where="state = 'sending'"),
)
LAST = "~"
"""Sorts after every id: where a first page begins."""

_INSERT = insert(callbacks)
_DUE = (
    select(callbacks)
    .where(callbacks.c.state == literal_column("'due'"), callbacks.c.next_at_ms <= bindparam("now"))
    .order_by(callbacks.c.next_at_ms)
    .limit(bindparam("n"))
)
_SENDING = select(callbacks).where(callbacks.c.state == literal_column("'sending'")).limit(bindparam("n"))
_BY_SUBJECT = select(callbacks).where(callbacks.c.subject == bindparam("of"))
_PAGE = (
    select(callbacks)
    .where(callbacks.c.user_id == bindparam("user"), callbacks.c.callback_id < bindparam("before"))
    .order_by(callbacks.c.callback_id.desc())
    .limit(bindparam("n"))
)
_OF_DEVICE = select(callbacks).where(
    callbacks.c.device_id == bindparam("device"), callbacks.c.state.in_(["waiting", "due"])
)
_MOVE = (
    update(callbacks)
    .where(
        callbacks.c.callback_id == bindparam("callback"),
        callbacks.c.state == bindparam("from_state"),
        callbacks.c.tries == bindparam("from_tries"),
    )
    .values(
        state=bindparam("to_state"),
        next_at_ms=bindparam("to_next"),
        tries=bindparam("to_tries"),
        node=bindparam("to_node"),
        reason=bindparam("to_reason"),
        ended_at_ms=bindparam("to_ended"),
    )
)
_STOP_ALL = (
    update(callbacks)
    .where(callbacks.c.state.in_(["due", "sending"]))
    .values(state="failed", next_at_ms=None, node="", reason=bindparam("why"), ended_at_ms=bindparam("now"))
)
_FORGET = callbacks.delete().where(callbacks.c.created_at_ms < bindparam("before"))


def insert_callback(tx: Transaction, one: Callback) -> None:
    tx.run(
        _INSERT,
        {
            "callback_id": one.callback_id,
            "subject": one.subject,
            "kind": one.kind,
            "user_id": one.user_id,
            "device_id": one.device_id,
            "url": one.url,
            "state": one.state,
            "created_at_ms": one.created_at_ms,
            "next_at_ms": one.next_at_ms,
            "tries": one.tries,
            "node": one.node,
            "reason": one.reason,
            "ended_at_ms": one.ended_at_ms,
        },
    )


def move(tx: Transaction, before: Callback, after: Callback) -> bool:
    """False when another had it first."""
    values = {
        "callback": before.callback_id,
        "from_state": before.state,
        "from_tries": before.tries,
        "to_state": after.state,
        "to_next": after.next_at_ms,
        "to_tries": after.tries,
        "to_node": after.node,
        "to_reason": after.reason,
        "to_ended": after.ended_at_ms,
    }
    return tx.run(_MOVE, values) == 1


def due(tx: Transaction, now_ms: int, count: int) -> list[Callback]:
    return [_callback(row) for row in tx.rows(_DUE, {"now": now_ms, "n": count})]


def sending(tx: Transaction, count: int) -> list[Callback]:
    return [_callback(row) for row in tx.rows(_SENDING, {"n": count})]


def find_of(tx: Transaction, subject: str) -> Callback | None:
    row = tx.first(_BY_SUBJECT, {"of": subject})
    return None if row is None else _callback(row)


def of_device(tx: Transaction, device_id: str) -> list[Callback]:
    """Those that are not posted yet."""
    return [_callback(row) for row in tx.rows(_OF_DEVICE, {"device": device_id})]


def page(tx: Transaction, user_id: str, before: str, count: int) -> list[Callback]:
    """Newest first."""
    return [_callback(row) for row in tx.rows(_PAGE, {"user": user_id, "before": before, "n": count})]


def stop_all(tx: Transaction, why: str, now_ms: int) -> None:
    tx.run(_STOP_ALL, {"why": why, "now": now_ms})


def forget(tx: Transaction, before_ms: int) -> int:
    return tx.run(_FORGET, {"before": before_ms})


def _number(value: object) -> int | None:
    return None if value is None else int(str(value))


def _callback(row: Row) -> Callback:
    return Callback(
        callback_id=row["callback_id"],
        subject=row["subject"],
        kind=Kind(row["kind"]),
        user_id=row["user_id"],
        device_id=row["device_id"],
        url=row["url"],
        state=State(row["state"]),
        created_at_ms=int(row["created_at_ms"]),
        next_at_ms=_number(row["next_at_ms"]),
        tries=int(row["tries"]),
        node=row["node"],
        reason=row["reason"],
        ended_at_ms=_number(row["ended_at_ms"]),
    )
