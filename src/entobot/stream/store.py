"""Tables of the stream: an append-only log keyed by row id, one head row per user, one cursor row per device."""

from collections.abc import Sequence

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    bindparam,
    delete,
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
    Column("expires_at_ms", BigInteger),
    UniqueConstraint("user_id", "seq", name="uq_stream_events_user_seq"),
)
heads = Table(
    "stream_heads",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("stream_id", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("trimmed_to", BigInteger, nullable=False, server_default="0"),
)
cursors = Table(
    "stream_cursors",
    metadata,
    Column("device_id", Text, primary_key=True),
    Column("user_id", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Index("ix_stream_cursors_user", "user_id", "at_ms"),
)

_ADVANCE = update(heads).where(heads.c.user_id == bindparam("user")).values(seq=heads.c.seq + 1).returning(heads.c.seq)
_SET_HEAD = update(heads).where(heads.c.user_id == bindparam("user")).values(seq=bindparam("to_seq"))
_USERS = select(heads.c.user_id)
_RENAME = update(heads).where(heads.c.user_id == bindparam("user")).values(stream_id=bindparam("to_stream"))
HEADS_CHUNK = 50
_HEADS = select(heads.c.user_id, heads.c.seq).where(
    heads.c.user_id.in_([bindparam(f"user_{n}") for n in range(HEADS_CHUNK)])
)
_INSERT_HEAD = insert(heads)
_INSERT_EVENT = insert(events)
_HEAD = select(heads.c.stream_id, heads.c.seq, heads.c.trimmed_to).where(heads.c.user_id == bindparam("user"))
_AFTER = (
    select(events.c.seq, events.c.at_ms, events.c.scope, events.c.topic, events.c.event, events.c.expires_at_ms)
    .where(events.c.user_id == bindparam("user"), events.c.seq > bindparam("after"))
    .order_by(events.c.seq)
    .limit(bindparam("count"))
)
_SIZES_AFTER = (
    select(func.length(events.c.event).label("size"))
    .where(events.c.user_id == bindparam("user"), events.c.seq > bindparam("after"))
    .order_by(events.c.seq)
    .limit(bindparam("count"))
)
_CROWDED = (
    select(heads.c.user_id, heads.c.seq)
    .where(heads.c.seq - heads.c.trimmed_to > bindparam("most"))
    .limit(bindparam("count"))
)
_EXCESS = select(
    func.coalesce(func.sum(heads.c.seq - heads.c.trimmed_to - bindparam("kept")), 0).label("excess")
).where(heads.c.seq - heads.c.trimmed_to > bindparam("most"))
_OLDEST = select(events.c.user_id, events.c.seq, events.c.at_ms).order_by(events.c.id).limit(bindparam("count"))
_TRIM = delete(events).where(events.c.user_id == bindparam("user"), events.c.seq <= bindparam("to_seq"))
_MOVE_FLOOR = (
    update(heads)
    .where(heads.c.user_id == bindparam("user"), heads.c.trimmed_to < bindparam("to_seq"))
    .values(trimmed_to=bindparam("to_seq"))
)
_CURSOR = select(cursors.c.seq).where(cursors.c.device_id == bindparam("device"))
_ACKNOWLEDGED_BY = (
    select(cursors.c.device_id)
    .where(cursors.c.user_id == bindparam("user"), cursors.c.seq >= bindparam("seq"))
    .order_by(cursors.c.at_ms.desc())
    .limit(bindparam("count"))
)
_MOVE_CURSOR = (
    update(cursors)
    .where(
        cursors.c.device_id == bindparam("device"),
        (cursors.c.seq < bindparam("to_seq")) | (cursors.c.seq > bindparam("head")),
    )
    .values(seq=bindparam("to_seq"), at_ms=bindparam("now"))
)
_DROP_CURSOR = delete(cursors).where(cursors.c.device_id == bindparam("device"))
_INSERT_CURSOR = upsert(cursors).on_conflict_do_nothing()


_HEAD_IS_THERE = "a user's stream head is made with the user"


def create_head(tx: Transaction, user_id: str, stream_id: str) -> None:
    tx.run(_INSERT_HEAD, {"user_id": user_id, "stream_id": stream_id, "seq": 0})


def users(tx: Transaction) -> list[str]:
    return [row["user_id"] for row in tx.rows(_USERS)]


def rename(tx: Transaction, user_id: str, stream_id: str) -> None:
    tx.run(_RENAME, {"user": user_id, "to_stream": stream_id})


def next_seq(tx: Transaction, user_id: str) -> int:
    """The next number of this user's stream; the row lock makes commit order and number order the same."""
    memory = tx.memory
    if memory is None:
        row = tx.first(_ADVANCE, {"user": user_id})
        assert row is not None, _HEAD_IS_THERE
        return int(row["seq"])
    key = ("stream head", user_id)
    seq = memory.get(key)
    if seq is None:
        head = find_head(tx, user_id)
        assert head is not None, _HEAD_IS_THERE
        seq = head.seq
    memory.put(key, seq + 1)
    tx.add_latest(_SET_HEAD, user_id, {"user": user_id, "to_seq": seq + 1})
    return seq + 1


def insert_event(tx: Transaction, user_id: str, event: StreamEvent) -> None:
    tx.add(
        _INSERT_EVENT,
        {
            "user_id": user_id,
            "seq": event.seq,
            "at_ms": event.at_ms,
            "scope": event.scope,
            "topic": event.topic,
            "event": event.event,
            "expires_at_ms": event.expires_at_ms,
        },
    )


def find_heads(tx: Transaction, user_ids: Sequence[str]) -> list[tuple[str, int]]:
    """The newest `seq` of each user."""
    found: list[tuple[str, int]] = []
    for start in range(0, len(user_ids), HEADS_CHUNK):
        some = user_ids[start : start + HEADS_CHUNK]
        given = {f"user_{n}": some[n] if n < len(some) else "" for n in range(HEADS_CHUNK)}
        found += [(row["user_id"], int(row["seq"])) for row in tx.rows(_HEADS, given)]
    return found


def find_head(tx: Transaction, user_id: str) -> Head | None:
    row = tx.first(_HEAD, {"user": user_id})
    return None if row is None else Head(row["stream_id"], int(row["seq"]), int(row["trimmed_to"]))


def events_after(tx: Transaction, user_id: str, after: int, count: int) -> list[StreamEvent]:
    return [_event(row) for row in tx.rows(_AFTER, {"user": user_id, "after": after, "count": count})]


def sizes_after(tx: Transaction, user_id: str, after: int, count: int) -> list[int]:
    """Characters of the events that `events_after` would return."""
    return [int(row["size"]) for row in tx.rows(_SIZES_AFTER, {"user": user_id, "after": after, "count": count})]


def _event(row: Row) -> StreamEvent:
    scope = None if row["scope"] is None else Scope(row["scope"])
    return StreamEvent(int(row["seq"]), int(row["at_ms"]), scope, row["topic"], row["event"], row["expires_at_ms"])


def crowded(tx: Transaction, most: int, count: int) -> list[tuple[str, int]]:
    """Users of whom more than `most` events are kept, and their latest `seq`."""
    return [(row["user_id"], int(row["seq"])) for row in tx.rows(_CROWDED, {"most": most, "count": count})]


def excess(tx: Transaction, kept: int, most: int) -> int:
    """Events beyond `kept` of users of whom more than `most` are kept."""
    row = tx.first(_EXCESS, {"kept": kept, "most": most})
    return 0 if row is None else int(row["excess"])


def oldest(tx: Transaction, count: int) -> list[tuple[str, int, int]]:
    """The events that were written first, of all users: user, `seq`, time."""
    return [(row["user_id"], int(row["seq"]), int(row["at_ms"])) for row in tx.rows(_OLDEST, {"count": count})]


def trim(tx: Transaction, user_id: str, to_seq: int) -> None:
    """Forget events up to `to_seq`, and say in the same commit that they are gone."""
    tx.run(_TRIM, {"user": user_id, "to_seq": to_seq})
    tx.run(_MOVE_FLOOR, {"user": user_id, "to_seq": to_seq})


def find_cursor(tx: Transaction, device_id: str) -> int | None:
    row = tx.first(_CURSOR, {"device": device_id})
    return None if row is None else int(row["seq"])


def acknowledged_by(tx: Transaction, user_id: str, seq: int, count: int) -> list[str]:
    """Devices that have everything up to `seq`, whoever said so last first."""
    return [row["device_id"] for row in tx.rows(_ACKNOWLEDGED_BY, {"user": user_id, "seq": seq, "count": count})]


def move_cursor(tx: Transaction, device_id: str, seq: int, head_seq: int, now_ms: int) -> bool:
    """Forward, or back from beyond the head, where no event is. False when the row stays, or is missing."""
    return tx.run(_MOVE_CURSOR, {"device": device_id, "to_seq": seq, "head": head_seq, "now": now_ms}) == 1


def create_cursor(tx: Transaction, device_id: str, user_id: str, seq: int, now_ms: int) -> None:
    tx.run(_INSERT_CURSOR, {"device_id": device_id, "user_id": user_id, "seq": seq, "at_ms": now_ms})


def drop_cursor(tx: Transaction, device_id: str) -> None:
    tx.run(_DROP_CURSOR, {"device": device_id})
