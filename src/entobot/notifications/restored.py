"""What a restore of the tables from an older copy means for notifications."""

from entobot.notifications import attempt_store, store
from entobot.storage.database import Transaction

WHY = "the gateway was restored from a backup; whether it was sent since then is not known"


def settle_notifications(tx: Transaction, now_ms: int) -> None:
    """Nothing of that time is sent now: people were told since, or it is no news any more. Subscriptions stay; those
    that ended meanwhile are ended by their services.
    """
    store.stop_all(tx, now_ms)
    attempt_store.stop_all(tx, WHY, now_ms)
