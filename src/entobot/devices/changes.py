"""What must happen beside a change of a device's row, in the same transaction."""

from entobot.bus.bus import Bus
from entobot.core import topics
from entobot.devices import store
from entobot.devices.model import Change, Device, Status
from entobot.nodes.marks import Mark, move_mark
from entobot.storage.database import Transaction
from entobot.stream.service import Stream


class Changes:
    def __init__(self, stream: Stream, bus: Bus) -> None:
        self._stream = stream
        self._bus = bus

    def announce(self, tx: Transaction, user_id: str, device_id: str, change: Change, now_ms: int) -> None:
        """Append the durable event `device.changed` to the user's stream."""
        event = {"type": "device.changed", "data": {"device_id": device_id, "change": str(change)}}
        self._stream.append(tx, user_id, event, topic=topics.DEVICES, scope=None, now_ms=now_ms)

    def apply(self, tx: Transaction, before: Device, after: Device) -> None:
        """Store a change; when the epoch moved, have every node re-read its connections of the device.

        A revoked device's place in the stream is forgotten with it.
        """
        if not store.change_device(tx, before, after):
            raise RuntimeError("a device's row moved within the unit that had read it")
        if after.status is Status.REVOKED:
            self._stream.forget_device(tx, after.device_id)
        if after.epoch != before.epoch:
            self.ring(tx, after.device_id)

    def ring(self, tx: Transaction, device_id: str) -> None:
        """Have every node look again at its connections of the device."""
        store.note_change(tx, device_id, move_mark(tx, Mark.DEVICES))
        tx.after_commit(lambda: self._bus.publish(topics.CONTROL_DEVICES, device_id.encode("ascii")))
