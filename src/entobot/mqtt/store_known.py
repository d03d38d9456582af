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
_SUBSCRIBED_BY = (
    select(subscriptions.c.filter)
    .join(sessions, subscriptions.c.session == sessions.c.id)
    .where(sessions.c.device_id == bindparam("device"))
    .distinct()
    .order_by(subscriptions.c.filter)
    .limit(bindparam("count"))
)
_PUBLISHED_BY = (
    select(messages.c.topic)
    .where(messages.c.id > bindparam("after"), messages.c.device_id == bindparam("device"))
    .distinct()
    .order_by(messages.c.topic)
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
    rows = tx.rows(_PUBLISHED, {"after": _newest(tx) - LOOKED_AT, "count": count})
    return [(row["device_id"], row["topic"]) for row in rows]


def subscribed_by(tx: Transaction, device_id: str, count: int) -> list[str]:
    """Its filters."""
    return [row["filter"] for row in tx.rows(_SUBSCRIBED_BY, {"device": device_id, "count": count})]


def published_by(tx: Transaction, device_id: str, count: int) -> list[str]:
    """Its topics, among the newest messages of all."""
    given = {"device": device_id, "after": _newest(tx) - LOOKED_AT, "count": count}
    return [row["topic"] for row in tx.rows(_PUBLISHED_BY, given)]


def _newest(tx: Transaction) -> int:
    row = tx.first(_NEWEST)
    return 0 if row is None else int(row["id"] or 0)
