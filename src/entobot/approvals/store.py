"""The table of approvals. A row leaves `pending` once, by a conditional update."""

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Table,
    Text,
    bindparam,
    func,
    insert,
    literal_column,
    select,
    update,
)

from entobot.approvals.model import Approval, ApprovalState, Risk
from entobot.storage.database import Row, Transaction, metadata
from entobot.storage.partial_index import partial_index

approvals = Table(
    "approvals",
    metadata,
    Column("approval_id", Text, primary_key=True),
    Column("user_id", Text, nullable=False),
    Column("run_id", Text, nullable=False),
    Column("conversation_id", Text, nullable=False),
    Column("tool_call_id", Text, nullable=False),
    Column("tool", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("risk", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("expires_at_ms", BigInteger, nullable=False),
    Column("edited_action", Text),
    Column("reason", Text),
    Column("decided_at_ms", BigInteger),
    Column("decided_by_device_id", Text),
    Index("ix_approvals_user", "user_id", "approval_id"),
    Index("ix_approvals_run", "run_id"),
    partial_index("ix_approvals_user_pending", "user_id", "approval_id", where="state = 'pending'"),
    partial_index("ix_approvals_pending", "expires_at_ms", where="state = 'pending'"),
)

_INSERT = insert(approvals)
_BY_ID = select(approvals).where(approvals.c.approval_id == bindparam("approval"))
_OF_USER = _BY_ID.where(approvals.c.user_id == bindparam("user"))
_PAGE = (
    select(approvals)
    .where(approvals.c.user_id == bindparam("user"), approvals.c.approval_id < bindparam("before"))
    .order_by(approvals.c.approval_id.desc())
    .limit(bindparam("count"))
)
_PENDING_PAGE = _PAGE.where(approvals.c.state == literal_column("'pending'"))
_OF_RUN = (
    select(approvals)
    .where(approvals.c.run_id == bindparam("run"), approvals.c.state == literal_column("'pending'"))
    .order_by(approvals.c.approval_id)
)
_OVERDUE = (
    select(approvals)
    .where(approvals.c.state == literal_column("'pending'"), approvals.c.expires_at_ms <= bindparam("now"))
    .order_by(approvals.c.expires_at_ms)
    .limit(bindparam("count"))
)
_COUNT_PENDING = select(func.count().label("pending")).where(approvals.c.state == literal_column("'pending'"))
_LEAVE_PENDING = (
    update(approvals)
    .where(approvals.c.approval_id == bindparam("approval"), approvals.c.state == literal_column("'pending'"))
    .values(
        state=bindparam("new_state"),
        edited_action=bindparam("new_edited_action"),
        reason=bindparam("new_reason"),
        decided_at_ms=bindparam("at"),
        decided_by_device_id=bindparam("device"),
    )
)

LAST = "~"
"""Sorts after every id: where a first page begins."""


def insert_approval(tx: Transaction, approval: Approval) -> None:
    tx.run(
        _INSERT,
        {
            "approval_id": approval.approval_id,
            "user_id": approval.user_id,
            "run_id": approval.run_id,
            "conversation_id": approval.conversation_id,
            "tool_call_id": approval.tool_call_id,
            "tool": approval.tool,
            "action": approval.action,
            "title": approval.title,
            "risk": approval.risk,
            "state": approval.state,
            "created_at_ms": approval.created_at_ms,
            "expires_at_ms": approval.expires_at_ms,
        },
    )


def find_approval(tx: Transaction, approval_id: str) -> Approval | None:
    row = tx.first(_BY_ID, {"approval": approval_id})
    return None if row is None else _approval(row)


def find_approval_of(tx: Transaction, user_id: str, approval_id: str) -> Approval | None:
    row = tx.first(_OF_USER, {"approval": approval_id, "user": user_id})
    return None if row is None else _approval(row)


def page(tx: Transaction, user_id: str, before: str, count: int, *, only_pending: bool) -> list[Approval]:
    """Newest first."""
    statement = _PENDING_PAGE if only_pending else _PAGE
    return [_approval(row) for row in tx.rows(statement, {"user": user_id, "before": before, "count": count})]


def pending_of_run(tx: Transaction, run_id: str) -> list[Approval]:
    return [_approval(row) for row in tx.rows(_OF_RUN, {"run": run_id})]


def overdue(tx: Transaction, now_ms: int, count: int) -> list[Approval]:
    return [_approval(row) for row in tx.rows(_OVERDUE, {"now": now_ms, "count": count})]


def count_pending(tx: Transaction) -> int:
    row = tx.first(_COUNT_PENDING)
    return 0 if row is None else int(row["pending"])


def leave_pending(tx: Transaction, approval: Approval) -> bool:
    """Write the outcome that `approval` carries; False when the row had left `pending` before."""
    return (
        tx.run(
            _LEAVE_PENDING,
            {
                "approval": approval.approval_id,
                "new_state": approval.state,
                "new_edited_action": approval.edited_action,
                "new_reason": approval.reason,
                "at": approval.decided_at_ms,
                "device": approval.decided_by_device_id,
            },
        )
        == 1
    )


def _approval(row: Row) -> Approval:
    decided_at = row["decided_at_ms"]
    return Approval(
        approval_id=row["approval_id"],
        user_id=row["user_id"],
        run_id=row["run_id"],
        conversation_id=row["conversation_id"],
        tool_call_id=row["tool_call_id"],
        tool=row["tool"],
        action=row["action"],
        title=row["title"],
        risk=Risk(row["risk"]),
        state=ApprovalState(row["state"]),
        created_at_ms=int(row["created_at_ms"]),
        expires_at_ms=int(row["expires_at_ms"]),
        edited_action=row["edited_action"],
        reason=row["reason"],
        decided_at_ms=None if decided_at is None else int(decided_at),
        decided_by_device_id=row["decided_by_device_id"],
    )
