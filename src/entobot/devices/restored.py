"""What a restore of the tables from an older copy means for devices and their credentials."""

from entobot.devices import store
from entobot.devices.model import IDLE_LIFE_MS
from entobot.storage.database import Transaction

EPOCHS_AHEAD = 1_000_000
"""More than a device can have moved since the copy was made: no access token of that time fits again."""


def settle_credentials(tx: Transaction, *, copied_at_ms: int, now_ms: int) -> None:
    """Void every access token and ticket, and let the time since `copied_at_ms` not count as idle.

    Refresh tokens stay: a device whose token is newer than its row catches up (`model.CaughtUp`), and one that was
    signed out or revoked later is let in again, which the tables cannot know.
    """
    store.void_access_tokens(tx, EPOCHS_AHEAD)
    store.count_idleness_from(tx, copied_at_ms - IDLE_LIFE_MS, now_ms)
