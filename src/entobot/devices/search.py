"""Devices found by what is asked for: filters, three orders, and cursors that stand for a place in one of them."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any, Literal

from sqlalchemy import ColumnElement, Select, bindparam, func, select

from entobot.core.errors import Code, Problem
from entobot.core.ids import Prefix, is_id
from entobot.core.secrets import b64u, unb64u
from entobot.devices.model import Device, Platform, Status
from entobot.devices.store import devices, to_device
from entobot.storage.database import Row, Transaction

MAX_TEXT_CHARACTERS = 64
CALLED_SO = 100
_ESCAPE = "\\"


class Sort(StrEnum):
    NAME = "name"
    NEWEST = "newest"
    SEEN = "seen"
    """Seen last first; those never seen at the end."""


@dataclass(frozen=True, slots=True)
class Search:
    """None and empty mean any. `text` is a part of the name, or the whole id or key thumbprint."""

    text: str = ""
    status: Status | None = None
    platform: Platform | None = None
    user_id: str = ""
    credential: Literal["api_key", "device_key"] | None = None
    never_seen: bool = False
    sort: Sort = Sort.NEWEST


_FILTERS: dict[str, ColumnElement[bool]] = {
    "text": devices.c.name.ilike(bindparam("text"), escape=_ESCAPE)
    | (devices.c.device_id == bindparam("exact"))
    | (devices.c.thumbprint == bindparam("exact")),
    "status": devices.c.status == bindparam("status"),
    "platform": devices.c.platform == bindparam("platform"),
    "user_id": devices.c.user_id == bindparam("user_id"),
    "api_key": devices.c.jwk.is_(None),
    "device_key": devices.c.jwk.is_not(None),
    "never_seen": devices.c.last_seen_at_ms.is_(None),
}
_SEEN = func.coalesce(devices.c.last_seen_at_ms, 0)
_NAME = func.lower(devices.c.name)
_PLACE: dict[Sort, ColumnElement[Any]] = {Sort.SEEN: _SEEN, Sort.NAME: _NAME}
_BEHIND: dict[Sort, ColumnElement[bool]] = {
    Sort.NEWEST: devices.c.device_id < bindparam("at_id"),
    Sort.SEEN: (bindparam("at") > _SEEN) | ((bindparam("at") == _SEEN) & (devices.c.device_id < bindparam("at_id"))),
    Sort.NAME: (bindparam("at") < _NAME) | ((bindparam("at") == _NAME) & (devices.c.device_id < bindparam("at_id"))),
}
_ORDER: dict[Sort, tuple[ColumnElement[Any], ...]] = {
    Sort.NEWEST: (devices.c.device_id.desc(),),
    Sort.SEEN: (_SEEN.desc(), devices.c.device_id.desc()),
    Sort.NAME: (_NAME, devices.c.device_id.desc()),
}


@dataclass(frozen=True, slots=True)
class Hits:
    """`cursors` stand behind each of the devices."""

    devices: list[Device]
    cursors: list[str]


def find(tx: Transaction, search: Search, cursor: str | None, count: int) -> Hits:
    """At most `count`, from behind the cursor. Raises `invalid` for a cursor of another order."""
    given = _given(search)
    place = {} if cursor is None else _place(cursor, search.sort)
    statement = _statement(search.sort, frozenset(_names(search)), is_further=cursor is not None)
    rows = tx.rows(statement, {**given, **place, "count": count})
    return Hits([to_device(row) for row in rows], [_cursor(search.sort, row) for row in rows])


_CALLED = (
    select(devices)
    .where(func.lower(bindparam("name")) == _NAME, devices.c.status != Status.REVOKED.value)
    .order_by(devices.c.device_id)
    .limit(CALLED_SO)
)
_OWN_CALLED = _CALLED.where(devices.c.user_id == bindparam("user_id"))


def called(tx: Transaction, name: str, user_id: str | None) -> list[Device]:
    """Those of this name that are not revoked, everybody's for None; `CALLED_SO` at most, and where there are so many
    others may be called so. SQLite tells the case of A to Z only.
    """
    if user_id is None:
        return [to_device(row) for row in tx.rows(_CALLED, {"name": name})]
    return [to_device(row) for row in tx.rows(_OWN_CALLED, {"name": name, "user_id": user_id})]


def count(tx: Transaction, search: Search) -> int:
    """How many there are in all."""
    row = tx.first(_count(frozenset(_names(search))), _given(search))
    return 0 if row is None else int(row["found"])


def _names(search: Search) -> list[str]:
    wanted = {
        "text": search.text,
        "status": search.status,
        "platform": search.platform,
        "user_id": search.user_id,
        "never_seen": search.never_seen,
    }
    return [name for name, value in wanted.items() if value] + ([search.credential] if search.credential else [])


def _given(search: Search) -> dict[str, object]:
    values: dict[str, object] = {
        "status": search.status,
        "platform": search.platform,
        "user_id": search.user_id or None,
    }
    given = {name: value for name, value in values.items() if value is not None}
    if search.text:
        literal = search.text
        for sign in (_ESCAPE, "%", "_"):
            literal = literal.replace(sign, _ESCAPE + sign)
        given |= {"text": f"%{literal}%", "exact": search.text}
    return given


@cache
def _statement(sort: Sort, filters: frozenset[str], *, is_further: bool) -> Select[Any]:
    where = [_FILTERS[name] for name in sorted(filters)]
    place = _PLACE.get(sort)
    columns = select(devices) if place is None else select(devices, place.label("place"))
    behind = [_BEHIND[sort]] if is_further else []
    return columns.where(*where, *behind).order_by(*_ORDER[sort]).limit(bindparam("count"))


@cache
def _count(filters: frozenset[str]) -> Select[Any]:
    where = [_FILTERS[name] for name in sorted(filters)]
    return select(func.count().label("found")).select_from(devices).where(*where)


# -- cursors

_STORABLE = re.compile("[^\\0\ud800-\udfff]*")
"""What every database takes as text: no NUL, no half of a character."""
_KIND: dict[Sort, Callable[[object], bool]] = {
    Sort.NAME: lambda at: isinstance(at, str) and _STORABLE.fullmatch(at) is not None,
    Sort.SEEN: lambda at: type(at) is int and 0 <= at < 2**53,
}


def _cursor(sort: Sort, row: Row) -> str:
    if sort is Sort.NEWEST:
        return row["device_id"]
    return b64u(json.dumps([row["place"], row["device_id"]], ensure_ascii=False).encode())


def _place(cursor: str, sort: Sort) -> dict[str, object]:
    if sort is Sort.NEWEST:
        return {"at_id": _id(cursor)}
    try:
        at, device_id = json.loads(unb64u(cursor))
    except (ValueError, TypeError, RecursionError):
        raise _refused() from None
    if not _KIND[sort](at):
        raise _refused()
    return {"at": at, "at_id": _id(device_id)}


def _id(text: object) -> str:
    if not isinstance(text, str) or not is_id(text, Prefix.DEVICE):
        raise _refused()
    return text


def _refused() -> Problem:
    return Problem(Code.INVALID, "The cursor is not one that this list gave out.")
