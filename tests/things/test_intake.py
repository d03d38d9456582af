"""What boards say becomes state and history: the same on every store."""

import dataclasses
import json
from datetime import timedelta
from typing import Any

import pytest

from entobot.mqtt.model import Message
from entobot.storage.database import Database, StorageFailed, Transaction
from entobot.telemetry.meters import Meters
from entobot.telemetry.metrics import Metric
from entobot.things import history_store, keeping, store
from entobot.things.intake import Bounds, Intake, forget_thing, forget_type
from entobot.things.keeping import Keep, Keeping
from entobot.things.model import Pace, Point, Reading, Thing, ThingStatus
from entobot.things.service import merged, width_of
from entobot.things.types import type_of
from tests.support.time import ManualClock

ON_EVERY_STORE = True
BOARD = "dev_1"
HOUR_MS = 3600_000
DAY_MS = 24 * HOUR_MS
KEEP = Keep(readings_ms=7 * DAY_MS, hours_ms=30 * DAY_MS, commands_ms=DAY_MS)
GARAGE = {
    "readings": {
        "temperature": {"kind": "number", "unit": "°C", "minimum": -40, "maximum": 85},
        "door_open": {"kind": "boolean"},
        "mode": {"kind": "choice", "options": ["day", "night"]},
    },
    "every_s": 60,
}


class World:
    def __init__(self, database: Database, clock: ManualClock) -> None:
        self.database = database
        self.clock = clock
        self.meters = Meters()
        self.intake = Intake(Bounds(Pace(900_000, HOUR_MS), KEEP.hours_ms), self.meters, clock)
        self.keeping = Keeping(database, clock, KEEP, self.intake.on_status)
        self.statuses: list[tuple[str, ThingStatus]] = []
        self.told: list[Reading] = []
        self.intake.on_status.append(lambda _tx, device_id, status, _now: self.statuses.append((device_id, status)))
        self.intake.on_reading.append(lambda _device, one: self.told.append(one))

    async def wait(self, seconds: float) -> None:
        """With somebody looking."""
        while seconds > 0:
            self.clock.advance(min(seconds, 5))
            seconds -= 5
            await self.keeping.look()

    async def say(self, topic: str, payload: Any, device_id: str = BOARD, at_ms: int | None = None) -> None:
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        said_ms = self.clock.now_ms() if at_ms is None else at_ms
        message = Message(f"devices/{BOARD}/{topic}", data, 1, False, device_id, "usr_1", said_ms)
        await self.database.write(lambda tx: self.intake.take(tx, message))

    async def assign(self, body: dict[str, Any], name: str = "garage") -> None:
        def unit(tx: Transaction) -> None:
            store.add_thing(tx, BOARD, "usr_1", 0)
            store.put_type(tx, name, type_of(name, body).to_json(), 0)
            store.assign(tx, BOARD, name)
            forget_type(tx, name)
            forget_thing(tx, BOARD)

        await self.database.write(unit)

    async def thing(self) -> Thing:
        found = await self.database.read(lambda tx: store.find_thing(tx, BOARD))
        assert found is not None
        return found

    async def state(self) -> dict[str, Any]:
        states = await self.database.read(lambda tx: store.states_of(tx, BOARD))
        return {one.name: one.value for one in states}

    async def history(self, name: str = "temperature", width_ms: int = 1000) -> list[tuple[int, float | None]]:
        """Of what is kept of each reading: how long ago, and its mean."""
        now_ms = self.clock.now_ms()

        def unit(tx: Transaction) -> list[Point]:
            number = store.find_series(tx, BOARD, name)
            assert number is not None
            return history_store.points(tx, number, 0, now_ms + DAY_MS, width_ms)

        return [((now_ms - one.at_ms) // 1000, one.mean) for one in await self.database.read(unit)]

    async def hours(self, name: str = "temperature") -> list[Point]:
        def unit(tx: Transaction) -> list[Point]:
            number = store.find_series(tx, BOARD, name)
            assert number is not None
            return history_store.hour_rows(tx, number, 0, self.clock.now_ms())

        return await self.database.read(unit)

    async def refused(self) -> tuple[int, str]:
        one = await self.thing()
        return one.refused, one.refused_why


@pytest.fixture
def world(database: Database, clock: ManualClock) -> World:
    clock.at_ms -= clock.at_ms % HOUR_MS
    return World(database, clock)


async def test_the_newest_reading_is_the_state_and_all_are_history(world: World) -> None:
    await world.say("telemetry/temperature", 21.5)
    world.clock.advance(10)
    await world.say("telemetry/temperature", {"value": 22, "at": world.clock.now_ms()})
    await world.say("telemetry/temperature", {"value": 5, "age_ms": 3000})
    await world.say("telemetry/door_open", True)
    await world.say("telemetry/mode", "night")
    assert await world.state() == {"temperature": 22, "door_open": True, "mode": "night"}
    assert await world.history() == [(10, 21.5), (3, 5), (0, 22)]
    assert [one.name for one in world.told] == ["temperature"] * 3 + ["door_open", "mode"]
    assert world.meters.counter(Metric.THING_READINGS).value == 5


async def test_a_batch_that_is_sent_again_counts_once_and_a_reading_that_comes_twice_too(world: World) -> None:
    await world.say("telemetry/temperature", 21)
    batch = {
        "batch": "b1",
        "readings": [{"name": "temperature", "value": n, "age_ms": n * 60_000} for n in range(1, 4)],
    }
    await world.say("telemetry", batch)
    world.clock.advance(1)
    await world.say("telemetry", batch)
    assert len(await world.history()) == 4
    again = {"value": 7, "at": world.clock.now_ms() - 61_000}
    await world.say("telemetry/temperature", again)
    assert await world.history() == [(181, 3), (121, 2), (61, 1), (1, 21)], "the first one stands"
    assert await world.state() == {"temperature": 21}
    assert world.meters.counter(Metric.THING_READINGS).value == 5


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        ("telemetry/temperature", "warm"),
        ("telemetry/temperature", True),
        ("telemetry/temperature", 1000),
        ("telemetry/temperature", b"1e999"),
        ("telemetry/temperature", b"nan"),
        ("telemetry/temperature", {"value": 1, "at": 5}),
        ("telemetry/temperature", {"value": 1, "at": "2099-01-01T00:00:00Z"}),
        ("telemetry/temperature", {"value": 1, "age_ms": -1}),
        ("telemetry/temperature", {"value": 1, "unit": "K"}),
        ("telemetry/temperature", {"value": [1]}),
        ("telemetry/temperature", b"\xff\xfe"),
        ("telemetry/temperature", b"[" * 20_000),
        ("telemetry/temperature", b'"\xff"'),
        ("telemetry", b'{"batch": "\xff", "readings": [1]}'),
        ("status", b'{"status": "\xff"}'),
        ("event", b'{"event": "\xff"}'),
        ("result", b'{"command_id": "\xff", "state": "done"}'),
        ("telemetry/humidity", 3),
        ("telemetry/Tempe", 3),
        ("telemetry/a/b", 3),
        ("telemetry/mode", "dawn"),
        ("telemetry/door_open", 1),
        ("telemetry", {"batch": "b", "readings": []}),
        ("telemetry", {"batch": "b", "readings": [1] * 501}),
        ("telemetry", {"readings": [{"name": "temperature", "value": 1}]}),
        ("status", "away"),
        ("status", {"status": "online", "every_s": 0}),
        ("event", {"event": "X"}),
        ("event", {"event": "x", "data": {"a": "x" * 5000}}),
        ("result", {"command_id": "cmd_1", "state": "done"}),
        ("result", {"command_id": "cmd_1", "state": "queued"}),
        ("result", {"command_id": "\0", "state": "done"}),
    ],
)
async def test_what_does_not_fit_changes_nothing_and_is_counted(world: World, topic: str, payload: Any) -> None:
    await world.assign(GARAGE)
    await world.say("telemetry/temperature", 21)
    await world.say(topic, payload)
    assert await world.state() == {"temperature": 21}
    assert await world.history() == [(0, 21)]
    count, why = await world.refused()
    assert (count, bool(why)) == (1, True)
    assert await world.database.read(lambda tx: history_store.events_of(tx, BOARD, 5)) == []


async def test_a_number_of_which_two_have_no_sum_is_refused(world: World) -> None:
    for great in (b"1.7e308", b"-1.01e100", b"9" * 400, b"1e999"):
        await world.say("telemetry/free", great)
    await world.say("telemetry", {"batch": "b", "readings": [{"name": "free", "value": 1e101}]})
    assert (await world.state(), (await world.refused())[0]) == ({}, 5)
    for taken in (1e100, -1e100):
        await world.say("telemetry/free", taken)
    assert (await world.state(), (await world.refused())[0]) == ({"free": -1e100}, 5)


async def test_of_a_batch_what_fits_counts(world: World) -> None:
    await world.assign(GARAGE)
    rows: list[Any] = [{"name": "temperature", "value": "x"}, {"name": "temperature", "value": 20}, {"name": "x"}, 7]
    await world.say("telemetry", {"batch": "b", "readings": rows})
    assert await world.state() == {"temperature": 20}
    assert (await world.refused())[0] == 3


async def test_nobody_else_speaks_for_a_thing(world: World) -> None:
    await world.say("telemetry/temperature", 21)
    await world.say("telemetry/temperature", 99, device_id="dev_2")
    assert await world.state() == {"temperature": 21}
    assert await world.database.read(lambda tx: store.find_thing(tx, "dev_2")) is None


async def test_a_thing_has_so_many_readings(world: World) -> None:
    for n in range(65):
        await world.say(f"telemetry/r{n}", n)
    assert len(await world.state()) == 64
    assert (await world.refused())[0] == 1


async def test_a_changed_type_holds_from_then_on(world: World) -> None:
    await world.say("telemetry/humidity", 40)
    await world.assign(GARAGE)
    await world.say("telemetry/humidity", 41)
    assert (await world.state(), (await world.refused())[0]) == ({"humidity": 40}, 1)
    await world.assign(GARAGE | {"readings": {"humidity": {"kind": "integer"}}})
    await world.say("telemetry/humidity", 42)
    assert await world.state() == {"humidity": 42}


# -- status


async def test_a_silent_thing_is_stale_then_offline_and_online_when_it_speaks(world: World) -> None:
    await world.assign(GARAGE)
    await world.say("telemetry/temperature", 21)
    for seconds, status in (
        (149, ThingStatus.ONLINE),
        (1, ThingStatus.STALE),
        (299, ThingStatus.STALE),
        (1, ThingStatus.OFFLINE),
    ):
        await world.wait(seconds - 1)
        world.clock.advance(1)
        assert (await world.thing()).status_at(world.clock.now_ms()) is status
        await world.keeping.look()
        assert (await world.thing()).status is status
    await world.say("telemetry", {"batch": "b", "readings": [{"name": "temperature", "value": 1, "age_ms": 10_000}]})
    assert (await world.thing()).status is ThingStatus.OFFLINE, "a batch is of before"
    await world.say("event", {"event": "button", "data": {"n": 2}})
    assert (await world.thing()).status is ThingStatus.ONLINE
    assert [status for _, status in world.statuses] == [
        ThingStatus.ONLINE,
        ThingStatus.STALE,
        ThingStatus.OFFLINE,
        ThingStatus.ONLINE,
    ]


@pytest.mark.parametrize("last_words", [b"offline", b'"offline"', {"status": "offline"}])
async def test_a_last_will_makes_it_offline_at_once(world: World, last_words: Any) -> None:
    await world.say("status", {"status": "online", "firmware": "1.4.0", "every_s": 1000})
    one = await world.thing()
    assert (one.status, one.firmware, one.stale_at_ms) == (
        ThingStatus.ONLINE,
        "1.4.0",
        world.clock.now_ms() + 2_500_000,
    )
    await world.say("status", last_words)
    assert ((await world.thing()).status, (await world.thing()).firmware) == (ThingStatus.OFFLINE, "1.4.0")
    await world.wait(10_000)
    assert [status for _, status in world.statuses] == [ThingStatus.ONLINE, ThingStatus.OFFLINE]


async def test_a_gateway_that_was_away_calls_no_thing_silent_before_it_had_its_time_again(world: World) -> None:
    """All fell offline five seconds after a start, before a board had a chance to come back."""
    await world.assign(GARAGE)
    await world.say("telemetry/temperature", 21)
    world.clock.advance(8 * 3600)
    fresh = world.keeping = Keeping(world.database, world.clock, KEEP, world.intake.on_status)
    await world.wait(149)
    one = await world.thing()
    assert one.status is one.status_at(world.clock.now_ms(), fresh.listens_since_ms) is ThingStatus.ONLINE
    await world.wait(1)
    one = await world.thing()
    assert one.status is one.status_at(world.clock.now_ms(), fresh.listens_since_ms) is ThingStatus.STALE
    await world.wait(300)
    assert (await world.thing()).status is ThingStatus.OFFLINE, "it did not come back"


async def test_a_thing_that_speaks_once_a_day_is_missed_by_a_gateway_that_starts_each_night(world: World) -> None:
    await world.say("status", {"status": "online", "every_s": 24 * 3600})
    found: list[tuple[ThingStatus, ThingStatus]] = []
    for _ in range(8):
        world.clock.advance(24 * 3600 - 15 * 60)
        fresh = world.keeping = Keeping(world.database, world.clock, KEEP, world.intake.on_status)
        await world.wait(15 * 60)
        one = await world.thing()
        found.append((one.status, one.status_at(world.clock.now_ms(), fresh.listens_since_ms)))
    online, stale, offline = [(one, one) for one in (ThingStatus.ONLINE, ThingStatus.STALE, ThingStatus.OFFLINE)]
    assert found == [online] * 2 + [stale] * 5 + [offline]


async def test_a_machine_that_slept_or_a_store_that_was_away_makes_no_thing_silent(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.assign(GARAGE)
    await world.say("telemetry/temperature", 21)
    await world.wait(100)
    world.clock.advance(3600)
    await world.wait(145)
    assert (await world.thing()).status is ThingStatus.ONLINE
    with monkeypatch.context() as away:
        away.setattr(world.keeping, "_database", Away())
        for _ in range(100):
            world.clock.advance(5)
            with pytest.raises(StorageFailed):
                await world.keeping.look()
    await world.wait(145)
    assert (await world.thing()).status is ThingStatus.ONLINE
    await world.wait(10)
    assert (await world.thing()).status is ThingStatus.STALE


class Away:
    async def read(self, _: object) -> None:
        raise StorageFailed("it is away")


async def test_a_node_that_starts_does_not_keep_another_from_noting_who_is_silent(world: World) -> None:
    await world.assign(GARAGE)
    await world.say("telemetry/temperature", 21)
    for _ in range(50):
        await world.wait(10)
        await Keeping(world.database, world.clock, KEEP, world.intake.on_status).look()
    assert (await world.thing()).status is ThingStatus.OFFLINE


async def test_what_waited_elsewhere_does_not_hide_that_a_thing_was_heard_since(world: World) -> None:
    await world.assign(GARAGE)
    world.clock.advance(3600)
    await world.say("status", "online")
    heard_ms = world.clock.now_ms()
    await world.say("telemetry/temperature", 20, at_ms=heard_ms - 200_000)
    assert (await world.thing()).heard_ms == heard_ms
    await world.wait(5)
    assert (await world.thing()).status is ThingStatus.ONLINE


async def test_what_waited_elsewhere_until_it_was_over_makes_no_thing_online(world: World) -> None:
    """A backlog of the edge comes as of when it was said."""
    await world.assign(GARAGE)
    said_ms = world.clock.now_ms()
    world.clock.advance(7200)
    await world.say("telemetry/temperature", 20, at_ms=said_ms)
    assert ((await world.thing()).status, (await world.thing()).heard_ms) == (ThingStatus.OFFLINE, said_ms)
    await world.say("telemetry/temperature", 21)
    await world.say("telemetry/temperature", 19, at_ms=said_ms + 1000)
    await world.wait(5)
    assert (await world.thing()).status is ThingStatus.ONLINE, "it was heard since"
    assert [status for _, status in world.statuses] == [ThingStatus.OFFLINE, ThingStatus.ONLINE]


# -- retention


async def test_old_readings_become_hours_and_old_hours_are_forgotten(world: World) -> None:
    for minutes, value in ((0, 10), (20, 20), (40, 60), (60, 5)):
        await world.say("telemetry/temperature", {"value": value, "at": world.clock.now_ms() + minutes})
        world.clock.advance(20 * 60)
    await world.say("telemetry/note", "x")
    world.clock.advance(KEEP.readings_ms / 1000 - 20 * 60)
    await world.keeping.tidy()
    (hour,) = await world.hours()
    assert (hour.count, hour.low, hour.mean, hour.high) == (3, 10, 30, 60)
    assert [mean for _, mean in await world.history()] == [5]
    late = {"value": 90, "age_ms": KEEP.readings_ms + 1800_000}
    await world.say("telemetry", {"batch": "late", "readings": [{"name": "temperature", **late}]})
    await world.keeping.tidy()
    (hour, *_) = await world.hours()
    assert (hour.count, hour.low, hour.mean, hour.high) == (4, 10, 45, 90)
    await world.say("telemetry", {"batch": "later", "readings": [{"name": "temperature", **late, "value": 30}]})
    await world.keeping.tidy()
    (hour, *_) = await world.hours()
    assert (hour.count, hour.low, hour.mean, hour.high) == (5, 10, 42, 90)
    world.clock.advance(KEEP.hours_ms / 1000)
    await world.keeping.tidy()
    assert (await world.hours(), await world.history()) == ([], [])


async def test_an_hour_with_many_readings_is_folded_in_parts(world: World) -> None:
    start = world.clock.now_ms()

    def fill(tx: Transaction) -> None:
        number = store.insert_series(tx, BOARD, Reading("temperature", 0.0, start))
        for n in range(4500):
            history_store.add_reading(tx, number, Reading("temperature", float(n), start + n))

    await world.database.write(fill)
    world.clock.advance(KEEP.readings_ms / 1000 + 3600)
    await world.keeping.tidy()
    (hour,) = await world.hours()
    assert (hour.count, hour.low, hour.high, hour.mean) == (4500, 0, 4499, 2249.5)
    assert await world.history() == []


async def test_of_events_the_newest_are_kept(world: World) -> None:
    for n in range(205):
        await world.say("event", {"event": f"e{n}"})
    await world.keeping.tidy()
    names = [one.name for one in await world.database.read(lambda tx: history_store.events_of(tx, BOARD, 500))]
    assert names == [f"e{n}" for n in range(204, 4, -1)]


def test_points_of_several_widths_become_one_line() -> None:
    day = width_of(int(timedelta(days=30) / timedelta(milliseconds=1)), 60)
    assert day == 12 * HOUR_MS or day == 24 * HOUR_MS
    found = merged([Point(0, 3, 1, 2, 4), Point(HOUR_MS, 1, 0, 6, 6), Point(day, 1, 5, 5, 5)], day)
    assert found == [Point(0, 4, 0, 3, 6), Point(day, 1, 5, 5, 5)]


async def test_a_board_that_sends_what_is_years_old_keeps_no_other_from_its_turn(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look began with the same series, and folded so many hours in all: those behind them grew for ever."""
    monkeypatch.setattr(keeping, "FOLDS_AT_ONCE", 2)
    monkeypatch.setattr(keeping, "SERIES_AT_ONCE", 1)
    start_ms = world.clock.now_ms() - KEEP.readings_ms - 10 * HOUR_MS

    def fill(tx: Transaction) -> None:
        for name in ("greedy", "modest"):
            number = store.insert_series(tx, BOARD, Reading(name, 0.0, start_ms))
            for n in range(5 if name == "greedy" else 1):
                history_store.add_reading(tx, number, Reading(name, float(n), start_ms + n * HOUR_MS))

    await world.database.write(fill)

    def left(tx: Transaction) -> list[int]:
        numbers = history_store.series_after(tx, 0, 10)
        return [sum(history_store.first_reading_ms(tx, one) is not None for one in numbers), len(numbers)]

    await world.keeping.tidy()
    assert await world.database.read(left) == [1, 2], "the modest one is done"
    for _ in range(2):
        await world.keeping.tidy()
    assert await world.database.read(left) == [0, 2]


async def test_numbers_of_which_there_is_no_sum_stop_no_look_and_are_dropped_in_their_time(world: World) -> None:
    """They were taken once: on one store their sum is an error, on the other no number."""
    start_ms = world.clock.now_ms()

    def fill(tx: Transaction) -> None:
        for name, values in (("huge", (1.7e308, 1.7e308)), ("mixed", (1.7e308, -1.7e308, 3.0)), ("plain", (5.0,))):
            number = store.insert_series(tx, BOARD, Reading(name, 0.0, start_ms))
            for n, value in enumerate(values):
                history_store.add_reading(tx, number, Reading(name, value, start_ms + n))
        history_store.know_batch(tx, BOARD, "b1", start_ms)

    await world.database.write(fill)
    assert [await world.history(name, HOUR_MS) for name in ("huge", "mixed", "plain")] == [[], [(0, 3)], [(0, 5)]]
    world.clock.advance(40 * DAY_MS / 1000)
    world.keeping = Keeping(world.database, world.clock, dataclasses.replace(KEEP, hours_ms=90 * DAY_MS), [])
    await world.keeping.tidy()
    means = [[one.mean for one in await world.hours(name)] for name in ("huge", "mixed", "plain")]
    assert means == [[], [3], [5]]
    assert [await world.history(name) for name in ("huge", "mixed", "plain")] == [[], [], []]
    assert await world.database.write(lambda tx: history_store.know_batch(tx, BOARD, "b1", 0)), "it is forgotten"


async def test_a_series_that_cannot_be_folded_is_stepped_past_and_told_of_once(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("wrong", "right"):
        await world.say(f"telemetry/{name}", 1)
    await world.database.write(lambda tx: history_store.know_batch(tx, BOARD, "b1", world.clock.now_ms()))
    wrong = await world.database.read(lambda tx: store.find_series(tx, BOARD, "wrong"))
    fold = history_store.fold

    def failing(tx: Transaction, number: int, at_ms: int, most: int) -> None:
        if number == wrong:
            raise StorageFailed("out of range")
        fold(tx, number, at_ms, most)

    monkeypatch.setattr(history_store, "fold", failing)
    world.clock.advance(31 * DAY_MS / 1000)
    for _ in range(2):
        await world.keeping.tidy()
    assert (len(await world.history("wrong")), await world.history("right")) == (1, [])
    assert await world.database.write(lambda tx: history_store.know_batch(tx, BOARD, "b1", 0)), "it is forgotten"
    assert [one.getMessage() for one in caplog.records] == [
        f"old readings of series {wrong} could not become hours, and are kept: out of range"
    ]


async def test_a_look_that_takes_too_long_is_gone_on_with_by_the_next(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "FOLD_S", 0.0)
    start_ms = world.clock.now_ms() - KEEP.readings_ms - 2 * HOUR_MS

    def fill(tx: Transaction) -> None:
        for name in ("one", "two", "three"):
            number = store.insert_series(tx, BOARD, Reading(name, 0.0, start_ms))
            history_store.add_reading(tx, number, Reading(name, 1.0, start_ms))

    await world.database.write(fill)
    for done in (1, 2, 3):
        await world.keeping.tidy()
        numbers = await world.database.read(lambda tx: history_store.series_after(tx, 0, 10))
        found = [await world.database.read(lambda tx, n=n: history_store.first_reading_ms(tx, n)) for n in numbers]
        assert found.count(None) == done
