"""The wire shapes of notifications, shared by events and commands."""

from entobot.core.clock import rfc3339, rfc3339_or_none
from entobot.notifications.model import Notification


def created_data(one: Notification) -> dict[str, object]:
    """`data` of `notification.created`."""
    return {
        "notification_id": one.notification_id,
        "kind": one.kind,
        "priority": one.priority,
        "title": one.title,
        "body": one.body,
        "link": one.link,
        "conversation_id": one.conversation_id,
        "collapse_key": one.collapse_key,
        "created_at": rfc3339(one.created_at_ms),
        "expires_at": rfc3339_or_none(one.expires_at_ms),
    }
