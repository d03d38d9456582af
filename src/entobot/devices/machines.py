"""What machines hold: look at their API keys, rotate them with an overlap, revoke one of them."""

from collections.abc import Callable
from dataclasses import dataclass

from entobot.audit.events import AuditEvent
from entobot.audit.service import Audit
from entobot.core.clock import Clock
from entobot.core.errors import Code, Problem
from entobot.core.ids import Prefix, is_id
from entobot.core.permissions import Scope, narrow, scope_text
from entobot.core.principal import Principal
from entobot.core.topic_limits import NO_LIMITS, TopicLimits, is_within
from entobot.devices import credential_store
from entobot.devices.api_keys import parse_key
from entobot.devices.changes import Changes
from entobot.devices.directory import Directory
from entobot.devices.key_desk import MAX_LIFE_S, CreatedKey, KeyDesk
from entobot.devices.machine_limits import refuse_limited
from entobot.devices.machine_standing import has_ended, is_good_certificate
from entobot.devices.model import ApiKey, Change, Device, DeviceCertificate, Status
from entobot.storage.database import Database, Transaction

DEFAULT_OVERLAP_S = 24 * 3600
MAX_OVERLAP_S = 30 * 24 * 3600
MAX_KNOWN = 500
"""Topics of a kind at which a change of limits is looked at."""
MAX_GOOD_KEYS = 4
"""Of one device: who rotates faster than boards take up what is new has a mistake in a script."""
KEPT_MS = 30 * 24 * 3600_000
"""So long keys that are over are shown."""

RightsOf = Callable[[Transaction, str, str | None], frozenset[Scope]]
"""`rights_of(tx, user_id, device_id)`: what somebody holds at this moment."""

Reach = Callable[[Transaction, Principal, str], Device]
"""The device, where the principal may change it. Raises `not_found`, `forbidden`."""


TopicsOf = Callable[[Transaction, str, int], list[tuple[str, str]]]
"""`topics_of(tx, device_id, count)`: (`publish` or `subscribe`, topic or filter) of what it does at present, at most so
many of each.
"""


@dataclass(frozen=True, slots=True)
class Outside:
    """What a device does at present that lies outside certain limits, of so many topics that were looked at."""

    topics: list[tuple[str, str]]
    looked_at: int


@dataclass(frozen=True, slots=True)
class Held:
    """What one device holds."""

    device: Device
    keys: list[ApiKey]
    certificates: list[tuple[DeviceCertificate, bool]]
    """Each with whether it holds: its API key may be over."""
    now_ms: int


class Machines:
    """`topics_of` is put in by whoever speaks to boards."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        audit: Audit,
        changes: Changes,
        keys: KeyDesk,
        directory: Directory,
        reach: Reach,
        rights_of: RightsOf,
    ) -> None:
        self._database = database
        self._clock = clock
        self._audit = audit
        self._changes = changes
        self._keys = keys
        self._directory = directory
        self._reach = reach
        self._rights_of = rights_of
        self.topics_of: TopicsOf = lambda _tx, _device_id, _count: []

    # -- for enrolment

    def enrol(self, tx: Transaction, device: Device, now_ms: int, life_ms: int | None, topics: TopicLimits) -> str:
        """Add a device with an API key of its own, and tell its user; the key. The audit entry is the caller's."""
        secret = self._keys.register(tx, device, now_ms, life_ms, topics)
        self._changes.announce(tx, device.user_id, device.device_id, Change.PAIRED, now_ms)
        return secret

    def replace_unused(self, tx: Transaction, device: Device, now_ms: int, life_ms: int | None) -> str | None:
        """A new key for a device that has never used the one it was given, which is void, within the same limits.

        None for one that has, and where somebody has revoked that key or made another.
        """
        keys = credential_store.keys_of(tx, device.device_id)
        if device.first_used_at_ms is not None or len(keys) != 1 or keys[0].revoked_at_ms is not None:
            return None
        credential_store.delete_keys(tx, device.device_id)
        self._changes.apply(tx, device, device.renew_credentials())
        return self._keys.add(tx, device.device_id, now_ms, life_ms, keys[0].topics)

    # -- standing

    def has_ended(self, tx: Transaction, principal: Principal) -> bool:
        """Whether the principal's API key does not hold any more."""
        return has_ended(tx, principal, self._clock.now_ms())

    # -- for people

    async def held(self, principal: Principal, device_id: str) -> Held:
        """Raises `not_found`."""
        now_ms = self._clock.now_ms()

        def unit(tx: Transaction) -> Held:
            device = self._directory.view(tx, principal, device_id)
            certificates = [
                (one, is_good_certificate(tx, one, now_ms)) for one in credential_store.certificates_of(tx, device_id)
            ]
            return Held(device, credential_store.keys_of(tx, device_id), certificates, now_ms)

        return await self._database.read(unit)

    async def rotate(
        self,
        principal: Principal,
        device_id: str,
        *,
        overlap_s: int = DEFAULT_OVERLAP_S,
        expires_in_s: int | None = None,
    ) -> CreatedKey:
        """A new API key; those that there were end after the overlap. It is limited to topics as the newest one that
        holds is.

        Without `expires_in_s` it lives as long as the newest one was made to. Raises `not_found`, `forbidden`,
        `invalid`, `quota_exceeded`.
        """
        if not 0 <= overlap_s <= MAX_OVERLAP_S:
            raise Problem(Code.INVALID, f"overlap_s is 0 to {MAX_OVERLAP_S} seconds.")
        if expires_in_s is not None and not 1 <= expires_in_s <= MAX_LIFE_S:
            raise Problem(Code.INVALID, f"expires_in_s is 1 to {MAX_LIFE_S} seconds.")
        now_ms = self._clock.now_ms()

        def unit(tx: Transaction) -> CreatedKey:
            device = self._reach(tx, principal, device_id)
            _check_holds_keys(device)
            refuse_limited(tx, principal)
            self._check_may_hold(tx, principal, device)
            known = credential_store.keys_of(tx, device_id)
            credential_store.forget_keys(tx, device_id, now_ms - KEPT_MS)
            topics = _topics_of(known, now_ms)
            if overlap_s and sum(key.is_good(now_ms) for key in known) >= MAX_GOOD_KEYS:
                raise Problem(
                    Code.QUOTA_EXCEEDED,
                    f"This device has {MAX_GOOD_KEYS} keys that hold. Revoke one, or end the overlap.",
                )
            life_ms = _life_ms(known, expires_in_s)
            credential_store.end_keys(tx, device_id, now_ms + overlap_s * 1000)
            secret = self._keys.add(tx, device_id, now_ms, life_ms, topics)
            self._changes.ring(tx, device_id)
            self._audit.record(
                tx,
                AuditEvent.API_KEY_ROTATED,
                now_ms=now_ms,
                actor=principal,
                subject=device_id,
                facts={"key_id": parse_key(secret), "overlap_s": overlap_s, "topics": topics.text},
                personal={"device_name": device.name},
            )
            return CreatedKey(device, secret, None if life_ms is None else now_ms + life_ms, topics)

        return await self._database.write(unit)

    def _check_may_hold(self, tx: Transaction, principal: Principal, device: Device) -> None:
        """Whoever is given the key can use it: they hold what it opens, and may act as the person whose it is."""
        opens = narrow(device.scopes, self._rights_of(tx, device.user_id, None))
        if missing := opens - narrow(opens, principal.scopes):
            text = f"You do not hold: {scope_text(missing)}. Whoever does can rotate this key."
            raise Problem(Code.FORBIDDEN, text)
        if opens and device.user_id != principal.user_id and Scope.USERS_MANAGE not in principal.scopes:
            text = f"Its key acts as another person: this needs the scope '{Scope.USERS_MANAGE}'. They can rotate it."
            raise Problem(Code.FORBIDDEN, text)

    async def limit(self, principal: Principal, device_id: str, credential_id: str, topics: TopicLimits) -> None:
        """Limit a key, and the certificates that rest on it, to topics, or to others, or not at all any more.

        Felt by whoever is connected with it. Idempotent. Raises `not_found`, `forbidden`, `invalid`.
        """
        now_ms = self._clock.now_ms()

        def unit(tx: Transaction) -> None:
            device = self._reach(tx, principal, device_id)
            refuse_limited(tx, principal)
            key = _find_key(tx, device_id, credential_id)
            if key.topics == topics:
                return
            credential_store.limit_key(tx, key.key_id, topics)
            self._changes.ring(tx, device_id)
            self._audit.record(
                tx,
                AuditEvent.API_KEY_LIMITED,
                now_ms=now_ms,
                actor=principal,
                subject=device_id,
                facts={"key_id": key.key_id, "topics": topics.text},
                personal={"device_name": device.name},
            )

        await self._database.write(unit)

    async def check_limits(
        self, principal: Principal, device_id: str, credential_id: str, topics: TopicLimits
    ) -> Outside:
        """What would be refused if a key were limited so. Of all that the device does, whichever key it shows for it.

        Raises `not_found`, `forbidden`, `invalid`.
        """

        def unit(tx: Transaction) -> Outside:
            self._reach(tx, principal, device_id)
            _find_key(tx, device_id, credential_id)
            known = self.topics_of(tx, device_id, MAX_KNOWN)
            limits = {"publish": topics.publish, "subscribe": topics.subscribe}
            outside: list[tuple[str, str]] = []
            for kind, text in known:
                kept = limits[kind]
                if kept is not None and not is_within(kept, device_id, text):
                    outside.append((kind, text))
            return Outside(outside, len(known))

        return await self._database.read(unit)

    async def revoke(self, principal: Principal, device_id: str, credential_id: str) -> None:
        """End one credential for good, and every connection that it opened. Idempotent. Raises `not_found`, `forbidden`."""
        now_ms = self._clock.now_ms()

        def unit(tx: Transaction) -> None:
            device = self._reach(tx, principal, device_id)
            event, fact, has_moved = _end(tx, device_id, credential_id, now_ms)
            if not has_moved:
                return
            self._changes.ring(tx, device_id)
            self._audit.record(
                tx,
                event,
                now_ms=now_ms,
                actor=principal,
                subject=device_id,
                facts={fact: credential_id},
                personal={"device_name": device.name},
            )

        await self._database.write(unit)


def _end(tx: Transaction, device_id: str, credential_id: str, now_ms: int) -> tuple[AuditEvent, str, bool]:
    """Revoke it; which entry tells of it, and whether it was not revoked before. Raises `not_found`."""
    if is_id(credential_id, Prefix.CERTIFICATE):
        found = credential_store.find_certificate(tx, credential_id)
        if found is not None and found.device_id == device_id:
            has_moved = credential_store.revoke_certificate(tx, credential_id, now_ms)
            return AuditEvent.DEVICE_CERTIFICATE_REVOKED, "certificate_id", has_moved
    _find_key(tx, device_id, credential_id)
    return AuditEvent.API_KEY_REVOKED, "key_id", credential_store.revoke_key(tx, credential_id, now_ms)


def _find_key(tx: Transaction, device_id: str, credential_id: str) -> ApiKey:
    """Raises `not_found`, `invalid` for a certificate."""
    if is_id(credential_id, Prefix.CERTIFICATE):
        found = credential_store.find_certificate(tx, credential_id)
        if found is not None and found.device_id == device_id:
            raise Problem(
                Code.INVALID, f"A certificate is limited as the key is with which it was got: {found.key_id}."
            )
    key = credential_store.find_key(tx, credential_id) if is_id(credential_id, Prefix.API_KEY) else None
    if key is None or key.device_id != device_id:
        raise Problem(Code.NOT_FOUND, "This device holds no such key or certificate.")
    return key


def _topics_of(known: list[ApiKey], now_ms: int) -> TopicLimits:
    """What a key is limited to that comes after these."""
    holding = [key for key in known if key.is_good(now_ms)] or known
    return holding[0].topics if holding else NO_LIMITS


def _check_holds_keys(device: Device) -> None:
    if device.jwk is not None:
        raise Problem(Code.INVALID, "This device has a key pair of its own and holds no API keys.")
    if device.status is Status.REVOKED:
        raise Problem(Code.INVALID, "This device was revoked, which is final. Make a new one.")


def _life_ms(known: list[ApiKey], expires_in_s: int | None) -> int | None:
    if expires_in_s is not None:
        return expires_in_s * 1000
    newest = known[0] if known else None
    if newest is None or newest.expires_at_ms is None:
        return None
    return newest.expires_at_ms - newest.created_at_ms
