"""The timer wheel with a clock in hand; one test on a real loop."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entobot.core.clock import SystemClock
from entobot.gateway.wheel import TimerWheel
from tests.support.process import GENEROUS_S
from tests.support.time import ManualClock


class Loop:
    """`call_later` that remembers the one call that is armed."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.armed: list[tuple[float, Callable[[], None]]] = []

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> "Loop.Handle":
        entry = (self.clock.seconds + delay_s, callback)
        self.armed.append(entry)
        return Loop.Handle(self, entry)

    def run_until(self, moment: float) -> None:
        while self.armed and min(self.armed)[0] <= moment:
            entry = min(self.armed)
            self.armed.remove(entry)
            self.clock.seconds = max(self.clock.seconds, entry[0])
            entry[1]()
        self.clock.seconds = max(self.clock.seconds, moment)

    class Handle:
        def __init__(self, loop: "Loop", entry: tuple[float, Callable[[], None]]) -> None:
            self.loop, self.entry = loop, entry

        def cancel(self) -> None:
            if self.entry in self.loop.armed:
                self.loop.armed.remove(self.entry)


def make() -> tuple[TimerWheel, Loop]:
    clock = ManualClock()
    loop = Loop(clock)
    return TimerWheel(clock, loop.call_later), loop


@given(st.lists(st.tuples(st.floats(0, 100), st.booleans()), max_size=30))
def test_every_timer_fires_once_not_early_and_at_most_a_slot_late_unless_cancelled(
    timers: list[tuple[float, bool]],
) -> None:
    wheel, loop = make()
    start = loop.clock.seconds
    fired: dict[int, float] = {}

    def note(number: int) -> Callable[[], None]:
        def call() -> None:
            assert number not in fired
            fired[number] = loop.clock.seconds - start

        return call

    for number, (delay_s, is_cancelled) in enumerate(timers):
        timer = wheel.after(delay_s, note(number))
        assert len(loop.armed) <= 1
        if is_cancelled:
            timer.cancel()
            timer.cancel()
    loop.run_until(start + 101)
    assert set(fired) == {number for number, (_, is_cancelled) in enumerate(timers) if not is_cancelled}
    for number, at in fired.items():
        delay_s = timers[number][0]
        assert delay_s - 1e-6 <= at <= delay_s + 0.25 + 1e-6
    assert loop.armed == []


def test_nothing_is_armed_while_nothing_is_pending() -> None:
    wheel, loop = make()
    assert loop.armed == []
    wheel.after(75, lambda: None)
    assert [at for at, _ in loop.armed] == [loop.clock.seconds + 75]


def test_a_timer_may_be_set_and_cancelled_by_another() -> None:
    wheel, loop = make()
    calls: list[str] = []
    later = wheel.after(1, lambda: calls.append("cancelled"))

    def first() -> None:
        calls.append("first")
        later.cancel()
        wheel.after(0, lambda: calls.append("soon"))
        wheel.after(2, lambda: calls.append("later"))

    wheel.after(1, first)
    later.cancel()
    loop.run_until(loop.clock.seconds + 5)
    assert calls == ["first", "soon", "later"]


def test_a_callback_that_raises_stops_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    wheel, loop = make()
    calls: list[str] = []

    def broken() -> None:
        raise RuntimeError("a defect")

    wheel.after(1, broken)
    wheel.after(1, lambda: calls.append("fine"))
    loop.run_until(loop.clock.seconds + 2)
    assert calls == ["fine"]
    assert "a defect" in caplog.text


def test_a_closed_wheel_calls_nobody() -> None:
    wheel, loop = make()
    wheel.after(1, pytest.fail)
    wheel.close()
    loop.run_until(loop.clock.seconds + 5)


async def test_it_turns_on_a_real_loop() -> None:
    wheel = TimerWheel(SystemClock(), asyncio.get_running_loop().call_later, slot_s=0.01)
    fired = asyncio.Event()
    wheel.after(0.03, fired.set)
    async with asyncio.timeout(GENEROUS_S):
        await fired.wait()
