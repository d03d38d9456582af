"""Tables of the codes that went out by SMS, and of how many wrong ones each person has sent back."""

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    Table,
    Text,
    bindparam,
    delete,
    insert,
    literal_column,
    select,
)
from sqlalchemy import update as update_

from entobot.approvals.code_model import Code
from entobot.storage.database import Row, Transaction, metadata
from entobot.storage.upsert import upsert

codes = Table(
    "approval_codes",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("approval_id", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("place_id", Text, nullable=False),
    Column("action_sha256", Text, nullable=False),
    Column("made_at_ms", BigInteger, nullable=False),
    Column("ends_at_ms", BigInteger, nullable=False),
    Column("spent_at_ms", BigInteger),
    Index("ix_approval_codes_user", "user_id", "made_at_ms"),
    Index("ix_approval_codes_made", "made_at_ms"),
)
guesses = Table(
    "approval_code_guesses",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("begun_at_ms", BigInteger, nullable=False),
    Column("wrong", Integer, nullable=False),
)

_INSERT = insert(codes)
_AT_PLACE = (
    select(codes)
    .where(codes.c.user_id == bindparam("user"), codes.c.place_id == bindparam("place"))
    .order_by(codes.c.made_at_ms.desc())
    .limit(bindparam("count"))
)
_IS_LIVE = (codes.c.spent_at_ms.is_(None), codes.c.ends_at_ms > bindparam("now"))
_SPEND = update_(codes).where(codes.c.digest == bindparam("of"), *_IS_LIVE).values(spent_at_ms=bindparam("now"))
_REPLACE = (
    update_(codes)
    .where(codes.c.user_id == bindparam("user"), codes.c.approval_id == bindparam("approval"), *_IS_LIVE)
    .values(ends_at_ms=bindparam("now"))
)
_END_ALL = update_(codes).where(codes.c.user_id == bindparam("user"), *_IS_LIVE).values(ends_at_ms=bindparam("now"))
_FORGET = delete(codes).where(codes.c.made_at_ms <= bindparam("before"))
_DROP = delete(codes).where(codes.c.user_id == bindparam("user"))
_GUESSED = select(guesses.c.wrong).where(
    guesses.c.user_id == bindparam("user"), guesses.c.begun_at_ms > bindparam("since")
)
_COUNT = (
    update_(guesses)
    .where(guesses.c.user_id == bindparam("user"), guesses.c.begun_at_ms > bindparam("since"))
    .values(wrong=guesses.c.wrong + literal_column("1"))
)
_new = upsert(guesses)
_BEGIN = _new.on_conflict_do_update(
    index_elements=["user_id"], set_={name: _new.excluded[name] for name in ("begun_at_ms", "wrong")}
)


def insert_code(tx: Transaction, one: Code) -> None:
    tx.run(
        _INSERT,
        {
            "digest": one.digest,
            "approval_id": one.approval_id,
            "user_id": one.user_id,
            "place_id": one.place_id,
            "action_sha256": one.action_sha256,
            "made_at_ms": one.made_at_ms,
            "ends_at_ms": one.ends_at_ms,
        },
    )


def codes_at(tx: Transaction, user_id: str, place_id: str, count: int) -> list[Code]:
    """Newest first, also those that are over."""
    return [_code(row) for row in tx.rows(_AT_PLACE, {"user": user_id, "place": place_id, "count": count})]


def spend(tx: Transaction, digest: str, now_ms: int) -> bool:
    """False for one that was spent, was replaced or has ended."""
    return tx.run(_SPEND, {"of": digest, "now": now_ms}) == 1


def replace_codes(tx: Transaction, user_id: str, approval_id: str, now_ms: int) -> None:
    """Those that went out before end: one code of a person decides on an approval."""
    tx.run(_REPLACE, {"user": user_id, "approval": approval_id, "now": now_ms})


def end_codes(tx: Transaction, user_id: str, now_ms: int) -> None:
    tx.run(_END_ALL, {"user": user_id, "now": now_ms})


def drop_codes(tx: Transaction, user_id: str) -> None:
    tx.run(_DROP, {"user": user_id})


def forget_codes(tx: Transaction, before_ms: int) -> None:
    tx.run(_FORGET, {"before": before_ms})


def wrong_since(tx: Transaction, user_id: str, since_ms: int) -> int:
    row = tx.first(_GUESSED, {"user": user_id, "since": since_ms})
    return 0 if row is None else int(row["wrong"])


def count_wrong(tx: Transaction, user_id: str, since_ms: int, now_ms: int) -> int:
    """One more wrong code of this person; how many there are since then."""
    if tx.run(_COUNT, {"user": user_id, "since": since_ms}) != 1:
        tx.run(_BEGIN, {"user_id": user_id, "begun_at_ms": now_ms, "wrong": 1})
    return wrong_since(tx, user_id, since_ms)


def _code(row: Row) -> Code:
    spent = row["spent_at_ms"]
    return Code(
        digest=row["digest"],
        approval_id=row["approval_id"],
        user_id=row["user_id"],
        place_id=row["place_id"],
        action_sha256=row["action_sha256"],
        made_at_ms=int(row["made_at_ms"]),
        ends_at_ms=int(row["ends_at_ms"]),
        spent_at_ms=None if spent is None else int(spent),
    )
