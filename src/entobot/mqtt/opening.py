"""Who sent a CONNECT, and whether it may be let in as it asks."""

import msgspec

from entobot.core.principal import Principal
from entobot.gateway.authentication import Authenticated, Refused
from entobot.gateway.wire import Auth, Close
from entobot.mqtt.connection import Opened
from entobot.mqtt.effects import Open
from entobot.mqtt.layouts import Names, names_of
from entobot.mqtt.model import Action
from entobot.mqtt.packets import Connect, Reason
from entobot.mqtt.parts import MqttParts, Wire
from entobot.mqtt.service import Held

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
    return Opened(held.is_present, held.last_seq, held.received, _names_for(parts, connect, principal))


def _names_for(parts: MqttParts, connect: Connect, principal: Principal) -> Names:
    return names_of(parts.layouts, connect.client_id, principal.device_id or "", principal.user_id)


def in_our_names(parts: MqttParts, effect: Open, principal: Principal) -> Open:
    """With the will's topic as ours."""
    connect = _names_for(parts, effect.connect, principal).connect(effect.connect)
    return msgspec.structs.replace(effect, connect=connect)


def refusal_of(parts: MqttParts, connect: Connect, device_id: str) -> Refusal | None:
    """Why a device that is known is not let in with this client id, or this will."""
    policies = parts.broker.policies
    if not policies.may_connect(device_id, connect.client_id):
        return Reason.CLIENT_IDENTIFIER_NOT_VALID, f"the client id is {device_id} or begins with {device_id}/"
    if connect.will is not None:
        decision = policies.decide(device_id, Action.PUBLISH, connect.will.topic)
        if not decision.is_allowed:
            parts.on_denied(device_id, Action.PUBLISH, connect.will.topic)
            return Reason.NOT_AUTHORIZED, decision.rule
    return None
