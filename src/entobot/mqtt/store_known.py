"""What devices do at present: to what they subscribed, and where they published what is still kept."""

from sqlalchemy import bindparam, func, select

from entobot.mqtt.tables import messages, sessions, subscriptions
from entobot.storage.database import Transaction

LOOKED_AT = 20_000
"""Of the newest messages."""
_SUBSCRIBED = (
    select(sessions.c.device_id, subscriptions.c.filter)
    .join(subscriptions, subscriptions.c.session == sessions.c.id)
    .distinct()
    .order_by(sessions.c.device_id, subscriptions.c.filter)
    .limit(bindparam("count"))
)
_NEWEST = select(func.max(messages.c.id).label("id"))
_PUBLISHED = (
    select(messages.c.device_id, messages.c.topic)
    .where(messages.c.id > bindparam("after"), messages.c.device_id != "")
    .distinct()
    .order_by(messages.c.device_id, messages.c.topic)
    .limit(bindparam("count"))
)


def subscribed(tx: Transaction, count: int) -> list[tuple[str, str]]:
    """(device, filter) of each."""
    return [(row["device_id"], row["filter"]) for row in tx.rows(_SUBSCRIBED, {"count": count})]


def published(tx: Transaction, count: int) -> list[tuple[str, str]]:
    """(device, topic) of each, among the newest messages."""
    row = tx.first(_NEWEST)
    newest = 0 if row is None else int(row["id"] or 0)
    rows = tx.rows(_PUBLISHED, {"after": newest - LOOKED_AT, "count": count})
    return [(row["device_id"], row["topic"]) for row in rows]
