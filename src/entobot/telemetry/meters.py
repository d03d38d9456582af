"""The instruments behind the metrics: plain numbers, bound once, moved in well under a microsecond.

One `Meters` per gateway, handed to whoever counts; nothing is global. An instrument is moved by one thread only (no
lock guards it); it is read from any.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from entobot.telemetry.metrics import Kind, Metric

MAX_SERIES = 256
"""Of one metric. Labels hold our own words only; should one ever come from outside, it is counted as `other`."""
OTHER = "other"


class _Number:
    """`value` may be moved in place where every nanosecond counts.

    `read`, where there is one, is asked at each scrape, from another thread: read numbers, copy before iterating.
    """

    __slots__ = ("_read", "value")

    def __init__(self) -> None:
        self.value: float = 0
        self._read: Callable[[], float] | None = None

    def add(self, amount: float = 1) -> None:
        self.value += amount

    def follow(self, read: Callable[[], float]) -> None:
        self._read = read

    def now(self) -> float | None:
        """None when it cannot be read: the part behind it is gone, or is just being replaced."""
        if self._read is None:
            return self.value
        try:
            return self._read()
        except Exception:  # noqa: BLE001  whatever it is, the other metrics are needed now more than ever
            return None


class Counter(_Number):
    """Only grows."""

    __slots__ = ()


class Gauge(_Number):
    __slots__ = ()

    def set(self, value: float) -> None:
        self.value = value


class Histogram:
    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


Instrument = Counter | Gauge | Histogram
T = TypeVar("T", Counter, Gauge, Histogram)


@dataclass(slots=True)
class Family:
    """One metric and its series, by the values of its labels."""

    metric: Metric
    series: dict[tuple[str, ...], Instrument] = field(default_factory=dict[tuple[str, ...], Instrument])

    def child(self, labels: Mapping[str, object]) -> Instrument:
        spec = self.metric.value
        if set(labels) != set(spec.labels):
            raise ValueError(f"{spec.name} has the labels {spec.labels}")
        key = tuple(str(labels[name]) for name in spec.labels)
        found = self.series.get(key)
        if found is not None:
            return found
        if len(self.series) >= MAX_SERIES:
            key = (OTHER,) * len(spec.labels)
        return self.series.setdefault(key, self._make())

    def _make(self) -> Instrument:
        spec = self.metric.value
        if spec.kind is Kind.HISTOGRAM:
            return Histogram(spec.bounds)
        return Counter() if spec.kind is Kind.COUNTER else Gauge()


class Meters:
    """Every instrument of one gateway. Asking twice for the same metric and labels gives the same instrument.

    The methods raise ValueError for labels that the metric does not have, and TypeError for one of another kind.
    """

    def __init__(self) -> None:
        self._families: dict[Metric, Family] = {}

    def counter(self, metric: Metric, **labels: object) -> Counter:
        return self._find(Counter, metric, labels)

    def gauge(self, metric: Metric, **labels: object) -> Gauge:
        return self._find(Gauge, metric, labels)

    def histogram(self, metric: Metric, **labels: object) -> Histogram:
        return self._find(Histogram, metric, labels)

    def families(self) -> list[Family]:
        """By name. The numbers go on moving while they are read."""
        return sorted(self._families.copy().values(), key=lambda family: family.metric.value.name)

    def _find(self, kind: type[T], metric: Metric, labels: Mapping[str, object]) -> T:
        family = self._families.setdefault(metric, Family(metric))
        found = family.child(labels)
        if not isinstance(found, kind):
            raise TypeError(f"{metric.value.name} is a {metric.value.kind}")
        return found
