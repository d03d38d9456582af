"""Which protocol speaks on a WebSocket: ours where its subprotocol is asked for, else the simple one for boards.

And whether MQTT is spoken.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from entobot.app.ground import Ground
from entobot.app.periodic import Periodic
from entobot.app.simple import BearerPairing, DeviceConversations
from entobot.app.things import ThingDesk
from entobot.audit.service import Audit
from entobot.config import GatewaySettings
from entobot.core.errors import StartupRefused
from entobot.core.rates import Rate
from entobot.devices.service import Devices
from entobot.gateway.authentication import Refused
from entobot.gateway.connection import Pace
from entobot.gateway.link import Link, LinkHandler
from entobot.gateway.meters import ConnectionMeters
from entobot.gateway.session import Session, SessionParts
from entobot.gateway.simple_session import SimpleSession
from entobot.gateway.upgrade import OriginPolicy, UpgradeRequest
from entobot.gateway.websocket import Service, WebSockets
from entobot.gateway.wire import SUBPROTOCOL
from entobot.web.endpoints import TcpEndpoint

if TYPE_CHECKING:
    from entobot.app.boards import Boards

OnRefused = Callable[[Refused, str], None]


class NoBoards:
    """MQTT is off."""

    def endpoints(self) -> list[TcpEndpoint]:
        return []

    def websockets(self) -> dict[str, Service]:
        return {}

    def start(self, periodic: Periodic) -> None: ...
    def stop(self) -> None: ...


async def make_boards(
    ground: Ground, parts: SessionParts, devices: Devices, audit: Audit, things: ThingDesk, on_refused: OnRefused
) -> "Boards | NoBoards":
    """With the policies in force that are stored. Most gateways have no boards, and need not load what only boards need."""
    things.policies.service.spawn = parts.spawn
    await things.policies.service.renew()
    if not ground.settings.mqtt.enabled:
        if ground.settings.edge.url:
            raise StartupRefused("edge.url needs mqtt.enabled = true. With mqtt.port = 0 no board comes in directly.")
        return NoBoards()
    from entobot.app.boards import Boards

    boards = Boards(ground, parts, devices, audit, things, on_refused)
    await boards.prepare()
    return boards


def pace_of(gateway: GatewaySettings) -> Pace:
    heartbeat_s = gateway.heartbeat.total_seconds()
    return Pace(heartbeat_s=heartbeat_s, silence_s=2.5 * heartbeat_s)


def make_websockets(
    ground: Ground,
    parts: SessionParts,
    on_refused: OnRefused,
    desk: DeviceConversations,
    pairing: BearerPairing,
    further: dict[str, Service],
) -> WebSockets:
    """`on_refused` hears of bad credentials over the simple protocol, `further` is spoken at other paths."""
    simple = replace(parts, meters=ConnectionMeters(ground.meters, "simple"), on_refused=on_refused)

    def make(link: Link, request: UpgradeRequest) -> LinkHandler:
        origin = request.headers.get("origin")
        if link.subprotocol is None:
            return SimpleSession(link, simple, origin, desk, pairing)
        return Session(link, parts, origin)

    origins = (ground.origin, *ground.settings.gateway.allowed_origins)
    admit = OriginPolicy(origins=origins, subprotocols=[SUBPROTOCOL])
    pings = ground.settings.limits.allowances()[Rate.PINGS]
    return WebSockets(admit=admit, make=make, timers=parts.timers, pings=pings, further=further)
