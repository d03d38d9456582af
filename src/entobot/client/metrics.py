"""The text of `GET /metrics` as lines that a person reads."""

from collections.abc import Iterable
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

Line = tuple[str, str]
"""A metric with its labels, and what it says."""


def readable(text: str, *, prefix: str = "") -> list[Line]:
    """Metrics whose name begins with `prefix`; of a histogram its count, mean, and bounds for the median and p99."""
    lines: list[Line] = []
    for family in text_string_to_metric_families(text):
        if family.name.startswith(prefix):
            lines += _of_histogram(family) if family.type == "histogram" else _of_numbers(family.samples)
    return lines


def _of_numbers(samples: Iterable[Any]) -> list[Line]:
    return [(_named(sample.name, sample.labels), _number(sample.value)) for sample in samples]


def _of_histogram(family: Any) -> list[Line]:
    series: dict[str, dict[float, float]] = {}
    sums: dict[str, float] = {}
    for sample in family.samples:
        labels = dict(sample.labels)
        bound = labels.pop("le", None)
        name = _named(family.name, labels)
        if bound is not None:
            series.setdefault(name, {})[float(bound)] = sample.value
        elif sample.name.endswith("_sum"):
            sums[name] = sample.value
    return [(name, _told(buckets, sums[name])) for name, buckets in series.items()]


def _told(buckets: dict[float, float], total: float) -> str:
    count = buckets[float("inf")]
    if not count:
        return "none"
    half, most = (_bound(buckets, count * part) for part in (0.5, 0.99))
    return f"{_number(count)}, mean {total / count:.3g}, median {half}, p99 {most}"


def _bound(buckets: dict[float, float], rank: float) -> str:
    """Where the value of this rank lies at most."""
    known = sorted(bound for bound in buckets if bound != float("inf"))
    for bound in known:
        if buckets[bound] >= rank:
            return f"≤ {bound:g}"
    return f"> {known[-1]:g}"


def _named(name: str, labels: dict[str, str]) -> str:
    inside = " ".join(f"{key}={value}" for key, value in labels.items())
    return f"{name} {{{inside}}}" if inside else name


def _number(value: float) -> str:
    return f"{value:.0f}" if value == int(value) else f"{value:.6g}"
