"""Tables of what machines hold: API keys and certificates, and the authority that issues those."""

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
    insert,
    or_,
    select,
    update,
)

from entobot.core.topic_limits import TopicLimits, parse_limits
from entobot.devices.model import ApiKey, DeviceCertificate
from entobot.storage.database import Row, Transaction, metadata
from entobot.storage.upsert import upsert

MAX_LISTED = 64

api_keys = Table(
    "device_api_keys",
    metadata,
    Column("key_id", Text, primary_key=True),
    Column("device_id", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("expires_at_ms", BigInteger),
    Column("last_used_at_ms", BigInteger),
    Column("revoked_at_ms", BigInteger),
    Column("topics", Text, nullable=False, server_default=""),
    Index("ix_device_api_keys_device", "device_id"),
)
_K = api_keys.c
_INSERT_KEY = insert(api_keys)
_KEY = select(api_keys).where(_K.key_id == bindparam("key"))
_KEYS_OF = (
    select(api_keys)
    .where(_K.device_id == bindparam("device"))
    .order_by(_K.created_at_ms.desc(), _K.key_id.desc())
    .limit(bindparam("count"))
)
_END_KEYS = (
    update(api_keys)
    .where(
        _K.device_id == bindparam("device"),
        _K.revoked_at_ms.is_(None),
        or_(_K.expires_at_ms.is_(None), _K.expires_at_ms > bindparam("end")),
    )
    .values(expires_at_ms=bindparam("end"))
)
_REVOKE_KEY = (
    update(api_keys)
    .where(_K.key_id == bindparam("key"), _K.revoked_at_ms.is_(None))
    .values(revoked_at_ms=bindparam("now"))
)
_LIMIT_KEY = update(api_keys).where(_K.key_id == bindparam("key")).values(topics=bindparam("limits"))
_KEY_USED = update(api_keys).where(_K.key_id == bindparam("key")).values(last_used_at_ms=bindparam("now"))
_DELETE_KEYS = delete(api_keys).where(_K.device_id == bindparam("device"))
_FORGET_KEYS = delete(api_keys).where(
    _K.device_id == bindparam("device"),
    or_(_K.expires_at_ms <= bindparam("before"), _K.revoked_at_ms <= bindparam("before")),
)


def insert_key(tx: Transaction, key: ApiKey) -> None:
    tx.run(
        _INSERT_KEY,
        {
            "key_id": key.key_id,
            "device_id": key.device_id,
            "digest": key.digest,
            "created_at_ms": key.created_at_ms,
            "expires_at_ms": key.expires_at_ms,
            "topics": key.topics.text,
        },
    )


def find_key(tx: Transaction, key_id: str) -> ApiKey | None:
    row = tx.first(_KEY, {"key": key_id})
    return None if row is None else _key(row)


def keys_of(tx: Transaction, device_id: str) -> list[ApiKey]:
    """The newest first."""
    return [_key(row) for row in tx.rows(_KEYS_OF, {"device": device_id, "count": MAX_LISTED})]


def end_keys(tx: Transaction, device_id: str, at_ms: int) -> None:
    """Every key of the device ends then, unless it ends before."""
    tx.run(_END_KEYS, {"device": device_id, "end": at_ms})


def revoke_key(tx: Transaction, key_id: str, now_ms: int) -> bool:
    """False where it was revoked before."""
    return tx.run(_REVOKE_KEY, {"key": key_id, "now": now_ms}) == 1


def limit_key(tx: Transaction, key_id: str, topics: TopicLimits) -> None:
    tx.run(_LIMIT_KEY, {"key": key_id, "limits": topics.text})


def note_key_used(tx: Transaction, key_id: str, now_ms: int) -> None:
    tx.run(_KEY_USED, {"key": key_id, "now": now_ms})


def delete_keys(tx: Transaction, device_id: str) -> None:
    tx.run(_DELETE_KEYS, {"device": device_id})


def forget_keys(tx: Transaction, device_id: str, before_ms: int) -> None:
    """Those that were over by then."""
    tx.run(_FORGET_KEYS, {"device": device_id, "before": before_ms})


def _key(row: Row) -> ApiKey:
    return ApiKey(
        key_id=row["key_id"],
        device_id=row["device_id"],
        digest=row["digest"],
        created_at_ms=int(row["created_at_ms"]),
        expires_at_ms=row["expires_at_ms"],
        last_used_at_ms=row["last_used_at_ms"],
        revoked_at_ms=row["revoked_at_ms"],
        topics=parse_limits(row["topics"]),
    )


# -- certificates

certificates = Table(
    "device_certificates",
    metadata,
    Column("certificate_id", Text, primary_key=True),
    Column("device_id", Text, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("fingerprint", Text, nullable=False, unique=True),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("expires_at_ms", BigInteger, nullable=False),
    Column("last_used_at_ms", BigInteger),
    Column("revoked_at_ms", BigInteger),
    Index("ix_device_certificates_device", "device_id"),
)
authorities = Table(
    "issuing_authorities",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("sealed", LargeBinary, nullable=False),
)
THE_AUTHORITY = 1
_C = certificates.c
_INSERT_CERTIFICATE = insert(certificates)
_CERTIFICATE = select(certificates).where(_C.certificate_id == bindparam("certificate"))
_BY_FINGERPRINT = select(certificates).where(_C.fingerprint == bindparam("print"))
_CERTIFICATES_OF = (
    select(certificates)
    .where(_C.device_id == bindparam("device"))
    .order_by(_C.created_at_ms.desc(), _C.certificate_id.desc())
    .limit(bindparam("count"))
)
_REVOKE_CERTIFICATE = (
    update(certificates)
    .where(_C.certificate_id == bindparam("certificate"), _C.revoked_at_ms.is_(None))
    .values(revoked_at_ms=bindparam("now"))
)
_CERTIFICATE_USED = (
    update(certificates).where(_C.certificate_id == bindparam("certificate")).values(last_used_at_ms=bindparam("now"))
)
_FORGET_CERTIFICATES = delete(certificates).where(
    _C.device_id == bindparam("device"), _C.expires_at_ms <= bindparam("before")
)
_AUTHORITY = select(authorities.c.sealed).where(authorities.c.id == THE_AUTHORITY)
_INSERT_AUTHORITY = upsert(authorities).on_conflict_do_nothing()


def insert_certificate(tx: Transaction, one: DeviceCertificate) -> None:
    tx.run(
        _INSERT_CERTIFICATE,
        {
            "certificate_id": one.certificate_id,
            "device_id": one.device_id,
            "key_id": one.key_id,
            "fingerprint": one.fingerprint,
            "created_at_ms": one.created_at_ms,
            "expires_at_ms": one.expires_at_ms,
        },
    )


def find_certificate(tx: Transaction, certificate_id: str) -> DeviceCertificate | None:
    row = tx.first(_CERTIFICATE, {"certificate": certificate_id})
    return None if row is None else _certificate(row)


def find_by_fingerprint(tx: Transaction, fingerprint: str) -> DeviceCertificate | None:
    row = tx.first(_BY_FINGERPRINT, {"print": fingerprint})
    return None if row is None else _certificate(row)


def certificates_of(tx: Transaction, device_id: str) -> list[DeviceCertificate]:
    """The newest first."""
    return [_certificate(row) for row in tx.rows(_CERTIFICATES_OF, {"device": device_id, "count": MAX_LISTED})]


def revoke_certificate(tx: Transaction, certificate_id: str, now_ms: int) -> bool:
    """False where it was revoked before."""
    return tx.run(_REVOKE_CERTIFICATE, {"certificate": certificate_id, "now": now_ms}) == 1


def note_certificate_used(tx: Transaction, certificate_id: str, now_ms: int) -> None:
    tx.run(_CERTIFICATE_USED, {"certificate": certificate_id, "now": now_ms})


def forget_certificates(tx: Transaction, device_id: str, before_ms: int) -> None:
    """Those that had run out by then."""
    tx.run(_FORGET_CERTIFICATES, {"device": device_id, "before": before_ms})


def find_authority(tx: Transaction) -> bytes | None:
    row = tx.first(_AUTHORITY)
    return None if row is None else bytes(row["sealed"])


def keep_authority(tx: Transaction, sealed: bytes) -> bytes:
    """The one that there is: this, unless another was there before."""
    tx.run(_INSERT_AUTHORITY, {"id": THE_AUTHORITY, "sealed": sealed})
    return find_authority(tx) or sealed


def _certificate(row: Row) -> DeviceCertificate:
    return DeviceCertificate(
        certificate_id=row["certificate_id"],
        device_id=row["device_id"],
        key_id=row["key_id"],
        fingerprint=row["fingerprint"],
        created_at_ms=int(row["created_at_ms"]),
        expires_at_ms=int(row["expires_at_ms"]),
        last_used_at_ms=row["last_used_at_ms"],
        revoked_at_ms=row["revoked_at_ms"],
    )
