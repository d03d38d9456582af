"""Which protocol speaks on a WebSocket: ours where its subprotocol is asked for, else the simple one for boards."""

from entobot.app.ground import Ground
from entobot.app.simple import BearerPairing, DeviceConversations
from entobot.core.rates import Rate
from entobot.gateway.link import Link, LinkHandler
from entobot.gateway.session import Session, SessionParts
from entobot.gateway.simple_session import SimpleSession
from entobot.gateway.upgrade import OriginPolicy, UpgradeRequest
from entobot.gateway.websocket import WebSockets
from entobot.gateway.wire import SUBPROTOCOL


def make_websockets(
    ground: Ground, parts: SessionParts, simple: SessionParts, desk: DeviceConversations, pairing: BearerPairing
) -> WebSockets:
    """`simple` are the parts of sessions that speak the simple protocol."""

    def make(link: Link, request: UpgradeRequest) -> LinkHandler:
        origin = request.headers.get("origin")
        if link.subprotocol is None:
            return SimpleSession(link, simple, origin, desk, pairing)
        return Session(link, parts, origin)

    origins = (ground.origin, *ground.settings.gateway.allowed_origins)
    admit = OriginPolicy(origins=origins, subprotocols=[SUBPROTOCOL])
    pings = ground.settings.limits.allowances()[Rate.PINGS]
    return WebSockets(admit=admit, make=make, timers=parts.timers, pings=pings)
