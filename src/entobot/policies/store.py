"""The table of policies: every version of each, the present ones marked."""

from sqlalchemy import BigInteger, Column, Index, Integer, Table, Text, bindparam, func, insert, select, update

from entobot.policies.model import Policy
from entobot.storage.database import Row, Transaction, metadata

BIG = BigInteger().with_variant(Integer, "sqlite")

policies = Table(
    "policies",
    metadata,
    Column("number", BIG, primary_key=True, autoincrement=True),
    Column("name", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("changed_by", Text, nullable=False),
    Column("changed_at_ms", BigInteger, nullable=False),
    Column("is_present", Integer, nullable=False),
    Index("ix_policies_name", "name", "number"),
    Index("ix_policies_present", "is_present", "name"),
)
_P = policies.c
_PRESENT = select(policies).where(_P.is_present == 1).order_by(_P.name)
_LAST = select(func.max(_P.number).label("number"))
_FIND = select(policies).where(_P.name == bindparam("of_name"), _P.is_present == 1)
_HISTORY = select(policies).where(_P.name == bindparam("of_name")).order_by(_P.number.desc()).limit(bindparam("count"))
_PUT_AWAY = update(policies).where(_P.name == bindparam("of_name"), _P.is_present == 1).values(is_present=0)
_INSERT = insert(policies).returning(_P.number)


def present(tx: Transaction) -> list[Policy]:
    """By name."""
    return [_policy(row) for row in tx.rows(_PRESENT)]


def last_number(tx: Transaction) -> int:
    """Of the newest change; 0 where there never was one."""
    row = tx.first(_LAST)
    return int(row["number"] or 0) if row is not None else 0


def find(tx: Transaction, name: str) -> Policy | None:
    row = tx.first(_FIND, {"of_name": name})
    return None if row is None else _policy(row)


def history(tx: Transaction, name: str, count: int) -> list[Policy]:
    """Newest first; a text that is empty: it was removed."""
    return [_policy(row) for row in tx.rows(_HISTORY, {"of_name": name, "count": count})]


def put(tx: Transaction, name: str, text: str, by: str, now_ms: int) -> int:
    """The number of this change. An empty text removes."""
    tx.run(_PUT_AWAY, {"of_name": name})
    row = tx.first(
        _INSERT,
        {"name": name, "text": text, "changed_by": by, "changed_at_ms": now_ms, "is_present": int(bool(text))},
    )
    assert row is not None
    return int(row["number"])


def _policy(row: Row) -> Policy:
    return Policy(row["name"], row["text"], int(row["number"]), row["changed_by"], int(row["changed_at_ms"]))
