"""Work that is done again and again: what a missed doorbell leaves, and what time makes obsolete."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta

log = logging.getLogger("entobot.app")


class Periodic:
    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def every(self, interval: timedelta, work: Callable[[], Awaitable[object]]) -> None:
        """Start doing `work`, the first time after one interval. A failure is logged and tried again."""
        self._tasks.append(asyncio.get_running_loop().create_task(_repeat(interval.total_seconds(), work)))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()


async def _repeat(interval_s: float, work: Callable[[], Awaitable[object]]) -> None:
    while True:
        await asyncio.sleep(interval_s)
        try:
            await work()
        except Exception:
            log.exception("periodic work failed; it is tried again")
