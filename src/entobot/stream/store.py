"""Tables of the stream: an append-only log keyed by row id, one head row per user, one cursor row per device."""

from sqlalchemy import (
    BigInteger,
    Column,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    bindparam,
    func,
    insert,
    select,
    update,
)

from entobot.core.permissions import Scope
from entobot.storage.database import Row, Transaction, metadata
from entobot.storage.upsert import upsert
from entobot.stream.model import Head, StreamEvent

BIG = BigInteger().with_variant(Integer, "sqlite")

events = Table(
    "stream_events",
    metadata,
    Column("id", BIG, primary_key=True, autoincrement=True),
    Column("user_id", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("scope", Text),
    Column("topic", Text, nullable=False),
    Column("event", Text, nullable=False),
    UniqueConstraint("user_id", "seq", name="uq_stream_events_user_seq"),
)
heads = Table(
    "stream_heads",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("stream_id", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
)
cursors = Table(
    "stream_cursors",
    metadata,
    Column("device_id", Text, primary_key=True),
    Column("user_id", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
)

_ADVANCE = update(heads).where(heads.c.user_id == bindparam("user")).values(seq=heads.c.seq + 1).returning(heads.c.seq)
_INSERT_HEAD = insert(heads)
_INSERT_EVENT = insert(events)
_HEAD = select(heads.c.stream_id, heads.c.seq).where(heads.c.user_id == bindparam("user"))
_FIRST = select(func.min(events.c.seq).label("seq")).where(events.c.user_id == bindparam("user"))
_AFTER = (
    select(events.c.seq, events.c.at_ms, events.c.scope, events.c.topic, events.c.event)
    .where(events.c.user_id == bindparam("user"), events.c.seq > bindparam("after"))
    .order_by(events.c.seq)
    .limit(bindparam("count"))
)
_CURSOR = select(cursors.c.seq).where(cursors.c.device_id == bindparam("device"))
_MOVE_CURSOR = (
    update(cursors)
    .where(cursors.c.device_id == bindparam("device"), cursors.c.seq < bindparam("to_seq"))
    .values(seq=bindparam("to_seq"), at_ms=bindparam("now"))
)
_INSERT_CURSOR = upsert(cursors).on_conflict_do_nothing()


def create_head(tx: Transaction, user_id: str, stream_id: str) -> None:
    tx.run(_INSERT_HEAD, {"user_id": user_id, "stream_id": stream_id, "seq": 0})


def next_seq(tx: Transaction, user_id: str) -> int:
    """The next number of this user's stream; the row lock makes commit order and number order the same."""
    row = tx.first(_ADVANCE, {"user": user_id})
    assert row is not None, "a user's stream head is made with the user"
    return int(row["seq"])


def insert_event(tx: Transaction, user_id: str, event: StreamEvent) -> None:
    tx.run(
        _INSERT_EVENT,
        {
            "user_id": user_id,
            "seq": event.seq,
            "at_ms": event.at_ms,
            "scope": event.scope,
            "topic": event.topic,
            "event": event.event,
        },
    )


def find_head(tx: Transaction, user_id: str) -> Head | None:
    row = tx.first(_HEAD, {"user": user_id})
    return None if row is None else Head(row["stream_id"], int(row["seq"]))


def first_seq(tx: Transaction, user_id: str) -> int | None:
    row = tx.first(_FIRST, {"user": user_id})
    return None if row is None or row["seq"] is None else int(row["seq"])


def events_after(tx: Transaction, user_id: str, after: int, count: int) -> list[StreamEvent]:
    return [_event(row) for row in tx.rows(_AFTER, {"user": user_id, "after": after, "count": count})]


def _event(row: Row) -> StreamEvent:
    scope = None if row["scope"] is None else Scope(row["scope"])
    return StreamEvent(int(row["seq"]), int(row["at_ms"]), scope, row["topic"], row["event"])


def find_cursor(tx: Transaction, device_id: str) -> int | None:
    row = tx.first(_CURSOR, {"device": device_id})
    return None if row is None else int(row["seq"])


def move_cursor(tx: Transaction, device_id: str, user_id: str, seq: int, now_ms: int) -> None:
    """Cursors only move forward: an older acknowledgement changes nothing."""
    tx.run(_INSERT_CURSOR, {"device_id": device_id, "user_id": user_id, "seq": seq, "at_ms": now_ms})
    tx.run(_MOVE_CURSOR, {"device": device_id, "to_seq": seq, "now": now_ms})
