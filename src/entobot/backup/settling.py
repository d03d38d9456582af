"""Make a restored store safe to go on from: nothing in it may pretend that the time since the backup did not happen."""

from dataclasses import dataclass

from entobot.app.offline import Offline
from entobot.audit.events import AuditEvent
from entobot.backup.manifest import Manifest
from entobot.callbacks.restored import settle_callbacks
from entobot.core.clock import Clock, rfc3339
from entobot.core.principal import Principal
from entobot.devices.model import Device, Status
from entobot.devices.restored import settle_credentials
from entobot.devices.search import Search
from entobot.enrolment.model import EnrolmentKey
from entobot.enrolment.restored import settle_enrolment_keys
from entobot.notifications.restored import settle_notifications
from entobot.notifications.sms_outbox import call_off_all
from entobot.signin.sessions import sign_everybody_out
from entobot.storage.database import Transaction


@dataclass(frozen=True, slots=True)
class Orders:
    """What to do with devices: `revoke` these ids; `suspend` all others that are active, and let no new ones in."""

    revoke: frozenset[str] = frozenset()
    is_suspending: bool = False


@dataclass(frozen=True, slots=True)
class Settled:
    """`active` are let in again. `unknown` ids were to be revoked and are not in the backup. `enrolment_keys` let boards
    in, as they did when it was made.
    """

    active: list[Device]
    revoked: list[Device]
    suspended: list[Device]
    unknown: list[str]
    enrolment_keys: list[EnrolmentKey]
    streams: int


async def settle(parts: Offline, manifest: Manifest, orders: Orders, clock: Clock) -> Settled:
    """On a store that is started, before anybody is served from it."""
    owner = await parts.devices.local_owner()
    now_ms = clock.now_ms()
    await parts.audit.start(parts.database.write, now_ms)

    def renew(tx: Transaction) -> tuple[int, list[EnrolmentKey]]:
        parts.invites.end_all(tx, now_ms)
        call_off_all(tx, "the gateway was restored from a backup", now_ms)
        sign_everybody_out(tx)
        settle_notifications(tx, now_ms)
        settle_callbacks(tx, now_ms)
        settle_credentials(tx, copied_at_ms=manifest.made_at_ms, now_ms=now_ms)
        keys = settle_enrolment_keys(tx, now_ms, is_revoking=orders.is_suspending)
        return parts.stream.replace_all(tx), keys

    streams, enrolment_keys = await parts.database.write(renew)
    devices = await _all(parts, owner)
    revoked = [
        await parts.devices.revoke(owner, one.device_id)
        for one in devices
        if one.device_id in orders.revoke and one.status is not Status.REVOKED
    ]
    others = [one for one in devices if one.status is Status.ACTIVE and one.device_id not in orders.revoke]
    suspended = [await parts.devices.suspend(owner, one.device_id) for one in others] if orders.is_suspending else []
    settled = Settled(
        active=[] if orders.is_suspending else others,
        revoked=revoked,
        suspended=suspended,
        enrolment_keys=enrolment_keys,
        unknown=sorted(orders.revoke - {one.device_id for one in devices}),
        streams=streams,
    )
    await parts.database.write(lambda tx: _record(parts, tx, manifest, settled, now_ms))
    await parts.audit.seal(parts.database.write, now_ms)
    return settled


async def _all(parts: Offline, owner: Principal) -> list[Device]:
    found: list[Device] = []
    cursor: str | None = None
    while True:
        page = await parts.devices.directory.find_page(owner, Search(), cursor)
        found += page.rows
        cursor = page.next
        if cursor is None:
            return found


def _record(parts: Offline, tx: Transaction, manifest: Manifest, settled: Settled, now_ms: int) -> None:
    parts.audit.record(
        tx,
        AuditEvent.GATEWAY_RESTORED,
        now_ms=now_ms,
        subject=manifest.gateway,
        facts={
            "backup_made_at": rfc3339(manifest.made_at_ms),
            "backup_version": manifest.version,
            "backup_schema": manifest.db_schema,
            "backup_audit_entries": 0 if manifest.audit is None else manifest.audit.entries,
            "backup_audit_hash": "" if manifest.audit is None else manifest.audit.hash,
            "devices_let_in": len(settled.active),
            "devices_revoked": len(settled.revoked),
            "devices_suspended": len(settled.suspended),
            "enrolment_keys_open": len(settled.enrolment_keys),
        },
    )
