"""Enrolment keys in a restored store: what was spent or revoked since the backup is open again, and nobody can know which."""

from entobot.enrolment import store
from entobot.enrolment.model import EnrolmentKey
from entobot.storage.database import Transaction


def settle_enrolment_keys(tx: Transaction, now_ms: int, *, is_revoking: bool) -> list[EnrolmentKey]:
    """Those that let boards in from now on, to be told; none where all are to be revoked."""
    if is_revoking:
        store.revoke_every(tx, now_ms)
    return store.open_keys(tx, now_ms)
