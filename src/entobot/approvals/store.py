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
    or_,
    select,
    update,
)

from entobot.approvals.asking_store import askings
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
    Column("terms", Text),
    Column("remind_at_ms", BigInteger),
    Column("escalate_at_ms", BigInteger),
    Column("escalated_at_ms", BigInteger),
    Column("asked_by_device_id", Text),
    Column("number", Text),
    Column("wrong_numbers", BigInteger, server_default="0", nullable=False),
    Column("delivered_at_ms", BigInteger),
    Column("consumed_at_ms", BigInteger),
    Column("dropped_at_ms", BigInteger),
    Column("warned_at_ms", BigInteger),
    Index("ix_approvals_user", "user_id", "approval_id"),
    Index("ix_approvals_run", "run_id"),
    partial_index("ix_approvals_user_pending", "user_id", "approval_id", where="state = 'pending'"),
    partial_index("ix_approvals_pending", "expires_at_ms", where="state = 'pending'"),
    partial_index(
        "ix_approvals_unconsumed",
        "decided_at_ms",
        where="state <> 'pending' AND consumed_at_ms IS NULL AND dropped_at_ms IS NULL",
    ),
)

_INSERT = insert(approvals)
_BY_ID = select(approvals).where(approvals.c.approval_id == bindparam("approval"))
_SEEN = select(approvals).join(askings, askings.c.approval_id == approvals.c.approval_id)
_OF_USER = _SEEN.where(approvals.c.approval_id == bindparam("approval"), askings.c.user_id == bindparam("user"))
_PAGE = (
    _SEEN.where(askings.c.user_id == bindparam("user"), askings.c.approval_id < bindparam("before"))
    .order_by(askings.c.approval_id.desc())
    .limit(bindparam("count"))
)
_PENDING_PAGE = _PAGE.where(approvals.c.state == literal_column("'pending'"))
_FILTERED_PAGE = _PAGE.where(
    or_(bindparam("of_state") == literal_column("''"), approvals.c.state == bindparam("of_state")),
    or_(bindparam("of_tool") == literal_column("''"), approvals.c.tool == bindparam("of_tool")),
)
_DUE = select(approvals).where(approvals.c.state == literal_column("'pending'")).limit(bindparam("count"))
_TO_REMIND = _DUE.where(approvals.c.remind_at_ms <= bindparam("now")).order_by(approvals.c.remind_at_ms)
_TO_ESCALATE = _DUE.where(approvals.c.escalate_at_ms <= bindparam("now")).order_by(approvals.c.escalate_at_ms)
_IS_PENDING = (
    approvals.c.approval_id == bindparam("approval"),
    approvals.c.state == literal_column("'pending'"),
)
_REMINDED = (
    update(approvals).where(*_IS_PENDING, approvals.c.remind_at_ms <= bindparam("now")).values(remind_at_ms=None)
)
_ESCALATED = (
    update(approvals)
    .where(*_IS_PENDING, approvals.c.escalate_at_ms <= bindparam("now"))
    .values(escalate_at_ms=None, escalated_at_ms=bindparam("now"))
)
_WRONG_NUMBER = update(approvals).where(*_IS_PENDING).values(wrong_numbers=approvals.c.wrong_numbers + 1)
_IS_OPEN = (
    approvals.c.state != literal_column("'pending'"),
    approvals.c.consumed_at_ms.is_(None),
    approvals.c.dropped_at_ms.is_(None),
)
_DELIVERED = (
    update(approvals)
    .where(approvals.c.approval_id == bindparam("approval"), *_IS_OPEN, approvals.c.delivered_at_ms.is_(None))
    .values(delivered_at_ms=bindparam("now"))
)
_CONSUMED = (
    update(approvals)
    .where(approvals.c.approval_id == bindparam("approval"), *_IS_OPEN)
    .values(
        delivered_at_ms=func.coalesce(approvals.c.delivered_at_ms, bindparam("now")), consumed_at_ms=bindparam("now")
    )
)
_DROPPED = (
    update(approvals).where(approvals.c.run_id == bindparam("run"), *_IS_OPEN).values(dropped_at_ms=bindparam("now"))
)
_UNCONSUMED = (
    select(approvals)
    .where(*_IS_OPEN, approvals.c.decided_at_ms <= bindparam("before"), approvals.c.warned_at_ms.is_(None))
    .order_by(approvals.c.decided_at_ms)
    .limit(bindparam("count"))
)
_WARNED = (
    update(approvals)
    .where(approvals.c.approval_id == bindparam("approval"), *_IS_OPEN, approvals.c.warned_at_ms.is_(None))
    .values(warned_at_ms=bindparam("now"))
)
_COUNT_UNCONSUMED = select(func.count().label("unconsumed")).where(
    *_IS_OPEN, approvals.c.decided_at_ms <= bindparam("before")
)
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
            "terms": approval.terms_json,
            "remind_at_ms": approval.remind_at_ms,
            "escalate_at_ms": approval.escalate_at_ms,
            "asked_by_device_id": approval.asked_by_device_id,
            "number": approval.number,
            "wrong_numbers": 0,
        },
    )


def find_approval(tx: Transaction, approval_id: str) -> Approval | None:
    row = tx.first(_BY_ID, {"approval": approval_id})
    return None if row is None else _approval(row)


def find_approval_of(tx: Transaction, user_id: str, approval_id: str) -> Approval | None:
    """None also where this person was not asked."""
    row = tx.first(_OF_USER, {"approval": approval_id, "user": user_id})
    return None if row is None else _approval(row)


def page(tx: Transaction, user_id: str, before: str, count: int, *, only_pending: bool) -> list[Approval]:
    """Newest first."""
    statement = _PENDING_PAGE if only_pending else _PAGE
    return [_approval(row) for row in tx.rows(statement, {"user": user_id, "before": before, "count": count})]


def filtered_page(
    tx: Transaction, user_id: str, before: str, count: int, *, state: ApprovalState | None, tool: str
) -> list[Approval]:
    """Newest first. `tool` empty: all."""
    values = {"user": user_id, "before": before, "count": count, "of_state": state or "", "of_tool": tool}
    return [_approval(row) for row in tx.rows(_FILTERED_PAGE, values)]


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


def to_remind(tx: Transaction, now_ms: int, count: int) -> list[Approval]:
    return [_approval(row) for row in tx.rows(_TO_REMIND, {"now": now_ms, "count": count})]


def to_escalate(tx: Transaction, now_ms: int, count: int) -> list[Approval]:
    return [_approval(row) for row in tx.rows(_TO_ESCALATE, {"now": now_ms, "count": count})]


def note_reminded(tx: Transaction, approval_id: str, now_ms: int) -> bool:
    """False when it was done before, or is not due."""
    return tx.run(_REMINDED, {"approval": approval_id, "now": now_ms}) == 1


def note_escalated(tx: Transaction, approval_id: str, now_ms: int) -> bool:
    """False when it was done before, or is not due."""
    return tx.run(_ESCALATED, {"approval": approval_id, "now": now_ms}) == 1


def note_wrong_number(tx: Transaction, approval_id: str) -> bool:
    return tx.run(_WRONG_NUMBER, {"approval": approval_id}) == 1


def note_delivered(tx: Transaction, approval_id: str, now_ms: int) -> None:
    tx.run(_DELIVERED, {"approval": approval_id, "now": now_ms})


def note_consumed(tx: Transaction, approval_id: str, now_ms: int) -> None:
    tx.run(_CONSUMED, {"approval": approval_id, "now": now_ms})


def drop_of_run(tx: Transaction, run_id: str, now_ms: int) -> None:
    """What was decided for a run that has ended will not be taken up."""
    tx.run(_DROPPED, {"run": run_id, "now": now_ms})


def unconsumed(tx: Transaction, decided_before_ms: int, count: int) -> list[Approval]:
    """Decided by then, neither consumed nor dropped, and nobody was warned."""
    return [_approval(row) for row in tx.rows(_UNCONSUMED, {"before": decided_before_ms, "count": count})]


def note_warned(tx: Transaction, approval_id: str, now_ms: int) -> bool:
    return tx.run(_WARNED, {"approval": approval_id, "now": now_ms}) == 1


def count_unconsumed(tx: Transaction, decided_before_ms: int) -> int:
    row = tx.first(_COUNT_UNCONSUMED, {"before": decided_before_ms})
    return 0 if row is None else int(row["unconsumed"])


def _number(value: object) -> int | None:
    return None if value is None else int(str(value))


def _approval(row: Row) -> Approval:
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
        decided_at_ms=_number(row["decided_at_ms"]),
        decided_by_device_id=row["decided_by_device_id"],
        terms_json=row["terms"],
        remind_at_ms=_number(row["remind_at_ms"]),
        escalate_at_ms=_number(row["escalate_at_ms"]),
        escalated_at_ms=_number(row["escalated_at_ms"]),
        asked_by_device_id=row["asked_by_device_id"],
        number=row["number"],
        wrong_numbers=int(row["wrong_numbers"]),
        delivered_at_ms=_number(row["delivered_at_ms"]),
        consumed_at_ms=_number(row["consumed_at_ms"]),
        dropped_at_ms=_number(row["dropped_at_ms"]),
    )
