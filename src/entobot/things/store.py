"""Rows of types, things, and the newest of each reading."""

import json
from typing import Any

from sqlalchemy import ColumnElement, and_, bindparam, delete, func, insert, not_, or_, select, update

from entobot.storage.database import Row, Transaction
from entobot.storage.upsert import upsert
from entobot.things.model import GRACE_MS, Kind, Reading, State, Thing, ThingStatus, Value
from entobot.things.tables import series, things, types

_AT_ALL = 2**62
"""Longer than any silence, in ms."""
_Y, _T, _S = types.c, things.c, series.c
_OF_DEVICE = _T.device_id == bindparam("device")

# types

_PUT = upsert(types)
_PUT_TYPE = _PUT.on_conflict_do_update(
    index_elements=["name"], set_={"body": _PUT.excluded["body"], "changed_at_ms": _PUT.excluded["changed_at_ms"]}
)
_TYPE = select(types).where(_Y.name == bindparam("of_name"))
_TYPES = select(types).order_by(_Y.name)
_COUNT_TYPES = select(func.count().label("many")).select_from(types)
_DELETE_TYPE = delete(types).where(
    _Y.name == bindparam("of_name"), ~select(_T.device_id).where(_T.type == _Y.name).exists()
)


def put_type(tx: Transaction, name: str, body: str, now_ms: int) -> None:
    tx.run(_PUT_TYPE, {"name": name, "body": body, "changed_at_ms": now_ms})


def find_type(tx: Transaction, name: str) -> dict[str, Any] | None:
    row = tx.first(_TYPE, {"of_name": name})
    return None if row is None else json.loads(row["body"])


def list_types(tx: Transaction) -> list[dict[str, Any]]:
    return [json.loads(row["body"]) for row in tx.rows(_TYPES)]


def count_types(tx: Transaction) -> int:
    row = tx.first(_COUNT_TYPES)
    return 0 if row is None else int(row["many"])


def delete_type(tx: Transaction, name: str) -> bool:
    """False where it is not there, or a thing is of it."""
    return tx.run(_DELETE_TYPE, {"of_name": name}) == 1


# things

_ADD = upsert(things).on_conflict_do_nothing()
_THING = select(things).where(_OF_DEVICE)
_AFTER = _T.device_id > bindparam("after")
_PAGE = select(things).where(_AFTER).order_by(_T.device_id).limit(bindparam("count"))
_OWN_PAGE = (
    select(things).where(_T.user_id == bindparam("user"), _AFTER).order_by(_T.device_id).limit(bindparam("count"))
)
_OF_TYPE = select(_T.device_id).where(_T.type == bindparam("of_type")).order_by(_T.device_id).limit(bindparam("count"))
_ASSIGN = update(things).where(_OF_DEVICE).values(type=bindparam("to_type"))
_HEARD = (
    update(things)
    .where(_OF_DEVICE)
    .values(heard_ms=bindparam("now"), stale_at_ms=bindparam("stale"), offline_at_ms=bindparam("offline"))
)
_HEARD_THEN = _HEARD.where(or_(_T.heard_ms.is_(None), _T.heard_ms < bindparam("now")))
_SET_STATUS = (
    update(things)
    .where(_OF_DEVICE, _T.status != bindparam("to_status"))
    .values(status=bindparam("to_status"), status_at_ms=bindparam("now"))
)
_SAID = (
    update(things)
    .where(_OF_DEVICE)
    .values(
        firmware=func.coalesce(bindparam("to_firmware", type_=_T.firmware.type), _T.firmware),
        every_s=func.coalesce(bindparam("to_every", type_=_T.every_s.type), _T.every_s),
    )
)
_REFUSED = (
    update(things)
    .where(_OF_DEVICE)
    .values(refused=_T.refused + 1, refused_at_ms=bindparam("now"), refused_why=bindparam("why"))
)


def _is_past(end: ColumnElement[int]) -> ColumnElement[bool]:
    """As `Thing.status_at` has it."""
    return and_(
        end <= bindparam("now"), or_(_T.heard_ms >= bindparam("since"), end - _T.heard_ms <= bindparam("listened"))
    )


_FALLEN_STALE = (
    select(things)
    .where(_T.status == ThingStatus.ONLINE.value, _is_past(_T.stale_at_ms), not_(_is_past(_T.offline_at_ms)))
    .limit(bindparam("count"))
)
_FALLEN_OFFLINE = (
    select(things)
    .where(or_(_T.status == ThingStatus.ONLINE.value, _T.status == ThingStatus.STALE.value), _is_past(_T.offline_at_ms))
    .limit(bindparam("count"))
)
_FALL = (
    update(things)
    .where(_OF_DEVICE, _T.heard_ms == bindparam("heard"), _T.status == bindparam("from_status"))
    .values(status=bindparam("to_status"), status_at_ms=bindparam("now"))
)


def add_thing(tx: Transaction, device_id: str, user_id: str, now_ms: int) -> None:
    """Does nothing where it is there."""
    tx.run(
        _ADD,
        {
            "device_id": device_id,
            "user_id": user_id,
            "type": None,
            "status": ThingStatus.NEVER,
            "status_at_ms": now_ms,
            "heard_ms": None,
            "stale_at_ms": None,
            "offline_at_ms": None,
            "every_s": None,
            "firmware": "",
            "refused": 0,
            "refused_at_ms": None,
            "refused_why": "",
        },
    )


def find_thing(tx: Transaction, device_id: str) -> Thing | None:
    row = tx.first(_THING, {"device": device_id})
    return None if row is None else _thing(row)


def page(tx: Transaction, user_id: str | None, after: str, count: int) -> list[Thing]:
    """By device id; everybody's for None."""
    given = {"after": after, "count": count}
    rows = tx.rows(_PAGE, given) if user_id is None else tx.rows(_OWN_PAGE, given | {"user": user_id})
    return [_thing(row) for row in rows]


def of_type(tx: Transaction, type_name: str, count: int) -> list[str]:
    return [row["device_id"] for row in tx.rows(_OF_TYPE, {"of_type": type_name, "count": count})]


def assign(tx: Transaction, device_id: str, type_name: str | None) -> None:
    tx.run(_ASSIGN, {"device": device_id, "to_type": type_name})


def heard(tx: Transaction, device_id: str, now_ms: int, stale_at_ms: int, offline_at_ms: int) -> None:
    given = {"device": device_id, "now": now_ms, "stale": stale_at_ms, "offline": offline_at_ms}
    tx.add_latest(_HEARD, device_id, given)


def heard_then(tx: Transaction, device_id: str, at_ms: int, stale_at_ms: int, offline_at_ms: int) -> None:
    """Nothing changes where it was heard since."""
    tx.add(_HEARD_THEN, {"device": device_id, "now": at_ms, "stale": stale_at_ms, "offline": offline_at_ms})


def set_status(tx: Transaction, device_id: str, status: ThingStatus, now_ms: int) -> bool:
    """False where it is so already."""
    return tx.run(_SET_STATUS, {"device": device_id, "to_status": status, "now": now_ms}) == 1


def note_said(tx: Transaction, device_id: str, firmware: str | None, every_s: int | None) -> None:
    tx.run(_SAID, {"device": device_id, "to_firmware": firmware, "to_every": every_s})


def note_refused(tx: Transaction, device_id: str, why: str, now_ms: int) -> None:
    tx.add(_REFUSED, {"device": device_id, "why": why, "now": now_ms})


def fallen(tx: Transaction, now_ms: int, listens_since_ms: int, count: int) -> list[Thing]:
    """Some of those that are noted as more alive than they are."""
    listened_ms = now_ms - listens_since_ms
    given = {
        "now": now_ms,
        "since": listens_since_ms,
        "listened": listened_ms if listened_ms < GRACE_MS else _AT_ALL,
        "count": count,
    }
    return [_thing(row) for row in (*tx.rows(_FALLEN_OFFLINE, given), *tx.rows(_FALLEN_STALE, given))]


def fall(tx: Transaction, one: Thing, status: ThingStatus, now_ms: int) -> bool:
    """False where something was heard of it meanwhile."""
    given = {
        "device": one.device_id,
        "heard": one.heard_ms,
        "from_status": one.status,
        "to_status": status,
        "now": now_ms,
    }
    return tx.run(_FALL, given) == 1


def _thing(row: Row) -> Thing:
    return Thing(
        device_id=row["device_id"],
        user_id=row["user_id"],
        type=row["type"],
        status=ThingStatus(row["status"]),
        status_at_ms=int(row["status_at_ms"]),
        heard_ms=row["heard_ms"],
        stale_at_ms=row["stale_at_ms"],
        offline_at_ms=row["offline_at_ms"],
        every_s=row["every_s"],
        firmware=row["firmware"],
        refused=int(row["refused"]),
        refused_at_ms=row["refused_at_ms"],
        refused_why=row["refused_why"],
    )


# the newest of each reading

_INSERT_SERIES = insert(series).returning(_S.series)
_FIND_SERIES = select(series).where(_S.device_id == bindparam("device"), _S.name == bindparam("of_name"))
_SERIES_OF = select(series).where(_S.device_id == bindparam("device")).order_by(_S.name)
_COUNT_SERIES = select(func.count().label("many")).where(_S.device_id == bindparam("device"))
_SET_STATE = (
    update(series)
    .where(_S.series == bindparam("of_series"), _S.at_ms <= bindparam("at"))
    .values(kind=bindparam("to_kind"), number=bindparam("to_number"), text=bindparam("to_text"), at_ms=bindparam("at"))
)


def find_series(tx: Transaction, device_id: str, name: str) -> int | None:
    row = tx.first(_FIND_SERIES, {"device": device_id, "of_name": name})
    return None if row is None else int(row["series"])


def count_series(tx: Transaction, device_id: str) -> int:
    row = tx.first(_COUNT_SERIES, {"device": device_id})
    return 0 if row is None else int(row["many"])


def insert_series(tx: Transaction, device_id: str, one: Reading) -> int:
    number, text = columns_of(one.value)
    row = tx.first(
        _INSERT_SERIES,
        {
            "device_id": device_id,
            "name": one.name,
            "kind": one.kind,
            "number": number,
            "text": text,
            "at_ms": one.at_ms,
        },
    )
    assert row is not None
    return int(row["series"])


def set_state(tx: Transaction, number: int, one: Reading) -> None:
    """Where it is the newest."""
    as_number, as_text = columns_of(one.value)
    given = {
        "of_series": number,
        "at": one.at_ms,
        "to_kind": one.kind,
        "to_number": as_number,
        "to_text": as_text,
    }
    if one.is_own_time:
        tx.add(_SET_STATE, given)
    else:
        tx.add_latest(_SET_STATE, str(number), given)


def states_of(tx: Transaction, device_id: str) -> list[State]:
    """By name."""
    return [
        State(int(row["series"]), row["name"], value_of(row, row["kind"]), int(row["at_ms"]))
        for row in tx.rows(_SERIES_OF, {"device": device_id})
    ]


def columns_of(value: Value) -> tuple[float | None, str | None]:
    return (None, value) if isinstance(value, str) else (float(value), None)


def value_of(row: Row, kind: str) -> Value:
    if row["number"] is None:
        return str(row["text"])
    return bool(row["number"]) if kind == Kind.BOOLEAN else float(row["number"])
