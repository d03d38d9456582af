"""Times of the day in a time zone: when a rule is due, and when it may fire. Pure."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
CLOCK = r"^([01]\d|2[0-3]):[0-5]\d$"
MINUTE_MS = 60_000
_CLOCK = re.compile(CLOCK)
_LOOK_DAYS = 15
"""Two weeks: whatever weekdays are named, one of them is among these."""


def clock_time(text: str) -> time:
    """Raises ValueError."""
    if _CLOCK.fullmatch(text) is None:
        raise ValueError("a time of day is hh:mm, from 00:00 to 23:59")
    return time(int(text[:2]), int(text[3:]))


@dataclass(frozen=True, slots=True)
class Schedule:
    """At a time of the day on some days of the week (none: all), or every so many minutes."""

    at: time | None
    days: Collection[str]
    every_minutes: int | None
    zone: tzinfo

    def after(self, now_ms: int) -> int:
        """The first time that is later. A time that a change of clocks leaves out is as much later."""
        if self.every_minutes is not None:
            width_ms = self.every_minutes * MINUTE_MS
            return (now_ms // width_ms + 1) * width_ms
        today = _local(now_ms, self.zone).date()
        found = (self._on(today + timedelta(days=n)) for n in range(-1, _LOOK_DAYS))
        return min(one for one in found if one is not None and one > now_ms)

    def last(self, now_ms: int) -> int:
        """The last one that is not later."""
        if self.every_minutes is not None:
            width_ms = self.every_minutes * MINUTE_MS
            return now_ms // width_ms * width_ms
        today = _local(now_ms, self.zone).date()
        found = (self._on(today - timedelta(days=n)) for n in range(-1, _LOOK_DAYS))
        return max(one for one in found if one is not None and one <= now_ms)

    def _on(self, day: date) -> int | None:
        assert self.at is not None
        if self.days and DAYS[day.weekday()] not in self.days:
            return None
        return _ms(day, self.at, self.zone)


@dataclass(frozen=True, slots=True)
class Hours:
    """From one time of the day to another, over midnight where the second is earlier, on the days on which that begins."""

    after: time
    before: time
    days: Collection[str]
    zone: tzinfo

    def are_open(self, now_ms: int) -> bool:
        return any(begin <= now_ms < end for begin, end in self._around(now_ms))

    def next_open(self, now_ms: int) -> int:
        """When they begin next, at the earliest now."""
        if self.are_open(now_ms):
            return now_ms
        return min(begin for begin, _ in self._around(now_ms) if begin > now_ms)

    def _around(self, now_ms: int) -> list[tuple[int, int]]:
        today = _local(now_ms, self.zone).date()
        found: list[tuple[int, int]] = []
        for n in range(-1, _LOOK_DAYS):
            day = today + timedelta(days=n)
            if not self.days or DAYS[day.weekday()] in self.days:
                last = day if self.after < self.before else day + timedelta(days=1)
                found.append((_ms(day, self.after, self.zone), _ms(last, self.before, self.zone)))
        return found


def may_fire_at(now_ms: int, hours: Hours | None, fired_at_ms: int | None, pause_ms: int) -> int:
    """When a rule that wants to fire may: now, or when its pause is over and its hours are open."""
    at_ms = now_ms if fired_at_ms is None else max(now_ms, fired_at_ms + pause_ms)
    return at_ms if hours is None else hours.next_open(at_ms)


def _local(now_ms: int, zone: tzinfo) -> datetime:
    return datetime.fromtimestamp(now_ms / 1000, UTC).astimezone(zone)


def _ms(day: date, at: time, zone: tzinfo) -> int:
    return round(datetime.combine(day, at, zone).astimezone(UTC).timestamp() * 1000)
