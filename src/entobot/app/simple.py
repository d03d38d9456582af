"""The conversation of each device that speaks the simple protocol, composed from devices, stream and conversations."""

from entobot.conversations.service import Conversations
from entobot.core.clock import Clock
from entobot.core.errors import Code, Problem
from entobot.core.permissions import Scope
from entobot.core.principal import Principal
from entobot.devices.model import Platform
from entobot.devices.service import Devices
from entobot.gateway.connection import Pair
from entobot.gateway.simple_session import Claim, Greeting
from entobot.pairing.bearer import Bearers
from entobot.pairing.model import DeviceInfo
from entobot.storage.database import Transaction
from entobot.stream.service import Stream


class DeviceConversations:
    """`gateway.simple_session.SimpleDesk`."""

    def __init__(self, devices: Devices, stream: Stream, conversations: Conversations) -> None:
        self._devices = devices
        self._stream = stream
        self._conversations = conversations

    def greet(self, tx: Transaction, principal: Principal) -> Greeting:
        device_id = _device_id(principal)
        own = self._conversations.find_own(tx, principal.user_id, device_id)
        return Greeting(
            device_name=self._devices.get_device(tx, device_id).name,
            conversation_id=None if own is None else own.conversation_id,
            seq=self._stream.head(tx, principal.user_id).seq,
        )

    def open(self, tx: Transaction, principal: Principal, now_ms: int) -> str:
        self._devices.guard(tx, principal)
        principal.require(Scope.CHAT)
        device_id = _device_id(principal)
        title = self._devices.get_device(tx, device_id).name
        return self._conversations.open_own(tx, principal.user_id, device_id, title, now_ms).conversation_id


class BearerPairing:
    """`gateway.simple_session.PairingDesk` over the pairing feature."""

    def __init__(self, bearers: Bearers, clock: Clock) -> None:
        self._bearers = bearers
        self._clock = clock

    async def claim(self, pair: Pair, address: str) -> Claim:
        try:
            device = DeviceInfo(pair.device_name, Platform(pair.platform), pair.app_version, pair.os_version)
        except ValueError:
            raise Problem(Code.INVALID, f"The platform must be one of {', '.join(Platform)}.") from None
        claimed = await self._bearers.claim(pair.invite_id, pair.secret, device, address)
        left_s = (claimed.expires_at_ms - self._clock.now_ms()) / 1000
        return Claim(claimed.claim_id, claimed.confirmation_code, left_s)

    async def collect(self, claim_id: str) -> str:
        return (await self._bearers.collect(claim_id)).api_key

    async def abandon(self, claim_id: str) -> None:
        await self._bearers.abandon(claim_id)


def _device_id(principal: Principal) -> str:
    assert principal.device_id is not None, "only devices open connections"
    return principal.device_id
