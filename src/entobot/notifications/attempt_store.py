"""The table of attempts: each a way that was tried to deliver a notification, with what became of it."""

from dataclasses import replace

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
    insert,
    literal_column,
    select,
    update,
)

from entobot.notifications.model import Attempt, AttemptState, Channel
from entobot.storage.database import Row, Transaction, metadata
from entobot.storage.partial_index import partial_index

attempts = Table(
    "notification_attempts",
    metadata,
    Column("attempt_id", Text, primary_key=True),
    Column("notification_id", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("place_id", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("made_at_ms", BigInteger, nullable=False),
    Column("due_at_ms", BigInteger, nullable=False),
    Column("sent_at_ms", BigInteger),
    Column("ended_at_ms", BigInteger),
    Column("node", Text, nullable=False),
    Index("ix_notification_attempts_notification", "notification_id", "attempt_id"),
    Index("ix_notification_attempts_channel", "channel", "ended_at_ms"),
    partial_index("ix_notification_attempts_queued", "due_at_ms", where="state = 'queued'"),
    partial_index("ix_notification_attempts_sent", "node", where="state = 'sent'"),
)

_A = attempts.c
_IS_QUEUED = literal_column("state") == literal_column(f"'{AttemptState.QUEUED}'")
_IS_SENT = literal_column("state") == literal_column(f"'{AttemptState.SENT}'")

_INSERT_ATTEMPT = insert(attempts)
_ATTEMPT = select(attempts).where(_A.attempt_id == bindparam("attempt"))
_OF = select(attempts).where(_A.notification_id == bindparam("notification")).order_by(_A.attempt_id)
_QUEUED = (
    select(attempts)
    .where(_IS_QUEUED, _A.due_at_ms <= bindparam("now"))
    .order_by(_A.due_at_ms, _A.attempt_id)
    .limit(bindparam("count"))
)
_IN_HAND = select(attempts).where(_IS_SENT).limit(bindparam("count"))
_CLAIM = (
    update(attempts)
    .where(_A.attempt_id == bindparam("attempt"), _IS_QUEUED)
    .values(state=str(AttemptState.SENT), sent_at_ms=bindparam("now"), node=bindparam("by"), tries=_A.tries + 1)
)
_MOVE_ATTEMPT = (
    update(attempts)
    .where(_A.attempt_id == bindparam("attempt"), _A.state == bindparam("from_state"))
    .values(
        state=bindparam("to_state"),
        reason=bindparam("to_reason"),
        due_at_ms=bindparam("to_due"),
        ended_at_ms=bindparam("to_ended"),
        node=bindparam("to_node"),
    )
)
_CANCEL = (
    update(attempts)
    .where(_A.notification_id == bindparam("notification"), _IS_QUEUED)
    .values(state=str(AttemptState.FAILED), reason=bindparam("why"), ended_at_ms=bindparam("now"))
)
_CANCEL_AT_PLACE = (
    update(attempts)
    .where(_A.place_id == bindparam("place"), _IS_QUEUED)
    .values(state=str(AttemptState.FAILED), reason=bindparam("why"), ended_at_ms=bindparam("now"))
)
_STOP_ALL_ATTEMPTS = (
    update(attempts)
    .where(_A.state.in_((str(AttemptState.QUEUED), str(AttemptState.SENT))))
    .values(state=str(AttemptState.UNKNOWN), reason=bindparam("why"), ended_at_ms=bindparam("now"))
)
_DELETE_ATTEMPTS = delete(attempts).where(_A.notification_id == bindparam("notification"))
_LAST_OF_CHANNEL = (
    select(attempts)
    .where(_A.channel == bindparam("of_channel"), _A.ended_at_ms.is_not(None))
    .order_by(_A.ended_at_ms.desc())
    .limit(1)
)
_COUNT_OF_CHANNEL = (
    select(_A.state, func.count().label("n"))
    .where(_A.channel == bindparam("of_channel"), _A.ended_at_ms > bindparam("since"))
    .group_by(_A.state)
)
_COUNT_WAITING = select(func.count().label("n")).where(_IS_QUEUED, _A.channel == bindparam("of_channel"))


def insert_attempt(tx: Transaction, one: Attempt) -> None:
    tx.add(
        _INSERT_ATTEMPT,
        {
            "attempt_id": one.attempt_id,
            "notification_id": one.notification_id,
            "user_id": one.user_id,
            "channel": one.channel,
            "place_id": one.place_id,
            "state": one.state,
            "reason": one.reason,
            "tries": one.tries,
            "made_at_ms": one.made_at_ms,
            "due_at_ms": one.due_at_ms,
            "sent_at_ms": one.sent_at_ms,
            "ended_at_ms": one.ended_at_ms,
            "node": one.node,
        },
    )


def find_attempt(tx: Transaction, attempt_id: str) -> Attempt | None:
    row = tx.first(_ATTEMPT, {"attempt": attempt_id})
    return None if row is None else _attempt(row)


def attempts_of(tx: Transaction, notification_id: str) -> list[Attempt]:
    """In the order in which they were made, live connections first."""
    found = [_attempt(row) for row in tx.rows(_OF, {"notification": notification_id})]
    return sorted(found, key=lambda one: (one.channel is not Channel.LIVE, one.made_at_ms))


def queued(tx: Transaction, now_ms: int, count: int) -> list[Attempt]:
    return [_attempt(row) for row in tx.rows(_QUEUED, {"now": now_ms, "count": count})]


def in_hand(tx: Transaction, count: int) -> list[Attempt]:
    """Those that some node is handing over."""
    return [_attempt(row) for row in tx.rows(_IN_HAND, {"count": count})]


def claim(tx: Transaction, attempt: Attempt, node_id: str, now_ms: int) -> Attempt | None:
    """Of all nodes one gets it."""
    if tx.run(_CLAIM, {"attempt": attempt.attempt_id, "by": node_id, "now": now_ms}) != 1:
        return None
    return replace(attempt, state=AttemptState.SENT, node=node_id, sent_at_ms=now_ms, tries=attempt.tries + 1)


def move_attempt(tx: Transaction, after: Attempt, from_state: AttemptState) -> bool:
    values = {
        "attempt": after.attempt_id,
        "from_state": from_state,
        "to_state": after.state,
        "to_reason": after.reason,
        "to_due": after.due_at_ms,
        "to_ended": after.ended_at_ms,
        "to_node": after.node,
    }
    return tx.run(_MOVE_ATTEMPT, values) == 1


def cancel(tx: Transaction, notification_id: str, why: str, now_ms: int) -> None:
    """What is queued for it is not sent."""
    tx.run(_CANCEL, {"notification": notification_id, "why": why, "now": now_ms})


def cancel_at_place(tx: Transaction, place_id: str, why: str, now_ms: int) -> None:
    tx.run(_CANCEL_AT_PLACE, {"place": place_id, "why": why, "now": now_ms})


def last_of_channel(tx: Transaction, channel: Channel) -> Attempt | None:
    row = tx.first(_LAST_OF_CHANNEL, {"of_channel": channel})
    return None if row is None else _attempt(row)


def counts_of_channel(tx: Transaction, channel: Channel, since_ms: int) -> dict[AttemptState, int]:
    rows = tx.rows(_COUNT_OF_CHANNEL, {"of_channel": channel, "since": since_ms})
    return {AttemptState(row["state"]): int(row["n"]) for row in rows}


def count_waiting(tx: Transaction, channel: Channel) -> int:
    row = tx.first(_COUNT_WAITING, {"of_channel": channel})
    return 0 if row is None else int(row["n"])


def drop_of(tx: Transaction, notification_id: str) -> None:
    tx.run(_DELETE_ATTEMPTS, {"notification": notification_id})


def stop_all(tx: Transaction, why: str, now_ms: int) -> None:
    """What is on its way stays untold: nobody knows what became of it."""
    tx.run(_STOP_ALL_ATTEMPTS, {"why": why, "now": now_ms})


def _or_none(value: int | None) -> int | None:
    return None if value is None else int(value)


def _attempt(row: Row) -> Attempt:
    return Attempt(
        attempt_id=row["attempt_id"],
        notification_id=row["notification_id"],
        user_id=row["user_id"],
        channel=Channel(row["channel"]),
        place_id=row["place_id"],
        state=AttemptState(row["state"]),
        reason=row["reason"],
        tries=int(row["tries"]),
        made_at_ms=int(row["made_at_ms"]),
        due_at_ms=int(row["due_at_ms"]),
        sent_at_ms=_or_none(row["sent_at_ms"]),
        ended_at_ms=_or_none(row["ended_at_ms"]),
        node=row["node"],
    )
