"""A day of a board on a bad network, in injected time: nothing is lost, nothing done twice, and nobody is hammered."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from entobot.core.clock import rfc3339
from entobot_board.settings import BLOCK_BYTES
from tests.firmware.boards import boot
from tests.firmware.network import EPOCH_MS, Broker, Network, Time, Weather

DAY_MS = 24 * 3600 * 1000
STEP_MS = 1000
IN_MEMORY_MS = 16_000
"""So long a reading may be under way before it is on flash: what a power cut may take."""


class Day:
    """`readings` is what the board's sensors said, by name and millisecond of the world."""

    def __init__(self, folder: Path, seed: int) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.time = Time()
        self.broker = Broker(self.time)
        self.weather = Weather(seed)
        self.network = Network(self.broker, self.weather)
        self.readings: dict[tuple[str, int], int] = {}
        self.done: list[str] = []
        self.boots = 0
        self.cuts_ms: list[int] = []
        self.switch_on()

    def switch_on(self) -> None:
        self.boots += 1
        self.board = boot(self.folder, self.network, self.time, number=self.boots)
        for name, every_s in (("temperature", 10), ("humidity", 60)):
            self.board.reading(name, every_s)(lambda name=name: self._sense(name))
        self.board.command("count", is_slow=True)(self._count)

    def cut_power(self) -> None:
        self.cuts_ms.append(self.time.ms)
        if self.network.connection is not None:
            self.network.connection.is_open = False
        self.time.sleep(self.weather.dice.randint(1000, 60_000))
        self.switch_on()

    def _sense(self, name: str) -> int:
        value = len(self.readings)
        self.readings[name, self.time.day_ms] = value
        return value

    def _count(self, args: dict[str, Any]) -> int:
        self.done.append(args["id"])
        return len(self.done)

    def pass_on(self, for_ms: int, falls: float = 0.0) -> Iterator[None]:
        """`falls` is the chance of a second that there is no way any more; there is one again within some minutes."""
        until_ms = self.time.ms + for_ms
        while self.time.ms < until_ms:
            self.network.blow(STEP_MS / 1000, lambda is_up: falls if is_up else 1 / 120)
            self.board.step()
            self.time.sleep(STEP_MS)
            yield

    def settle(self) -> None:
        """The network is good from now on."""
        self.weather.is_up, self.weather.breaks, self.weather.freezes = True, 0, 0
        if self.network.connection is not None:
            self.network.connection.close()
        for _ in self.pass_on(180_000):
            pass

    def may_be_lost(self, at: int) -> bool:
        return any(0 <= cut - (at - EPOCH_MS) <= IN_MEMORY_MS for cut in self.cuts_ms)


def test_a_day_of_a_bad_network_loses_no_reading_and_does_each_command_once(tmp_path: Path) -> None:
    day = Day(tmp_path, 1)
    day.weather.breaks, day.weather.freezes = 1 / 300, 1 / 600
    for n, _ in enumerate(day.pass_on(DAY_MS, falls=1 / 600)):
        if n % 600 == 0:
            day.broker.command(f"cmd_{n}", "count", rfc3339(day.time.day_ms + DAY_MS), id=f"cmd_{n}")
    commands = [f"cmd_{n}" for n in range(0, DAY_MS // STEP_MS, 600) if f"cmd_{n}" in day.broker.results]
    day.settle()
    assert day.broker.readings == day.readings
    assert len(day.readings) > 9000
    assert len(commands) > 100
    assert sorted(day.done) == sorted(set(day.done)) == sorted(day.broker.results)
    assert all(said[-1]["state"] == "done" for said in day.broker.results.values())
    assert day.network.opened > 100
    assert day.broker.repeated_batches > 0


def test_power_cuts_cost_what_was_under_way_at_most_and_no_command_is_done_twice(tmp_path: Path) -> None:
    day = Day(tmp_path, 3)
    day.weather.breaks = 1 / 60
    for n, _ in enumerate(day.pass_on(DAY_MS // 4, falls=1 / 120)):
        if n % 300 == 0:
            day.broker.command(f"cmd_{n}", "count", rfc3339(day.time.day_ms + DAY_MS), id=f"cmd_{n}")
        if n % 350 == 325:
            day.cut_power()
    day.settle()
    assert len(day.cuts_ms) > 50
    told = set(day.broker.readings.values())
    lost = {at for (_, at), value in day.readings.items() if value not in told}
    assert [at for at in lost if not day.may_be_lost(at)] == []
    assert len(lost) < len(day.cuts_ms)
    assert len(day.broker.readings) == len(told)
    assert sorted(day.done) == sorted(set(day.done))
    assert {said[-1]["state"] for said in day.broker.results.values()} <= {"done", "failed"}
    assert len(day.broker.results) > 60


def test_seven_hours_without_a_network_keeps_the_newest_readings_and_says_what_went(tmp_path: Path) -> None:
    day = Day(tmp_path, 4)
    day.weather.is_up = False
    day.network.blow = lambda seconds, flip: None
    folder = tmp_path / "buffer"
    for n, _ in enumerate(day.pass_on(7 * DAY_MS // 24)):
        if n % 2500 == 0:
            assert len(list(folder.iterdir())) * BLOCK_BYTES <= 256 * 1024
    day.settle()
    newest = max(at for _, at in day.readings)
    kept = sorted(at for _, at in day.broker.readings)
    assert {key: value for key, value in day.readings.items() if key[1] >= kept[0]} == day.broker.readings
    assert 1500 < len(kept) < len(day.readings)
    assert newest in kept
    assert [one["event"] for one in day.broker.events] == ["buffer_full"]
    assert list(folder.iterdir()) == []


def test_it_tries_again_after_1_s_and_at_most_every_minute_and_no_two_boards_in_step(tmp_path: Path) -> None:
    pauses: list[list[int]] = []
    for seed in range(3):
        day = Day(tmp_path / str(seed), seed)
        day.weather.is_up = False
        day.network.blow = lambda seconds, flip: None
        day.weather.silence_ms = (0,)
        for _ in day.pass_on(3600_000):
            pass
        tries = day.network.tries_ms
        pauses.append([b - a for a, b in itertools.pairwise(tries)])
    for found in pauses:
        assert 700 <= found[0] <= 1300 + STEP_MS
        assert all(1400 <= one <= 2600 + STEP_MS for one in found[1:2])
        assert all(42_000 <= one <= 78_000 + STEP_MS for one in found[6:])
        assert len(set(found[6:])) > 20
    assert pauses[0] != pauses[1] != pauses[2]


def test_a_board_that_is_refused_comes_back_each_minute_and_goes_on_when_it_may(tmp_path: Path) -> None:
    day = Day(tmp_path, 5)
    day.broker.refuses = True
    for _ in day.pass_on(600_000):
        pass
    assert 7 <= len(day.network.tries_ms) <= 15
    assert day.broker.readings == {}
    day.broker.refuses = False
    day.settle()
    assert day.broker.readings == day.readings


def test_readings_of_starts_that_never_knew_the_time_arrive_in_their_order_and_none_becomes_another(
    tmp_path: Path,
) -> None:
    day = Day(tmp_path, 6)
    day.weather.is_up = False
    for _ in range(4):
        for _ in day.pass_on(100_000):
            day.weather.is_up = False
        day.cut_power()
    day.settle()
    assert len(day.broker.readings) == len(day.readings)
    for name in ("temperature", "humidity"):
        told = sorted((at, value) for (one, at), value in day.broker.readings.items() if one == name)
        true = sorted((at, value) for (one, at), value in day.readings.items() if one == name)
        assert [value for _, value in told] == [value for _, value in true]
        assert all(at >= really for (at, _), (really, _) in zip(told, true, strict=True))


def test_a_board_that_has_nothing_to_say_notices_that_nobody_answers_any_more(tmp_path: Path) -> None:
    time = Time()
    network = Network(Broker(time), Weather(7))
    board = boot(tmp_path, network, time)
    while time.ms < 40_000:
        board.step()
        time.sleep(100)
    assert board.is_connected
    assert network.connection is not None
    first, silent_ms = network.connection, time.ms
    first.loses_answers = True
    while network.connection is first and time.ms < silent_ms + DAY_MS // 24:
        board.step()
        time.sleep(100)
    assert 15_000 <= time.ms - silent_ms <= 30_000 + 15_000 + 2_000


def test_a_value_that_is_no_number_costs_no_other_reading_of_its_batch(tmp_path: Path) -> None:
    day = Day(tmp_path, 9)
    day.weather.is_up = False
    day.network.blow = lambda seconds, flip: None
    for value in (float("nan"), float("inf"), float("-inf"), 1.5, -1e30):
        day.board.tell("pressure", value)
        day.time.sleep(1)
    day.settle()
    assert [value for (name, _), value in sorted(day.broker.readings.items()) if name == "pressure"] == [1.5, -1e30]


def steady(day: Day, for_ms: int) -> None:
    """Nothing happens to the connection."""
    day.network.blow = lambda seconds, flip: None
    for _ in day.pass_on(for_ms):
        pass


def test_a_board_that_learnt_no_time_when_it_connected_asks_again_and_takes_commands(
    tmp_path: Path,
) -> None:
    day = Day(tmp_path, 10)
    asked_ms: list[int] = []

    def ask_time() -> int:
        asked_ms.append(day.time.ms)
        if day.time.ms < 3 * 3600_000:
            raise OSError("HTTPS is not there")
        return day.time.day_ms

    day.board._ask_time = ask_time
    steady(day, 4 * 3600_000)
    day.broker.command("cmd_1", "count", rfc3339(day.time.day_ms + 60_000), id="cmd_1")
    steady(day, 10_000)
    assert day.done == ["cmd_1"]
    pauses = [b - a for a, b in itertools.pairwise(asked_ms)]
    assert pauses == sorted(pauses)
    assert 300_000 <= pauses[0] <= 310_000
    assert pauses[-1] <= 3_610_000
    assert {one["status"] for one in day.broker.statuses} == {"online"}
    assert day.broker.readings == day.readings


def test_a_clock_that_drifts_is_set_right_each_day_of_a_connection_that_holds(tmp_path: Path) -> None:
    day = Day(tmp_path, 11)
    drift_ms = 0
    day.board._ask_time = lambda: day.time.day_ms + drift_ms
    steady(day, 60_000)
    drift_ms = -5000
    steady(day, DAY_MS - 120_000)
    assert day.network.opened == 1
    steady(day, 180_000)
    assert day.network.opened == 2
    assert day.board.clock.day_ms() == day.time.day_ms + drift_ms
    assert set(day.broker.readings.values()) == set(day.readings.values())


def test_a_sensor_is_read_once_after_a_long_pause_and_on_its_beat_otherwise(tmp_path: Path) -> None:
    time, read_ms = Time(), list[int]()
    board = boot(tmp_path, Network(Broker(time), Weather(8)), time)
    board.reading("temperature", 10)(lambda: read_ms.append(time.ms))
    for pause_ms in [100] * 350 + [95_000] + [100] * 200:
        board.step()
        time.sleep(pause_ms)
    assert read_ms[:4] == [0, 10_000, 20_000, 30_000]
    assert read_ms[4:] == [130_000, 140_000]
