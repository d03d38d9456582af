"""Tables of sessions, passkeys, one-time links, and answered challenges."""

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)

from entobot.core.permissions import parse_scopes, scope_text
from entobot.core.principal import Principal
from entobot.signin.model import Link, Method, Passkey, Session
from entobot.signin.store_factors import delete_authenticator, delete_recovery_codes, find_authenticator
from entobot.storage.database import Row, Transaction, metadata
from entobot.storage.upsert import upsert

sessions = Table(
    "sessions",
    metadata,
    Column("session_id", Text, primary_key=True),
    Column("user_id", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("method", Text, nullable=False),
    Column("user_agent", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("last_seen_at_ms", BigInteger, nullable=False),
    Column("rests_on_password", Integer, nullable=False, server_default="0"),
    Index("ix_sessions_digest", "digest", unique=True),
    Index("ix_sessions_user", "user_id"),
)
passkeys = Table(
    "passkeys",
    metadata,
    Column("passkey_id", Text, primary_key=True),
    Column("user_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("public_key", LargeBinary, nullable=False),
    Column("sign_count", BigInteger, nullable=False),
    Column("is_backed_up", Integer, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("last_used_at_ms", BigInteger),
    Column("device_id", Text),
    Column("rests_on_password", Integer, nullable=False, server_default="0"),
    Index("ix_passkeys_user", "user_id"),
)
links = Table(
    "sign_in_links",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("user_id", Text, nullable=False),
    Column("expires_at_ms", BigInteger, nullable=False),
    Column("maker_user_id", Text),
    Column("maker_session_id", Text),
    Column("maker_device_id", Text),
    Column("maker_thumbprint", Text),
    Column("maker_epoch", BigInteger),
    Column("maker_scopes", Text),
    Index("ix_sign_in_links_user", "user_id"),
    Index("ix_sign_in_links_maker", "maker_user_id"),
)
answered = Table(
    "answered_challenges",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("expires_at_ms", BigInteger, nullable=False),
    Index("ix_answered_challenges_expires", "expires_at_ms"),
)
_INSERT_SESSION = insert(sessions)
_BY_DIGEST = select(sessions).where(sessions.c.digest == bindparam("secret_digest"))
_SESSION = select(sessions).where(sessions.c.session_id == bindparam("session"))
_SESSIONS = select(sessions).where(sessions.c.user_id == bindparam("user")).order_by(sessions.c.session_id.desc())
_SEEN = (
    update(sessions)
    .where(sessions.c.session_id == bindparam("session"))
    .values(last_seen_at_ms=bindparam("now"), address=bindparam("from_address"))
)
_END = delete(sessions).where(sessions.c.session_id == bindparam("session"))
_END_ALL = delete(sessions).where(sessions.c.user_id == bindparam("user"))
_END_OTHERS = delete(sessions).where(
    sessions.c.user_id == bindparam("user"), sessions.c.session_id != bindparam("kept")
)
_END_OLD = delete(sessions).where(
    (sessions.c.created_at_ms <= bindparam("before")) | (sessions.c.last_seen_at_ms <= bindparam("idle_before"))
)


def insert_session(tx: Transaction, session: Session) -> None:
    tx.run(
        _INSERT_SESSION,
        {
            "session_id": session.session_id,
            "user_id": session.user_id,
            "digest": session.digest,
            "method": session.method,
            "user_agent": session.user_agent,
            "address": session.address,
            "created_at_ms": session.created_at_ms,
            "last_seen_at_ms": session.last_seen_at_ms,
            "rests_on_password": int(session.rests_on_password),
        },
    )


def find_session_by_digest(tx: Transaction, digest: bytes) -> Session | None:
    row = tx.first(_BY_DIGEST, {"secret_digest": digest})
    return None if row is None else _session(row)


def find_session(tx: Transaction, session_id: str) -> Session | None:
    row = tx.first(_SESSION, {"session": session_id})
    return None if row is None else _session(row)


def sessions_of(tx: Transaction, user_id: str) -> list[Session]:
    """Newest first."""
    return [_session(row) for row in tx.rows(_SESSIONS, {"user": user_id})]


def note_seen(tx: Transaction, session_id: str, address: str, now_ms: int) -> None:
    tx.run(_SEEN, {"session": session_id, "from_address": address, "now": now_ms})


def delete_session(tx: Transaction, session_id: str) -> bool:
    return tx.run(_END, {"session": session_id}) == 1


def delete_sessions_of(tx: Transaction, user_id: str) -> int:
    return tx.run(_END_ALL, {"user": user_id})


def delete_other_sessions(tx: Transaction, user_id: str, kept: str) -> int:
    return tx.run(_END_OTHERS, {"user": user_id, "kept": kept})


def delete_sessions_before(tx: Transaction, before_ms: int, idle_before_ms: int) -> int:
    return tx.run(_END_OLD, {"before": before_ms, "idle_before": idle_before_ms})


def _session(row: Row) -> Session:
    return Session(
        session_id=row["session_id"],
        user_id=row["user_id"],
        digest=bytes(row["digest"]),
        method=Method(row["method"]),
        user_agent=row["user_agent"],
        address=row["address"],
        created_at_ms=int(row["created_at_ms"]),
        last_seen_at_ms=int(row["last_seen_at_ms"]),
        rests_on_password=bool(row["rests_on_password"]),
    )


# -- passkeys

_ADD_PASSKEY = upsert(passkeys).on_conflict_do_nothing()
_PASSKEY = select(passkeys).where(passkeys.c.passkey_id == bindparam("passkey"))
_PASSKEYS = select(passkeys).where(passkeys.c.user_id == bindparam("user")).order_by(passkeys.c.created_at_ms)
_USED = (
    update(passkeys)
    .where(passkeys.c.passkey_id == bindparam("passkey"))
    .values(sign_count=bindparam("to_count"), is_backed_up=bindparam("to_backed_up"), last_used_at_ms=bindparam("now"))
)
_RENAME = (
    update(passkeys)
    .where(passkeys.c.passkey_id == bindparam("passkey"), passkeys.c.user_id == bindparam("user"))
    .values(name=bindparam("to_name"))
)
_REMOVE = delete(passkeys).where(passkeys.c.passkey_id == bindparam("passkey"), passkeys.c.user_id == bindparam("user"))
_REMOVE_ALL = delete(passkeys).where(passkeys.c.user_id == bindparam("user"))


def insert_passkey(tx: Transaction, passkey: Passkey) -> bool:
    """False when somebody has it already."""
    values = {
        "passkey_id": passkey.passkey_id,
        "user_id": passkey.user_id,
        "name": passkey.name,
        "public_key": passkey.public_key,
        "sign_count": passkey.sign_count,
        "is_backed_up": int(passkey.is_backed_up),
        "created_at_ms": passkey.created_at_ms,
        "device_id": passkey.device_id,
        "last_used_at_ms": passkey.last_used_at_ms,
        "rests_on_password": int(passkey.rests_on_password),
    }
    return tx.run(_ADD_PASSKEY, values) == 1


def find_passkey(tx: Transaction, passkey_id: str) -> Passkey | None:
    row = tx.first(_PASSKEY, {"passkey": passkey_id})
    return None if row is None else _passkey(row)


def passkeys_of(tx: Transaction, user_id: str) -> list[Passkey]:
    """Oldest first."""
    return [_passkey(row) for row in tx.rows(_PASSKEYS, {"user": user_id})]


def note_used(tx: Transaction, passkey_id: str, *, sign_count: int, is_backed_up: bool, now_ms: int) -> None:
    tx.run(_USED, {"passkey": passkey_id, "to_count": sign_count, "to_backed_up": int(is_backed_up), "now": now_ms})


def rename_passkey(tx: Transaction, user_id: str, passkey_id: str, name: str) -> bool:
    return tx.run(_RENAME, {"passkey": passkey_id, "user": user_id, "to_name": name}) == 1


def delete_passkey(tx: Transaction, user_id: str, passkey_id: str) -> bool:
    return tx.run(_REMOVE, {"passkey": passkey_id, "user": user_id}) == 1


def delete_passkeys_of(tx: Transaction, user_id: str) -> int:
    return tx.run(_REMOVE_ALL, {"user": user_id})


def _passkey(row: Row) -> Passkey:
    used = row["last_used_at_ms"]
    return Passkey(
        passkey_id=row["passkey_id"],
        user_id=row["user_id"],
        name=row["name"],
        public_key=bytes(row["public_key"]),
        sign_count=int(row["sign_count"]),
        is_backed_up=bool(row["is_backed_up"]),
        created_at_ms=int(row["created_at_ms"]),
        last_used_at_ms=None if used is None else int(used),
        device_id=row["device_id"],
        rests_on_password=bool(row["rests_on_password"]),
    )


# -- one-time links and answered challenges

_ADD_LINK = insert(links)
_LINK = select(links).where(links.c.digest == bindparam("secret_digest"))
_SPEND_LINK = delete(links).where(links.c.digest == bindparam("secret_digest"))
_VOID_LINKS = delete(links).where(links.c.user_id == bindparam("user"))
_VOID_LINKS_BY = delete(links).where(links.c.maker_user_id == bindparam("user"))
_HAND_LINKS_ON = (
    update(links).where(links.c.maker_session_id == bindparam("ended")).values(maker_session_id=bindparam("begun"))
)
_ANSWER = upsert(answered).on_conflict_do_nothing()
_PRUNE = delete(answered).where(answered.c.expires_at_ms <= bindparam("now"))
_PASSKEY_COUNT = select(func.count().label("found")).where(passkeys.c.user_id == bindparam("user"))


def delete_every_session_and_link(tx: Transaction) -> None:
    tx.run(delete(sessions))
    tx.run(delete(links))


def insert_link(tx: Transaction, link: Link) -> None:
    maker = link.maker
    values = {
        "digest": link.digest,
        "user_id": link.user_id,
        "expires_at_ms": link.expires_at_ms,
        "maker_user_id": None if maker is None else maker.user_id,
        "maker_session_id": None if maker is None else maker.session_id,
        "maker_device_id": None if maker is None else maker.device_id,
        "maker_thumbprint": None if maker is None else maker.key_thumbprint,
        "maker_epoch": None if maker is None else maker.epoch,
        "maker_scopes": None if maker is None else scope_text(maker.scopes),
    }
    tx.run(_ADD_LINK, values)


def spend_link(tx: Transaction, digest: bytes) -> Link | None:
    """Use a link up. None when it is not there, or somebody else was first."""
    row = tx.first(_LINK, {"secret_digest": digest})
    if row is None or tx.run(_SPEND_LINK, {"secret_digest": digest}) != 1:
        return None
    return Link(bytes(row["digest"]), row["user_id"], int(row["expires_at_ms"]), _maker(row))


def _maker(row: Row) -> Principal | None:
    if row["maker_user_id"] is None:
        return None
    return Principal(
        row["maker_user_id"],
        parse_scopes(row["maker_scopes"]),
        device_id=row["maker_device_id"],
        epoch=int(row["maker_epoch"]),
        key_thumbprint=row["maker_thumbprint"],
        session_id=row["maker_session_id"],
    )


def hand_links_on(tx: Transaction, ended: str, begun: str) -> None:
    """The links of a session are those of the one that took its place."""
    tx.run(_HAND_LINKS_ON, {"ended": ended, "begun": begun})


def delete_links_of(tx: Transaction, user_id: str) -> int:
    return tx.run(_VOID_LINKS, {"user": user_id})


def delete_links_by(tx: Transaction, user_id: str) -> int:
    """Those that this person made, for whomever."""
    return tx.run(_VOID_LINKS_BY, {"user": user_id})


def answer_challenge(tx: Transaction, digest: bytes, expires_at_ms: int, now_ms: int) -> bool:
    """Note that a challenge was answered; False when it was before. Those that are over are forgotten."""
    tx.run(_PRUNE, {"now": now_ms})
    return tx.run(_ANSWER, {"digest": digest, "expires_at_ms": expires_at_ms}) == 1


def count_passkeys(tx: Transaction, user_id: str) -> int:
    row = tx.first(_PASSKEY_COUNT, {"user": user_id})
    return 0 if row is None else int(row["found"])


# -- what a password alone has led to

_RESTING = [
    delete(table).where(table.c.user_id == bindparam("user"), table.c.rests_on_password == 1)
    for table in (sessions, passkeys)
]


def delete_resting_on_password(tx: Transaction, user_id: str) -> None:
    """Sessions, passkeys, and the authenticator app with its codes."""
    for statement in _RESTING:
        tx.run(statement, {"user": user_id})
    app = find_authenticator(tx, user_id)
    if app is not None and app.rests_on_password:
        delete_authenticator(tx, user_id)
        delete_recovery_codes(tx, user_id)
