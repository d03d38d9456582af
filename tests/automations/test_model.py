"""When a rule fires: one after the other as an obvious description says, whatever is read and in whatever order."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from entobot.automations.model import Condition, Phase, Watch
from entobot.automations.rules import body_of
from entobot.automations.times import Hours, Schedule, clock_time, may_fire_at

BERLIN = ZoneInfo("Europe/Berlin")
MINUTE_MS = 60_000
VALUES = st.sampled_from([20, 22, 23, 24, 25, 26, 27, 28, 30])


def _told(steps: list[tuple[int, int]]) -> list[tuple[int, int]]:
    minute, found = 10, list[tuple[int, int]]()
    for step, value in steps:
        minute = min(90, max(0, minute + step))
        found.append((minute, value))
    return found


readings = st.lists(st.tuples(st.integers(-2, 6), VALUES), max_size=30).map(_told)
"""(minute, value), now and then out of their order, around where a rule fires and is over."""


def at(text: str, zone: Any = UTC) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=zone).timestamp() * 1000)


def fired_at(condition: Condition, found: list[tuple[int, int]]) -> list[int]:
    """The minutes in which it fires: at each reading what became due is taken first, as the sweep does each second."""
    watch, fired = Watch(), []
    for minute, value in found:
        at_ms = minute * MINUTE_MS
        if watch.is_due(at_ms - 1):
            fired.append(watch.due_ms // MINUTE_MS if watch.due_ms is not None else -1)
            watch = watch.fired()
        watch = watch.next(condition, value, at_ms)
        if watch.is_due(at_ms):
            fired.append(minute)
            watch = watch.fired()
    if watch.is_due(100 * MINUTE_MS):
        fired.append((watch.due_ms or 0) // MINUTE_MS)
    return fired


def expected(found: list[tuple[int, int]], above: int, back: int, for_minutes: int) -> list[int]:
    """The same from the whole: stretches that begin beyond `above`, end at `back`, and last for long enough."""
    newest, kept = -1, list[tuple[int, int]]()
    for minute, value in found:
        if minute >= newest:
            newest = minute
            kept.append((minute, value))
    fired: list[int] = []
    begun, has_fired = -1, False
    for minute, value in [*kept, (100, back)]:
        long_enough = begun + for_minutes
        if begun >= 0 and not has_fired and minute > long_enough:
            fired.append(long_enough)
            has_fired = True
        if begun < 0 and value > above:
            begun, has_fired = minute, for_minutes == 0
            fired += [minute] * has_fired
        elif begun >= 0 and value <= back:
            begun = -1
        elif begun >= 0 and not has_fired and minute == long_enough:
            fired.append(minute)
            has_fired = True
    return fired


@given(readings, st.integers(0, 4), st.sampled_from([0, 3, 10]))
def test_it_fires_once_for_each_stretch_that_lasts_and_what_comes_late_changes_nothing(
    found: list[tuple[int, int]], width: int, for_minutes: int
) -> None:
    condition = Condition(above=25, back=25 - width, for_ms=for_minutes * MINUTE_MS)
    assert fired_at(condition, found) == expected(found, 25, 25 - width, for_minutes)


@given(readings)
def test_below_is_above_turned_round(found: list[tuple[int, int]]) -> None:
    turned = [(minute, 50 - value) for minute, value in found]
    assert fired_at(Condition(above=25, back=23), found) == fired_at(Condition(below=25, back=27), turned)


@pytest.mark.parametrize(
    ("condition", "holds", "does_not"),
    [
        (Condition(above=25), [25.1], [25, 10, "26", True]),
        (Condition(below=0), [-0.5], [0, "-1", False]),
        (Condition(equals=True), [True], [1, 1.0, "true", False]),
        (Condition(equals=1), [1, 1.0], [True, "1"]),
        (Condition(equals="open"), ["open"], ["Open", True]),
        (Condition(differs="closed"), ["open", True, 5], ["closed"]),
    ],
)
def test_what_is_compared_keeps_its_kind(condition: Condition, holds: list[Any], does_not: list[Any]) -> None:
    assert [value for value in holds if not condition.holds(value)] == []
    assert [value for value in does_not if condition.holds(value)] == []


def test_a_watch_names_what_it_fires_for() -> None:
    watch = Watch().next(Condition(above=25, for_ms=1000), 26, 5000).next(Condition(above=25, for_ms=1000), 27, 5500)
    assert (watch.phase, watch.since_ms, watch.due_ms, watch.value) == (Phase.HOLDING, 5000, 6000, 27)
    assert not watch.is_due(5999)
    assert watch.is_due(6000)
    assert not watch.fired().is_due(9000)


def test_a_time_of_the_day_follows_the_clocks_of_its_zone() -> None:
    daily = Schedule(clock_time("02:30"), (), None, BERLIN)
    assert daily.after(at("2026-03-28T12:00")) == at("2026-03-29T01:30"), "02:30 is left out: an hour later"
    assert daily.after(at("2026-10-24T12:00")) == at("2026-10-25T00:30"), "of two the first"
    assert daily.after(at("2026-10-25T00:30")) == at("2026-10-26T01:30"), "and not the second as well"
    assert daily.last(at("2026-06-01T00:29")) == at("2026-05-31T00:30")
    mondays = Schedule(clock_time("07:00"), ("mon",), None, UTC)
    assert mondays.after(at("2026-11-22T12:00")) == at("2026-11-23T07:00")
    assert mondays.after(at("2026-11-23T07:00")) == at("2026-11-30T07:00")
    assert mondays.last(at("2026-11-23T06:59")) == at("2026-11-16T07:00")
    quarters = Schedule(None, (), 15, UTC)
    assert quarters.after(at("2026-11-22T12:00")) == at("2026-11-22T12:15")
    assert quarters.last(at("2026-11-22T12:14")) == at("2026-11-22T12:00")


@given(st.integers(0, 3 * 365 * 24 * 60), st.sampled_from(["UTC", "Europe/Berlin", "America/St_Johns"]))
def test_what_is_next_is_the_last_then(minutes: int, zone: str) -> None:
    schedule = Schedule(clock_time("02:30"), ("mon", "sun"), None, ZoneInfo(zone))
    now_ms = at("2026-01-01T00:00") + minutes * MINUTE_MS
    after_ms = schedule.after(now_ms)
    assert schedule.last(now_ms) <= now_ms < after_ms
    assert schedule.last(after_ms) == after_ms
    assert schedule.last(after_ms - 1) == schedule.last(now_ms)


def test_hours_may_go_over_midnight_and_belong_to_the_day_on_which_they_begin() -> None:
    nights = Hours(clock_time("22:00"), clock_time("06:00"), ("fri",), BERLIN)
    assert nights.are_open(at("2026-11-27T22:00", BERLIN))
    assert nights.are_open(at("2026-11-28T05:59", BERLIN))
    assert not nights.are_open(at("2026-11-28T06:00", BERLIN))
    assert not nights.are_open(at("2026-11-28T22:00", BERLIN))
    assert nights.next_open(at("2026-11-28T22:00", BERLIN)) == at("2026-12-04T22:00", BERLIN)
    noon = at("2026-11-27T12:00", BERLIN)
    assert may_fire_at(noon, None, noon - 1000, 60_000) == noon + 59_000
    assert may_fire_at(noon, nights, None, 60_000) == at("2026-11-27T22:00", BERLIN)


NOTIFY = [{"do": "notify"}]


@pytest.mark.parametrize(
    ("when", "then", "why"),
    [
        ({"thing": "G", "reading": "t"}, NOTIFY, "compared by one of"),
        ({"thing": "G", "reading": "t", "above": 1, "below": 2}, NOTIFY, "compared by one of"),
        ({"reading": "t", "above": 1}, NOTIFY, "a thing or a type"),
        ({"thing": "G", "type": "g", "status": "offline"}, NOTIFY, "a thing or a type"),
        ({"thing": "G", "reading": "t", "above": 1, "back": 2}, NOTIFY, "back is for above"),
        ({"thing": "G", "reading": "t", "equals": True, "back": 2}, NOTIFY, "back is for above"),
        ({"thing": "G", "reading": "t", "above": float("nan")}, NOTIFY, "finite"),
        ({"at": "24:00"}, NOTIFY, "pattern"),
        ({"at": "07:00", "thing": "G"}, NOTIFY, "a time has no thing"),
        ({"at": "07:00", "every_minutes": 5}, NOTIFY, "needs one of"),
        ({}, NOTIFY, "needs one of"),
        ({"at": "07:00"}, [], "at least 1"),
        ({"at": "07:00"}, NOTIFY * 6, "at most 5"),
        ({"at": "07:00"}, [{"do": "command", "thing": "G"}], "needs thing and command"),
        ({"at": "07:00"}, [{"do": "ask"}], "needs a text"),
        ({"at": "07:00"}, [{"do": "notify", "command": "open"}], "notify has no command"),
        ({"at": "07:00"}, [{"do": "notify", "title": "a\u202eb"}], "cannot be shown"),
        ({"at": "07:00"}, [{"do": "command", "thing": "G", "command": "x", "args": {"a": "b" * 5000}}], "bytes"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_reason(when: Any, then: Any, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        body_of({"name": "Rule", "when": when, "then": then})


def test_a_rule_is_stored_as_it_was_written() -> None:
    body = body_of(
        {
            "name": "Rule",
            "when": {"type": "garage", "reading": "door", "equals": True, "for_minutes": 0.5},
            "only": {"after": "22:00", "before": "06:00", "zone": "Europe/Berlin"},
            "then": [{"do": "command", "thing": "Fan", "command": "set", "args": {"on": True}}],
        }
    )
    assert body_of(json.loads(body.to_json())) == body
    assert body_of(body.model_dump(mode="json")) == body, "with everything that it does not say, as it is shown"
    assert body.when.condition.for_ms == timedelta(seconds=30) // timedelta(milliseconds=1)
    assert body.zones == {"UTC", "Europe/Berlin"}
