"""The table of people."""

from collections.abc import Iterable

from sqlalchemy import BigInteger, Column, Index, Table, Text, bindparam, func, literal_column, select, update

from entobot.accounts.model import User
from entobot.core.permissions import Role
from entobot.storage.database import Row, Transaction, metadata
from entobot.storage.upsert import upsert

users = Table(
    "users",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("login", Text, nullable=False),
    Column("disabled_at_ms", BigInteger),
    Index("ix_users_login", "login", unique=True),
)

_INSERT = upsert(users).on_conflict_do_nothing()
_BY_ID = select(users).where(users.c.user_id == bindparam("user"))
_BY_LOGIN = select(users).where(users.c.login == bindparam("login"))
_OWNER = (
    select(users)
    .where(users.c.role == bindparam("role"), users.c.disabled_at_ms.is_(None))
    .order_by(users.c.created_at_ms, users.c.user_id)
    .limit(1)
)
_PAGE = select(users).where(users.c.user_id > bindparam("after")).order_by(users.c.user_id).limit(bindparam("count"))
_ACTIVE = select(func.count().label("people")).select_from(users).where(users.c.disabled_at_ms.is_(None))
_ACTIVE_OWNERS = select(func.count().label("owners")).where(
    users.c.role == literal_column(f"'{Role.OWNER}'"), users.c.disabled_at_ms.is_(None)
)
_ACTIVE_IDS = (
    select(users.c.user_id)
    .where(users.c.role == bindparam("role"), users.c.disabled_at_ms.is_(None))
    .order_by(users.c.user_id)
)
_CHANGE = (
    update(users)
    .where(users.c.user_id == bindparam("user"))
    .values(
        name=bindparam("to_name"),
        role=bindparam("to_role"),
        login=bindparam("to_login"),
        disabled_at_ms=bindparam("to_disabled"),
    )
)


def insert_user(tx: Transaction, user: User) -> bool:
    """False when somebody has the login."""
    values = {
        "user_id": user.user_id,
        "name": user.name,
        "role": user.role,
        "created_at_ms": user.created_at_ms,
        "login": user.login,
        "disabled_at_ms": user.disabled_at_ms,
    }
    return tx.run(_INSERT, values) == 1


def change_user(tx: Transaction, after: User) -> None:
    values = {
        "user": after.user_id,
        "to_name": after.name,
        "to_role": after.role,
        "to_login": after.login,
        "to_disabled": after.disabled_at_ms,
    }
    tx.run(_CHANGE, values)


def find_user(tx: Transaction, user_id: str) -> User | None:
    return _user(tx.first(_BY_ID, {"user": user_id}))


def find_by_login(tx: Transaction, login: str) -> User | None:
    return _user(tx.first(_BY_LOGIN, {"login": login}))


def find_owner(tx: Transaction) -> User | None:
    """The first who is not disabled."""
    return _user(tx.first(_OWNER, {"role": Role.OWNER}))


def page(tx: Transaction, after: str, count: int) -> list[User]:
    """In the order in which they were added, those after this id."""
    return [_of(row) for row in tx.rows(_PAGE, {"after": after, "count": count})]


def count_active(tx: Transaction) -> int:
    row = tx.first(_ACTIVE)
    return 0 if row is None else int(row["people"])


def count_active_owners(tx: Transaction) -> int:
    row = tx.first(_ACTIVE_OWNERS)
    return 0 if row is None else int(row["owners"])


def active_ids(tx: Transaction, roles: Iterable[Role]) -> list[str]:
    """Of everybody in one of these roles who is not disabled."""
    return [row["user_id"] for role in roles for row in tx.rows(_ACTIVE_IDS, {"role": role})]


def _user(row: Row | None) -> User | None:
    return None if row is None else _of(row)


def _of(row: Row) -> User:
    disabled = row["disabled_at_ms"]
    return User(
        user_id=row["user_id"],
        name=row["name"],
        role=Role(row["role"]),
        created_at_ms=int(row["created_at_ms"]),
        login=row["login"],
        disabled_at_ms=None if disabled is None else int(disabled),
    )
