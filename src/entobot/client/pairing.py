"""Become a device: spend an invite, show the digits, collect the credentials. See docs/protocol.md §2."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from inspect import isawaitable
from typing import Any
from urllib.parse import urlsplit

from entobot import __version__
from entobot.client.answers import answer
from entobot.client.identity import Identity
from entobot.client.keys import DeviceKey
from entobot.client.proofs import dpop_proof, pairing_proof, parse_pairing_url
from entobot.client.reach import OriginReach, Reach
from entobot.client.trust import Trust
from entobot.core.clock import Clock
from entobot.core.secrets import Entropy

WAIT_S = 25
SHORT_PAUSE_S = 1.0


@dataclass(frozen=True, slots=True)
class Invite:
    """What an operator handed over. `invite_id` None means that `secret` is a code, typed by hand."""

    origin: str
    secret: str
    invite_id: str | None = None
    pin: str | None = None

    @classmethod
    def from_link(cls, link: str) -> "Invite":
        """Raises ValueError when it is not the link of an invite."""
        fields = parse_pairing_url(link)
        parts = urlsplit(link)
        return cls(f"{parts.scheme}://{parts.netloc}", fields["s"], fields["i"], fields.get("g"))


@dataclass(frozen=True, slots=True)
class Asking:
    """The claim of an invite: `digits` must be typed by the operator."""

    claim_id: str
    digits: str
    gateway_name: str
    is_confirmed: bool


ShowDigits = Callable[[Asking], Awaitable[None] | None]


async def pair(
    invite: Invite,
    *,
    trust: Trust | None,
    device_name: str,
    platform: str,
    show: ShowDigits,
    clock: Clock,
    entropy: Entropy,
    app_version: str = __version__,
    reach: Reach | None = None,
) -> Identity:
    """Waits for the operator. Raises Problem (`invite_expired`, `pairing_denied` …), WrongKey, OSError.

    Without `trust` the key is believed that the invite names, and where it names none, the system's authorities.
    """
    trust = trust or Trust(pin=invite.pin)
    way = reach or OriginReach(invite.origin, trust)
    try:
        device = _Newcomer(invite, DeviceKey.generate(), way, clock, entropy)
        asking = await device.claim(device_name, platform, app_version)
        shown = show(asking)
        if isawaitable(shown):
            await shown
        body = await device.collect(asking)
    finally:
        if reach is None:
            await way.close()
    blank = Identity(invite.origin, device.key, trust, "", "", (), "")
    return blank.renewed(body, clock.now_ms())


class _Newcomer:
    def __init__(self, invite: Invite, key: DeviceKey, reach: Reach, clock: Clock, entropy: Entropy) -> None:
        self.key = key
        self._invite = invite
        self._reach = reach
        self._clock = clock
        self._entropy = entropy

    async def claim(self, device_name: str, platform: str, app_version: str) -> Asking:
        invite = self._invite
        proof = pairing_proof(
            self.key,
            origin=invite.origin,
            secret=invite.secret,
            invite_id=invite.invite_id,
            now_ms=self._clock.now_ms(),
            entropy=self._entropy,
        )
        body: dict[str, Any] = {
            "public_key": self.key.jwk,
            "device_info": {"device_name": device_name, "platform": platform, "app_version": app_version},
            "proof": proof,
        }
        if invite.invite_id is None:
            body["code"] = invite.secret
        else:
            body |= {"invite_id": invite.invite_id, "secret": invite.secret}
        told = answer(await (await self._reach.http()).post("/api/v1/auth/pair", json=body))
        confirmed = told["status"] == "confirmed"
        return Asking(told["claim_id"], told["confirmation_code"], told["gateway_name"], confirmed)

    async def collect(self, asking: Asking) -> dict[str, Any]:
        path = f"/api/v1/auth/pair/{asking.claim_id}/collect"
        while True:
            proof = dpop_proof(
                self.key,
                method="POST",
                url=self._invite.origin + path,
                now_ms=self._clock.now_ms(),
                entropy=self._entropy,
            )
            http = await self._reach.http()
            response = await http.post(f"{path}?wait={WAIT_S}", headers={"DPoP": proof})
            body = answer(response)
            if response.status_code == 200:
                return body
            await asyncio.sleep(SHORT_PAUSE_S)
