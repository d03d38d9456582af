"""Rows of readings, of the hours that are made of them, of batches and events."""

from sqlalchemy import and_, bindparam, case, delete, func, insert, select

from entobot.storage.database import Transaction
from entobot.storage.upsert import upsert
from entobot.things.model import MAX_NUMBER, Happening, Point, Reading, State, Value, kind_of
from entobot.things.store import columns_of, value_of
from entobot.things.tables import batches, events, hours, readings, series

_R, _H, _B, _E, _S = readings.c, hours.c, batches.c, events.c, series.c
HOUR_MS = 3600_000

# readings

_ADD = upsert(readings).on_conflict_do_nothing()
_WITHIN = and_(_R.series == bindparam("of_series"), _R.at_ms >= bindparam("since"), _R.at_ms < bindparam("until"))
_SLOT = (_R.at_ms // bindparam("width", type_=_R.at_ms.type)).label("slot")
_IS_SANE = _R.number.between(-MAX_NUMBER, MAX_NUMBER)
"""Greater ones may be kept from before they were refused: of two of them there is no sum."""
_SLOTTED = select(_SLOT, _R.number).where(_WITHIN, _IS_SANE).subquery()
_POINTS = (
    select(
        _SLOTTED.c.slot,
        func.count().label("count"),
        func.min(_SLOTTED.c.number).label("low"),
        func.avg(_SLOTTED.c.number).label("mean"),
        func.max(_SLOTTED.c.number).label("high"),
    )
    .group_by(_SLOTTED.c.slot)
    .order_by(_SLOTTED.c.slot)
)
_TEXTS = (
    select(_R.at_ms, _R.text).where(_WITHIN, _R.text.is_not(None)).order_by(_R.at_ms.desc()).limit(bindparam("count"))
)
_HOURS_WITHIN = (
    select(hours)
    .where(
        _H.series == bindparam("of_series"),
        _H.start_ms >= bindparam("since"),
        _H.start_ms < bindparam("until"),
        _H.low >= -MAX_NUMBER,
        _H.high <= MAX_NUMBER,
    )
    .order_by(_H.start_ms)
)


def add_reading(tx: Transaction, number: int, one: Reading) -> None:
    """The same reading again changes nothing."""
    as_number, as_text = columns_of(one.value)
    tx.add(_ADD, {"series": number, "at_ms": one.at_ms, "number": as_number, "text": as_text})


def points(tx: Transaction, number: int, since_ms: int, until_ms: int, width_ms: int) -> list[Point]:
    """Numbers, put together for each `width_ms`, oldest first."""
    given = {"of_series": number, "since": since_ms, "until": until_ms, "width": width_ms}
    return [
        Point(int(row["slot"]) * width_ms, int(row["count"]), row["low"], row["mean"], row["high"])
        for row in tx.rows(_POINTS, given)
    ]


def hour_rows(tx: Transaction, number: int, since_ms: int, until_ms: int) -> list[Point]:
    given = {"of_series": number, "since": since_ms, "until": until_ms}
    return [
        Point(int(row["start_ms"]), int(row["count"]), row["low"], row["total"] / row["count"], row["high"])
        for row in tx.rows(_HOURS_WITHIN, given)
    ]


def texts(tx: Transaction, number: int, since_ms: int, until_ms: int, count: int) -> list[Point]:
    """The newest so many, oldest first."""
    given = {"of_series": number, "since": since_ms, "until": until_ms, "count": count}
    return [Point(int(row["at_ms"]), 1, text=row["text"]) for row in reversed(tx.rows(_TEXTS, given))]


_EACH = select(_R.at_ms, _R.number, _R.text).where(_WITHIN).order_by(_R.at_ms).limit(bindparam("count"))


def each(tx: Transaction, state: State, since_ms: int, until_ms: int, count: int) -> list[tuple[int, Value]]:
    """The first so many, oldest first."""
    kind = kind_of(state.value)
    given = {"of_series": state.series, "since": since_ms, "until": until_ms, "count": count}
    return [(int(row["at_ms"]), value_of(row, kind)) for row in tx.rows(_EACH, given)]


# folding into hours, and forgetting

_FIRST_OF = select(func.min(_R.at_ms).label("at_ms")).where(_R.series == bindparam("of_series"))
_NTH = select(_R.at_ms).where(_WITHIN).order_by(_R.at_ms).limit(1).offset(bindparam("skipped"))
_FOLDED = select(
    func.count(_R.number).label("count"),
    func.sum(_R.number).label("total"),
    func.min(_R.number).label("low"),
    func.max(_R.number).label("high"),
).where(_WITHIN, _IS_SANE)
_MERGE = upsert(hours)
_NEW = _MERGE.excluded
_ADD_HOUR = _MERGE.on_conflict_do_update(
    index_elements=["series", "start_ms"],
    set_={
        "count": _H.count + _NEW["count"],
        "total": _H.total + _NEW["total"],
        "low": case((_NEW["low"] < _H.low, _NEW["low"]), else_=_H.low),
        "high": case((_NEW["high"] > _H.high, _NEW["high"]), else_=_H.high),
    },
)
_DELETE_WITHIN = delete(readings).where(_WITHIN)
_DELETE_HOURS = delete(hours).where(_H.series == bindparam("of_series"), _H.start_ms < bindparam("before"))
_SERIES = select(_S.series).where(_S.series > bindparam("after")).order_by(_S.series).limit(bindparam("count"))
_OLD_BATCHES = delete(batches).where(_B.at_ms < bindparam("before"))


def series_after(tx: Transaction, after: int, count: int) -> list[int]:
    return [int(row["series"]) for row in tx.rows(_SERIES, {"after": after, "count": count})]


def first_reading_ms(tx: Transaction, number: int) -> int | None:
    row = tx.first(_FIRST_OF, {"of_series": number})
    return None if row is None or row["at_ms"] is None else int(row["at_ms"])


def fold(tx: Transaction, number: int, at_ms: int, most: int) -> None:
    """The first `most` readings from `at_ms` on, of its hour, become part of that hour's row. Texts are dropped,
    and numbers that are out of bounds.
    """
    start_ms = at_ms - at_ms % HOUR_MS
    given = {"of_series": number, "since": at_ms, "until": start_ms + HOUR_MS}
    after = tx.first(_NTH, given | {"skipped": most})
    if after is not None:
        given["until"] = int(after["at_ms"])
    found = tx.first(_FOLDED, given)
    if found is not None and found["count"]:
        values = {name: found[name] for name in ("count", "total", "low", "high")}
        tx.run(_ADD_HOUR, {"series": number, "start_ms": start_ms, **values})
    tx.run(_DELETE_WITHIN, given)


def delete_hours(tx: Transaction, number: int, before_ms: int) -> None:
    tx.run(_DELETE_HOURS, {"of_series": number, "before": before_ms})


# batches

_KNOW = upsert(batches).on_conflict_do_nothing()


def know_batch(tx: Transaction, device_id: str, batch: str, now_ms: int) -> bool:
    """False where it was known."""
    return tx.run(_KNOW, {"device_id": device_id, "batch": batch, "at_ms": now_ms}) == 1


def forget_batches(tx: Transaction, before_ms: int) -> None:
    tx.run(_OLD_BATCHES, {"before": before_ms})


# events

_ADD_EVENT = insert(events)
_EVENTS_OF = select(events).where(_E.device_id == bindparam("device")).order_by(_E.id.desc()).limit(bindparam("count"))
_NTH_EVENT = (
    select(_E.id)
    .where(_E.device_id == bindparam("device"))
    .order_by(_E.id.desc())
    .limit(1)
    .offset(bindparam("skipped"))
)
_DELETE_EVENTS = delete(events).where(_E.device_id == bindparam("device"), _E.id <= bindparam("up_to"))


def add_event(tx: Transaction, device_id: str, one: Happening) -> None:
    tx.add(_ADD_EVENT, {"device_id": device_id, "name": one.name, "data": one.data, "at_ms": one.at_ms})


def events_of(tx: Transaction, device_id: str, count: int) -> list[Happening]:
    """Newest first."""
    return [
        Happening(row["name"], row["data"], int(row["at_ms"]))
        for row in tx.rows(_EVENTS_OF, {"device": device_id, "count": count})
    ]


def has_more_events(tx: Transaction, device_id: str, than: int) -> bool:
    return tx.first(_NTH_EVENT, {"device": device_id, "skipped": than}) is not None


def trim_events(tx: Transaction, device_id: str, keep: int) -> None:
    row = tx.first(_NTH_EVENT, {"device": device_id, "skipped": keep})
    if row is not None:
        tx.run(_DELETE_EVENTS, {"device": device_id, "up_to": int(row["id"])})
