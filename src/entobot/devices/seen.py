"""When a device was seen last, kept to the minute, and whether its credentials were ever used."""

from entobot.devices import store
from entobot.devices.model import Device
from entobot.storage.database import Transaction

SEEN_EVERY_MS = 60_000


def is_due(device: Device, now_ms: int) -> bool:
    """Whether a use at `now_ms` is news."""
    return (
        device.first_used_at_ms is None
        or device.last_seen_at_ms is None
        or now_ms - device.last_seen_at_ms >= SEEN_EVERY_MS
    )


def note_use(tx: Transaction, device: Device, now_ms: int) -> None:
    """Mark a use of the device's credentials, the first one included."""
    if is_due(device, now_ms):
        store.note_seen(tx, device, now_ms)
