"""Device commands `notification.read`, `push.subscribe`, `push.unsubscribe`."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from entobot.core.errors import Code, Problem
from entobot.core.principal import Principal
from entobot.gateway.commands import Command
from entobot.notifications.model import MAX_ADDRESS_CHARACTERS, Channel
from entobot.notifications.places import NewPlace, Places
from entobot.notifications.service import Notifications
from entobot.storage.database import Transaction

Id = Annotated[str, Meta(max_length=64)]
Endpoint = Annotated[str, Meta(max_length=MAX_ADDRESS_CHARACTERS)]


class ReadNotification(Struct, forbid_unknown_fields=True):
    """One, those of a conversation, or all of the person's. `channel`: where the one was opened."""

    notification_id: Id | None = None
    conversation_id: Id | None = None
    channel: Literal["email", "ntfy", "push", "sms", "unifiedpush"] | None = None


class SubscriptionKeys(Struct, forbid_unknown_fields=True):
    p256dh: Annotated[str, Meta(max_length=128)]
    auth: Annotated[str, Meta(max_length=64)]


class Subscribe(Struct, forbid_unknown_fields=True, rename={"expiration_time": "expirationTime"}):
    """A browser's PushSubscription as JSON. When it ends, its service says so."""

    endpoint: Endpoint
    keys: SubscriptionKeys
    expiration_time: float | None = None


class Unsubscribe(Struct, forbid_unknown_fields=True):
    """All of this device without `endpoint`."""

    endpoint: Endpoint | None = None


def commands(notifications: Notifications, places: Places) -> list[Command]:
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

    def subscribe(tx: Transaction, caller: Principal, data: Subscribe, now_ms: int) -> object:
        if caller.device_id is None:
            raise Problem(Code.FORBIDDEN, "Only a device subscribes to pushes.")
        new = NewPlace(Channel.PUSH, data.endpoint, "", data.keys.p256dh, data.keys.auth)
        done = places.add_in(tx, caller, new, now_ms)
        return done if isinstance(done, Problem) else {"place_id": done.place_id}

    def unsubscribe(tx: Transaction, caller: Principal, data: Unsubscribe, now_ms: int) -> object:
        return {"removed": places.remove_in(tx, caller, data.endpoint, now_ms)}

    return [
        Command("notification.read", ReadNotification, read),
        Command("push.subscribe", Subscribe, subscribe),
        Command("push.unsubscribe", Unsubscribe, unsubscribe),
    ]
