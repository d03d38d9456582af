"""Work that is done again and again: what a missed doorbell leaves, and what time makes obsolete."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta

from entobot.core.clock import Clock
from entobot.telemetry.meters import Meters
from entobot.telemetry.metrics import Metric

log = logging.getLogger("entobot.app")


class Periodic:
    def __init__(self, clock: Clock, meters: Meters) -> None:
        self._clock = clock
        self._meters = meters
        self._tasks: list[asyncio.Task[None]] = []

    def every(self, interval: timedelta, work: Callable[[], Awaitable[object]], *, at_once: bool = False) -> None:
        """Start doing `work`, the first time after one interval or `at_once`. A failure is logged and tried again."""
        repeating = self._repeat(interval.total_seconds(), work, at_once=at_once)
        self._tasks.append(asyncio.get_running_loop().create_task(repeating))

    def when_rung(self, bell: asyncio.Event, work: Callable[[], Awaitable[object]]) -> None:
        """Do `work` whenever the bell was rung, once for all that rang meanwhile."""
        repeating = self._repeat(0, work, at_once=True, bell=bell)
        self._tasks.append(asyncio.get_running_loop().create_task(repeating))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def _repeat(
        self,
        interval_s: float,
        work: Callable[[], Awaitable[object]],
        *,
        at_once: bool,
        bell: asyncio.Event | None = None,
    ) -> None:
        name = getattr(work, "__qualname__", "work").strip("_").lower()
        while True:
            if not at_once:
                await asyncio.sleep(interval_s)
            at_once = bell is not None
            if bell is not None:
                await bell.wait()
                bell.clear()
            begun_s, outcome = self._clock.monotonic(), "ok"
            try:
                await work()
            except Exception:
                outcome = "failed"
                log.exception("periodic work failed; it is tried again")
            seconds = self._meters.histogram(Metric.SWEEP_SECONDS, sweep=name, outcome=outcome)
            seconds.observe(self._clock.monotonic() - begun_s)
