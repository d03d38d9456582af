"""Whether what a machine showed when it came in still holds."""

from entobot.core.principal import Principal
from entobot.devices import credential_store
from entobot.storage.database import Transaction


def has_ended(tx: Transaction, principal: Principal, now_ms: int) -> bool:
    """Whether the API key of a principal was revoked or has run out. How its device stands is told elsewhere."""
    if not principal.credential_id:
        return False
    key = credential_store.find_key(tx, principal.credential_id)
    return key is None or not key.is_good(now_ms)
