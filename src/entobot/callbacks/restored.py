"""What a restore of the tables from an older copy means for callbacks."""

from entobot.callbacks import store
from entobot.storage.database import Transaction


def settle_callbacks(tx: Transaction, now_ms: int) -> None:
    """Nothing of that time is posted now: whether it was since the backup is not known."""
    store.stop_all(tx, "the gateway was restored from a backup; whether it was posted since is not known", now_ms)
