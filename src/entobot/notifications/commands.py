"""Device command `notification.read`."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from entobot.core.principal import Principal
from entobot.gateway.commands import Command
from entobot.notifications.model import Channel
from entobot.notifications.service import Notifications
from entobot.storage.database import Transaction

Id = Annotated[str, Meta(max_length=64)]


class ReadNotification(Struct, forbid_unknown_fields=True):
    """One, those of a conversation, or all of the person's. `channel`: where the one was opened."""

    notification_id: Id | None = None
    conversation_id: Id | None = None
    channel: Literal["email", "ntfy", "push", "sms", "unifiedpush"] | None = None


def commands(notifications: Notifications) -> list[Command]:
    def read(tx: Transaction, caller: Principal, data: ReadNotification, now_ms: int) -> object:
        marked = notifications.read(
            tx,
            caller,
            now_ms,
            notification_id=data.notification_id,
            conversation_id=data.conversation_id,
            channel=None if data.channel is None else Channel(data.channel),
        )
        return {"read": marked}

    return [Command("notification.read", ReadNotification, read)]
