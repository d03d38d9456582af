"""Client certificates of boards: issued to whoever shows an API key, and who comes in with one."""

from collections.abc import Callable
from datetime import timedelta

from entobot.accounts.service import Accounts
from entobot.audit.events import AuditEvent
from entobot.audit.service import Audit
from entobot.core.clock import Clock
from entobot.core.errors import Code, Problem
from entobot.core.ids import Ids, Prefix
from entobot.core.permissions import Scope, narrow
from entobot.core.principal import Principal
from entobot.core.secrets import sha256
from entobot.devices import credential_store, store
from entobot.devices.api_keys import API_KEY_SCOPES
from entobot.devices.issuing import Issuing, certs_only, fingerprint
from entobot.devices.machine_standing import is_good_certificate
from entobot.devices.model import (
    Authenticated,
    ConnectionRefused,
    Device,
    DeviceCertificate,
    Refusal,
    refusal,
    refused_connection,
)
from entobot.devices.seen import SEEN_EVERY_MS, is_due, note_use
from entobot.storage.database import Database, Transaction

MAX_GOOD_CERTIFICATES = 8
"""Of one device."""
KEPT_MS = 30 * 24 * 3600_000
Guard = Callable[[Transaction, Principal], None]
Found = tuple[DeviceCertificate, Device, frozenset[Scope], bool]


class CertificateDesk:
    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        ids: Ids,
        audit: Audit,
        accounts: Accounts,
        issuing: Issuing,
        guard: Guard,
        life: timedelta,
    ) -> None:
        self.issuing = issuing
        self._database = database
        self._clock = clock
        self._ids = ids
        self._audit = audit
        self._accounts = accounts
        self._guard = guard
        self._life_ms = round(life.total_seconds() * 1000)

    async def issue(self, principal: Principal, request: bytes) -> bytes:
        """A certificate for the device that shows its API key, as certs-only PKCS#7. It ends no later than the key.

        Raises `forbidden`, `invalid`, `quota_exceeded`, and what `guard` raises.
        """
        device_id = principal.device_id
        if device_id is None or not principal.credential_id.startswith(Prefix.API_KEY):
            raise Problem(Code.FORBIDDEN, "A certificate is for a device that shows its API key.")
        now_ms = self._clock.now_ms()
        end_ms = min(now_ms + self._life_ms, principal.expires_at_ms or now_ms + self._life_ms)
        made = await self.issuing.issue(device_id, request, end_ms)
        certificate_id = self._ids.new(Prefix.CERTIFICATE)
        row = DeviceCertificate(
            certificate_id, device_id, principal.credential_id, fingerprint(made), now_ms, end_ms // 1000 * 1000
        )

        def unit(tx: Transaction) -> None:
            self._guard(tx, principal)
            credential_store.forget_certificates(tx, device_id, now_ms - KEPT_MS)
            known = credential_store.certificates_of(tx, device_id)
            if sum(is_good_certificate(tx, one, now_ms) for one in known) >= MAX_GOOD_CERTIFICATES:
                raise Problem(
                    Code.QUOTA_EXCEEDED, f"This device has {MAX_GOOD_CERTIFICATES} certificates that hold. Revoke some."
                )
            credential_store.insert_certificate(tx, row)
            self._audit.record(
                tx,
                AuditEvent.DEVICE_CERTIFICATE_ISSUED,
                now_ms=now_ms,
                actor=principal,
                subject=device_id,
                facts={"certificate_id": certificate_id, "key_id": row.key_id, "expires_at_ms": row.expires_at_ms},
            )

        await self._database.write(unit)
        return certs_only(made)

    async def authority(self) -> bytes:
        """The authority's certificate, as certs-only PKCS#7. Strangers ask: nothing is made. Raises `not_found`."""
        found = await self.issuing.find_authority()
        if found is None:
            raise Problem(
                Code.NOT_FOUND,
                "There is no authority for boards yet. It is made when MQTT is switched on, or with the first certificate.",
            )
        return certs_only(found.certificate)

    async def authenticate(self, certificate: bytes) -> Authenticated:
        """Who shows this certificate (DER), whose chain and key TLS has checked. Raises ConnectionRefused."""
        now_ms, shown = self._clock.now_ms(), sha256(certificate).hex()
        found = await self._database.read(lambda tx: self._find(tx, shown, now_ms))
        if found is None:
            raise ConnectionRefused(Refusal.BAD_CREDENTIALS, "This certificate is not known here.")
        row, device, of_user, is_good = found
        reason = refusal(device, user_id=device.user_id, epoch=device.epoch, thumbprint=None)
        if reason is Refusal.REVOKED or (reason is None and row.revoked_at_ms is not None):
            raise ConnectionRefused(Refusal.REVOKED, "This certificate was revoked.")
        if reason is not None:
            raise refused_connection(reason)
        if not is_good:
            raise ConnectionRefused(Refusal.EXPIRED, "This certificate has run out, or its API key has.")
        await self._note(row, device, now_ms)
        principal = Principal(
            device.user_id,
            narrow(device.scopes, of_user, API_KEY_SCOPES),
            device.device_id,
            device.epoch,
            None,
            row.expires_at_ms,
            credential_id=row.certificate_id,
        )
        return Authenticated(principal, device, row.expires_at_ms)

    def _find(self, tx: Transaction, shown: str, now_ms: int) -> Found | None:
        row = credential_store.find_by_fingerprint(tx, shown)
        device = None if row is None else store.find_device(tx, row.device_id)
        if row is None or device is None:
            return None
        of_user = self._accounts.get_user(tx, device.user_id).scopes
        return row, device, of_user, is_good_certificate(tx, row, now_ms)

    async def _note(self, row: DeviceCertificate, device: Device, now_ms: int) -> None:
        is_news = row.last_used_at_ms is None or now_ms - row.last_used_at_ms >= SEEN_EVERY_MS
        if not is_news and not is_due(device, now_ms):
            return

        def unit(tx: Transaction) -> None:
            note_use(tx, device, now_ms)
            if is_news:
                credential_store.note_certificate_used(tx, row.certificate_id, now_ms)

        await self._database.write(unit)
