"""Rows of sessions and of what they subscribed to."""

from sqlalchemy import bindparam, delete, insert, select, update

from entobot.mqtt.model import Head, StoredSession, StoredSubscription, pack_will, unpack_will
from entobot.mqtt.packets import Will
from entobot.mqtt.tables import queue, received, sessions, subscriptions
from entobot.storage.database import Row, Transaction
from entobot.storage.upsert import upsert

_S = sessions.c
_IS_SESSION = _S.id == bindparam("of_session")
_DELETE_QUEUE = delete(queue).where(queue.c.session == bindparam("of_session"))
_DELETE_ALL_RECEIVED = delete(received).where(received.c.session == bindparam("of_session"))

# sessions

_IS_CLIENT = (_S.device_id == bindparam("device"), _S.client_id == bindparam("client"))
_FIND = select(sessions).where(*_IS_CLIENT)
_GET = select(sessions).where(_IS_SESSION)
_INSERT_SESSION = insert(sessions).returning(_S.id)
_TAKE = (
    update(sessions)
    .where(_IS_SESSION)
    .values(
        node=bindparam("at_node"),
        credential_id=bindparam("by_credential"),
        connection=_S.connection + 1,
        expiry_s=bindparam("lasts_s"),
        expires_at_ms=None,
        will=bindparam("new_will"),
        will_at_ms=None,
    )
    .returning(_S.connection)
)
_IS_MINE = select(_S.last_seq).where(_IS_SESSION, _S.connection == bindparam("of_connection"))
_LET_GO = (
    update(sessions)
    .where(_IS_SESSION, _S.connection == bindparam("of_connection"))
    .values(
        node=None,
        sent_seq=bindparam("sent"),
        expiry_s=bindparam("lasts_s"),
        expires_at_ms=bindparam("ends"),
        will=bindparam("new_will"),
        will_at_ms=bindparam("will_at"),
    )
)
_NO_WILL = update(sessions).where(_IS_SESSION).values(will=None, will_at_ms=None)
_NEXT_SEQ = update(sessions).where(_IS_SESSION).values(last_seq=_S.last_seq + 1).returning(_S.last_seq)
_LAST_SEQ = select(_S.last_seq).where(_IS_SESSION)
_DELETE_SESSION = delete(sessions).where(_IS_SESSION)
_DUE_WILLS = select(sessions).where(_S.will_at_ms <= bindparam("now")).order_by(_S.will_at_ms).limit(bindparam("count"))
_OVER = (
    select(sessions).where(_S.expires_at_ms <= bindparam("now")).order_by(_S.expires_at_ms).limit(bindparam("count"))
)
_NODES = select(_S.node).where(_S.node.is_not(None)).distinct()
_AT_NODE = select(sessions).where(_S.node == bindparam("at_node")).limit(bindparam("count"))
_HEADS = (
    select(_S.id, _S.connection, _S.last_seq)
    .where(_S.node == bindparam("at_node"), _S.id > bindparam("after"))
    .order_by(_S.id)
    .limit(bindparam("count"))
)
_OF_DEVICE = select(sessions).where(_S.device_id == bindparam("device"))
_PAGE = select(sessions).where(_S.id > bindparam("after")).order_by(_S.id).limit(bindparam("count"))


def find_session(tx: Transaction, device_id: str, client_id: str) -> StoredSession | None:
    row = tx.first(_FIND, {"device": device_id, "client": client_id})
    return None if row is None else _session(row)


def get_session(tx: Transaction, session: int) -> StoredSession | None:
    row = tx.first(_GET, {"of_session": session})
    return None if row is None else _session(row)


def insert_session(tx: Transaction, device_id: str, client_id: str, user_id: str, epoch: int, connections: int) -> int:
    """A new one that is connected nowhere; `take_session` comes next.

    `connections`: where their numbers begin. SQLite gives the id of a row that was deleted again: a connection of the
    former session must not take the new one for its own.
    """
    row = tx.first(
        _INSERT_SESSION,
        {
            "device_id": device_id,
            "client_id": client_id,
            "user_id": user_id,
            "epoch": epoch,
            "credential_id": "",
            "node": None,
            "connection": connections,
            "last_seq": 0,
            "sent_seq": 0,
            "expiry_s": 0,
            "expires_at_ms": None,
            "will": None,
            "will_at_ms": None,
        },
    )
    assert row is not None
    return int(row["id"])


def take_session(tx: Transaction, session: int, node: str, credential_id: str, expiry_s: int, will: Will | None) -> int:
    """Connected here from now on; the number of this connection, by which it is told from those before."""
    given = {
        "of_session": session,
        "at_node": node,
        "by_credential": credential_id,
        "lasts_s": expiry_s,
        "new_will": pack_will(will),
    }
    row = tx.first(_TAKE, given)
    assert row is not None
    return int(row["connection"])


def is_mine(tx: Transaction, session: int, connection: int) -> bool:
    return tx.first(_IS_MINE, {"of_session": session, "of_connection": connection}) is not None


def let_go(
    tx: Transaction,
    session: int,
    connection: int,
    *,
    sent_seq: int,
    expiry_s: int,
    ends_at_ms: int | None,
    will: Will | None,
    will_at_ms: int | None,
) -> bool:
    """Connected no more. False where another connection has taken the session since."""
    given = {
        "of_session": session,
        "of_connection": connection,
        "sent": sent_seq,
        "lasts_s": expiry_s,
        "ends": ends_at_ms,
        "new_will": pack_will(will),
        "will_at": will_at_ms,
    }
    return tx.run(_LET_GO, given) == 1


def drop_will(tx: Transaction, session: int) -> None:
    tx.run(_NO_WILL, {"of_session": session})


def next_seq(tx: Transaction, session: int) -> int:
    """The next number of this session's queue. The session is there: it was read in this unit."""
    row = tx.first(_NEXT_SEQ, {"of_session": session})
    assert row is not None
    return int(row["last_seq"])


def last_seq(tx: Transaction, session: int) -> int | None:
    row = tx.first(_LAST_SEQ, {"of_session": session})
    return None if row is None else int(row["last_seq"])


def delete_session(tx: Transaction, session: int) -> None:
    """With everything that it holds."""
    empty_session(tx, session)
    tx.run(_DELETE_SESSION, {"of_session": session})


def empty_session(tx: Transaction, session: int) -> None:
    for statement in (_DELETE_SUBSCRIPTIONS, _DELETE_QUEUE, _DELETE_ALL_RECEIVED):
        tx.run(statement, {"of_session": session})


def due_wills(tx: Transaction, now_ms: int, count: int) -> list[StoredSession]:
    return [_session(row) for row in tx.rows(_DUE_WILLS, {"now": now_ms, "count": count})]


def over(tx: Transaction, now_ms: int, count: int) -> list[StoredSession]:
    return [_session(row) for row in tx.rows(_OVER, {"now": now_ms, "count": count})]


def nodes(tx: Transaction) -> list[str]:
    """Nodes that sessions say they are connected to."""
    return [row["node"] for row in tx.rows(_NODES)]


def at_node(tx: Transaction, node: str, count: int) -> list[StoredSession]:
    return [_session(row) for row in tx.rows(_AT_NODE, {"at_node": node, "count": count})]


def heads(tx: Transaction, node: str, after: int, count: int) -> list[Head]:
    """The next sessions that are connected to a node."""
    rows = tx.rows(_HEADS, {"at_node": node, "after": after, "count": count})
    return [Head(row["id"], row["connection"], row["last_seq"]) for row in rows]


def sessions_of(tx: Transaction, device_id: str) -> list[StoredSession]:
    """Bounded by how many a device may have."""
    return [_session(row) for row in tx.rows(_OF_DEVICE, {"device": device_id})]


def sessions_after(tx: Transaction, after: int, count: int) -> list[StoredSession]:
    return [_session(row) for row in tx.rows(_PAGE, {"after": after, "count": count})]


def _session(row: Row) -> StoredSession:
    return StoredSession(
        session=int(row["id"]),
        device_id=row["device_id"],
        client_id=row["client_id"],
        user_id=row["user_id"],
        epoch=int(row["epoch"]),
        credential_id=row["credential_id"],
        node=row["node"],
        connection=int(row["connection"]),
        last_seq=int(row["last_seq"]),
        sent_seq=int(row["sent_seq"]),
        expiry_s=int(row["expiry_s"]),
        expires_at_ms=row["expires_at_ms"],
        will=unpack_will(row["will"]),
        will_at_ms=row["will_at_ms"],
    )


# subscriptions

_U = subscriptions.c
_PUT = upsert(subscriptions)
_SUBSCRIBE = _PUT.on_conflict_do_update(
    index_elements=["session", "share", "filter"],
    set_={name: _PUT.excluded[name] for name in ("scope", "qos", "no_local", "retain_as_published", "identifier")},
)
_OF_SESSION = select(_U.share, _U.filter).where(_U.session == bindparam("of_session"))
_UNSUBSCRIBE = delete(subscriptions).where(
    _U.session == bindparam("of_session"), _U.share == bindparam("of_share"), _U.filter == bindparam("of_filter")
)
_DELETE_SUBSCRIPTIONS = delete(subscriptions).where(_U.session == bindparam("of_session"))
_REACHING = (
    select(
        _U.session, _S.device_id, _S.credential_id, _S.node, _S.last_seq, _U.share, _U.filter, _U.qos, _U.no_local,
        _U.retain_as_published, _U.identifier,
    )
    .join(sessions, _S.id == _U.session)
    .where(_U.scope.in_([bindparam("own_scope"), bindparam("any_scope")]))
    .order_by(_U.session)
)  # fmt: skip


def subscribe(tx: Transaction, one: StoredSubscription, scope: str) -> None:
    tx.run(
        _SUBSCRIBE,
        {
            "session": one.session,
            "share": one.share,
            "filter": one.filter,
            "scope": scope,
            "qos": one.qos,
            "no_local": int(one.no_local),
            "retain_as_published": int(one.retain_as_published),
            "identifier": one.identifier,
        },
    )


def filters_of(tx: Transaction, session: int) -> set[tuple[str, str]]:
    """(share, filter) of each."""
    return {(row["share"], row["filter"]) for row in tx.rows(_OF_SESSION, {"of_session": session})}


def unsubscribe(tx: Transaction, session: int, share: str, text: str) -> bool:
    return tx.run(_UNSUBSCRIBE, {"of_session": session, "of_share": share, "of_filter": text}) == 1


def reaching(tx: Transaction, scope: str) -> list[StoredSubscription]:
    """Subscriptions that may match a topic of this scope, session by session."""
    return [
        StoredSubscription(
            session=int(row["session"]),
            device_id=row["device_id"],
            credential_id=row["credential_id"],
            node=row["node"],
            last_seq=int(row["last_seq"]),
            share=row["share"],
            filter=row["filter"],
            qos=int(row["qos"]),
            no_local=bool(row["no_local"]),
            retain_as_published=bool(row["retain_as_published"]),
            identifier=row["identifier"],
        )
        for row in tx.rows(_REACHING, {"own_scope": scope, "any_scope": ""})
    ]
