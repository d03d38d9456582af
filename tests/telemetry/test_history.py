"""How metrics went: rates and quantiles between samples, bounded, and nothing made up where nothing was measured."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entobot.telemetry.history import LINES, WINDOWS, History, Line, Show, quantile
from entobot.telemetry.meters import Meters
from entobot.telemetry.metrics import Kind, Metric

LEVEL = Line("connections", Metric.CONNECTIONS, Show.LEVEL, "1")
RATE = Line("commands", Metric.COMMANDS, Show.RATE, "1/s")
P95 = Line("commit_p95", Metric.DATABASE_COMMIT_SECONDS, Show.P95, "s")
STEP_MS = 10_000


def test_a_level_is_the_sum_of_its_series() -> None:
    meters, now = Meters(), 0
    history = History(meters, [LEVEL])
    history.take(now)
    meters.gauge(Metric.CONNECTIONS, transport="websocket").set(3)
    meters.gauge(Metric.CONNECTIONS, transport="sse").set(2)
    history.take(now + STEP_MS)
    assert history.points(LEVEL, "1h") == [(STEP_MS, 5.0)]


def test_a_rate_is_growth_by_second() -> None:
    meters = Meters()
    history = History(meters, [RATE])
    counter = meters.counter(Metric.COMMANDS, command="message.send", outcome="ok")
    history.take(0)
    counter.add(50)
    history.take(STEP_MS)
    history.take(2 * STEP_MS)
    assert history.points(RATE, "1h") == [(STEP_MS, 5.0), (2 * STEP_MS, 0.0)]


def test_a_quantile_is_of_what_happened_between_two_samples() -> None:
    meters = Meters()
    history = History(meters, [P95])
    commits = meters.histogram(Metric.DATABASE_COMMIT_SECONDS)
    commits.observe(10.0)
    history.take(0)
    for _ in range(100):
        commits.observe(0.002)
    history.take(STEP_MS)
    history.take(2 * STEP_MS)
    (_, first), (_, second) = history.points(P95, "1h")
    assert first == pytest.approx(0.002425)
    assert second is None, "nothing was committed"


def test_what_was_never_counted_has_no_value() -> None:
    history = History(Meters(), [LEVEL, RATE, P95])
    history.take(0)
    history.take(STEP_MS)
    assert [history.points(line, "1h") for line in (LEVEL, RATE, P95)] == [[(STEP_MS, None)]] * 3


def test_every_window_keeps_its_span_and_no_more() -> None:
    meters = Meters()
    meters.gauge(Metric.CONNECTIONS, transport="websocket").set(1)
    history = History(meters, [LEVEL])
    step, days = WINDOWS[0].step, timedelta(days=8)
    for number in range(days // step):
        history.take(number * (step // timedelta(milliseconds=1)))
    for window in WINDOWS:
        points = history.points(LEVEL, window.name)
        assert len(points) == window.span // window.step
        assert points[-1][0] - points[0][0] == (window.span - window.step) // timedelta(milliseconds=1)


@given(counts=st.lists(st.integers(0, 50), min_size=4, max_size=4), part=st.sampled_from([0.5, 0.95, 0.99]))
def test_a_quantile_lies_in_the_bucket_of_its_rank(counts: list[int], part: float) -> None:
    bounds = (1.0, 2.0, 5.0)
    found = quantile(bounds, counts, part)
    if sum(counts) == 0:
        assert found is None
        return
    assert found is not None
    values = [upper for upper, many in zip((*bounds, 5.0), counts, strict=True) for _ in range(many)]
    rank = values[max(0, -(-int(part * 1000) * len(values) // 1000) - 1)]
    assert found <= rank


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.name)
def test_every_line_of_the_dashboard_can_be_drawn(line: Line) -> None:
    spec = line.metric.value
    assert (spec.kind is Kind.HISTOGRAM) == (line.show in (Show.P95, Show.P99))
    assert (spec.kind is Kind.COUNTER) == (line.show is Show.RATE)
    assert line.unit == {Show.LEVEL: "1", Show.RATE: "1/s"}.get(line.show, "s")
