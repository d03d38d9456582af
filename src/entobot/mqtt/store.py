"""Rows of messages, of those that wait for a session, and of those that are retained."""

from collections.abc import Iterator

from sqlalchemy import bindparam, delete, exists, func, insert, select, update

from entobot.mqtt.model import (
    Delivery,
    Message,
    RetainedMessage,
    Stage,
    pack_properties,
    unpack_properties,
)
from entobot.mqtt.tables import messages, queue, received, retained, sessions
from entobot.mqtt.topics import like, scope_of
from entobot.storage.database import Row, Transaction
from entobot.storage.upsert import upsert

_Q, _M, _R = queue.c, messages.c, retained.c
_IN_QUEUE = _Q.session == bindparam("of_session")

# messages

_INSERT_MESSAGE = insert(messages).returning(_M.id)
_GIVEN = [one for one in _M if one is not _M.id]
_INSERT_OF = (
    insert(messages)
    .from_select(
        [one.name for one in _GIVEN],
        select(*(bindparam(one.name, type_=one.type) for one in _GIVEN)).where(
            exists().where(
                sessions.c.id == bindparam("of_session"), sessions.c.connection == bindparam("of_connection")
            )
        ),
    )
    .returning(_M.id)
)
_DELIVERIES = (
    select(
        _Q.seq, _Q.qos.label("granted"), _Q.retain.label("is_retained"), _Q.identifiers, _Q.stage,
        _M.topic, _M.payload, _M.qos, _M.retain, _M.device_id, _M.user_id, _M.at_ms, _M.expires_at_ms, _M.properties,
    )
    .join(messages, _M.id == _Q.message)
    .where(_IN_QUEUE, _Q.seq > bindparam("after"))
    .order_by(_Q.seq)
    .limit(bindparam("count"))
)  # fmt: skip
_IS_HELD = select(_Q.seq).where(_Q.message == _M.id).exists() | select(_R.topic).where(_R.message == _M.id).exists()
_OLDER = select(_M.id).where(_M.id <= bindparam("up_to"), _M.at_ms < bindparam("before"), ~_IS_HELD).order_by(_M.id)
_OLD = _OLDER.limit(bindparam("count"))
_CROWDED = (
    select(_M.device_id, func.count().label("many"))
    .group_by(_M.device_id)
    .having(func.count() > bindparam("most"))
    .limit(bindparam("count"))
)
_OLDEST_OF = (
    select(_M.id).where(_M.device_id == bindparam("device"), ~_IS_HELD).order_by(_M.id).limit(bindparam("count"))
)
_DELETE_MESSAGE = delete(messages).where(_M.id == bindparam("of_message"))


def insert_message(tx: Transaction, one: Message) -> int:
    row = tx.first(_INSERT_MESSAGE, _columns(one))
    assert row is not None
    return int(row["id"])


def insert_of(tx: Transaction, session: int, connection: int, one: Message) -> int | None:
    """None where another connection has the session."""
    row = tx.first(_INSERT_OF, _columns(one) | {"of_session": session, "of_connection": connection})
    return None if row is None else int(row["id"])


def _columns(one: Message) -> dict[str, object]:
    return {
        "device_id": one.device_id,
        "user_id": one.user_id,
        "topic": one.topic,
        "payload": one.payload,
        "qos": one.qos,
        "retain": int(one.retain),
        "properties": pack_properties(one.properties),
        "at_ms": one.at_ms,
        "expires_at_ms": one.expires_at_ms,
    }


def _message(row: Row) -> Message:
    return Message(
        topic=row["topic"],
        payload=bytes(row["payload"]),
        qos=int(row["qos"]),
        retain=bool(row["retain"]),
        device_id=row["device_id"],
        user_id=row["user_id"],
        at_ms=int(row["at_ms"]),
        expires_at_ms=row["expires_at_ms"],
        properties=unpack_properties(row["properties"]),
    )


def old_messages(tx: Transaction, before_ms: int, count: int) -> list[int]:
    """The oldest that nobody waits for any more."""
    given = {"up_to": 2**62, "before": before_ms, "count": count}
    return [int(row["id"]) for row in tx.rows(_OLD, given)]


def crowded(tx: Transaction, most: int, count: int) -> list[tuple[str, int]]:
    """Devices of which more than `most` messages are kept, and how many."""
    return [(row["device_id"], int(row["many"])) for row in tx.rows(_CROWDED, {"most": most, "count": count})]


def oldest_messages(tx: Transaction, device_id: str, count: int) -> list[int]:
    return [int(row["id"]) for row in tx.rows(_OLDEST_OF, {"device": device_id, "count": count})]


def delete_messages(tx: Transaction, ids: list[int]) -> None:
    for one in ids:
        tx.add(_DELETE_MESSAGE, {"of_message": one})


# queues

_ENQUEUE = insert(queue)
_FIRST = select(func.min(_Q.seq).label("seq")).where(_IN_QUEUE)
_FINISH = delete(queue).where(_IN_QUEUE, _Q.seq == bindparam("at_seq"))
_SET_STAGE = update(queue).where(_IN_QUEUE, _Q.seq == bindparam("at_seq")).values(stage=int(Stage.RELEASED))


def enqueue(
    tx: Transaction, session: int, seq: int, message: int, *, qos: int, retain: bool, identifiers: tuple[int, ...]
) -> None:
    tx.add(
        _ENQUEUE,
        {
            "session": session,
            "seq": seq,
            "message": message,
            "qos": qos,
            "retain": int(retain),
            "identifiers": " ".join(map(str, identifiers)),
            "stage": int(Stage.WAITING),
        },
    )


def first_seq(tx: Transaction, session: int) -> int | None:
    """Of what waits longest."""
    row = tx.first(_FIRST, {"of_session": session})
    return None if row is None or row["seq"] is None else int(row["seq"])


def deliveries(tx: Transaction, session: int, after: int, sent_seq: int, count: int) -> list[Delivery]:
    """In order. Those up to `sent_seq` are repeats."""
    return [
        Delivery(
            seq=int(row["seq"]),
            message=_message(row),
            qos=int(row["granted"]),
            retain=bool(row["is_retained"]),
            identifiers=tuple(map(int, row["identifiers"].split())),
            stage=Stage(int(row["stage"])),
            is_repeat=int(row["seq"]) <= sent_seq,
        )
        for row in tx.rows(_DELIVERIES, {"of_session": session, "after": after, "count": count})
    ]


def finish(tx: Transaction, session: int, seq: int) -> None:
    tx.add(_FINISH, {"of_session": session, "at_seq": seq})


def release(tx: Transaction, session: int, seq: int) -> None:
    tx.add(_SET_STAGE, {"of_session": session, "at_seq": seq})


# retained

_PUT = upsert(retained)
_RETAIN = _PUT.on_conflict_do_update(
    index_elements=["topic"], set_={name: _PUT.excluded[name] for name in ("scope", "device_id", "message")}
)
_UNRETAIN = delete(retained).where(_R.topic == bindparam("of_topic"))
_UNRETAIN_DEVICE = delete(retained).where(_R.device_id == bindparam("device"))
_IS_RETAINED = select(_R.topic).where(_R.topic == bindparam("of_topic"))
_COUNT_RETAINED = select(func.count().label("many")).where(_R.device_id == bindparam("device"))
_KEPT = select(_R.topic, _R.message, _M.qos, _M.expires_at_ms).join(messages, _M.id == _R.message)
_RETAINED_IN = _KEPT.where(_R.scope == bindparam("own_scope")).order_by(_R.topic)
_RETAINED = (
    _KEPT.where(_R.topic > bindparam("after"), _R.topic.like(bindparam("pattern"), escape="!"))
    .order_by(_R.topic)
    .limit(bindparam("count"))
)
_PAGE = 1000


def retain(tx: Transaction, topic: str, scope: str, device_id: str, message: int) -> None:
    tx.run(_RETAIN, {"topic": topic, "scope": scope, "device_id": device_id, "message": message})


def unretain(tx: Transaction, topic: str) -> None:
    tx.run(_UNRETAIN, {"of_topic": topic})


def unretain_device(tx: Transaction, device_id: str) -> None:
    tx.run(_UNRETAIN_DEVICE, {"device": device_id})


def is_retained(tx: Transaction, topic: str) -> bool:
    return tx.first(_IS_RETAINED, {"of_topic": topic}) is not None


def count_retained(tx: Transaction, device_id: str) -> int:
    row = tx.first(_COUNT_RETAINED, {"device": device_id})
    return 0 if row is None else int(row["many"])


def retained_for(tx: Transaction, topic_filter: str) -> Iterator[RetainedMessage]:
    """What is retained and may match, by topic, without the messages themselves."""
    scope = scope_of(topic_filter)
    if scope:
        yield from map(_retained, tx.rows(_RETAINED_IN, {"own_scope": scope}))
        return
    after, pattern = "", like(topic_filter)
    while True:
        rows = tx.rows(_RETAINED, {"after": after, "pattern": pattern, "count": _PAGE})
        yield from map(_retained, rows)
        if len(rows) < _PAGE:
            return
        after = rows[-1]["topic"]


def _retained(row: Row) -> RetainedMessage:
    return RetainedMessage(row["topic"], int(row["message"]), int(row["qos"]), row["expires_at_ms"])


# identifiers of QoS 2 that were received

_C = received.c
_BY_CONNECTION = (sessions.c.id == bindparam("of_session"), sessions.c.connection == bindparam("of_connection"))
_RECEIVE = (
    upsert(received)
    .from_select(
        ["session", "packet_id"],
        select(sessions.c.id, bindparam("of_packet", type_=_C.packet_id.type)).where(*_BY_CONNECTION),
    )
    .on_conflict_do_nothing()
)
_RELEASE = delete(received).where(
    _C.session == bindparam("of_session"),
    _C.packet_id == bindparam("of_packet"),
    exists().where(*_BY_CONNECTION),
)
_RECEIVED = select(_C.packet_id).where(_C.session == bindparam("of_session"))


def receive(tx: Transaction, session: int, connection: int, packet_id: int) -> bool:
    """False where it was received before, or another connection has the session: in one statement, for that one may
    have received and released the same number meanwhile.
    """
    return tx.run(_RECEIVE, {"of_session": session, "of_connection": connection, "of_packet": packet_id}) == 1


def forget_received(tx: Transaction, session: int, connection: int, packet_id: int) -> None:
    """Nothing happens where another connection has the session."""
    tx.run(_RELEASE, {"of_session": session, "of_connection": connection, "of_packet": packet_id})


def received_by(tx: Transaction, session: int) -> frozenset[int]:
    return frozenset(int(row["packet_id"]) for row in tx.rows(_RECEIVED, {"of_session": session}))
