"""How the metrics that people look at went: samples in memory, of this process and since it started."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from itertools import pairwise

from entobot.telemetry.meters import Family, Histogram, Meters
from entobot.telemetry.metrics import Metric


class Show(StrEnum):
    """What of a metric is drawn."""

    LEVEL = "level"
    """The sum of all series as it is."""
    RATE = "rate"
    """How much the sum grew, by second."""
    P95 = "p95"
    P99 = "p99"


@dataclass(frozen=True, slots=True)
class Line:
    """One curve. `unit`: `1`, `1/s` or `s`."""

    name: str
    metric: Metric
    show: Show
    unit: str


LINES = (
    Line("approvals_pending", Metric.APPROVALS_PENDING, Show.LEVEL, "1"),
    Line("auth_failures", Metric.AUTH_FAILURES, Show.RATE, "1/s"),
    Line("commands", Metric.COMMANDS, Show.RATE, "1/s"),
    Line("command_p95", Metric.COMMAND_SECONDS, Show.P95, "s"),
    Line("commit_p95", Metric.DATABASE_COMMIT_SECONDS, Show.P95, "s"),
    Line("connections", Metric.CONNECTIONS, Show.LEVEL, "1"),
    Line("delivery_p95", Metric.DELIVERY_SECONDS, Show.P95, "s"),
    Line("events_sent", Metric.EVENTS_SENT, Show.RATE, "1/s"),
    Line("http_requests", Metric.HTTP_REQUESTS, Show.RATE, "1/s"),
    Line("limited", Metric.LIMITED, Show.RATE, "1/s"),
    Line("loop_late_p99", Metric.EVENT_LOOP_LATE_SECONDS, Show.P99, "s"),
)


@dataclass(frozen=True, slots=True)
class Window:
    """A span and how far apart its samples are."""

    name: str
    span: timedelta
    step: timedelta

    @property
    def samples(self) -> int:
        return self.span // self.step + 1


WINDOWS = (
    Window("1h", timedelta(hours=1), timedelta(seconds=10)),
    Window("24h", timedelta(hours=24), timedelta(minutes=5)),
    Window("7d", timedelta(days=7), timedelta(minutes=30)),
)
_QUANTILES = {Show.P95: 0.95, Show.P99: 0.99}

Reading = float | tuple[int, ...] | None
"""Of one line at one moment: a number, or the counts of a histogram's buckets; None where there is none yet."""
Point = tuple[int, float | None]


@dataclass(frozen=True, slots=True)
class Sample:
    at_ms: int
    readings: Mapping[str, Reading]


class History:
    """`take` is called every `WINDOWS[0].step`; the longer windows keep every so manieth of what it reads."""

    def __init__(self, meters: Meters, lines: Sequence[Line] = LINES) -> None:
        self._meters = meters
        self.lines = lines
        self._kept = {window.name: deque[Sample](maxlen=window.samples) for window in WINDOWS}

    def take(self, now_ms: int) -> None:
        families = {family.metric: family for family in self._meters.families()}
        sample = Sample(now_ms, {line.name: _read(families.get(line.metric), line.show) for line in self.lines})
        for window in WINDOWS:
            kept = self._kept[window.name]
            step_ms = window.step // timedelta(milliseconds=1)
            if not kept or now_ms // step_ms != kept[-1].at_ms // step_ms:
                kept.append(sample)

    def points(self, line: Line, window: str) -> list[Point]:
        """(milliseconds since 1970, value) of each sample but the first, which is what the second is compared with.

        A value is None where nothing happened that could be measured. Raises KeyError for another window.
        """
        pairs = pairwise(list(self._kept[window]))
        return [(after.at_ms, _value(line, before, after)) for before, after in pairs]


def _read(family: Family | None, show: Show) -> Reading:
    if family is None:
        return None
    series = list(family.series.copy().values())
    if show in _QUANTILES:
        counts = [tuple(one.counts) for one in series if isinstance(one, Histogram)]
        return tuple(map(sum, zip(*counts, strict=True))) if counts else None
    values = [one.now() for one in series if not isinstance(one, Histogram)]
    known = [value for value in values if value is not None]
    return float(sum(known)) if known else None


def _value(line: Line, before: Sample, after: Sample) -> float | None:
    old, new = before.readings.get(line.name), after.readings.get(line.name)
    if isinstance(new, tuple):
        base = old if isinstance(old, tuple) else (0,) * len(new)
        counts = [late - early for late, early in zip(new, base, strict=True)]
        return quantile(line.metric.value.bounds, counts, _QUANTILES[line.show])
    if new is None or line.show is Show.LEVEL:
        return new
    seconds = (after.at_ms - before.at_ms) / 1000
    grown = new - (0.0 if old is None or isinstance(old, tuple) else old)
    return max(0.0, grown) / seconds if seconds > 0 else None


def quantile(bounds: Sequence[float], counts: Sequence[int], part: float) -> float | None:
    """As Prometheus' `histogram_quantile`: straight within a bucket, the last bound for what is beyond it."""
    total = sum(counts)
    if total <= 0:
        return None
    rank, below, lower = part * total, 0, 0.0
    for upper, count in zip(bounds, counts, strict=False):
        if count and below + count >= rank:
            return lower + (upper - lower) * (rank - below) / count
        below, lower = below + count, upper
    return bounds[-1]
