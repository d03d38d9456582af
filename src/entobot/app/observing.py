"""What only the composition root can count: the process as a whole."""

import asyncio
import platform

from entobot import __version__
from entobot.telemetry.meters import Meters
from entobot.telemetry.metrics import Metric
from entobot.web.listener import Listener

LAG_EVERY_S = 0.25


def observe_process(meters: Meters, listener: Listener) -> None:
    meters.gauge(Metric.BUILD_INFO, version=__version__, python=platform.python_version()).set(1)
    meters.gauge(Metric.LISTENER_CONNECTIONS).follow(lambda: listener.connection_count)


class LoopLag:
    """How late the loop is: what everything on it waits for besides its own work."""

    def __init__(self, meters: Meters) -> None:
        self._seconds = meters.histogram(Metric.LOOP_LAG_SECONDS)
        self._due_s = 0.0
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._due_s = loop.time() + LAG_EVERY_S
        self._handle = loop.call_at(self._due_s, self._measure)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()

    def _measure(self) -> None:
        self._seconds.observe(max(0.0, asyncio.get_running_loop().time() - self._due_s))
        self.start()
