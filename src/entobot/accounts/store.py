"""The table of people."""

from sqlalchemy import BigInteger, Column, Table, Text, bindparam, insert, select

from entobot.accounts.model import User
from entobot.core.permissions import Role
from entobot.storage.database import Row, Transaction, metadata

users = Table(
    "users",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
)

_INSERT = insert(users)
_BY_ID = select(users).where(users.c.user_id == bindparam("user"))
_OWNER = (
    select(users).where(users.c.role == bindparam("role")).order_by(users.c.created_at_ms, users.c.user_id).limit(1)
)


def insert_user(tx: Transaction, user: User) -> None:
    tx.run(
        _INSERT,
        {"user_id": user.user_id, "name": user.name, "role": user.role, "created_at_ms": user.created_at_ms},
    )


def find_user(tx: Transaction, user_id: str) -> User | None:
    return _user(tx.first(_BY_ID, {"user": user_id}))


def find_owner(tx: Transaction) -> User | None:
    return _user(tx.first(_OWNER, {"role": Role.OWNER}))


def _user(row: Row | None) -> User | None:
    return None if row is None else User(row["user_id"], row["name"], Role(row["role"]), int(row["created_at_ms"]))
