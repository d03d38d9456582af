"""Which messages may be forgotten, and forgetting them."""

from entobot.mqtt import store
from entobot.storage.database import Transaction

AT_ONCE = 200


def expendable(tx: Transaction, *, before_ms: int, keep: int) -> list[int]:
    """Some messages that are old, or too many of a device. Nobody waits for them, and nobody ever will again."""
    old = store.old_messages(tx, before_ms, AT_ONCE)
    for device_id, many in store.crowded(tx, keep, AT_ONCE):
        old += store.oldest_messages(tx, device_id, min(many - keep, AT_ONCE))
    return old


def forget(tx: Transaction, numbers: list[int]) -> None:
    store.delete_messages(tx, numbers)
