"""What `GET /metrics` answers: the Prometheus text format, or OpenMetrics 1.0 for those who accept it."""

import asyncio
from collections.abc import Iterator
from functools import cache
from itertools import accumulate
from typing import TYPE_CHECKING, cast

from entobot.telemetry.meters import Counter, Family, Gauge, Histogram, Meters
from entobot.telemetry.metrics import Kind

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric as PrometheusFamily
    from prometheus_client.registry import CollectorRegistry

OPENMETRICS = "application/openmetrics-text"


async def expose(meters: Meters, accept: str) -> tuple[bytes, str]:
    """The text and its content type. Made in a thread: the loop goes on meanwhile, however many series there are."""
    return await asyncio.to_thread(_expose, meters, accept)


def _expose(meters: Meters, accept: str) -> tuple[bytes, str]:
    from prometheus_client import exposition as text
    from prometheus_client.openmetrics import exposition as openmetrics

    registry = _registry_of(meters)
    if OPENMETRICS in accept.lower():
        told = cast("bytes", openmetrics.generate_latest(registry))  # pyright: ignore[reportUnknownMemberType]  it has no annotation
        return told, openmetrics.CONTENT_TYPE_LATEST
    return text.generate_latest(registry), text.CONTENT_TYPE_PLAIN_0_0_4


def _registry_of(meters: Meters) -> "CollectorRegistry":
    from prometheus_client import ProcessCollector
    from prometheus_client.registry import Collector, CollectorRegistry

    class Ours(Collector):
        def collect(self) -> "Iterator[PrometheusFamily]":
            return map(_family, meters.families())

    found = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=found)
    found.register(Ours())
    return found


def _family(family: Family) -> "PrometheusFamily":
    from prometheus_client import core

    spec = family.metric.value
    series = list(family.series.copy().items())
    if spec.kind is Kind.COUNTER:
        found = core.CounterMetricFamily(spec.name, spec.meaning, labels=spec.labels, unit=unit_of(spec.name))
        for labels, one in series:
            assert isinstance(one, Counter)
            value = one.now()
            if value is not None:
                found.add_metric(labels, value)
        return found
    if spec.kind is Kind.GAUGE:
        gauges = core.GaugeMetricFamily(spec.name, spec.meaning, labels=spec.labels, unit=unit_of(spec.name))
        for labels, one in series:
            assert isinstance(one, Gauge)
            value = one.now()
            if value is not None:
                gauges.add_metric(labels, value)
        return gauges
    histograms = core.HistogramMetricFamily(spec.name, spec.meaning, labels=spec.labels, unit=unit_of(spec.name))
    for labels, one in series:
        assert isinstance(one, Histogram)
        counts = list(accumulate(one.counts))
        histograms.add_metric(labels, list(zip(_edges(one.bounds), counts, strict=True)), one.total)
    return histograms


@cache
def _edges(bounds: tuple[float, ...]) -> tuple[str, ...]:
    from prometheus_client import utils

    return (*(utils.floatToGoString(bound) for bound in bounds), "+Inf")  # pyright: ignore[reportUnknownMemberType]  no annotation


def unit_of(name: str) -> str:
    """The unit that OpenMetrics wants told, which is the last word of the name."""
    word = name.removesuffix("_total").rpartition("_")[2]
    return word if word in ("bytes", "seconds", "ratio") else ""
