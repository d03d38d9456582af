"""Writes whose outcome nobody asks for, put together: one round trip carries one of every table. Pure."""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

MAX_KINDS = 256
"""A gateway has a few dozen kinds of units that defer, each with the same statements every time."""
_PARAMETER = re.compile(r"\$(\d+)")


class Write(NamedTuple):
    """`sql` has the parameters `$1` and on; `values` are theirs."""

    table: str
    sql: str
    values: Sequence[object]


class Deferred:
    """Writes of one unit. Those of one table keep their order; those of different tables know nothing of one another."""

    __slots__ = ("_latest", "_trips")

    def __init__(self) -> None:
        self._trips: list[dict[str, Write]] = []
        self._latest: dict[tuple[str, str], dict[str, Write]] = {}

    def __bool__(self) -> bool:
        return bool(self._trips)

    def add(self, write: Write, key: str | None = None) -> None:
        """`key`: an earlier one of the same SQL and key is left out."""
        if key is not None and (former := self._latest.get((write.sql, key))) is not None:
            del former[write.table]
        trip = self._trip_after_the_last_of(write.table)
        trip[write.table] = write
        if key is not None:
            self._latest[write.sql, key] = trip

    def _trip_after_the_last_of(self, table: str) -> dict[str, Write]:
        """The statements of one round trip all see the table as it was before: a second write has to come later."""
        for number in range(len(self._trips), 0, -1):
            if table in self._trips[number - 1]:
                break
        else:
            number = 0
        if number == len(self._trips):
            self._trips.append({})
        return self._trips[number]

    def take(self) -> Iterator[tuple[str, list[object]]]:
        """SQL and values of each round trip. Nothing is deferred any more."""
        trips = self._trips
        self._trips, self._latest = [], {}
        for trip in trips:
            if trip:
                sql = together(tuple(write.sql for write in trip.values()))
                yield sql, [value for write in trip.values() for value in write.values]


@lru_cache(MAX_KINDS)
def together(statements: tuple[str, ...]) -> str:
    """One statement that executes them all; its parameters are theirs, one after another."""
    texts: list[str] = []
    offset = 0
    for sql in statements:
        texts.append(_PARAMETER.sub(lambda found, by=offset: f"${int(found[1]) + by}", sql))
        offset += max((int(number) for number in _PARAMETER.findall(sql)), default=0)
    *others, last = texts
    if not others:
        return last
    return f"WITH {', '.join(f'w{n} AS ({text})' for n, text in enumerate(others))} {last}"
