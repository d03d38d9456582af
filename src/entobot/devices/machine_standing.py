"""Whether what a machine showed when it came in still holds."""

from entobot.core.ids import Prefix
from entobot.core.principal import Principal
from entobot.devices import credential_store
from entobot.devices.model import DeviceCertificate
from entobot.storage.database import Transaction


def has_ended(tx: Transaction, principal: Principal, now_ms: int) -> bool:
    """Whether the API key or certificate of a principal was revoked or has run out. How its device stands is told elsewhere."""
    return not holds(tx, principal.credential_id, now_ms)


def holds(tx: Transaction, credential_id: str, now_ms: int) -> bool:
    """Of an API key or certificate; true for ""."""
    if not credential_id:
        return True
    if credential_id.startswith(Prefix.CERTIFICATE):
        found = credential_store.find_certificate(tx, credential_id)
        return found is not None and is_good_certificate(tx, found, now_ms)
    key = credential_store.find_key(tx, credential_id)
    return key is not None and key.is_good(now_ms)


def is_good_certificate(tx: Transaction, found: DeviceCertificate, now_ms: int) -> bool:
    """A certificate ends with the API key that it was got with, too."""
    key = credential_store.find_key(tx, found.key_id)
    return found.is_good(now_ms) and key is not None and key.is_good(now_ms)
