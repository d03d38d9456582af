"""What holds up the loop is measured, and told with its place."""

import sys

import pytest
from structlog.testing import capture_logs

from entobot.telemetry.loop_watch import BEAT_S, HELD_S, TOLD_EVERY_S, LoopWatch
from entobot.telemetry.meters import Meters
from entobot.telemetry.metrics import Metric
from tests.support.time import ManualClock


@pytest.fixture
def meters() -> Meters:
    return Meters()


async def test_how_late_each_call_comes_is_counted(clock: ManualClock, meters: Meters) -> None:
    watch = LoopWatch(clock, meters)
    watch._beat_later()
    for late_s in (0.0, 0.003, 0.2):
        clock.advance(BEAT_S + late_s)
        watch.beat()
    watch.stop()
    late = meters.histogram(Metric.EVENT_LOOP_LATE_SECONDS)
    assert (sum(late.counts), round(late.total, 3)) == (3, 0.203)


async def test_a_long_hold_is_told_with_its_place_and_not_over_and_over(clock: ManualClock, meters: Meters) -> None:
    watch = LoopWatch(clock, meters)
    watch._beat_later()

    def hold() -> None:
        clock.advance(BEAT_S + HELD_S * 2)
        watch.look_at(sys._getframe())
        watch.beat()

    # the package's own calls are what is looked for
    exec(compile("def of_ours(hold): hold()", "x", "exec"), scope := {"__name__": "entobot.made_up"})
    with capture_logs() as told:
        scope["of_ours"](hold)
        scope["of_ours"](hold)
        clock.advance(TOLD_EVERY_S)
        hold()
    watch.stop()
    assert [entry["event"] for entry in told] == ["loop.held_up"] * 2
    assert (told[0]["milliseconds"], told[0]["at"]) == (40, "made_up.of_ours:1")


async def test_a_loop_that_is_in_time_is_not_looked_at(clock: ManualClock, meters: Meters) -> None:
    watch = LoopWatch(clock, meters)
    watch._beat_later()
    watch.look_at(sys._getframe())
    assert watch._seen == ""
    watch.stop()
