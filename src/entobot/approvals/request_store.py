"""The table of requests from outside. What became of one stands with its approval."""

from sqlalchemy import BigInteger, Column, Index, Table, Text, bindparam, delete, func, literal_column, select, update

from entobot.approvals.model import Risk
from entobot.approvals.request_model import Request, Requester
from entobot.approvals.store import approvals
from entobot.core.ids import Prefix
from entobot.storage.database import Row, Transaction, metadata
from entobot.storage.upsert import upsert

requests = Table(
    "approval_requests",
    metadata,
    Column("request_id", Text, primary_key=True),
    Column("user_id", Text, nullable=False),
    Column("device_id", Text),
    Column("asker_key", Text),
    Column("tool", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("args", Text, nullable=False),
    Column("words_sha256", Text, nullable=False),
    Column("risk", Text, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("expires_at_ms", BigInteger, nullable=False),
    Column("approval_id", Text),
    Column("rule_id", Text),
    Column("taken_at_ms", BigInteger),
    Index("ix_approval_requests_created", "created_at_ms"),
    # The asker's own name for it, with the asker: asked twice, it is one request.
    Index("ix_approval_requests_key", "asker_key", unique=True),
)

_INSERT = upsert(requests).on_conflict_do_nothing()
_BY_ID = select(requests).where(requests.c.request_id == bindparam("request"))
_BY_KEY = select(requests).where(requests.c.asker_key == bindparam("key"))
_SETTLE = (
    update(requests)
    .where(requests.c.request_id == bindparam("request"))
    .values(approval_id=bindparam("approval"), rule_id=bindparam("rule"), risk=bindparam("to_risk"))
)
_TAKE = (
    update(requests)
    .where(requests.c.request_id == bindparam("request"), requests.c.taken_at_ms.is_(None))
    .values(taken_at_ms=bindparam("at"))
)
_OPEN = (
    approvals.c.state == literal_column("'pending'"),
    approvals.c.run_id.between(literal_column(f"'{Prefix.REQUEST}'"), literal_column(f"'{Prefix.REQUEST}~'")),
)
_COUNT_OPEN = select(func.count().label("n")).where(
    approvals.c.user_id == bindparam("user"),
    func.coalesce(approvals.c.asked_by_device_id, literal_column("''")) == bindparam("device"),
    *_OPEN,
)
_OPEN_OF_USER = select(approvals.c.run_id).where(approvals.c.user_id == bindparam("user"), *_OPEN)
_OPEN_OF_DEVICE = select(approvals.c.run_id).where(approvals.c.asked_by_device_id == bindparam("device"), *_OPEN)
_FORGET = delete(requests).where(requests.c.created_at_ms < bindparam("before"))


def insert(tx: Transaction, request: Request) -> bool:
    """False when the requester has used this key before."""
    values = {
        "request_id": request.request_id,
        "user_id": request.requester.user_id,
        "device_id": request.requester.device_id,
        "asker_key": _key(request.requester, request.key),
        "tool": request.tool,
        "title": request.title,
        "args": request.args_json,
        "words_sha256": request.words_sha256,
        "risk": request.risk,
        "created_at_ms": request.created_at_ms,
        "expires_at_ms": request.expires_at_ms,
        "approval_id": None,
        "rule_id": None,
        "taken_at_ms": None,
    }
    return tx.run(_INSERT, values) == 1


def settle(tx: Transaction, request: Request) -> None:
    """Note who answers for it, and what is at stake."""
    values = {"request": request.request_id, "approval": request.approval_id, "rule": request.rule_id}
    tx.run(_SETTLE, values | {"to_risk": request.risk})


def find(tx: Transaction, request_id: str) -> Request | None:
    row = tx.first(_BY_ID, {"request": request_id})
    return None if row is None else _request(row)


def find_by_key(tx: Transaction, requester: Requester, key: str) -> Request | None:
    row = tx.first(_BY_KEY, {"key": _key(requester, key)})
    return None if row is None else _request(row)


def take(tx: Transaction, request_id: str, now_ms: int) -> bool:
    """False when its end was told before."""
    return tx.run(_TAKE, {"request": request_id, "at": now_ms}) == 1


def count_open(tx: Transaction, requester: Requester) -> int:
    row = tx.first(_COUNT_OPEN, {"user": requester.user_id, "device": requester.device_id or ""})
    return 0 if row is None else int(row["n"])


def open_of_user(tx: Transaction, user_id: str) -> list[str]:
    return [row["run_id"] for row in tx.rows(_OPEN_OF_USER, {"user": user_id})]


def open_of_device(tx: Transaction, device_id: str) -> list[str]:
    return [row["run_id"] for row in tx.rows(_OPEN_OF_DEVICE, {"device": device_id})]


def forget(tx: Transaction, before_ms: int) -> int:
    return tx.run(_FORGET, {"before": before_ms})


def _key(requester: Requester, key: str | None) -> str | None:
    return None if key is None else f"{requester.key} {key}"


def _request(row: Row) -> Request:
    stored, taken = row["asker_key"], row["taken_at_ms"]
    return Request(
        request_id=row["request_id"],
        requester=Requester(row["user_id"], row["device_id"]),
        key=None if stored is None else str(stored).partition(" ")[2],
        tool=row["tool"],
        title=row["title"],
        args_json=row["args"],
        words_sha256=row["words_sha256"],
        risk=Risk(row["risk"]),
        created_at_ms=int(row["created_at_ms"]),
        expires_at_ms=int(row["expires_at_ms"]),
        approval_id=row["approval_id"],
        rule_id=row["rule_id"],
        taken_at_ms=None if taken is None else int(taken),
    )
