"""The numbers of this node that rules of alerts look at."""

import shutil
from collections.abc import Callable
from pathlib import Path

from entobot.alerts.level_watch import Read, Reading
from entobot.core.alert_rules import RuleId
from entobot.core.clock import Clock
from entobot.telemetry.meters import Counter, Gauge, Meters
from entobot.telemetry.metrics import Metric

LATE_S = 0.25
DAY_S = 86_400


def reads_of(meters: Meters, clock: Clock, disk: "Disk", backup_complaint: Callable[[], str]) -> dict[RuleId, Read]:
    """By rule. A metric that this node does not have gives None, and so nothing fires."""

    def total(metric: Metric) -> Read:
        return lambda: _reading(_values(meters, metric), sum)

    def largest(metric: Metric) -> Read:
        return lambda: _reading(_values(meters, metric), max)

    def days_left() -> Reading | None:
        found = _reading(_values(meters, Metric.CERTIFICATE_END), min)
        return None if found is None else Reading((found.value - clock.now_ms() / 1000) / DAY_S, {})

    def backup() -> Reading:
        return Reading(1 if backup_complaint() else 0, {})

    return {
        RuleId.APPROVAL_UNCONSUMED: largest(Metric.APPROVALS_UNCONSUMED),
        RuleId.AUDIT_SINK_LAG: largest(Metric.AUDIT_SINK_LAG),
        RuleId.BACKUP_OVERDUE: backup,
        RuleId.BUS_DOWN: largest(Metric.BUS_UP),
        RuleId.CERTIFICATE_ENDS: days_left,
        RuleId.CREDENTIALS_REFUSED: total(Metric.AUTH_FAILURES),
        RuleId.DELIVERY_WAITING: total(Metric.DELIVERY_WAITING),
        RuleId.DISK_LOW: disk.read,
        RuleId.LIMITS_HIT: total(Metric.LIMITED),
        RuleId.LOOP_LATE: lambda: _late(meters),
        RuleId.NOTIFICATIONS_FAIL: total(Metric.NOTIFICATION_FAILURES),
        RuleId.STORE_DOWN: largest(Metric.DATABASE_UP),
        RuleId.STORE_QUEUE: total(Metric.DATABASE_QUEUE),
    }


class Disk:
    """Free space of the data folder. `look` in a thread: a disk that hangs must not hold the loop."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._found: Reading | None = None

    def look(self) -> None:
        """Blocks."""
        try:
            usage = shutil.disk_usage(self._folder)
        except OSError:
            self._found = None
            return
        self._found = Reading(100 * usage.free / usage.total, {"free_mb": usage.free // 1_000_000})

    def read(self) -> Reading | None:
        return self._found


def _values(meters: Meters, metric: Metric) -> list[float]:
    family = next((one for one in meters.families() if one.metric is metric), None)
    series = [] if family is None else list(family.series.copy().values())
    numbers = [one.now() for one in series if isinstance(one, Counter | Gauge)]
    return [one for one in numbers if one is not None]


def _reading(values: list[float], of: Callable[[list[float]], float]) -> Reading | None:
    return Reading(of(values), {}) if values else None


def _late(meters: Meters) -> Reading:
    """How often the loop was late by `LATE_S` or more."""
    late = meters.histogram(Metric.EVENT_LOOP_LATE_SECONDS)
    beyond = [count for bound, count in zip((*late.bounds, float("inf")), late.counts, strict=True) if bound > LATE_S]
    return Reading(sum(beyond), {})
