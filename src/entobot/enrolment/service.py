"""Use cases of enrolment keys: make, look, revoke; and a board that enrols itself with one."""

from collections.abc import Callable
from dataclasses import dataclass

from entobot.accounts.service import Accounts
from entobot.audit.events import AuditEvent, Outcome
from entobot.audit.service import Audit
from entobot.core.clock import Clock
from entobot.core.errors import Code, NoLonger, Problem
from entobot.core.ids import Ids, Prefix, is_id
from entobot.core.names import MAX_NAME_CHARACTERS, clean_name, is_showable
from entobot.core.permissions import Scope, narrow, scope_text
from entobot.core.principal import Principal
from entobot.core.secrets import b64u, keyed_digest, same
from entobot.core.topic_limits import NO_LIMITS, TopicLimits
from entobot.devices.api_keys import API_KEY_SCOPES, ApiKeys, KeyMalformed, parse_key
from entobot.devices.key_desk import MAX_LIFE_S as MAX_KEY_LIFE_S
from entobot.devices.key_desk import granted
from entobot.devices.machine_limits import refuse_limited
from entobot.devices.model import Device, Platform, Status, clean_tags, clean_version, clean_word
from entobot.devices.service import Devices
from entobot.enrolment import store
from entobot.enrolment.model import (
    DEFAULT_LIFE_S,
    ENROLMENT_KEY,
    MAX_LIFE_S,
    MAX_OPEN,
    MAX_USES,
    NONCE_CHARACTERS,
    Enrolment,
    EnrolmentKey,
    State,
)
from entobot.storage.database import Database, Transaction

CONFIRMED_BY = "enrolment"
AT_ONCE = 200
_NEWEST = "~"
"""Behind every id."""
_OVER = {
    State.EXPIRED: "This enrolment key has expired. Ask for a new one.",
    State.REVOKED: "This enrolment key was revoked. Ask for a new one.",
    State.SPENT: "This enrolment key has made as many devices as it may. Ask for a new one.",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an enrolment key is to be. No scopes: its devices reach their own topics, and nothing of the API; `topics`
    is what their keys are limited to.
    """

    name: str
    max_uses: int = 1
    expires_in_s: int = DEFAULT_LIFE_S
    device_type: str = ""
    tags: tuple[str, ...] = ()
    scopes: frozenset[Scope] = frozenset()
    key_life_s: int | None = None
    topics: TopicLimits = NO_LIMITS


@dataclass(frozen=True, slots=True)
class Made:
    """`secret` is the whole key; it is shown once and stored nowhere."""

    key: EnrolmentKey
    secret: str


@dataclass(frozen=True, slots=True)
class Asking:
    """What a board says of itself. `nonce` is a secret of its own, by which it may ask again."""

    nonce: str
    name: str = ""
    hardware_id: str = ""
    app_version: str = ""
    os_version: str = ""


@dataclass(frozen=True, slots=True)
class Enrolled:
    device: Device
    secret: str
    expires_at_ms: int | None
    is_repeat: bool


@dataclass(frozen=True, slots=True)
class EnrolledDevice:
    enrolment: Enrolment
    device: Device | None


class Enrolments:
    """`keys` mint and recognise enrolment keys, `nonce_key` digests the boards' nonces. `on_made` hears of each device in
    the unit that makes it.
    """

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        ids: Ids,
        audit: Audit,
        accounts: Accounts,
        devices: Devices,
        keys: ApiKeys,
        nonce_key: bytes,
    ) -> None:
        self._database = database
        self._clock = clock
        self._ids = ids
        self._audit = audit
        self._accounts = accounts
        self._devices = devices
        self._keys = keys
        self._nonce_key = nonce_key
        self.on_made: list[Callable[[Transaction, Device, int], None]] = []

    # -- for people

    async def create(self, maker: Principal, wanted: Wanted) -> Made:
        """A key whose devices are the maker's. Raises `forbidden`, `invalid`, `quota_exceeded`."""
        maker.require(Scope.DEVICES_MANAGE)
        _check_numbers(wanted)
        now_ms, key_id = self._clock.now_ms(), self._ids.new(Prefix.ENROLMENT_KEY)
        secret = self._keys.mint(key_id)
        name, device_type = clean_name(wanted.name, "name"), clean_word(wanted.device_type, "type")
        tags = clean_tags(wanted.tags)

        def unit(tx: Transaction) -> EnrolmentKey:
            self._devices.guard(tx, maker)
            refuse_limited(tx, maker)
            of_user = self._accounts.get_user(tx, maker.user_id).scopes
            if store.count_open(tx, maker.user_id, now_ms) >= MAX_OPEN:
                raise Problem(
                    Code.QUOTA_EXCEEDED, f"You have {MAX_OPEN} enrolment keys that are open. Revoke some first."
                )
            key = EnrolmentKey(
                key_id=key_id,
                user_id=maker.user_id,
                made_by=maker.device_id or maker.user_id,
                name=name,
                digest=self._keys.digest(secret),
                scopes=granted(wanted.scopes, maker.scopes, of_user) if wanted.scopes else frozenset(),
                device_type=device_type,
                tags=tags,
                max_uses=wanted.max_uses,
                uses=0,
                key_life_s=wanted.key_life_s,
                created_at_ms=now_ms,
                expires_at_ms=now_ms + wanted.expires_in_s * 1000,
                topics=wanted.topics,
            )
            store.insert_key(tx, key)
            self._record(tx, AuditEvent.ENROLMENT_KEY_CREATED, maker, key, now_ms)
            return key

        return Made(await self._database.write(unit), secret)

    async def list_keys(self, principal: Principal) -> list[EnrolmentKey]:
        """Everybody's, the newest first. Raises `forbidden`."""
        principal.require(Scope.DEVICES_MANAGE)

        def unit(tx: Transaction) -> list[EnrolmentKey]:
            self._devices.guard(tx, principal)
            return store.latest(tx)

        return await self._database.read(unit)

    async def find(self, principal: Principal, key_id: str) -> tuple[EnrolmentKey, list[EnrolledDevice]]:
        """A key, and the newest devices that it made. Raises `forbidden`, `not_found`."""
        principal.require(Scope.DEVICES_MANAGE)

        def unit(tx: Transaction) -> tuple[EnrolmentKey, list[EnrolledDevice]]:
            key = self._view(tx, principal, key_id)
            made = store.enrolments_of(tx, key_id, _NEWEST, AT_ONCE)
            return key, [EnrolledDevice(one, self._devices.find_device(tx, one.device_id)) for one in made]

        return await self._database.read(unit)

    async def revoke(self, principal: Principal, key_id: str, *, with_devices: bool = False) -> EnrolmentKey:
        """End a key for good. `with_devices`: and every device that it made, those of a thief among them.

        Some hundred devices a commit; who repeats it after a failure goes on where it stopped. Raises `forbidden`,
        `not_found`.
        """
        principal.require(Scope.DEVICES_MANAGE)
        now_ms = self._clock.now_ms()

        def unit(tx: Transaction) -> EnrolmentKey:
            key = self._view(tx, principal, key_id)
            self._accounts.check_reach(tx, principal, key.user_id)
            if store.revoke_key(tx, key_id, now_ms):
                self._record(tx, AuditEvent.ENROLMENT_KEY_REVOKED, principal, key, now_ms)
            return self._get(tx, key_id)

        key = await self._database.write(unit)
        before = _NEWEST if with_devices else ""
        while before:
            before = await self._database.write(
                lambda tx, before=before: self._revoke_devices(tx, principal, key_id, before, now_ms)
            )
        return key

    def _revoke_devices(self, tx: Transaction, principal: Principal, key_id: str, before: str, now_ms: int) -> str:
        """Of one page; where the next one begins, empty at the end."""
        made = store.enrolments_of(tx, key_id, before, AT_ONCE)
        for one in made:
            self._devices.revoke_in(tx, principal, one.device_id, now_ms)
        return made[-1].device_id if len(made) == AT_ONCE else ""

    def end_all(self, tx: Transaction, principal: Principal, user_id: str, now_ms: int) -> None:
        """Revoke every key of a person who leaves."""
        del principal  # the entry about the person tells who did it
        store.revoke_all(tx, user_id, now_ms)

    def end_of_device(self, tx: Transaction, device_id: str, now_ms: int) -> None:
        """Revoke every key that a device made which is revoked. While it is suspended, they wait for it."""
        device = self._devices.find_device(tx, device_id)
        if device is not None and device.status is Status.REVOKED:
            store.revoke_made_by(tx, device_id, now_ms)

    def _view(self, tx: Transaction, principal: Principal, key_id: str) -> EnrolmentKey:
        self._devices.guard(tx, principal)
        return self._get(tx, key_id)

    def _get(self, tx: Transaction, key_id: str) -> EnrolmentKey:
        key = store.find_key(tx, key_id) if is_id(key_id, Prefix.ENROLMENT_KEY) else None
        if key is None:
            raise Problem(Code.NOT_FOUND, "There is no such enrolment key.")
        return key

    # -- for boards

    async def enrol(self, secret: str, asking: Asking, address: str) -> Enrolled:
        """A device of its own for the board that shows this key, with an API key that is shown once.

        The same nonce again, within the hour and before the board has used its key, is the same device with another
        key. Raises `unauthenticated`, `enrolment_used`, `invalid`.
        """
        key_id, digest = self._read(secret)
        nonce_digest = b64u(keyed_digest(self._nonce_key, f"{key_id} {asking.nonce}".encode("ascii", "replace")))
        asking = _cleaned(asking)
        now_ms, device_id = self._clock.now_ms(), self._ids.new(Prefix.DEVICE)

        def unit(tx: Transaction) -> Enrolled | Problem:
            key = store.find_key(tx, key_id)
            if key is None or not same(key.digest, digest):
                return Problem(Code.UNAUTHENTICATED, "This enrolment key is not known here.")
            known = store.find_by_nonce(tx, key_id, nonce_digest)
            found = (
                self._enrol_new(tx, key, asking, Enrolment(device_id, key_id, nonce_digest, asking.hardware_id, now_ms))
                if known is None
                else self._enrol_again(tx, key, known, now_ms)
            )
            if isinstance(found, Problem):
                self._note_refusal(tx, key, found, now_ms, address)
            else:
                self._record_device(tx, key, found, now_ms, address)
            return found

        found = await self._database.write(unit)
        if isinstance(found, Problem):
            raise found
        return found

    def _read(self, secret: str) -> tuple[str, str]:
        try:
            return parse_key(secret, ENROLMENT_KEY), self._keys.digest(secret)
        except KeyMalformed:
            raise Problem(Code.UNAUTHENTICATED, "This is no enrolment key, or it was mistyped.") from None

    def _rights(self, tx: Transaction, key: EnrolmentKey) -> frozenset[Scope]:
        """What the maker holds at this moment."""
        device_id = key.made_by if is_id(key.made_by, Prefix.DEVICE) else None
        return self._devices.rights_of(tx, key.user_id, device_id)

    def _refusal(self, tx: Transaction, key: EnrolmentKey) -> Problem | None:
        """Of a key that is genuine, whose maker may not add devices any more."""
        if Scope.DEVICES_MANAGE in self._rights(tx, key):
            return None
        return NoLonger(
            Code.UNAUTHENTICATED, "Whoever made this enrolment key may not add devices now. Ask for a new one."
        )

    def _enrol_new(self, tx: Transaction, key: EnrolmentKey, asking: Asking, use: Enrolment) -> Enrolled | Problem:
        now_ms = use.enrolled_at_ms
        refusal = self._refusal(tx, key)
        if refusal is not None:
            return refusal
        if not store.use_key(tx, key.key_id, now_ms):
            state = self._get(tx, key.key_id).state(now_ms)
            return NoLonger(Code.UNAUTHENTICATED, _OVER[State.SPENT if state is State.OPEN else state])
        device = Device(
            device_id=use.device_id,
            user_id=key.user_id,
            name=asking.name or f"{key.device_type or 'board'}-{use.device_id[-6:].lower()}",
            platform=Platform.IOT,
            app_version=asking.app_version,
            os_version=asking.os_version,
            jwk=None,
            thumbprint=None,
            scopes=narrow(key.scopes, self._rights(tx, key), API_KEY_SCOPES),
            status=Status.ACTIVE,
            epoch=1,
            created_at_ms=now_ms,
            last_seen_at_ms=None,
            first_used_at_ms=None,
            paired_by=key.key_id,
            confirmed_by_mode=CONFIRMED_BY,
            device_type=key.device_type,
            tags=key.tags,
        )
        if not store.insert_enrolment(tx, use):  # a node beside us was faster; nothing of this unit stays
            raise Problem(Code.RATE_LIMITED, "This is being answered. Ask again.")
        secret = self._devices.machines.enrol(tx, device, now_ms, key.key_life_ms, key.topics)
        for tell in self.on_made:
            tell(tx, device, now_ms)
        return Enrolled(device, secret, _end_ms(key, now_ms), is_repeat=False)

    def _enrol_again(self, tx: Transaction, key: EnrolmentKey, known: Enrolment, now_ms: int) -> Enrolled | Problem:
        """A board that lost the answer. Whoever else knows the nonce gets nothing once the board has used its key."""
        if key.revoked_at_ms is not None:
            return NoLonger(Code.UNAUTHENTICATED, _OVER[State.REVOKED])
        refusal = self._refusal(tx, key)
        if refusal is not None:
            return refusal
        device = self._devices.find_device(tx, known.device_id)
        secret = None
        if device is not None and device.status is Status.ACTIVE and known.may_repeat(now_ms):
            secret = self._devices.machines.replace_unused(tx, device, now_ms, key.key_life_ms)
        if device is None or secret is None:
            return Problem(
                Code.ENROLMENT_USED,
                "A device was made with this nonce, and has its key. Enrol anew with another nonce.",
            )
        return Enrolled(device, secret, _end_ms(key, now_ms), is_repeat=True)

    # -- the log

    def _record(self, tx: Transaction, event: AuditEvent, by: Principal, key: EnrolmentKey, now_ms: int) -> None:
        self._audit.record(
            tx,
            event,
            now_ms=now_ms,
            actor=by,
            subject=key.key_id,
            facts={
                "max_uses": key.max_uses,
                "uses": key.uses,
                "expires_at_ms": key.expires_at_ms,
                "device_type": key.device_type,
                "tags": " ".join(key.tags),
                "scopes": scope_text(key.scopes),
                "topics": key.topics.text,
            },
            personal={"name": key.name},
        )

    def _record_device(self, tx: Transaction, key: EnrolmentKey, made: Enrolled, now_ms: int, address: str) -> None:
        self._audit.record(
            tx,
            AuditEvent.DEVICE_ENROLLED,
            now_ms=now_ms,
            subject=made.device.device_id,
            facts={
                "enrolment_key": key.key_id,
                "device_type": made.device.device_type,
                "scopes": scope_text(made.device.scopes),
                "is_repeat": made.is_repeat,
            },
            personal={"device_name": made.device.name, "address": address},
        )

    def _note_refusal(self, tx: Transaction, key: EnrolmentKey, problem: Problem, now_ms: int, address: str) -> None:
        if store.claim_alert(tx, key.key_id, now_ms):
            self._audit.record(
                tx,
                AuditEvent.ENROLMENT_REFUSED,
                now_ms=now_ms,
                outcome=Outcome.DENIED,
                subject=key.key_id,
                facts={"code": str(problem.code), "state": str(key.state(now_ms))},
                personal={"address": address},
            )


def _check_numbers(wanted: Wanted) -> None:
    if not 1 <= wanted.max_uses <= MAX_USES:
        raise Problem(Code.INVALID, f"max_uses is 1 to {MAX_USES}.")
    if not 60 <= wanted.expires_in_s <= MAX_LIFE_S:
        raise Problem(Code.INVALID, f"expires_in_s is 60 to {MAX_LIFE_S} seconds.")
    if wanted.key_life_s is not None and not 3600 <= wanted.key_life_s <= MAX_KEY_LIFE_S:
        raise Problem(Code.INVALID, f"key_life_s is 3600 to {MAX_KEY_LIFE_S} seconds.")


def _cleaned(asking: Asking) -> Asking:
    if len(asking.nonce) != NONCE_CHARACTERS:
        raise Problem(Code.INVALID, "The nonce is 32 random bytes in base64url, which the board chooses and keeps.")
    hardware_id = asking.hardware_id.strip()
    if len(hardware_id) > MAX_NAME_CHARACTERS or (hardware_id and not is_showable(hardware_id)):
        raise Problem(Code.INVALID, f"hardware_id has at most {MAX_NAME_CHARACTERS} visible characters.")
    return Asking(
        nonce=asking.nonce,
        name=clean_name(asking.name) if asking.name else "",
        hardware_id=hardware_id,
        app_version=clean_version(asking.app_version),
        os_version=clean_version(asking.os_version),
    )


def _end_ms(key: EnrolmentKey, now_ms: int) -> int | None:
    return None if key.key_life_ms is None else now_ms + key.key_life_ms
