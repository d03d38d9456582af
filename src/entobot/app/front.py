"""The settings of the front door, as the parts that carry them out."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from entobot.config import GatewaySettings, LimitSettings, Settings, StreamSettings
from entobot.core.clock import Clock
from entobot.core.networks import Networks
from entobot.gateway.limits import CountCaps, WaitingRoom
from entobot.gateway.rates import Rates, limit_meter
from entobot.stream.model import Retention
from entobot.telemetry.meters import Meters
from entobot.telemetry.metrics import Metric
from entobot.web.callers import Callers
from entobot.web.endpoints import TcpEndpoint, UnixEndpoint
from entobot.web.http_protocol import HttpLimits, Timers
from entobot.web.listener import Listener
from entobot.web.plain_http import PlainHttp
from entobot.web.tls import TlsFiles


def endpoints_of(gateway: GatewaySettings, tls: TlsFiles | None, unix_socket: Path) -> list[TcpEndpoint | UnixEndpoint]:
    """The main port first."""
    endpoints: list[TcpEndpoint | UnixEndpoint] = [TcpEndpoint(gateway.host, gateway.port, tls)]
    if gateway.ws_port:
        endpoints.append(TcpEndpoint(gateway.host, gateway.ws_port, tls, only_websocket=True))
    return [*endpoints, UnixEndpoint(unix_socket)]


PLAIN_LIMITS = HttpLimits(
    request_head=timedelta(seconds=5),
    request_body=timedelta(seconds=5),
    keep_alive=timedelta(seconds=5),
    stalled_write=timedelta(seconds=5),
    max_head_bytes=8 * 1024,
    max_body_bytes=1024,
)
MAX_PLAIN_CONNECTIONS = 256
MAX_PLAIN_CONNECTIONS_PER_ADDRESS = 16


def plain_listener(
    settings: Settings, origin: str, answers: Mapping[str, str], clock: Clock, timers: Timers
) -> Listener | None:
    """The port for plain HTTP, where there is one: redirects, and answers for an authority. Not started."""
    if not settings.plain_port:
        return None
    callers = callers_of(settings.gateway)
    if settings.tls.mode == "acme" and settings.acme.challenge == "http-01":
        callers = replace(callers, allowed=Networks())  # the authority comes from anywhere
    return Listener(
        app=PlainHttp(origin, answers),
        websocket=None,
        endpoints=[TcpEndpoint(settings.gateway.host, settings.plain_port, says_nothing_secret=True)],
        clock=clock,
        timers=timers,
        waiting=WaitingRoom(per_key=MAX_PLAIN_CONNECTIONS_PER_ADDRESS, total=MAX_PLAIN_CONNECTIONS, clock=clock),
        per_address=CountCaps(per_key=MAX_PLAIN_CONNECTIONS_PER_ADDRESS, total=MAX_PLAIN_CONNECTIONS),
        callers=callers,
        limits=PLAIN_LIMITS,
        max_connections=MAX_PLAIN_CONNECTIONS,
    )


def callers_of(gateway: GatewaySettings) -> Callers:
    return Callers(
        trusted=Networks(gateway.trusted_proxies),
        allowed=Networks(gateway.allowed_networks),
        proxy_protocol=gateway.proxy_protocol,
    )


def per_address_of(gateway: GatewaySettings) -> CountCaps:
    per_key = gateway.max_connections_per_address or max(1, gateway.max_connections // 2)
    return CountCaps(per_key=per_key, total=gateway.max_connections)


def rates_of(limits: LimitSettings, clock: Clock, meters: Meters) -> Rates:
    return Rates(
        limits.allowances(),
        monotonic=clock.monotonic,
        on_limited=limit_meter(meters),
        user_multiple=limits.user_multiple,
        network_multiple=limits.network_multiple,
    )


def opening_of(limits: LimitSettings, clock: Clock) -> WaitingRoom:
    """Where connections wait whose request has not arrived yet."""
    return WaitingRoom(per_key=limits.opening_per_address, total=limits.opening, clock=clock)


def strangers_of(limits: LimitSettings, clock: Clock, meters: Meters) -> WaitingRoom:
    """Where WebSockets wait that are not authenticated yet."""
    room = WaitingRoom(per_key=limits.unauthenticated_per_address, total=limits.unauthenticated, clock=clock)
    meters.gauge(Metric.HANDSHAKES_WAITING).follow(lambda: room.held)
    return room


def retention_of(stream: StreamSettings) -> Retention:
    return Retention(keep_events=stream.keep_events, keep_for=stream.keep_for)
