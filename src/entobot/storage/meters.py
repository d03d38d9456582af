"""What every store counts, bound once."""

from collections.abc import Callable

from entobot.telemetry.meters import Meters
from entobot.telemetry.metrics import Metric


class StoreMeters:
    """`commit_seconds` and `commit_units` are moved by whoever commits, one thread; the rest on the loop's."""

    def __init__(self, meters: Meters) -> None:
        self.commit_seconds = meters.histogram(Metric.DATABASE_COMMIT_SECONDS)
        self.commit_units = meters.histogram(Metric.DATABASE_COMMIT_UNITS)
        self.failed_reads = meters.counter(Metric.DATABASE_ERRORS, operation="read")
        self.failed_writes = meters.counter(Metric.DATABASE_ERRORS, operation="write")
        self.reads = meters.counter(Metric.DATABASE_READS)
        self.waiting_reads = meters.gauge(Metric.DATABASE_QUEUE, operation="read")
        self.waiting_writes = meters.gauge(Metric.DATABASE_QUEUE, operation="write")


class LaneMeters:
    """What the connections of one operation count: `read` or `write`. Loop thread only."""

    def __init__(self, meters: Meters, operation: str) -> None:
        self._meters = meters
        self._operation = operation
        self.wait_seconds = meters.histogram(Metric.DATABASE_WAIT_SECONDS, operation=operation)
        self.conflicts = meters.counter(Metric.DATABASE_RETRIES, operation=operation, reason="conflict")
        self.losses = meters.counter(Metric.DATABASE_RETRIES, operation=operation, reason="lost")

    def follow(self, *, busy: Callable[[], int], idle: Callable[[], int]) -> None:
        self._meters.gauge(Metric.DATABASE_CONNECTIONS, operation=self._operation, state="busy").follow(busy)
        self._meters.gauge(Metric.DATABASE_CONNECTIONS, operation=self._operation, state="idle").follow(idle)
