"""Who shows an API key: recognised by its checksum, then by its keyed digest, then by how its device stands."""

from entobot.accounts.service import Accounts
from entobot.audit.events import AuditEvent, Outcome
from entobot.audit.service import Audit
from entobot.core.clock import Clock
from entobot.core.permissions import Scope, narrow
from entobot.core.principal import Principal
from entobot.core.secrets import same
from entobot.devices import credential_store, store
from entobot.devices.api_keys import API_KEY_SCOPES, ApiKeys, KeyMalformed, parse_key
from entobot.devices.model import (
    ApiKey,
    Authenticated,
    ConnectionRefused,
    Device,
    Refusal,
    refusal,
    refused_connection,
)
from entobot.devices.seen import SEEN_EVERY_MS, is_due, note_use
from entobot.gateway.limits import Gcra
from entobot.storage.database import Database, Transaction
from entobot.web.addresses import address_key

FAILURE_EVERY_S = 6.0
FAILURES_AT_ONCE = 20
KNOWN_KEYS = 8192


class KeyAuthentication:
    """After `FAILURES_AT_ONCE` well-formed keys that were none, an address is refused unread, save for keys that were
    good before: a mistaken neighbour behind the same address must not shut out a board that works. Text that is no
    key costs a checksum and is not counted.
    """

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        audit: Audit,
        accounts: Accounts,
        api_keys: ApiKeys,
    ) -> None:
        self._database = database
        self._clock = clock
        self._audit = audit
        self._accounts = accounts
        self._api_keys = api_keys
        self._failures = Gcra(rate_per_s=1 / FAILURE_EVERY_S, burst=FAILURES_AT_ONCE)
        self._known: dict[str, None] = {}

    async def authenticate(self, key: str, address: str) -> Authenticated:
        """Raises ConnectionRefused. Its text tells the holder of a real key what is wrong, and others nothing."""
        now_ms, now_s, place = self._clock.now_ms(), self._clock.monotonic(), address_key(address)
        try:
            key_id = parse_key(key)
        except KeyMalformed:
            raise ConnectionRefused(Refusal.BAD_CREDENTIALS, "This is no API key, or it was mistyped.") from None
        digest = self._api_keys.digest(key)
        wait_s = 0.0 if digest in self._known else self._failures.wait_s(place, now_s)
        if wait_s > 0:
            raise refused_connection(Refusal.RATE_LIMITED, wait_s)
        row, device, user_scopes = await self._database.read(lambda tx: self._find(tx, key_id))
        if row is None or device is None or not same(row.digest, digest):
            self._failures.try_take(place, now_s)
            if row is not None:
                await self._alert(row, now_ms)
            raise ConnectionRefused(Refusal.BAD_CREDENTIALS, "This API key is not known here.")
        self._remember(digest)
        self._check(row, device, now_ms)
        await self._note(row, device, now_ms)
        scopes = narrow(device.scopes, user_scopes, API_KEY_SCOPES)
        principal = Principal(
            device.user_id, scopes, device.device_id, device.epoch, None, row.expires_at_ms, credential_id=row.key_id
        )
        return Authenticated(principal, device, row.expires_at_ms)

    def scale(self, nodes: int) -> None:
        """So many nodes count failures, each those that it sees: together they allow what one would."""
        self._failures.scale(nodes)

    def _find(self, tx: Transaction, key_id: str) -> tuple[ApiKey | None, Device | None, frozenset[Scope]]:
        row = credential_store.find_key(tx, key_id)
        device = None if row is None else store.find_device(tx, row.device_id)
        if device is None:
            return row, None, frozenset()
        return row, device, self._accounts.get_user(tx, device.user_id).scopes

    def _check(self, row: ApiKey, device: Device, now_ms: int) -> None:
        """Raises ConnectionRefused for a key that is genuine and does not open any more."""
        reason = refusal(device, user_id=device.user_id, epoch=device.epoch, thumbprint=None)
        if reason is Refusal.REVOKED:
            raise ConnectionRefused(reason, "This API key was revoked. Make a new one.")
        if reason is not None:
            raise refused_connection(reason)
        if row.revoked_at_ms is not None:
            raise ConnectionRefused(Refusal.REVOKED, "This API key was revoked. Make a new one.")
        if row.is_over(now_ms):
            raise refused_connection(Refusal.EXPIRED)

    def _remember(self, digest: str) -> None:
        if digest not in self._known and len(self._known) >= KNOWN_KEYS:
            del self._known[next(iter(self._known))]
        self._known[digest] = None

    async def _note(self, key: ApiKey, device: Device, now_ms: int) -> None:
        """Most uses write nothing: a reconnect storm of boards costs reads only."""
        is_first = key.last_used_at_ms is None or now_ms - key.last_used_at_ms >= SEEN_EVERY_MS
        if not is_first and not is_due(device, now_ms):
            return

        def unit(tx: Transaction) -> None:
            note_use(tx, device, now_ms)
            if is_first:
                credential_store.note_key_used(tx, key.key_id, now_ms)

        await self._database.write(unit)

    async def _alert(self, row: ApiKey, now_ms: int) -> None:
        """Audit that somebody shows a key's id with another secret, at most once a minute."""

        def unit(tx: Transaction) -> None:
            if store.claim_alert(tx, row.device_id, store.ALERT_KEY, now_ms):
                self._audit.record(
                    tx,
                    AuditEvent.AUTH_REFUSED,
                    now_ms=now_ms,
                    outcome=Outcome.DENIED,
                    subject=row.device_id,
                    facts={"reason": "wrong_secret"},
                )

        await self._database.write(unit)
