"""The settings of the front door, as the parts that carry them out."""

from pathlib import Path

from entobot.config import GatewaySettings, LimitSettings
from entobot.core.clock import Clock
from entobot.core.networks import Networks
from entobot.gateway.limits import CountCaps, WaitingRoom
from entobot.gateway.rates import Rates, limit_meter
from entobot.telemetry.meters import Meters
from entobot.telemetry.metrics import Metric
from entobot.web.callers import Callers
from entobot.web.endpoints import TcpEndpoint, UnixEndpoint
from entobot.web.tls import TlsFiles


def endpoints_of(gateway: GatewaySettings, tls: TlsFiles | None, unix_socket: Path) -> list[TcpEndpoint | UnixEndpoint]:
    """The main port first."""
    endpoints: list[TcpEndpoint | UnixEndpoint] = [TcpEndpoint(gateway.host, gateway.port, tls)]
    if gateway.ws_port:
        endpoints.append(TcpEndpoint(gateway.host, gateway.ws_port, tls, only_websocket=True))
    return [*endpoints, UnixEndpoint(unix_socket)]


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


def strangers_of(limits: LimitSettings, clock: Clock, meters: Meters) -> WaitingRoom:
    """Where WebSockets wait that are not authenticated yet."""
    room = WaitingRoom(per_key=limits.unauthenticated_per_address, total=limits.unauthenticated, clock=clock)
    meters.gauge(Metric.HANDSHAKES_WAITING).follow(lambda: room.held)
    return room
