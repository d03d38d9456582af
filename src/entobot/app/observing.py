"""What only the composition root can count: the process as a whole."""

import platform

from entobot import __version__
from entobot.telemetry.meters import Meters
from entobot.telemetry.metrics import Metric
from entobot.web.listener import Listener


def observe_process(meters: Meters, listener: Listener) -> None:
    meters.gauge(Metric.BUILD_INFO, version=__version__, python=platform.python_version()).set(1)
    meters.gauge(Metric.LISTENER_CONNECTIONS).follow(lambda: listener.connection_count)
