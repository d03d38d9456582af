"""To which topics an API key, or the certificate that rests on it, is limited."""

from entobot.core.clock import Clock
from entobot.core.errors import Code, Problem
from entobot.core.ids import Prefix
from entobot.core.principal import Principal
from entobot.core.topic_limits import NO_LIMITS, NOTHING, TopicLimits
from entobot.devices import credential_store, store
from entobot.devices.model import Status
from entobot.storage.database import Transaction

KNOWN_S = 0.5
"""So long what was read is taken as it was: reading it for every message would be felt by each of them."""
MAX_KNOWN = 20_000


def limits_of(tx: Transaction, credential_id: str) -> TopicLimits:
    """Of a credential that is not there any more: nothing."""
    if not credential_id:
        return NO_LIMITS
    if credential_id.startswith(Prefix.CERTIFICATE):
        certificate = credential_store.find_certificate(tx, credential_id)
        credential_id = "" if certificate is None else certificate.key_id
    key = credential_store.find_key(tx, credential_id)
    return NOTHING if key is None else key.topics


def standing_limits(tx: Transaction, device_id: str, key_id: str, now_ms: int) -> TopicLimits | None:
    """What a board that came by this key may reach by now; None where it may not come any more."""
    device, key = store.find_device(tx, device_id), credential_store.find_key(tx, key_id)
    if device is None or key is None or key.device_id != device_id:
        return None
    return key.topics if device.status is Status.ACTIVE and key.is_good(now_ms) else None


def refuse_limited(tx: Transaction, principal: Principal) -> None:
    """Whoever is limited gives out no credentials, which would not be, and does not end its device for those that are
    not. Raises `forbidden`.
    """
    if limits_of(tx, principal.credential_id).is_limited:
        raise Problem(
            Code.FORBIDDEN, f"{principal.credential_id} is limited to topics, and changes no key and no device."
        )


class KnownLimits:
    """What was read of late. A change is heard of by `forget`, and half a second later without it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[str, tuple[float, TopicLimits]] = {}

    def find(self, tx: Transaction, credential_id: str) -> TopicLimits:
        if not credential_id:
            return NO_LIMITS
        now_s = self._clock.monotonic()
        known = self._known.get(credential_id)
        if known is not None and now_s < known[0]:
            return known[1]
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        found = limits_of(tx, credential_id)
        self._known[credential_id] = now_s + KNOWN_S, found
        return found

    def forget(self) -> None:
        self._known.clear()
