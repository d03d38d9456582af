"""Tables of enrolment: the keys, and which device each use made."""

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    bindparam,
    func,
    insert,
    or_,
    select,
    update,
)

from entobot.core.permissions import parse_scopes, scope_text
from entobot.core.topic_limits import parse_limits
from entobot.enrolment.model import MAX_LISTED, Enrolment, EnrolmentKey
from entobot.storage.database import Row, Transaction, metadata
from entobot.storage.upsert import upsert

ALERT_EVERY_MS = 60_000

keys = Table(
    "enrolment_keys",
    metadata,
    Column("key_id", Text, primary_key=True),
    Column("user_id", Text, nullable=False),
    Column("made_by", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("device_type", Text, nullable=False),
    Column("tags", Text, nullable=False),
    Column("max_uses", Integer, nullable=False),
    Column("uses", Integer, nullable=False),
    Column("key_life_s", BigInteger),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("expires_at_ms", BigInteger, nullable=False),
    Column("last_used_at_ms", BigInteger),
    Column("revoked_at_ms", BigInteger),
    Column("alert_at_ms", BigInteger),
    Column("topics", Text, nullable=False, server_default=""),
    Index("ix_enrolment_keys_user", "user_id"),
)
enrolments = Table(
    "enrolments",
    metadata,
    Column("device_id", Text, primary_key=True),
    Column("key_id", Text, nullable=False),
    Column("nonce_digest", Text, nullable=False),
    Column("hardware_id", Text, nullable=False),
    Column("enrolled_at_ms", BigInteger, nullable=False),
    UniqueConstraint("key_id", "nonce_digest", name="uq_enrolments_nonce"),
)
_K, _E = keys.c, enrolments.c
_OPEN = (_K.revoked_at_ms.is_(None), _K.expires_at_ms > bindparam("now"), _K.uses < _K.max_uses)
_INSERT = insert(keys)
_BY_ID = select(keys).where(_K.key_id == bindparam("key"))
_LIST = select(keys).order_by(_K.key_id.desc()).limit(MAX_LISTED)
_COUNT_OPEN = select(func.count().label("n")).select_from(keys).where(_K.user_id == bindparam("user"), *_OPEN)
_USE = (
    update(keys).where(_K.key_id == bindparam("key"), *_OPEN).values(uses=_K.uses + 1, last_used_at_ms=bindparam("now"))
)
_REVOKE = (
    update(keys).where(_K.key_id == bindparam("key"), _K.revoked_at_ms.is_(None)).values(revoked_at_ms=bindparam("now"))
)
_REVOKE_ALL = (
    update(keys)
    .where(_K.user_id == bindparam("user"), _K.revoked_at_ms.is_(None))
    .values(revoked_at_ms=bindparam("now"))
)
_REVOKE_MADE_BY = (
    update(keys)
    .where(_K.made_by == bindparam("maker"), _K.revoked_at_ms.is_(None))
    .values(revoked_at_ms=bindparam("now"))
)
_REVOKE_EVERY = update(keys).where(_K.revoked_at_ms.is_(None)).values(revoked_at_ms=bindparam("now"))
_LIST_OPEN = select(keys).where(*_OPEN).order_by(_K.key_id.desc())
_ALERT = (
    update(keys)
    .where(_K.key_id == bindparam("key"), or_(_K.alert_at_ms.is_(None), _K.alert_at_ms <= bindparam("not_since")))
    .values(alert_at_ms=bindparam("now"))
)
_INSERT_ENROLMENT = upsert(enrolments).on_conflict_do_nothing()
_BY_NONCE = select(enrolments).where(_E.key_id == bindparam("key"), _E.nonce_digest == bindparam("nonce"))
_BY_DEVICE = select(enrolments).where(_E.device_id == bindparam("device"))
_OF_KEY = (
    select(enrolments)
    .where(_E.key_id == bindparam("key"), _E.device_id < bindparam("before"))
    .order_by(_E.device_id.desc())
    .limit(bindparam("count"))
)


def insert_key(tx: Transaction, key: EnrolmentKey) -> None:
    tx.run(
        _INSERT,
        {
            "key_id": key.key_id,
            "user_id": key.user_id,
            "made_by": key.made_by,
            "name": key.name,
            "digest": key.digest,
            "scopes": scope_text(key.scopes),
            "device_type": key.device_type,
            "tags": " ".join(key.tags),
            "max_uses": key.max_uses,
            "uses": key.uses,
            "key_life_s": key.key_life_s,
            "created_at_ms": key.created_at_ms,
            "expires_at_ms": key.expires_at_ms,
            "topics": key.topics.text,
        },
    )


def find_key(tx: Transaction, key_id: str) -> EnrolmentKey | None:
    row = tx.first(_BY_ID, {"key": key_id})
    return None if row is None else _key(row)


def latest(tx: Transaction) -> list[EnrolmentKey]:
    """The newest first, some hundred."""
    return [_key(row) for row in tx.rows(_LIST, {})]


def count_open(tx: Transaction, user_id: str, now_ms: int) -> int:
    row = tx.first(_COUNT_OPEN, {"user": user_id, "now": now_ms})
    return 0 if row is None else int(row["n"])


def use_key(tx: Transaction, key_id: str, now_ms: int) -> bool:
    """Count one use. False when the key is over: of many that ask at once, so many hear True as it has uses."""
    return tx.run(_USE, {"key": key_id, "now": now_ms}) == 1


def revoke_key(tx: Transaction, key_id: str, now_ms: int) -> bool:
    """False where it was revoked before."""
    return tx.run(_REVOKE, {"key": key_id, "now": now_ms}) == 1


def revoke_all(tx: Transaction, user_id: str, now_ms: int) -> None:
    tx.run(_REVOKE_ALL, {"user": user_id, "now": now_ms})


def revoke_made_by(tx: Transaction, maker_id: str, now_ms: int) -> None:
    """Those that a device, or a person by themselves, made."""
    tx.run(_REVOKE_MADE_BY, {"maker": maker_id, "now": now_ms})


def open_keys(tx: Transaction, now_ms: int) -> list[EnrolmentKey]:
    """Everybody's, the newest first."""
    return [_key(row) for row in tx.rows(_LIST_OPEN, {"now": now_ms})]


def revoke_every(tx: Transaction, now_ms: int) -> None:
    tx.run(_REVOKE_EVERY, {"now": now_ms})


def claim_alert(tx: Transaction, key_id: str, now_ms: int) -> bool:
    """Whether a refusal of this key is to be told: at most one a minute."""
    return tx.run(_ALERT, {"key": key_id, "now": now_ms, "not_since": now_ms - ALERT_EVERY_MS}) == 1


def insert_enrolment(tx: Transaction, enrolment: Enrolment) -> bool:
    """False where another with this nonce is there."""
    inserted = tx.run(
        _INSERT_ENROLMENT,
        {
            "device_id": enrolment.device_id,
            "key_id": enrolment.key_id,
            "nonce_digest": enrolment.nonce_digest,
            "hardware_id": enrolment.hardware_id,
            "enrolled_at_ms": enrolment.enrolled_at_ms,
        },
    )
    return inserted == 1


def find_by_nonce(tx: Transaction, key_id: str, nonce_digest: str) -> Enrolment | None:
    row = tx.first(_BY_NONCE, {"key": key_id, "nonce": nonce_digest})
    return None if row is None else _enrolment(row)


def find_by_device(tx: Transaction, device_id: str) -> Enrolment | None:
    row = tx.first(_BY_DEVICE, {"device": device_id})
    return None if row is None else _enrolment(row)


def enrolments_of(tx: Transaction, key_id: str, before: str, count: int) -> list[Enrolment]:
    """The newest first, from before this device id on."""
    rows = tx.rows(_OF_KEY, {"key": key_id, "before": before, "count": count})
    return [_enrolment(row) for row in rows]


def _key(row: Row) -> EnrolmentKey:
    return EnrolmentKey(
        key_id=row["key_id"],
        user_id=row["user_id"],
        made_by=row["made_by"],
        name=row["name"],
        digest=row["digest"],
        scopes=parse_scopes(row["scopes"]),
        device_type=row["device_type"],
        tags=tuple(row["tags"].split()),
        max_uses=int(row["max_uses"]),
        uses=int(row["uses"]),
        key_life_s=row["key_life_s"],
        created_at_ms=int(row["created_at_ms"]),
        expires_at_ms=int(row["expires_at_ms"]),
        last_used_at_ms=row["last_used_at_ms"],
        revoked_at_ms=row["revoked_at_ms"],
        topics=parse_limits(row["topics"]),
    )


def _enrolment(row: Row) -> Enrolment:
    return Enrolment(
        device_id=row["device_id"],
        key_id=row["key_id"],
        nonce_digest=row["nonce_digest"],
        hardware_id=row["hardware_id"],
        enrolled_at_ms=int(row["enrolled_at_ms"]),
    )
