"""Credentials that open a connection, each way with its verifier; and which connections a device has."""

from collections.abc import Awaitable
from dataclasses import replace

from entobot.core.clock import Clock
from entobot.devices.directory import ConnectionView, FindConnections
from entobot.devices.model import Authenticated as Connected
from entobot.devices.model import ConnectionRefused, Refusal
from entobot.devices.service import Devices
from entobot.gateway.authentication import Authenticated, Refused
from entobot.gateway.hub import Hub
from entobot.gateway.wire import Auth, Close

_CLOSE_CODES = {
    Refusal.BAD_CREDENTIALS: Close.BAD_CREDENTIALS,
    Refusal.EXPIRED: Close.BAD_CREDENTIALS,
    Refusal.RATE_LIMITED: Close.RATE_LIMITED,
    Refusal.REVOKED: Close.REVOKED,
    Refusal.STALE: Close.TOKEN_EXPIRED,
    Refusal.SUSPENDED: Close.SUSPENDED,
}


class ConnectionDoor:
    """`gateway.authentication.ConnectionAuthenticator` over the devices feature."""

    def __init__(self, devices: Devices) -> None:
        self._devices = devices

    async def authenticate_connection(
        self, auth: Auth, *, nonce: str, origin: str | None, address: str
    ) -> Authenticated:
        return await _told(self._find(auth, nonce, origin, address), address)

    async def _find(self, auth: Auth, nonce: str, origin: str | None, address: str) -> Connected:
        if auth.ticket is not None:
            return await self._devices.spend_ticket(auth.ticket, origin)
        if auth.api_key is not None:
            return await self._devices.authenticate_key_connection(auth.api_key, address)
        if auth.token is not None and auth.proof is not None:
            return await self._devices.authenticate_connection(auth.token, auth.proof, nonce)
        raise ConnectionRefused(Refusal.BAD_CREDENTIALS, "These credentials are not taken here.")


class CertificateDoor:
    """`mqtt.parts.MqttParts.certificates` over the devices feature."""

    def __init__(self, devices: Devices) -> None:
        self._devices = devices

    async def __call__(self, certificate: bytes, address: str) -> Authenticated:
        return await _told(self._find(certificate), address)

    async def _find(self, certificate: bytes) -> Connected:
        if self._devices.certificates is None:
            raise ConnectionRefused(Refusal.BAD_CREDENTIALS, "Certificates are not taken here.")
        return await self._devices.certificates.authenticate(certificate)


async def _told(finding: Awaitable[Connected], address: str) -> Authenticated:
    try:
        found = await finding
    except ConnectionRefused as refusal:
        code, is_guess = _CLOSE_CODES[refusal.reason], refusal.reason is Refusal.BAD_CREDENTIALS
        raise Refused(code, str(refusal), refusal.retry_after_s, is_guess=is_guess) from None
    return Authenticated(replace(found.principal, address=address), found.expires_at_ms)


def connections_of(hub: Hub, clock: Clock) -> FindConnections:
    """A device's connections: this node's as they are, the other nodes' as their rows say."""

    async def find(device_id: str) -> list[ConnectionView]:
        up_ms, now_ms = clock.monotonic() * 1000, clock.now_ms()
        here = [
            ConnectionView(one.transport, one.address, round(now_ms - up_ms + one.joined_s * 1000))
            for one in hub.connections_of(device_id)
        ]
        elsewhere = [] if hub.presence is None else await hub.presence.elsewhere(device_id)
        return [*here, *(ConnectionView(place=place) for place in elsewhere)]

    return find
