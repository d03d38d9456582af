"""What only the composition root can count: the process as a whole."""

import platform

from entobot import __version__
from entobot.bus.bus import Bus
from entobot.telemetry.meters import Meters
from entobot.telemetry.metrics import Metric
from entobot.web.listener import Listener


def observe_process(meters: Meters, listener: Listener) -> None:
    meters.gauge(Metric.BUILD_INFO, version=__version__, python=platform.python_version()).set(1)
    meters.gauge(Metric.LISTENER_CONNECTIONS).follow(lambda: listener.connection_count)


def observe_bus(meters: Meters, bus: Bus) -> None:
    meters.counter(Metric.BUS_DROPPED).follow(lambda: bus.health().dropped)
    meters.counter(Metric.BUS_MISSED).follow(lambda: bus.health().missed)
    meters.counter(Metric.BUS_SENT).follow(lambda: bus.health().sent)
    meters.gauge(Metric.BUS_UP).follow(lambda: bus.health().is_connected)
    meters.gauge(Metric.BUS_WAITING).follow(lambda: bus.health().waiting)
