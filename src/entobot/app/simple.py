"""The conversation of each device that speaks the simple protocol, composed from devices, stream and conversations."""

from entobot.conversations.service import Conversations
from entobot.core.permissions import Scope
from entobot.core.principal import Principal
from entobot.devices.service import Devices
from entobot.gateway.simple_session import Greeting
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


def _device_id(principal: Principal) -> str:
    assert principal.device_id is not None, "only devices open connections"
    return principal.device_id
