"""What is counted in the store itself: when somebody scrapes, and no more often than that is worth."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

from entobot.core.clock import Clock
from entobot.storage.database import Database, Transaction
from entobot.stream.retention import Backlog
from entobot.telemetry.log import get_logger
from entobot.telemetry.meters import Meters
from entobot.telemetry.metrics import Metric

KEPT = timedelta(seconds=5)
"""How old a count may be: however often it is asked for, the store is read once in this time."""
PATIENCE = timedelta(seconds=2)
"""A scrape does not wait longer for a store that does not answer: the other numbers are needed then."""

log = get_logger("app")


@dataclass(frozen=True, slots=True)
class Counts:
    """Of the whole store, whatever node asks."""

    conversations_awaiting: int
    approvals_pending: int
    approvals_unconsumed: int
    backlog: Backlog


class Measuring:
    """`count` is a unit that only reads. What could not be counted is left out of the metrics, not told as it was.

    `report` looks at readiness, whose metric would otherwise be as old as the last probe.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        meters: Meters,
        count: Callable[[Transaction], Counts],
        report: Callable[[], Awaitable[object]],
    ) -> None:
        self._database = database
        self._clock = clock
        self._count = count
        self._report = report
        self._found: Counts | None = None
        self._counted_s = float("-inf")
        self._counting: asyncio.Task[None] | None = None
        meters.gauge(Metric.APPROVALS_PENDING).follow(lambda: self._now().approvals_pending)
        meters.gauge(Metric.APPROVALS_UNCONSUMED).follow(lambda: self._now().approvals_unconsumed)
        meters.gauge(Metric.CONVERSATIONS_AWAITING).follow(lambda: self._now().conversations_awaiting)
        meters.gauge(Metric.STREAM_BACKLOG).follow(lambda: self._now().backlog.events)
        meters.gauge(Metric.STREAM_OLDEST_SECONDS).follow(self._oldest_s)

    async def look(self) -> None:
        """Never raises, and never takes longer than `PATIENCE`."""
        now_s = self._clock.monotonic()
        if self._counting is None and now_s - self._counted_s >= KEPT.total_seconds():
            self._counting = asyncio.create_task(self._count_now())
        tasks = [asyncio.ensure_future(self._report())]
        if self._counting is not None:
            tasks.append(self._counting)
        _, late = await asyncio.wait(tasks, timeout=PATIENCE.total_seconds())
        if self._counting in late:
            self._found = None

    async def _count_now(self) -> None:
        try:
            self._found = await self._database.read(self._count)
            self._counted_s = self._clock.monotonic()
        except Exception as error:  # noqa: BLE001  whatever it is, a scrape is answered; its text may hold anything
            self._found = None
            log.warning("metrics.not_counted", error=type(error).__name__)
        finally:
            self._counting = None

    def _now(self) -> Counts:
        if self._found is None:
            raise LookupError("nothing was counted")
        return self._found

    def _oldest_s(self) -> float:
        oldest_at_ms = self._now().backlog.oldest_at_ms
        return 0.0 if oldest_at_ms is None else max(0.0, (self._clock.now_ms() - oldest_at_ms) / 1000)
