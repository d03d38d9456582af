"""A device's row changes together with all that belongs to it: open connections, event, audit entry."""

from collections.abc import Callable

from entobot.audit.events import AuditEvent
from entobot.audit.service import Audit
from entobot.core.principal import Principal
from entobot.devices import store
from entobot.devices.changes import Changes
from entobot.devices.model import Change, Device, Status
from entobot.devices.search import Search, find
from entobot.storage.database import Transaction

LABELLED = (AuditEvent.DEVICE_LABELLED, Change.LABELLED)
RENAMED = (AuditEvent.DEVICE_RENAMED, Change.RENAMED)
SUSPENDED = (AuditEvent.DEVICE_SUSPENDED, Change.SUSPENDED)
REACTIVATED = (AuditEvent.DEVICE_REACTIVATED, Change.REACTIVATED)
REVOKED = (AuditEvent.DEVICE_REVOKED, Change.REVOKED)
AT_ONCE = 500


OnEnd = Callable[[Transaction, str, int], None]
"""Port, filled by the composition root: what ends with a device that is suspended or revoked, `(tx, device_id, now_ms)`."""


class Lifecycle:
    def __init__(self, changes: Changes, audit: Audit) -> None:
        self.on_end: list[OnEnd] = []
        self._changes = changes
        self._audit = audit

    def move(
        self,
        tx: Transaction,
        principal: Principal,
        step: tuple[Device, Device],
        words: tuple[AuditEvent, Change],
        now_ms: int,
    ) -> Device:
        """Store a transition. One that changes nothing leaves no trace."""
        before, after = step
        if after == before:
            return before
        event, change = words
        self._changes.apply(tx, before, after)
        if after.status is not before.status and after.status is not Status.ACTIVE:
            for end in self.on_end:
                end(tx, after.device_id, now_ms)
        self._changes.announce(tx, after.user_id, after.device_id, change, now_ms)
        self._audit.record(
            tx,
            event,
            now_ms=now_ms,
            actor=principal,
            subject=after.device_id,
            facts={"status": after.status, "epoch": after.epoch} | (_labels(after) if event is LABELLED[0] else {}),
            personal={"device_name": after.name},
        )
        return after

    def end_all(self, tx: Transaction, principal: Principal, user_id: str, now_ms: int) -> None:
        """Revoke every device of a person, for good."""
        for device in _all(tx, user_id):
            if device.status is not Status.REVOKED:
                store.delete_family(tx, device.device_id)
                self.move(tx, principal, (device, device.revoke()), REVOKED, now_ms)

    def renew_all(self, tx: Transaction, principal: Principal, user_id: str, now_ms: int) -> None:
        """Void every access token of a person's devices; they refresh, and come back with what their role gives now."""
        del principal, now_ms  # the entry about the role tells who and when
        for device in _all(tx, user_id):
            if device.status is not Status.REVOKED:
                self._changes.apply(tx, device, device.renew_credentials())


def _labels(device: Device) -> dict[str, str]:
    return {"device_type": device.device_type, "tags": " ".join(device.tags)}


def _all(tx: Transaction, user_id: str) -> list[Device]:
    found: list[Device] = []
    cursor: str | None = None
    while (hits := find(tx, Search(user_id=user_id), cursor, AT_ONCE)).devices:
        found += hits.devices
        cursor = hits.cursors[-1]
    return found
