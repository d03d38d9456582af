"""Who is asked, how often each was asked aloud, and what each has answered."""

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
    literal_column,
    select,
    text,
    update,
)

from entobot.approvals.model import Asking, Decision, Verified, Vote
from entobot.storage.database import Row, Transaction, metadata
from entobot.storage.partial_index import partial_index
from entobot.storage.upsert import upsert

askings = Table(
    "approval_askings",
    metadata,
    Column("approval_id", Text, primary_key=True),
    Column("user_id", Text, primary_key=True),
    Column("may_decide", Integer, nullable=False),
    Column("since_ms", BigInteger, nullable=False),
    Column("prompt_at_ms", BigInteger),
    Column("prompts", Integer, nullable=False),
    Index("ix_approval_askings_user", "user_id", "approval_id"),
    partial_index("ix_approval_askings_prompt", "prompt_at_ms", where="prompt_at_ms IS NOT NULL"),
)
votes = Table(
    "approval_votes",
    metadata,
    Column("approval_id", Text, primary_key=True),
    Column("user_id", Text, primary_key=True),
    Column("decision", Text, nullable=False),
    Column("device_id", Text),
    Column("session_id", Text),
    Column("address", Text, nullable=False),
    Column("verified", Text, nullable=False),
    Column("reason", Text),
    Column("at_ms", BigInteger, nullable=False),
)
prompts = Table(
    "approval_prompts",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("at_ms", BigInteger, primary_key=True),
    Column("approval_id", Text, primary_key=True),
    Index("ix_approval_prompts_at", "at_ms"),
)

_ASK = upsert(askings).on_conflict_do_nothing()
_LET_DECIDE = (
    update(askings)
    .where(askings.c.approval_id == bindparam("approval"), askings.c.user_id == bindparam("user"))
    .values(may_decide=1, prompt_at_ms=bindparam("prompt_at"))
)
_ASKED = select(askings).where(askings.c.approval_id == bindparam("approval")).order_by(askings.c.user_id)
_ASKING = _ASKED.where(askings.c.user_id == bindparam("user"))
_ASKINGS_OF = (
    select(askings)
    .where(
        askings.c.user_id == bindparam("user"),
        askings.c.approval_id >= bindparam("first"),
        askings.c.approval_id <= bindparam("last"),
    )
    .order_by(askings.c.approval_id)
)
_SHUT_OUT = (
    update(askings)
    .where(askings.c.user_id == bindparam("user"), askings.c.may_decide == literal_column("1"))
    .values(may_decide=0, prompt_at_ms=None)
)
_SILENCE = (
    update(askings)
    .where(askings.c.approval_id == bindparam("approval"), askings.c.prompt_at_ms.is_not(None))
    .values(prompt_at_ms=None)
)
_DUE_PEOPLE = select(askings.c.user_id).where(askings.c.prompt_at_ms <= bindparam("now")).distinct()
_DUE = (
    select(askings)
    .where(askings.c.user_id == bindparam("user"), askings.c.prompt_at_ms <= bindparam("now"))
    .order_by(askings.c.prompt_at_ms, askings.c.approval_id)
    .limit(bindparam("count"))
)
_PROMPT_AT = (
    update(askings)
    .where(
        askings.c.approval_id == bindparam("approval"),
        askings.c.user_id == bindparam("user"),
        askings.c.may_decide == literal_column("1"),
    )
    .values(prompt_at_ms=bindparam("at"))
)
_PROMPTED = (
    update(askings)
    .where(
        askings.c.approval_id == bindparam("approval"),
        askings.c.user_id == bindparam("user"),
        askings.c.prompt_at_ms <= bindparam("now"),
    )
    .values(prompt_at_ms=None, prompts=askings.c.prompts + 1)
)
_NOTE_PROMPT = upsert(prompts).on_conflict_do_nothing()
_COUNT_PROMPTS = select(func.count().label("prompts")).where(
    prompts.c.user_id == bindparam("user"), prompts.c.at_ms > bindparam("after")
)
_FORGET_PROMPTS = delete(prompts).where(prompts.c.at_ms <= bindparam("before"))
_VOTE = upsert(votes).on_conflict_do_nothing()
_VOTES = select(votes).where(votes.c.approval_id == bindparam("approval")).order_by(votes.c.at_ms, votes.c.user_id)
_VOTES_SEEN = (
    select(votes)
    .join(askings, askings.c.approval_id == votes.c.approval_id)
    .where(
        askings.c.user_id == bindparam("user"),
        votes.c.approval_id >= bindparam("first"),
        votes.c.approval_id <= bindparam("last"),
    )
    .order_by(votes.c.approval_id, votes.c.at_ms, votes.c.user_id)
)
_FORGET_PENDING = delete(votes).where(
    votes.c.user_id == bindparam("user"),
    text("approval_id IN (SELECT approval_id FROM approvals WHERE state = 'pending')"),
)


def ask(tx: Transaction, asking: Asking) -> bool:
    """False when that person sees it already."""
    values = {
        "approval_id": asking.approval_id,
        "user_id": asking.user_id,
        "may_decide": int(asking.may_decide),
        "since_ms": asking.since_ms,
        "prompt_at_ms": asking.prompt_at_ms,
        "prompts": asking.prompts,
    }
    return tx.run(_ASK, values) == 1


def let_decide(tx: Transaction, approval_id: str, user_id: str, now_ms: int) -> None:
    """Somebody who only saw it may decide now, and is asked aloud at the next occasion."""
    tx.run(_LET_DECIDE, {"approval": approval_id, "user": user_id, "prompt_at": now_ms})


def askings_for(tx: Transaction, approval_id: str) -> list[Asking]:
    return [_asking(row) for row in tx.rows(_ASKED, {"approval": approval_id})]


def find_asking(tx: Transaction, approval_id: str, user_id: str) -> Asking | None:
    row = tx.first(_ASKING, {"approval": approval_id, "user": user_id})
    return None if row is None else _asking(row)


def askings_between(tx: Transaction, user_id: str, first: str, last: str) -> list[Asking]:
    """Of one person, by approval."""
    return [_asking(row) for row in tx.rows(_ASKINGS_OF, {"user": user_id, "first": first, "last": last})]


def shut_out(tx: Transaction, user_id: str) -> None:
    """This person decides on nothing that they have been asked for."""
    tx.run(_SHUT_OUT, {"user": user_id})


def people_to_prompt(tx: Transaction, now_ms: int) -> list[str]:
    """Everybody whose turn has come for something."""
    return [row["user_id"] for row in tx.rows(_DUE_PEOPLE, {"now": now_ms})]


def due_prompts(tx: Transaction, user_id: str, now_ms: int, count: int) -> list[Asking]:
    """Of one person, longest due first."""
    return [_asking(row) for row in tx.rows(_DUE, {"user": user_id, "now": now_ms, "count": count})]


def prompt_at(tx: Transaction, approval_id: str, user_id: str, at_ms: int) -> None:
    tx.run(_PROMPT_AT, {"approval": approval_id, "user": user_id, "at": at_ms})


def silence(tx: Transaction, approval_id: str) -> None:
    """Nobody is asked aloud for it any more."""
    tx.run(_SILENCE, {"approval": approval_id})


def note_prompted(tx: Transaction, asking: Asking, now_ms: int) -> bool:
    """False when it is not due, or was done."""
    of = {"approval": asking.approval_id, "user": asking.user_id}
    if tx.run(_PROMPTED, of | {"now": now_ms}) != 1:
        return False
    tx.run(_NOTE_PROMPT, {"user_id": asking.user_id, "at_ms": now_ms, "approval_id": asking.approval_id})
    return True


def note_first_prompt(tx: Transaction, asking: Asking, now_ms: int) -> None:
    """Of somebody who is asked aloud in the unit that asks."""
    tx.run(_NOTE_PROMPT, {"user_id": asking.user_id, "at_ms": now_ms, "approval_id": asking.approval_id})


def count_prompts(tx: Transaction, user_id: str, after_ms: int) -> int:
    row = tx.first(_COUNT_PROMPTS, {"user": user_id, "after": after_ms})
    return 0 if row is None else int(row["prompts"])


def forget_prompts(tx: Transaction, before_ms: int) -> None:
    tx.run(_FORGET_PROMPTS, {"before": before_ms})


# -- votes


def insert_vote(tx: Transaction, vote: Vote) -> bool:
    """False when that person has answered."""
    values = {
        "approval_id": vote.approval_id,
        "user_id": vote.user_id,
        "decision": vote.decision,
        "device_id": vote.device_id,
        "session_id": vote.session_id,
        "address": vote.address,
        "verified": vote.verified,
        "reason": vote.reason,
        "at_ms": vote.at_ms,
    }
    return tx.run(_VOTE, values) == 1


def votes_on(tx: Transaction, approval_id: str) -> list[Vote]:
    """In the order in which they came."""
    return [_vote(row) for row in tx.rows(_VOTES, {"approval": approval_id})]


def votes_between(tx: Transaction, user_id: str, first: str, last: str) -> list[Vote]:
    """On what this person sees, by approval."""
    return [_vote(row) for row in tx.rows(_VOTES_SEEN, {"user": user_id, "first": first, "last": last})]


def forget_pending_votes(tx: Transaction, user_id: str) -> None:
    """Of one person, on what is not decided yet."""
    tx.run(_FORGET_PENDING, {"user": user_id})


def _asking(row: Row) -> Asking:
    prompt_at = row["prompt_at_ms"]
    return Asking(
        approval_id=row["approval_id"],
        user_id=row["user_id"],
        may_decide=bool(row["may_decide"]),
        since_ms=int(row["since_ms"]),
        prompt_at_ms=None if prompt_at is None else int(prompt_at),
        prompts=int(row["prompts"]),
    )


def _vote(row: Row) -> Vote:
    return Vote(
        approval_id=row["approval_id"],
        user_id=row["user_id"],
        decision=Decision(row["decision"]),
        device_id=row["device_id"],
        session_id=row["session_id"],
        address=row["address"],
        verified=Verified(row["verified"]),
        reason=row["reason"],
        at_ms=int(row["at_ms"]),
    )
