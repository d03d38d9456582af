"""The table of notes, to-dos and reminders."""

from sqlalchemy import BigInteger, Column, Index, Table, Text, bindparam, delete, insert, select

from entobot.memos.model import Kind, Memo
from entobot.storage.database import Row, Transaction, metadata
from entobot.storage.partial_index import partial_index

memos = Table(
    "memos",
    metadata,
    Column("memo_id", Text, primary_key=True),
    Column("user_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("due_at_ms", BigInteger),
    Index("ix_memos_user", "user_id", "kind", "created_at_ms"),
    partial_index("ix_memos_due", "due_at_ms", where="due_at_ms IS NOT NULL"),
)
_M = memos.c
_IS_MINE = _M.user_id == bindparam("user")
_INSERT = insert(memos)
_OF_KIND = select(memos).where(_IS_MINE, _M.kind == bindparam("of_kind")).order_by(_M.created_at_ms)
_DUE = select(memos).where(_M.due_at_ms <= bindparam("now")).order_by(_M.due_at_ms).limit(bindparam("count"))
_DELETE = delete(memos).where(_M.memo_id == bindparam("memo"), _IS_MINE)
_DELETE_REMINDERS = delete(memos).where(_IS_MINE, _M.kind == Kind.REMINDER.value)


def insert_memo(tx: Transaction, one: Memo) -> None:
    tx.run(
        _INSERT,
        {
            "memo_id": one.memo_id,
            "user_id": one.user_id,
            "kind": one.kind,
            "text": one.text,
            "created_at_ms": one.created_at_ms,
            "due_at_ms": one.due_at_ms,
        },
    )


def of_kind(tx: Transaction, user_id: str, kind: Kind) -> list[Memo]:
    """Oldest first. Bounded by how many a person may have."""
    return [_memo(row) for row in tx.rows(_OF_KIND, {"user": user_id, "of_kind": kind})]


def due(tx: Transaction, now_ms: int, count: int) -> list[Memo]:
    return [_memo(row) for row in tx.rows(_DUE, {"now": now_ms, "count": count})]


def delete_memo(tx: Transaction, user_id: str, memo_id: str) -> bool:
    """False where it is not there any more: of several that delete it, one hears True."""
    return tx.run(_DELETE, {"memo": memo_id, "user": user_id}) == 1


def delete_reminders(tx: Transaction, user_id: str) -> None:
    tx.run(_DELETE_REMINDERS, {"user": user_id})


def _memo(row: Row) -> Memo:
    due_ms = row["due_at_ms"]
    return Memo(
        memo_id=row["memo_id"],
        user_id=row["user_id"],
        kind=Kind(row["kind"]),
        text=row["text"],
        created_at_ms=int(row["created_at_ms"]),
        due_at_ms=None if due_ms is None else int(due_ms),
    )
