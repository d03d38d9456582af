"""Use cases about devices: know them, let them in, rename, suspend, reactivate, revoke."""

import asyncio
from collections.abc import Sequence
from functools import partial

from entobot.accounts.service import Accounts
from entobot.audit.events import AuditEvent
from entobot.audit.service import Audit
from entobot.bus.bus import Bus
from entobot.core.clock import Clock
from entobot.core.errors import Code, Problem
from entobot.core.ids import Ids
from entobot.core.names import clean_name
from entobot.core.permissions import Scope, narrow
from entobot.core.principal import Principal
from entobot.core.secrets import Entropy
from entobot.core.topic_limits import NO_LIMITS, TopicLimits
from entobot.devices import lifecycle, store
from entobot.devices.api_keys import API_KEY_SCOPES, ApiKeys
from entobot.devices.authentication import Authentication
from entobot.devices.certificate_desk import CertificateDesk
from entobot.devices.changes import Changes
from entobot.devices.credentials import CredentialsDesk
from entobot.devices.directory import Directory
from entobot.devices.dpop import Proof
from entobot.devices.key_desk import BEARER_LIFE_MS, CreatedKey, KeyDesk
from entobot.devices.keys import PublicKey, parse_stored_key
from entobot.devices.lifecycle import Lifecycle
from entobot.devices.machine_limits import refuse_limited
from entobot.devices.machines import Machines
from entobot.devices.model import (
    Authenticated,
    Change,
    Credentials,
    Device,
    Platform,
    Status,
    clean_version,
    not_found,
)
from entobot.devices.search import called
from entobot.devices.shared_ring import SharedRing
from entobot.devices.signing import SigningKeys
from entobot.devices.tickets import IssuedTicket, TicketDesk
from entobot.devices.tokens import Tokens
from entobot.signin.sessions import Sessions
from entobot.storage.database import Database, Transaction
from entobot.stream.service import Stream
from entobot.web.authentication import Presented


class Devices:
    """Methods that take `tx` first are composed in the units of other features; the others own their transaction.

    `further_origins` are the configured ones beside `origin`. With a `shared_ring` all nodes sign with the
    same keys. Fulfils `web.authentication.Authenticator`.
    """

    certificates: CertificateDesk | None = None
    """Filled by the composition root."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        ids: Ids,
        audit: Audit,
        stream: Stream,
        accounts: Accounts,
        bus: Bus,
        keys: SigningKeys,
        tokens: Tokens,
        api_keys: ApiKeys,
        entropy: Entropy,
        origin: str,
        further_origins: Sequence[str] = (),
        sessions: Sessions | None = None,
    ) -> None:
        self.shared_ring: SharedRing | None = None
        self._database = database
        self._clock = clock
        self._audit = audit
        self._accounts = accounts
        self._keys = keys
        self._tokens = tokens
        self.directory = Directory(database, accounts, self.guard)
        self._changes = Changes(stream, bus)
        self._lifecycle = Lifecycle(self._changes, audit)
        self.on_end = self._lifecycle.on_end
        self._authentication = Authentication(
            database=database,
            clock=clock,
            audit=audit,
            accounts=accounts,
            tokens=tokens,
            api_keys=api_keys,
            origins=(origin, *further_origins),
            sessions=sessions,
        )
        self._desk = CredentialsDesk(
            database=database,
            clock=clock,
            ids=ids,
            audit=audit,
            accounts=accounts,
            tokens=tokens,
            changes=self._changes,
            authentication=self._authentication,
        )
        self._key_desk, self._ticket_desk = self._open_desks(ids, api_keys, entropy)
        self.machines = self._open_machines()
        self._rotation = asyncio.Lock()

    def _open_machines(self) -> Machines:
        return Machines(
            database=self._database,
            clock=self._clock,
            audit=self._audit,
            changes=self._changes,
            keys=self._key_desk,
            directory=self.directory,
            reach=partial(self._reach, is_own_enough=False),
            rights_of=self.rights_of,
        )

    def _open_desks(self, ids: Ids, api_keys: ApiKeys, entropy: Entropy) -> tuple[KeyDesk, TicketDesk]:
        keys = KeyDesk(
            database=self._database,
            clock=self._clock,
            ids=ids,
            audit=self._audit,
            accounts=self._accounts,
            changes=self._changes,
            authentication=self._authentication,
            api_keys=api_keys,
        )
        tickets = TicketDesk(
            database=self._database,
            clock=self._clock,
            entropy=entropy,
            audit=self._audit,
            accounts=self._accounts,
            authentication=self._authentication,
        )
        return keys, tickets

    # -- for pairing

    def is_key_known(self, tx: Transaction, thumbprint: str) -> bool:
        """Whether this key ever belonged to a device, revoked ones included."""
        return store.is_key_known(tx, thumbprint)

    def register(
        self,
        tx: Transaction,
        *,
        device_id: str,
        user_id: str,
        name: str,
        platform: str,
        app_version: str,
        os_version: str | None,
        key: PublicKey,
        scopes: frozenset[Scope],
        paired_by: str,
        confirm_mode: str,
        now_ms: int,
    ) -> Device:
        """Add a device. Scopes are narrowed to the user's. The audit entry is the caller's.

        Raises `key_known`, `invalid`, `not_found` (the user).
        """
        device = Device(
            device_id=device_id,
            user_id=user_id,
            name=clean_name(name),
            platform=_platform(platform),
            app_version=clean_version(app_version),
            os_version=clean_version(os_version or ""),
            jwk=key.canonical,
            thumbprint=key.thumbprint,
            scopes=narrow(scopes, self._accounts.get_user(tx, user_id).scopes),
            status=Status.ACTIVE,
            epoch=1,
            created_at_ms=now_ms,
            last_seen_at_ms=None,
            first_used_at_ms=None,
            paired_by=paired_by,
            confirmed_by_mode=confirm_mode,
        )
        if not store.insert_device(tx, device):
            raise Problem(Code.KEY_KNOWN, "This key belonged to a device before. Pair with a new key.")
        return device

    def register_bearer(
        self,
        tx: Transaction,
        *,
        device_id: str,
        user_id: str,
        name: str,
        platform: Platform,
        app_version: str,
        os_version: str,
        scopes: frozenset[Scope],
        paired_by: str,
        confirm_mode: str,
        now_ms: int,
    ) -> str:
        """Add a device that has no key of its own, and tell its user. Returns its API key, which ends after 30 days.

        Scopes are narrowed to the user's and to what an API key may hold. The audit entry is the caller's.
        """
        device = Device(
            device_id=device_id,
            user_id=user_id,
            name=name,
            platform=platform,
            app_version=app_version,
            os_version=os_version,
            jwk=None,
            thumbprint=None,
            scopes=narrow(scopes, self._accounts.get_user(tx, user_id).scopes, API_KEY_SCOPES),
            status=Status.ACTIVE,
            epoch=1,
            created_at_ms=now_ms,
            last_seen_at_ms=None,
            first_used_at_ms=None,
            paired_by=paired_by,
            confirmed_by_mode=confirm_mode,
        )
        secret = self._key_desk.register(tx, device, now_ms, BEARER_LIFE_MS)
        self._changes.announce(tx, user_id, device_id, Change.PAIRED, now_ms)
        return secret

    def issue(self, tx: Transaction, device_id: str, now_ms: int) -> Credentials:
        """First credentials of a device. Repeating it, until one is used, voids what was given before.

        Raises `not_found`, `invite_used` once they were used, `device_suspended`, `unauthenticated` (revoked).
        """
        return self._desk.issue(tx, device_id, now_ms)

    def was_used(self, tx: Transaction, device_id: str) -> bool:
        """Whether the device has ever used a credential. Raises `not_found`."""
        return self.get_device(tx, device_id).first_used_at_ms is not None

    def find_device(self, tx: Transaction, device_id: str) -> Device | None:
        return store.find_device(tx, device_id)

    def boards(self, tx: Transaction) -> list[Device]:
        """Every active one, whoever's it is."""
        return store.boards(tx)

    def looked_at(self, tx: Transaction, user_id: str) -> list[str]:
        """The active devices at which this person looks, so no boards: some hundred, those seen last."""
        return store.looked_at(tx, user_id)

    def get_device(self, tx: Transaction, device_id: str) -> Device:
        """Raises `not_found`."""
        device = store.find_device(tx, device_id)
        if device is None:
            raise not_found()
        return device

    def public_key(self, tx: Transaction, device_id: str) -> PublicKey:
        """The key with which the device signs. Raises `not_found`, `forbidden` for a device that holds an API key."""
        jwk = self.get_device(tx, device_id).jwk
        if jwk is None:
            raise Problem(Code.FORBIDDEN, "This device holds an API key and cannot sign. Use a paired device.")
        return parse_stored_key(jwk)

    def announce(self, tx: Transaction, user_id: str, device_id: str, change: Change, now_ms: int) -> None:
        """Append the durable event `device.changed` to the user's stream."""
        self._changes.announce(tx, user_id, device_id, change, now_ms)

    # -- who is asking

    def guard(self, tx: Transaction, principal: Principal) -> None:
        """Refuse a principal whose device has changed since it was authenticated: called in the unit that acts.

        Raises `device_suspended`, `unauthenticated`.
        """
        self._authentication.guard(tx, principal)

    def verify_presented_proof(self, presented: Presented, now_ms: int) -> Proof:
        """The proof of a request without access token (collect). Spend it in the unit that acts. Raises Problem."""
        return self._authentication.verify_presented_proof(presented, None, now_ms)

    def spend_proof(self, tx: Transaction, proof: Proof, now_ms: int) -> Problem | None:
        """Use up a proof, once. Returns the Problem of one that was used before, for the caller to raise."""
        return self._authentication.spend_proof(tx, proof, now_ms)

    async def authenticate(self, presented: Presented) -> Principal:
        return await self._authentication.authenticate(presented)

    async def authenticate_connection(self, token: str, proof: str, nonce: str) -> Authenticated:
        """Who opens or renews a WebSocket. Raises ConnectionRefused."""
        return await self._authentication.authenticate_connection(token, proof, nonce)

    def scale(self, nodes: int) -> None:
        """How many nodes are alive: what an address may fail at is shared out among them."""
        self._authentication.scale(nodes)

    async def authenticate_key_connection(self, key: str, address: str) -> Authenticated:
        """Who opens or renews a connection with an API key. Raises ConnectionRefused."""
        return await self._authentication.authenticate_key_connection(key, address)

    async def issue_ticket(self, principal: Principal, origin: str | None) -> IssuedTicket:
        """A ticket for one WebSocket of the device that asks. Raises `forbidden`, and what `guard` raises."""
        return await self._ticket_desk.issue(principal, origin)

    async def spend_ticket(self, ticket: str, origin: str | None) -> Authenticated:
        """Who opens or renews a connection with a ticket, which is used up. Raises ConnectionRefused."""
        return await self._ticket_desk.spend(ticket, origin)

    async def local_owner(self) -> Principal:
        return await self._authentication.local_owner()

    async def create_api_key(
        self,
        maker: Principal,
        name: str,
        *,
        platform: Platform = Platform.IOT,
        scopes: frozenset[Scope] | None = None,
        expires_in_s: int | None = None,
        device_type: str = "",
        tags: Sequence[str] = (),
        topics: TopicLimits = NO_LIMITS,
    ) -> CreatedKey:
        """A new device that holds an API key, scopes `chat` unless named. Raises `forbidden`, `invalid`."""
        return await self._key_desk.create(
            maker,
            name=name,
            platform=platform,
            scopes=scopes,
            expires_in_s=expires_in_s,
            device_type=device_type,
            tags=tags,
            topics=topics,
        )

    async def refresh(self, refresh_token: str, presented: Presented) -> Credentials:
        """Raises `refresh_invalid`, `refresh_superseded`, `device_suspended`, and what a bad proof raises."""
        return await self._desk.refresh(refresh_token, presented)

    # -- looking

    def changed_after(self, tx: Transaction, number: int, count: int) -> list[tuple[int, str]]:
        """Devices whose credentials were ended after the change with this number, each with its own number, in order."""
        return store.changed_after(tx, number, count)

    # -- changing

    def rename_in(self, tx: Transaction, principal: Principal, device_id: str, name: str, now_ms: int) -> Device:
        """Raises `not_found`, `forbidden`, `invalid`."""
        device = self._reach(tx, principal, device_id, is_own_enough=True)
        return self._lifecycle.move(tx, principal, (device, device.rename(name)), lifecycle.RENAMED, now_ms)

    async def rename(self, principal: Principal, device_id: str, name: str) -> Device:
        """Raises `not_found`, `forbidden`, `invalid`."""
        now_ms = self._clock.now_ms()
        return await self._database.write(lambda tx: self.rename_in(tx, principal, device_id, name, now_ms))

    async def label(
        self, principal: Principal, device_id: str, device_type: str | None, tags: Sequence[str] | None
    ) -> Device:
        """Say what a device is; None leaves what is there. Raises `not_found`, `forbidden`, `invalid`.

        Never by the device itself: policies permit by type and tags.
        """
        now_ms = self._clock.now_ms()

        def unit(tx: Transaction) -> Device:
            device = self._reach(tx, principal, device_id, is_own_enough=False)
            return self._lifecycle.move(
                tx, principal, (device, device.label(device_type, tags)), lifecycle.LABELLED, now_ms
            )

        return await self._database.write(unit)

    def called(self, tx: Transaction, name: str, user_id: str | None) -> list[Device]:
        """Those of this name that are not revoked, whatever its case, everybody's for None: the first `CALLED_SO`."""
        return called(tx, name, user_id)

    async def suspend(self, principal: Principal, device_id: str) -> Device:
        """Keep a device out until it is reactivated. Raises `not_found`, `forbidden`, `invalid`."""
        now_ms = self._clock.now_ms()

        def unit(tx: Transaction) -> Device:
            device = self._reach(tx, principal, device_id, is_own_enough=False)
            return self._lifecycle.move(tx, principal, (device, device.suspend()), lifecycle.SUSPENDED, now_ms)

        return await self._database.write(unit)

    async def reactivate(self, principal: Principal, device_id: str) -> Device:
        """Let a suspended device in again. Raises `not_found`, `forbidden`, `invalid`."""
        now_ms = self._clock.now_ms()

        def unit(tx: Transaction) -> Device:
            device = self._reach(tx, principal, device_id, is_own_enough=False)
            return self._lifecycle.move(tx, principal, (device, device.reactivate()), lifecycle.REACTIVATED, now_ms)

        return await self._database.write(unit)

    async def revoke(self, principal: Principal, device_id: str) -> Device:
        """End a device for good; its key stays known. Raises `not_found`, `forbidden`."""
        now_ms = self._clock.now_ms()
        return await self._database.write(lambda tx: self.revoke_in(tx, principal, device_id, now_ms))

    def revoke_in(self, tx: Transaction, principal: Principal, device_id: str, now_ms: int) -> Device:
        """Raises `not_found`, `forbidden`."""
        device = self._reach(tx, principal, device_id, is_own_enough=True)
        store.delete_family(tx, device_id)
        return self._lifecycle.move(tx, principal, (device, device.revoke()), lifecycle.REVOKED, now_ms)

    def _reach(self, tx: Transaction, principal: Principal, device_id: str, *, is_own_enough: bool) -> Device:
        """A device that the principal may change: any with `devices.manage` but those of people above them, else at
        most the one it acts through.
        """
        device = self.directory.view(tx, principal, device_id)
        if not _manages(principal):
            if not is_own_enough or device.device_id != principal.device_id:
                text = f"This needs the scope '{Scope.DEVICES_MANAGE}', which was not granted to this device."
                raise Problem(Code.FORBIDDEN, text)
            refuse_limited(tx, principal)
        self._accounts.check_reach(tx, principal, device.user_id)
        return device

    def rights_of(self, tx: Transaction, user_id: str, device_id: str | None) -> frozenset[Scope]:
        """What a person holds at this moment, through a device of theirs if one is named. Nothing once either is gone,
        suspended or revoked.
        """
        person = self._accounts.find(tx, user_id)
        of_user = frozenset[Scope]() if person is None else person.scopes
        if device_id is None:
            return of_user
        device = store.find_device(tx, device_id)
        if device is None or device.status is not Status.ACTIVE or device.user_id != user_id:
            return frozenset()
        return narrow(device.scopes, of_user)

    def end_all(self, tx: Transaction, principal: Principal, user_id: str, now_ms: int) -> None:
        """Revoke every device of a person who leaves."""
        self._lifecycle.end_all(tx, principal, user_id, now_ms)

    def renew_all(self, tx: Transaction, principal: Principal, user_id: str, now_ms: int) -> None:
        """Void the access tokens of a person's devices: new ones hold what their role gives now."""
        self._lifecycle.renew_all(tx, principal, user_id, now_ms)

    # -- the gateway's own keys

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """The public keys that sign access tokens (RFC 7517 §5)."""
        return self._keys.jwks(self._clock.now_ms())

    async def rotate_keys_if_due(self, principal: Principal | None = None, *, force: bool = False) -> bool:
        """Move the signing keys on when 90 days are over, or at once when forced. Returns whether they moved."""
        async with self._rotation:
            now_ms = self._clock.now_ms()
            if not force and not self._keys.is_due(now_ms):
                return False
            if self.shared_ring is not None:
                has_moved = await self.shared_ring.rotate(now_ms, force=force)
            else:
                has_moved = await asyncio.to_thread(self._keys.rotate, now_ms, force=force)
            if not has_moved:
                return False
            kid = self._keys.active_kid

        def unit(tx: Transaction) -> None:
            self._audit.record(
                tx, AuditEvent.KEY_ROTATED, now_ms=now_ms, actor=principal, subject=kid, facts={"forced": force}
            )

        await self._database.write(unit)
        return True


def _manages(principal: Principal) -> bool:
    return Scope.DEVICES_MANAGE in principal.scopes


def _platform(text: str) -> Platform:
    try:
        return Platform(text)
    except ValueError:
        raise Problem(Code.INVALID, f"The platform must be one of {', '.join(Platform)}.") from None
