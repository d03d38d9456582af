"""Tables of SMS: the messages, which are the queue; numbers that said STOP; receipts that were taken."""

from dataclasses import dataclass

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, Table, Text, bindparam, delete, insert, select
from sqlalchemy import update as update_

from entobot.notifications.sms_model import Message, MessageState, Purpose
from entobot.storage.database import Row, Transaction, metadata
from entobot.storage.upsert import upsert

messages = Table(
    "sms_messages",
    metadata,
    Column("message_id", Text, primary_key=True),
    Column("purpose", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("state", Text, nullable=False),
    # A keyed digest, for the limits; '' once they do not need it any more.
    Column("number_mark", Text, nullable=False),
    Column("number_hint", Text, nullable=False),
    Column("region", Text, nullable=False),
    # NULL once they are of no use any more.
    Column("sealed_number", LargeBinary),
    Column("sealed_text", LargeBinary),
    Column("segments", Integer, nullable=False),
    Column("cost_micros", BigInteger, nullable=False),
    Column("made_at_ms", BigInteger, nullable=False),
    Column("due_at_ms", BigInteger, nullable=False),
    Column("send_until_ms", BigInteger, nullable=False),
    Column("changed_at_ms", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("provider_id", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("node", Text, nullable=False),
    Index("ix_sms_messages_made_at", "made_at_ms"),
    Index("ix_sms_messages_number", "number_mark", "made_at_ms"),
    Index("ix_sms_messages_state", "state", "due_at_ms"),
    Index("ix_sms_messages_subject", "subject", "made_at_ms"),
)
stopped = Table(
    "sms_stopped",
    metadata,
    Column("number_mark", Text, primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
)
receipts = Table(
    "sms_receipts",
    metadata,
    Column("receipt_key", Text, primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
    Index("ix_sms_receipts_at", "at_ms"),
)

_INSERT = insert(messages)
_BY_ID = select(messages).where(messages.c.message_id == bindparam("message"))
_OF_SUBJECT = (
    select(messages)
    .where(messages.c.subject == bindparam("about"))
    .order_by(messages.c.made_at_ms.desc(), messages.c.message_id.desc())
)
_DUE = (
    select(messages)
    .where(messages.c.state == bindparam("in_state"), messages.c.due_at_ms <= bindparam("now"))
    .order_by(messages.c.due_at_ms)
    .limit(bindparam("n"))
)
_IN_STATE = select(messages).where(messages.c.state == bindparam("in_state")).limit(bindparam("n"))
_IS_ANSWER = messages.c.purpose == Purpose.ANSWER.value
_TO_NUMBER = {
    is_answer: select(messages.c.made_at_ms)
    .where(
        messages.c.number_mark == bindparam("mark"),
        messages.c.made_at_ms > bindparam("since"),
        messages.c.state != MessageState.CANCELLED.value,
        _IS_ANSWER if is_answer else ~_IS_ANSWER,
    )
    .order_by(messages.c.made_at_ms)
    for is_answer in (False, True)
}
_OF_DAY = (
    select(messages.c.made_at_ms, messages.c.user_id, messages.c.cost_micros, messages.c.purpose)
    .where(messages.c.made_at_ms > bindparam("since"), messages.c.state != MessageState.CANCELLED.value)
    .order_by(messages.c.made_at_ms)
)
_QUEUED_TO = select(messages).where(
    messages.c.number_mark == bindparam("mark"), messages.c.state == MessageState.QUEUED.value
)
_MOVED = ("state", "due_at_ms", "changed_at_ms", "reason", "provider_id", "attempts", "node")
_MOVE = (
    update_(messages)
    .where(messages.c.message_id == bindparam("message"), messages.c.state == bindparam("from_state"))
    .values({name: bindparam(f"to_{name}") for name in _MOVED})
)
_DROP_TEXT = update_(messages).where(messages.c.message_id == bindparam("message")).values(sealed_text=None)
_DROP_NUMBERS = update_(messages).where(messages.c.subject == bindparam("about")).values(sealed_number=None)
_FORGET = (
    update_(messages)
    .where(messages.c.made_at_ms <= bindparam("before"), messages.c.number_mark != "")
    .values(sealed_number=None, sealed_text=None, number_mark="")
)
_PURGE = delete(messages).where(messages.c.made_at_ms <= bindparam("before"))
_STOP = upsert(stopped).on_conflict_do_nothing()
_START = delete(stopped).where(stopped.c.number_mark == bindparam("mark"))
_IS_STOPPED = select(stopped.c.at_ms).where(stopped.c.number_mark == bindparam("mark"))
_INSERT_RECEIPT = upsert(receipts).on_conflict_do_nothing()
_PURGE_RECEIPTS = delete(receipts).where(receipts.c.at_ms <= bindparam("before"))


def insert_message(
    tx: Transaction, message: Message, number_mark: str, sealed_number: bytes, sealed_text: bytes
) -> None:
    values: dict[str, object] = {
        "message_id": message.message_id,
        "purpose": message.purpose.value,
        "subject": message.subject,
        "user_id": message.user_id,
        "provider": message.provider,
        "number_mark": number_mark,
        "number_hint": message.number_hint,
        "region": message.region,
        "sealed_number": sealed_number,
        "sealed_text": sealed_text,
        "segments": message.segments,
        "cost_micros": message.cost_micros,
        "made_at_ms": message.made_at_ms,
        "send_until_ms": message.send_until_ms,
    }
    tx.run(_INSERT, values | _moved(message))


def move(tx: Transaction, seen: Message, after: Message) -> bool:
    """Put `after` in the place of `seen`, if its state still is as seen: False means that somebody else was first.

    The text goes with the last state in which it may still be sent.
    """
    values: dict[str, object] = {f"to_{name}": value for name, value in _moved(after).items()}
    is_moved = tx.run(_MOVE, values | {"message": seen.message_id, "from_state": seen.state.value}) == 1
    if is_moved and after.state not in (MessageState.QUEUED, MessageState.SENDING):
        tx.run(_DROP_TEXT, {"message": seen.message_id})
    return is_moved


def find_message(tx: Transaction, message_id: str) -> Message | None:
    row = tx.first(_BY_ID, {"message": message_id})
    return None if row is None else _message(row)


def find_sealed(tx: Transaction, message_id: str) -> tuple[bytes | None, bytes | None]:
    """The sealed number and text, as far as they are kept."""
    row = tx.first(_BY_ID, {"message": message_id})
    return (None, None) if row is None else (row["sealed_number"], row["sealed_text"])


def of_subject(tx: Transaction, subject: str) -> list[Message]:
    """Newest first."""
    return [_message(row) for row in tx.rows(_OF_SUBJECT, {"about": subject})]


def due(tx: Transaction, now_ms: int, count: int) -> list[Message]:
    """Queued ones whose time has come, the first due first."""
    rows = tx.rows(_DUE, {"in_state": MessageState.QUEUED.value, "now": now_ms, "n": count})
    return [_message(row) for row in rows]


def in_state(tx: Transaction, state: MessageState, count: int) -> list[Message]:
    return [_message(row) for row in tx.rows(_IN_STATE, {"in_state": state.value, "n": count})]


def times_to_number(tx: Transaction, number_mark: str, since_ms: int, *, is_answer: bool) -> tuple[int, ...]:
    """When answers, or all else, went to a number, oldest first; none that were cancelled before they went."""
    rows = tx.rows(_TO_NUMBER[is_answer], {"mark": number_mark, "since": since_ms})
    return tuple(int(row["made_at_ms"]) for row in rows)


def queued_to(tx: Transaction, number_mark: str) -> list[Message]:
    return [_message(row) for row in tx.rows(_QUEUED_TO, {"mark": number_mark})]


@dataclass(frozen=True, slots=True)
class Counted:
    """What the limits look at of one message."""

    made_at_ms: int
    user_id: str
    cost_micros: int
    is_answer: bool


def of_day(tx: Transaction, since_ms: int) -> list[Counted]:
    """Oldest first. Bounded by the limit of a day."""
    return [
        Counted(int(row["made_at_ms"]), row["user_id"], int(row["cost_micros"]), row["purpose"] == Purpose.ANSWER)
        for row in tx.rows(_OF_DAY, {"since": since_ms})
    ]


def drop_numbers(tx: Transaction, subject: str) -> None:
    """Forget the numbers of messages about something that is over."""
    tx.run(_DROP_NUMBERS, {"about": subject})


def forget(tx: Transaction, numbers_before_ms: int, messages_before_ms: int, receipts_before_ms: int) -> None:
    tx.run(_FORGET, {"before": numbers_before_ms})
    tx.run(_PURGE, {"before": messages_before_ms})
    tx.run(_PURGE_RECEIPTS, {"before": receipts_before_ms})


# -- numbers that want nothing


def stop(tx: Transaction, number_mark: str, now_ms: int) -> bool:
    """True where it is new."""
    return tx.run(_STOP, {"number_mark": number_mark, "at_ms": now_ms}) == 1


def start(tx: Transaction, number_mark: str) -> bool:
    return tx.run(_START, {"mark": number_mark}) == 1


def is_stopped(tx: Transaction, number_mark: str) -> bool:
    return tx.first(_IS_STOPPED, {"mark": number_mark}) is not None


def mark_of(tx: Transaction, message_id: str) -> str:
    row = tx.first(_BY_ID, {"message": message_id})
    return "" if row is None else row["number_mark"]


# -- receipts


def spend_receipt(tx: Transaction, key: str, now_ms: int) -> bool:
    """False for one that came before."""
    return tx.run(_INSERT_RECEIPT, {"receipt_key": key, "at_ms": now_ms}) == 1


def _moved(message: Message) -> dict[str, object]:
    return {
        "state": message.state.value,
        "due_at_ms": message.due_at_ms,
        "changed_at_ms": message.changed_at_ms,
        "reason": message.reason,
        "provider_id": message.provider_id,
        "attempts": message.attempts,
        "node": message.node,
    }


def _message(row: Row) -> Message:
    return Message(
        message_id=row["message_id"],
        purpose=Purpose(row["purpose"]),
        subject=row["subject"],
        user_id=row["user_id"],
        provider=row["provider"],
        state=MessageState(row["state"]),
        number_hint=row["number_hint"],
        region=row["region"],
        segments=int(row["segments"]),
        cost_micros=int(row["cost_micros"]),
        made_at_ms=int(row["made_at_ms"]),
        due_at_ms=int(row["due_at_ms"]),
        send_until_ms=int(row["send_until_ms"]),
        changed_at_ms=int(row["changed_at_ms"]),
        reason=row["reason"],
        provider_id=row["provider_id"],
        attempts=int(row["attempts"]),
        node=row["node"],
    )
