"""Tables of passwords, authenticator apps and recovery codes."""

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
    select,
    update,
)

from entobot.signin.model import Authenticator, Password, RecoveryCode
from entobot.storage.database import Transaction, metadata
from entobot.storage.upsert import upsert

passwords = Table(
    "passwords",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("encoded", Text, nullable=False),
    Column("set_at_ms", BigInteger, nullable=False),
)
authenticators = Table(
    "authenticators",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
    Column("last_step", BigInteger, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("rests_on_password", Integer, nullable=False, server_default="0"),
)
recovery_codes = Table(
    "recovery_codes",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("user_id", Text, nullable=False),
    Column("used_at_ms", BigInteger),
    Index("ix_recovery_codes_user", "user_id"),
)

# -- passwords

_NEW_PASSWORD = upsert(passwords)
_SET_PASSWORD = _NEW_PASSWORD.on_conflict_do_update(
    index_elements=[passwords.c.user_id],
    set_={"encoded": _NEW_PASSWORD.excluded.encoded, "set_at_ms": _NEW_PASSWORD.excluded.set_at_ms},
)
_PASSWORD = select(passwords).where(passwords.c.user_id == bindparam("user"))
_REHASH = (
    update(passwords)
    .where(passwords.c.user_id == bindparam("user"), passwords.c.encoded == bindparam("old"))
    .values(encoded=bindparam("new"))
)
_REMOVE_PASSWORD = delete(passwords).where(passwords.c.user_id == bindparam("user"))


def set_password(tx: Transaction, password: Password) -> None:
    values = {"user_id": password.user_id, "encoded": password.encoded, "set_at_ms": password.set_at_ms}
    tx.run(_SET_PASSWORD, values)


def find_password(tx: Transaction, user_id: str) -> Password | None:
    row = tx.first(_PASSWORD, {"user": user_id})
    return None if row is None else Password(row["user_id"], row["encoded"], int(row["set_at_ms"]))


def rehash_password(tx: Transaction, user_id: str, old: str, new: str) -> bool:
    """The same password under other parameters; False when it was changed meanwhile."""
    return tx.run(_REHASH, {"user": user_id, "old": old, "new": new}) == 1


def delete_password(tx: Transaction, user_id: str) -> bool:
    return tx.run(_REMOVE_PASSWORD, {"user": user_id}) == 1


# -- authenticator apps

_NEW_APP = upsert(authenticators)
_SET_APP = _NEW_APP.on_conflict_do_update(
    index_elements=[authenticators.c.user_id],
    set_={name: _NEW_APP.excluded[name] for name in ("sealed", "last_step", "created_at_ms", "rests_on_password")},
)
_APP = select(authenticators).where(authenticators.c.user_id == bindparam("user"))
_SPEND_STEP = (
    update(authenticators)
    .where(
        authenticators.c.user_id == bindparam("user"),
        authenticators.c.sealed == bindparam("same_sealed"),
        authenticators.c.last_step < bindparam("step"),
    )
    .values(last_step=bindparam("step"))
)
_REMOVE_APP = delete(authenticators).where(authenticators.c.user_id == bindparam("user"))


def set_authenticator(tx: Transaction, app: Authenticator) -> None:
    values = {
        "user_id": app.user_id,
        "sealed": app.sealed,
        "last_step": app.last_step,
        "created_at_ms": app.created_at_ms,
        "rests_on_password": int(app.rests_on_password),
    }
    tx.run(_SET_APP, values)


def find_authenticator(tx: Transaction, user_id: str) -> Authenticator | None:
    row = tx.first(_APP, {"user": user_id})
    if row is None:
        return None
    return Authenticator(
        row["user_id"],
        bytes(row["sealed"]),
        int(row["last_step"]),
        int(row["created_at_ms"]),
        bool(row["rests_on_password"]),
    )


def spend_step(tx: Transaction, app: Authenticator, step: int) -> bool:
    """Use the code of a step up. False when it, or a later one, was used before, or the app was replaced."""
    return tx.run(_SPEND_STEP, {"user": app.user_id, "same_sealed": app.sealed, "step": step}) == 1


def delete_authenticator(tx: Transaction, user_id: str) -> bool:
    return tx.run(_REMOVE_APP, {"user": user_id}) == 1


# -- recovery codes

_ADD_CODE = insert(recovery_codes)
_CODES = select(recovery_codes).where(recovery_codes.c.user_id == bindparam("user"))
_SPEND_CODE = (
    update(recovery_codes)
    .where(
        recovery_codes.c.digest == bindparam("secret_digest"),
        recovery_codes.c.user_id == bindparam("user"),
        recovery_codes.c.used_at_ms.is_(None),
    )
    .values(used_at_ms=bindparam("now"))
)
_REMOVE_CODES = delete(recovery_codes).where(recovery_codes.c.user_id == bindparam("user"))


def replace_recovery_codes(tx: Transaction, user_id: str, digests: list[bytes]) -> None:
    """These are the person's codes from now on, and no others."""
    tx.run(_REMOVE_CODES, {"user": user_id})
    for digest in digests:
        tx.run(_ADD_CODE, {"digest": digest, "user_id": user_id, "used_at_ms": None})


def recovery_codes_of(tx: Transaction, user_id: str) -> list[RecoveryCode]:
    return [
        RecoveryCode(
            bytes(row["digest"]), row["user_id"], None if row["used_at_ms"] is None else int(row["used_at_ms"])
        )
        for row in tx.rows(_CODES, {"user": user_id})
    ]


def spend_recovery_code(tx: Transaction, user_id: str, digest: bytes, now_ms: int) -> bool:
    """Use a code up. False when it is none of this person's, or was used before."""
    return tx.run(_SPEND_CODE, {"user": user_id, "secret_digest": digest, "now": now_ms}) == 1


def delete_recovery_codes(tx: Transaction, user_id: str) -> int:
    return tx.run(_REMOVE_CODES, {"user": user_id})


def delete_every_recovery_code(tx: Transaction) -> None:
    tx.run(delete(recovery_codes))
