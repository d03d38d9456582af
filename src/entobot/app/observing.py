"""What only the composition root can count: the process as a whole."""

import platform

from entobot import __version__
from entobot.bus.bus import Bus
from entobot.config import TracingSettings
from entobot.core.errors import StartupRefused
from entobot.storage.database import Database
from entobot.telemetry.meters import Meters
from entobot.telemetry.metrics import Metric
from entobot.telemetry.tracing import NoTracer, Tracer
from entobot.web.listener import Listener

EXTRA = "pip install 'entobot[tracing]'"


def make_tracer(settings: TracingSettings, node_id: str) -> Tracer:
    """Raises StartupRefused when a collector is named and the packages are missing."""
    if not settings.endpoint:
        return NoTracer()
    try:
        from entobot.telemetry.tracing_otlp import OtlpTracer
    except ModuleNotFoundError:
        raise StartupRefused(f"tracing.endpoint needs more packages: {EXTRA}") from None
    return OtlpTracer(settings.endpoint, settings.sample_ratio, node_id=node_id, version=__version__)


def observe_process(meters: Meters, listener: Listener) -> None:
    meters.gauge(Metric.BUILD_INFO, version=__version__, python=platform.python_version()).set(1)
    meters.gauge(Metric.LISTENER_CONNECTIONS).follow(lambda: listener.connection_count)


def observe_database(meters: Meters, database: Database) -> None:
    meters.gauge(Metric.DATABASE_UP).follow(lambda: not database.trouble())


def observe_bus(meters: Meters, bus: Bus) -> None:
    meters.counter(Metric.BUS_DROPPED).follow(lambda: bus.health().dropped)
    meters.counter(Metric.BUS_MISSED).follow(lambda: bus.health().missed)
    meters.counter(Metric.BUS_RECONNECTS).follow(lambda: bus.health().reconnects)
    meters.counter(Metric.BUS_SENT).follow(lambda: bus.health().sent)
    meters.gauge(Metric.BUS_UP).follow(lambda: bus.health().is_connected)
    meters.gauge(Metric.BUS_WAITING).follow(lambda: bus.health().waiting)
    meters.gauge(Metric.BUS_WAITING_SECONDS).follow(lambda: bus.health().oldest_s)
