"""Find entries by what they say, at a cost that does not grow with the log.

Every search follows one index (a leg; several for a prefix or an actor), newest or oldest first, and looks at no more
than `MAX_CANDIDATES` of its entries. A page may therefore be short, or empty, and still have a cursor to go on from.
"""

import heapq
import json
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Select, Text, bindparam, func, select, tuple_

from entobot.audit.events import Outcome
from entobot.audit.model import Found, Page
from entobot.audit.store import find_event_after, found, last_seq, log, personal, with_personal
from entobot.storage.database import Row, Transaction

MAX_CANDIDATES = 10_000
MAX_LEGS = 12
"""A prefix of more events than these is looked for entry by entry."""
MAX_SEQ = 2**53


@dataclass(frozen=True, slots=True)
class Filters:
    """Which entries: all that are given must hold.

    `event` is an event's name, or the beginning of one up to a dot (`invite.`); `actor` a user id or a device id; times
    are since ≤ at < until. `text` stands somewhere in the event's name, an id, a fact or a personal value, without
    regard to case in ASCII.
    """

    event: str | None = None
    actor: str | None = None
    subject: str | None = None
    outcome: Outcome | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    text: str | None = None

    def given(self) -> dict[str, object]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


ALL = Filters()


@dataclass(frozen=True, slots=True)
class Span:
    """Entries with low ≤ seq ≤ high, upwards or downwards."""

    low: int
    high: int
    is_upward: bool


def find_page(tx: Transaction, filters: Filters, *, after: int | None, before: int | None, limit: int) -> Page:
    """See `Audit.find`. Raises ValueError for an altered entry that cannot be read."""
    span = _span(tx, filters, after, before)
    legs, rest = _plan(tx, filters)
    looked = _narrowed(tx, legs, span) if rest else span
    rows = [_leg_rows(tx, rest | leg, looked, limit + 1) for leg in legs]
    order = heapq.merge(*rows, key=_seq if span.is_upward else _downward)
    page = [row for row, _ in zip(order, range(limit + 1), strict=False)]
    entries = [found(row) for row in page[:limit]]
    shown = [one for one in entries if filters.text is None or _says(one, filters.text)]
    if len(page) > limit:
        return Page(shown, entries[-1].entry.seq)
    if looked == span:
        return Page(shown, None)
    return Page(shown, looked.high if span.is_upward else looked.low)


def _span(tx: Transaction, filters: Filters, after: int | None, before: int | None) -> Span:
    low, high = 1 if after is None else after + 1, last_seq(tx) if before is None else before - 1
    # Numbers and times grow together but for clocks that were set back: bounds by time are exact, and rarely loose.
    if filters.since_ms is not None:
        row = tx.first(_FIRST_SINCE, {"since_ms": filters.since_ms})
        low = max(low, MAX_SEQ if row is None or row["seq"] is None else int(row["seq"]))
    if filters.until_ms is not None:
        row = tx.first(_LAST_UNTIL, {"until_ms": filters.until_ms})
        high = min(high, 0 if row is None or row["seq"] is None else int(row["seq"]))
    return Span(low, high, after is not None)


def _plan(tx: Transaction, filters: Filters) -> tuple[list[dict[str, object]], dict[str, object]]:
    """What each leg looks up in its index (one empty leg goes by number), and what its entries must meet besides."""
    rest = filters.given()
    legs: list[dict[str, object]] = [{}]
    if filters.subject is not None:
        legs = [{"subject": rest.pop("subject")}]
    elif filters.actor is not None:
        rest.pop("actor")
        legs = [{"actor_user": filters.actor}, {"actor_device": filters.actor}]
    elif filters.event is not None and len(names := _events(tx, filters.event)) <= MAX_LEGS:
        rest.pop("event")
        legs = [{"event": name} for name in names]
    elif filters.outcome is not None:
        legs = [{"outcome": rest.pop("outcome")}]
    if filters.text is not None:
        rest |= _patterns(str(rest.pop("text")))
    if "event" in rest and str(rest["event"]).endswith("."):
        start = str(rest.pop("event"))
        rest |= {"event_start": start, "event_end": start[:-1] + "/"}  # what follows a dot in ASCII
    return legs, rest


def _events(tx: Transaction, wanted: str) -> list[str]:
    """The events of a prefix that are in the log, a few more than `MAX_LEGS` at most."""
    if not wanted.endswith("."):
        return [wanted]
    names: list[str] = []
    name: str | None = wanted
    while len(names) <= MAX_LEGS and (name := find_event_after(tx, name)) is not None and name.startswith(wanted):
        names.append(name)
    return names


def _narrowed(tx: Transaction, legs: Sequence[Mapping[str, object]], span: Span) -> Span:
    """The part of `span` that holds at most `MAX_CANDIDATES` entries of the legs, `span` itself where it does."""
    low, high = span.low, span.high
    most = MAX_CANDIDATES // max(1, len(legs))
    for leg in legs:
        end = _end_of_leg(tx, leg, span, most)
        if end is not None and span.is_upward:
            high = min(high, end)
        elif end is not None:
            low = max(low, end)
    return Span(low, high, span.is_upward)


def _end_of_leg(tx: Transaction, leg: Mapping[str, object], span: Span, most: int) -> int | None:
    """The number of its last candidate; None where the span ends before."""
    if not leg:  # numbers have no gaps
        end = span.low + most - 1 if span.is_upward else span.high - most + 1
        return end if span.low < end < span.high else None
    row = tx.first(
        _nth(frozenset(leg), is_upward=span.is_upward), {**leg, "low": span.low, "high": span.high, "skipped": most - 1}
    )
    return None if row is None else int(row["seq"])


def _leg_rows(tx: Transaction, given: Mapping[str, object], span: Span, count: int) -> list[Row]:
    if span.low > span.high:
        return []
    statement = _matching(frozenset(given), is_upward=span.is_upward)
    return tx.rows(statement, {**given, "low": span.low, "high": span.high, "count": count})


def _seq(row: Row) -> int:
    return int(row["seq"])


def _downward(row: Row) -> int:
    return -int(row["seq"])


# -- text

_ASCII_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def _folded(text: str) -> str:
    """As `lower()` of both databases: ASCII only."""
    return text.translate(_ASCII_LOWER)


def _patterns(text: str) -> dict[str, object]:
    """For columns of plain text and for those of JSON: everything that says `text`, and a little more."""
    in_json = json.dumps(text, ensure_ascii=False)[1:-1]
    return {"like_text": _like(text), "like_json": _like(in_json)}


def _like(text: str) -> str:
    escaped = _folded(text).replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


def _says(one: Found, text: str) -> bool:
    """Whether a value says it: the columns hold names of fields and salts as well."""
    entry, wanted = one.entry, _folded(text)
    values: list[object] = [entry.event, entry.subject, *entry.facts.values()]
    if entry.actor is not None:
        values += [entry.actor.user_id, entry.actor.device_id]
    values += (one.personal or {}).values()
    return any(wanted in _folded(str(value)) for value in values if value is not None and not isinstance(value, bool))


def _contains(column: ColumnElement[str], name: str) -> ColumnElement[bool]:
    return func.lower(column).like(bindparam(name), escape="\\")


# -- statements

_FIRST_SINCE = select(func.min(log.c.seq + 0).label("seq")).where(log.c.at_ms >= bindparam("since_ms"))
_LAST_UNTIL = select(func.max(log.c.seq + 0).label("seq")).where(log.c.at_ms < bindparam("until_ms"))
"""`+ 0`: else a planner may walk the entries by number until one is of that time."""

_CONDITIONS: dict[str, ColumnElement[bool]] = {
    "actor": (log.c.actor_user == bindparam("actor")) | (log.c.actor_device == bindparam("actor")),
    "event": log.c.event == bindparam("event"),
    "event_end": log.c.event < bindparam("event_end"),
    "event_start": log.c.event >= bindparam("event_start"),
    "like_text": (
        _contains(log.c.event, "like_text")
        | _contains(log.c.subject, "like_text")
        | _contains(log.c.actor_user, "like_text")
        | _contains(log.c.actor_device, "like_text")
        | _contains(log.c.facts, "like_json")
        | _contains(personal.c.fields, "like_json")
    ),
    "outcome": log.c.outcome == bindparam("outcome"),
    "since_ms": log.c.at_ms >= bindparam("since_ms"),
    "until_ms": log.c.at_ms < bindparam("until_ms"),
}


LOOKED_UP = ("subject", "actor_user", "actor_device", "event", "outcome")
"""Columns with an index in the order of the entries. Of those that a leg names the first is followed."""


@cache
def _nth(names: frozenset[str], *, is_upward: bool) -> Select[tuple[int]]:
    return _in_order(select(log.c.seq), names, is_upward=is_upward).limit(1).offset(bindparam("skipped"))


@cache
def _matching(names: frozenset[str], *, is_upward: bool) -> Select[tuple[object, ...]]:
    return _in_order(with_personal, names, is_upward=is_upward).limit(bindparam("count"))


def _in_order(statement: Select[Any], names: frozenset[str], *, is_upward: bool) -> Select[Any]:
    """Follows one index. Bounds and order are said of both of its columns: of an equality and a number PostgreSQL may
    think that it will soon be met by going through all entries by number.
    """
    column = next((name for name in LOOKED_UP if name in names), None)
    conditions = [_CONDITIONS[name] for name in sorted(names) if name not in (column, "like_json")]
    low, high = bindparam("low", type_=BigInteger), bindparam("high", type_=BigInteger)
    if column is None:
        order, bounds = [log.c.seq], [log.c.seq >= low, log.c.seq <= high]
    else:
        order = [log.c[column], log.c.seq]
        value = bindparam(column, type_=Text)
        bounds = [tuple_(*order) >= tuple_(value, low), tuple_(*order) <= tuple_(value, high)]
    ordered = order if is_upward else [one.desc() for one in order]
    return statement.where(*conditions, *bounds).order_by(*ordered)
