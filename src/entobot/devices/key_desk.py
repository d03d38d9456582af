"""Make API keys: a device without a key pair, and the secret that it shows."""

from collections.abc import Sequence
from dataclasses import dataclass

from entobot.accounts.service import Accounts
from entobot.audit.events import AuditEvent
from entobot.audit.service import Audit
from entobot.core.clock import Clock
from entobot.core.errors import Code, Problem
from entobot.core.ids import Ids, Prefix
from entobot.core.names import clean_name
from entobot.core.permissions import Scope, narrow, scope_text
from entobot.core.principal import Principal
from entobot.core.topic_limits import NO_LIMITS, TopicLimits
from entobot.devices import credential_store, store
from entobot.devices.api_keys import API_KEY_SCOPES, DEFAULT_API_KEY_SCOPES, ApiKeys
from entobot.devices.authentication import Authentication
from entobot.devices.changes import Changes
from entobot.devices.machine_limits import refuse_limited
from entobot.devices.model import ApiKey, Change, Device, Platform, Status, clean_tags, clean_word
from entobot.storage.database import Database, Transaction

MAX_LIFE_S = 10 * 365 * 24 * 3600
CONFIRMED_BY = "api_key"
PLATFORMS = frozenset({Platform.DESKTOP, Platform.IOT})


@dataclass(frozen=True, slots=True)
class CreatedKey:
    """`secret` is the whole key; it is shown once and stored nowhere."""

    device: Device
    secret: str
    expires_at_ms: int | None
    topics: TopicLimits = NO_LIMITS


BEARER_LIFE_MS = 30 * 24 * 3600_000


class KeyDesk:
    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        ids: Ids,
        audit: Audit,
        accounts: Accounts,
        changes: Changes,
        authentication: Authentication,
        api_keys: ApiKeys,
    ) -> None:
        self._database = database
        self._clock = clock
        self._ids = ids
        self._audit = audit
        self._accounts = accounts
        self._changes = changes
        self._authentication = authentication
        self._api_keys = api_keys

    async def create(
        self,
        maker: Principal,
        *,
        name: str,
        platform: Platform,
        scopes: frozenset[Scope] | None,
        expires_in_s: int | None,
        device_type: str = "",
        tags: Sequence[str] = (),
        topics: TopicLimits = NO_LIMITS,
    ) -> CreatedKey:
        """A new device of the maker's user that holds a key. Raises `forbidden`, `invalid`, and what `guard` raises."""
        maker.require(Scope.DEVICES_MANAGE)
        if platform not in PLATFORMS:
            raise Problem(Code.INVALID, "API keys are for the platforms desktop and iot. Phones pair with a key.")
        if expires_in_s is not None and not 1 <= expires_in_s <= MAX_LIFE_S:
            raise Problem(Code.INVALID, f"expires_in_s is 1 to {MAX_LIFE_S} seconds. Leave it out for no end.")
        name, now_ms = clean_name(name), self._clock.now_ms()
        device_type, kept = clean_word(device_type, "type"), clean_tags(tags)
        device_id, key_id = self._ids.new(Prefix.DEVICE), self._ids.new(Prefix.API_KEY)
        secret = self._api_keys.mint(key_id)
        expires_at_ms = None if expires_in_s is None else now_ms + expires_in_s * 1000
        key = ApiKey(key_id, device_id, self._api_keys.digest(secret), now_ms, expires_at_ms, topics=topics)

        def unit(tx: Transaction) -> Device:
            self._authentication.guard(tx, maker)
            refuse_limited(tx, maker)
            held = granted(scopes, maker.scopes, self._accounts.get_user(tx, maker.user_id).scopes)
            device = Device(
                device_id=device_id,
                user_id=maker.user_id,
                name=name,
                platform=platform,
                app_version="",
                os_version="",
                jwk=None,
                thumbprint=None,
                scopes=held,
                status=Status.ACTIVE,
                epoch=1,
                created_at_ms=now_ms,
                last_seen_at_ms=None,
                first_used_at_ms=None,
                paired_by=maker.device_id or maker.user_id,
                confirmed_by_mode=CONFIRMED_BY,
                device_type=device_type,
                tags=kept,
            )
            if not store.insert_device(tx, device):
                raise RuntimeError("a new id was there already")
            credential_store.insert_key(tx, key)
            self._record(tx, maker, device, key, now_ms)
            return device

        return CreatedKey(await self._database.write(unit), secret, expires_at_ms, topics)

    def register(
        self, tx: Transaction, device: Device, now_ms: int, life_ms: int | None, topics: TopicLimits = NO_LIMITS
    ) -> str:
        """Store a device that has no key pair, with an API key that ends after `life_ms`; the key. The audit entry is
        the caller's.
        """
        if not store.insert_device(tx, device):
            raise RuntimeError("a reserved id was there already")
        return self.add(tx, device.device_id, now_ms, life_ms, topics)

    def add(self, tx: Transaction, device_id: str, now_ms: int, life_ms: int | None, topics: TopicLimits) -> str:
        """One more key of a device."""
        key_id = self._ids.new(Prefix.API_KEY)
        secret = self._api_keys.mint(key_id)
        expires_at_ms = None if life_ms is None else now_ms + life_ms
        key = ApiKey(key_id, device_id, self._api_keys.digest(secret), now_ms, expires_at_ms, topics=topics)
        credential_store.insert_key(tx, key)
        return secret

    def _record(self, tx: Transaction, maker: Principal, device: Device, key: ApiKey, now_ms: int) -> None:
        self._changes.announce(tx, device.user_id, device.device_id, Change.PAIRED, now_ms)
        self._audit.record(
            tx,
            AuditEvent.API_KEY_CREATED,
            now_ms=now_ms,
            actor=maker,
            subject=device.device_id,
            facts={
                "key_id": key.key_id,
                "platform": device.platform,
                "scopes": scope_text(device.scopes),
                "expires_at_ms": key.expires_at_ms,
                "topics": key.topics.text,
            },
            personal={"device_name": device.name},
        )


def granted(wanted: frozenset[Scope] | None, held: frozenset[Scope], of_user: frozenset[Scope]) -> frozenset[Scope]:
    """What the key will hold. Asking for more than may be given is refused, never cut down in silence."""
    if wanted is not None and not wanted:
        raise Problem(Code.INVALID, "Name at least one scope, or leave scopes out for 'chat'.")
    asked = DEFAULT_API_KEY_SCOPES if wanted is None else wanted
    if never := asked - API_KEY_SCOPES:
        raise Problem(
            Code.INVALID, f"An API key never holds: {scope_text(never)}. Pair a device with a key of its own for that."
        )
    if missing := asked - narrow(asked, held, of_user):
        raise Problem(Code.FORBIDDEN, f"You do not hold: {scope_text(missing)}. A key cannot be given more than that.")
    return asked
