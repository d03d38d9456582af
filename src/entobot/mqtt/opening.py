"""Who sent a CONNECT, and whether it may be let in as it asks."""

import msgspec

from entobot.core.principal import Principal
from entobot.gateway.authentication import Authenticated, Refused
from entobot.gateway.feed import Standing, standing_of
from entobot.gateway.wire import Auth, Close
from entobot.mqtt.connection import Opened
from entobot.mqtt.effects import Open
from entobot.mqtt.holding import Forbidden, Held, Owner, TooManySessions
from entobot.mqtt.layouts import Names, names_of
from entobot.mqtt.model import Action
from entobot.mqtt.packets import Connect, Reason
from entobot.mqtt.parts import CONNACKS, MqttParts, Wire
from entobot.storage.database import Transaction

Refusal = tuple[Reason, str]


async def authenticate(parts: MqttParts, connect: Connect, wire: Wire) -> Authenticated:
    """By the certificate that was shown to TLS, else by user name and password. Raises Refused."""
    if wire.certificate is not None and parts.certificates is not None:
        found = await parts.certificates(wire.certificate, wire.peer)
        if connect.username not in (None, "", found.principal.device_id):
            raise Refused(Close.BAD_CREDENTIALS, "this certificate is another device's")
        return found
    if not connect.username or connect.password is None:
        raise Refused(Close.BAD_CREDENTIALS, "the user name is the device's id, the password its API key")
    key = connect.password.decode("ascii", "replace")
    found = await parts.authenticator.authenticate_connection(
        Auth(api_key=key), nonce="", origin=None, address=wire.peer
    )
    if found.principal.device_id != connect.username:
        raise Refused(Close.BAD_CREDENTIALS, "this key is another device's")
    return found


def opened_as(parts: MqttParts, connect: Connect, principal: Principal, held: Held) -> Opened:
    """What the state machine is told of a session that is open."""
    return Opened(held.is_present, held.received, _names_for(parts, connect, principal))


def _names_for(parts: MqttParts, connect: Connect, principal: Principal) -> Names:
    return names_of(parts.layouts, connect.client_id, principal.device_id or "", principal.user_id)


def in_our_names(parts: MqttParts, effect: Open, principal: Principal) -> Open:
    """With the will's topic as ours."""
    connect = _names_for(parts, effect.connect, principal).connect(effect.connect)
    return msgspec.structs.replace(effect, connect=connect)


def refusal_of(parts: MqttParts, connect: Connect, device_id: str) -> Refusal | None:
    """Why a device that is known is not let in with this client id."""
    if not parts.broker.rules.may_connect(device_id, connect.client_id):
        return Reason.CLIENT_IDENTIFIER_NOT_VALID, f"the client id is {device_id} or begins with {device_id}/"
    return None


async def open_session(parts: MqttParts, effect: Open, owner: Owner, principal: Principal) -> Held | Refusal:
    """In one unit with a look at whether the device may still act, and publish its will."""
    connect, now_ms = effect.connect, parts.clock.now_ms()

    def unit(tx: Transaction) -> Held | Standing:
        return standing_of(parts.feed, tx, principal) or parts.broker.open(
            tx, owner, connect.client_id, connect.will, now_ms, is_clean=connect.clean, expiry_s=effect.expiry_s
        )

    try:
        held = await parts.database.write(unit)
    except TooManySessions:
        return Reason.QUOTA_EXCEEDED, "this device has as many sessions as it may"
    except Forbidden as forbidden:
        assert connect.will is not None
        parts.on_denied(owner.device_id, Action.PUBLISH, connect.will.topic, str(forbidden))
        return Reason.NOT_AUTHORIZED, str(forbidden)
    if isinstance(held, Standing):
        return CONNACKS.get(held.code, Reason.NOT_AUTHORIZED), held.reason
    return held
