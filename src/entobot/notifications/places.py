"""Where a person is reached: subscriptions of their devices, addresses of their own, and how they want it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from entobot.audit.events import AuditEvent, Outcome
from entobot.audit.service import Audit
from entobot.core.clock import Clock
from entobot.core.errors import Code, Problem
from entobot.core.ids import Ids, Prefix, is_id
from entobot.core.names import clean_name
from entobot.core.networks import Networks, is_public, plain_address
from entobot.core.principal import Principal
from entobot.core.secrets import Entropy, b64u, keyed_digest, random_digits, same, unb64u
from entobot.notifications import attempt_store, place_store
from entobot.notifications.addresses import host_of, is_endpoint, is_mail_address, is_ntfy_address
from entobot.notifications.model import Channel, Place
from entobot.notifications.rules import Rules
from entobot.notifications.sms_numbers import Number
from entobot.notifications.webpush import KeysRefused, check_keys
from entobot.signin.sealing import Seal
from entobot.storage.database import Database, Transaction
from entobot.telemetry.meters import Meters
from entobot.telemetry.metrics import Metric

MAX_PLACES = 20
"""Of one person."""
MAX_TOKEN_CHARACTERS = 256
CODE_DIGITS = 6
CODE_LIFE_MS = 15 * 60_000
MAX_CODE_TRIES = 5
MAX_CODES_PER_HOUR = 5
"""Messages with codes that one person may have sent, to whatever addresses."""
HOUR_MS = 3600_000
MAX_COUNTED = 1000

CONFIRMED_BY_CODE = frozenset({Channel.EMAIL, Channel.SMS})

Guard = Callable[[Transaction, Principal], None]
CheckNumber = Callable[[str], Number]
"""Port: a telephone number that may be reached. Reads files. Raises `number_refused`."""


@dataclass(frozen=True, slots=True)
class NewPlace:
    """What is to be added. Keys for pushes, `token` for an ntfy topic that needs one."""

    channel: Channel
    address: str
    name: str = ""
    p256dh: str = ""
    auth: str = ""
    token: str = ""


@dataclass(slots=True)
class _Codes:
    """How many codes a person had sent, in this hour, by this node."""

    sent: dict[str, list[int]] = field(default_factory=dict[str, list[int]])

    def is_over(self, user_id: str, now_ms: int) -> bool:
        times = [one for one in self.sent.get(user_id, []) if now_ms - one < HOUR_MS]
        if len(times) >= MAX_CODES_PER_HOUR:
            return True
        if user_id not in self.sent and len(self.sent) >= MAX_COUNTED:
            self.sent.clear()
        self.sent[user_id] = [*times, now_ms]
        return False


class Places:
    """`channels` are those that this installation has; `allowed` networks may be reached though they are not public."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        ids: Ids,
        entropy: Entropy,
        audit: Audit,
        guard: Guard,
        meters: Meters,
        channels: frozenset[Channel],
        allowed: Networks,
        code_key: bytes,
        seal: Seal,
        check_number: CheckNumber | None = None,
    ) -> None:
        """`check_number` reads telephone numbers, where this installation sends SMS."""
        self._database = database
        self._clock = clock
        self._ids = ids
        self._entropy = entropy
        self._audit = audit
        self._guard = guard
        self._channels = channels
        self._allowed = allowed
        self._code_key = code_key
        self._seal = seal
        self._check_number = check_number
        self._codes = _Codes()
        self._refused = meters.counter(Metric.REFUSALS, reason="notification_place")

    # -- adding

    def add_in(self, tx: Transaction, principal: Principal, new: NewPlace, now_ms: int) -> Place | Problem:
        """A refusal is returned, so that its audit entry is committed: `address_refused`, `invalid`.

        A push endpoint belongs to the device that subscribes, which has one of a kind; whoever had it before loses it.
        """
        why = self._refusal(new)
        if why is not None:
            facts = {"channel": new.channel, "reason": why.detail}
            self._record(tx, AuditEvent.NOTIFICATION_PLACE_REFUSED, principal, "", facts, now_ms, Outcome.DENIED)
            tx.after_commit(self._refused.add)
            return why
        is_push = new.channel in (Channel.PUSH, Channel.UNIFIEDPUSH)
        for old in self._replaced(tx, principal, new):
            if old.user_id == principal.user_id and _is_same(old, new) and old.device_id == principal.device_id:
                return old
            self._drop(tx, old, now_ms)
        if len(place_store.places_of(tx, principal.user_id)) >= MAX_PLACES:
            return Problem(Code.INVALID, f"There are {MAX_PLACES} places already. Remove one that you do not need.")
        place_id = self._ids.new(Prefix.NOTIFICATION_PLACE)
        place = Place(
            place_id=place_id,
            user_id=principal.user_id,
            channel=new.channel,
            address=new.address,
            device_id=principal.device_id if is_push else None,
            p256dh=new.p256dh,
            auth=self._sealed(place_id, new.token) if new.token else new.auth,
            name=clean_name(new.name, "name") if new.name else "",
            is_confirmed=new.channel not in CONFIRMED_BY_CODE,
            created_at_ms=now_ms,
        )
        place_store.insert_place(tx, place)
        facts = {"channel": place.channel, "service": "" if new.channel in CONFIRMED_BY_CODE else host_of(place)}
        self._record(tx, AuditEvent.NOTIFICATION_PLACE_ADDED, principal, place_id, facts, now_ms)
        return place

    def _replaced(self, tx: Transaction, principal: Principal, new: NewPlace) -> list[Place]:
        found = [
            one
            for one in place_store.places_at(tx, new.channel, new.address)
            if new.channel in (Channel.PUSH, Channel.UNIFIEDPUSH) or one.user_id == principal.user_id
        ]
        if new.channel is Channel.PUSH and principal.device_id is not None:
            known = {one.place_id for one in found}
            mine = place_store.places_of_device(tx, principal.device_id)
            found += [one for one in mine if one.channel is Channel.PUSH and one.place_id not in known]
        return found

    def _refusal(self, new: NewPlace) -> Problem | None:
        if new.channel not in self._channels:
            return Problem(Code.INVALID, f"This gateway sends nothing by {new.channel}. Its operator can set it up.")
        if new.channel in CONFIRMED_BY_CODE:
            is_good = new.channel is Channel.SMS or is_mail_address(new.address)  # `add` has read the number
            return None if is_good else Problem(Code.INVALID, "That is no e-mail address.")
        if not is_endpoint(new.address):
            return Problem(Code.ADDRESS_REFUSED, "The address is an https:// URL without credentials.")
        if new.channel is Channel.NTFY:
            if not is_ntfy_address(new.address):
                return Problem(Code.INVALID, "Give the topic's address, as in https://ntfy.sh/my-secret-topic.")
        else:
            try:
                check_keys(new.p256dh, new.auth)
            except KeysRefused as error:
                return Problem(Code.INVALID, f"This is no subscription: {error}.")
        return self._inside(new)

    def _inside(self, new: NewPlace) -> Problem | None:
        """Addresses that are written out are judged at once; where a name leads is judged whenever it is used."""
        try:
            address = plain_address(host_of(new))
        except ValueError:
            return None
        if is_public(address) or address in self._allowed:
            return None
        return Problem(
            Code.ADDRESS_REFUSED,
            "The address is inside a network that is not public. The operator can allow it with "
            "notifications.private_networks.",
        )

    async def add(self, principal: Principal, new: NewPlace) -> Place:
        """Raises `invalid`, `address_refused`, `number_refused`, `forbidden` for what only a device subscribes to."""
        if new.channel is Channel.PUSH:
            raise Problem(Code.FORBIDDEN, "A browser subscribes itself, by the command push.subscribe.")
        if new.channel is Channel.SMS and self._check_number is not None:
            number = await asyncio.to_thread(self._check_number, new.address)
            new = replace(new, address=number.e164)
        now_ms = self._clock.now_ms()

        def unit(tx: Transaction) -> Place | Problem:
            self._guard(tx, principal)
            return self.add_in(tx, principal, new, now_ms)

        done = await self._database.write(unit)
        if isinstance(done, Problem):
            raise done
        return done

    # -- confirming

    async def new_code(self, principal: Principal, place_id: str) -> str:
        """The code that confirms an address, to be sent there and nowhere else. Raises `not_found`, `rate_limited`."""
        now_ms = self._clock.now_ms()
        code = random_digits(self._entropy, CODE_DIGITS)
        if self._codes.is_over(principal.user_id, now_ms):
            raise Problem(Code.RATE_LIMITED, "Many codes were sent already. Wait an hour.", retry_after_s=3600)

        def unit(tx: Transaction) -> None:
            self._guard(tx, principal)
            place = self._own(tx, principal, place_id)
            place_store.set_code(tx, place.place_id, self._digest(place_id, code), now_ms + CODE_LIFE_MS)

        await self._database.write(unit)
        return code

    async def confirm(self, principal: Principal, place_id: str, typed: str) -> Place:
        """Raises `not_found`, `invalid` for a code that is wrong, too old, or was tried too often."""
        now_ms = self._clock.now_ms()

        def unit(tx: Transaction) -> Place | Problem:
            self._guard(tx, principal)
            place = self._own(tx, principal, place_id)
            if place.is_confirmed:
                return place
            code = place_store.find_code(tx, place_id)
            if code is None or now_ms >= code.ends_at_ms or not place_store.count_try(tx, place_id, MAX_CODE_TRIES):
                return Problem(Code.INVALID, "This code does not hold any more. Have a new one sent.")
            if not same(code.digest, self._digest(place_id, typed.strip())):
                return Problem(Code.INVALID, "That is not the code. Look at the newest message.")
            self._take_over(tx, place, now_ms)
            place_store.confirm(tx, place_id)
            facts: dict[str, str] = {"channel": place.channel}
            self._record(tx, AuditEvent.NOTIFICATION_PLACE_CONFIRMED, principal, place_id, facts, now_ms)
            return place_store.find_place(tx, place_id) or place

        done = await self._database.write(unit)
        if isinstance(done, Problem):
            raise done
        return done

    def _take_over(self, tx: Transaction, place: Place, now_ms: int) -> None:
        """A number is one person's: whoever showed last that they read there."""
        for other in place_store.places_at(tx, place.channel, place.address):
            if place.channel is Channel.SMS and other.is_confirmed and other.user_id != place.user_id:
                self._end(tx, Principal(place.user_id, frozenset()), other, now_ms)

    def owner_of(self, tx: Transaction, e164: str) -> str | None:
        """Who has confirmed this number."""
        found = self.confirmed_at(tx, e164)
        return None if found is None else found.user_id

    def confirmed_at(self, tx: Transaction, e164: str) -> Place | None:
        """The place that this number is, for whoever has confirmed it."""
        return next((one for one in place_store.places_at(tx, Channel.SMS, e164) if one.is_confirmed), None)

    def zone_name(self, tx: Transaction, user_id: str) -> str:
        """The time zone that a person's rules name."""
        return place_store.rules_of(tx, user_id).time_zone

    def number_of(self, tx: Transaction, user_id: str) -> str | None:
        """The number that a person has confirmed first."""
        found = [
            one.address for one in place_store.places_of(tx, user_id) if one.channel is Channel.SMS and one.is_confirmed
        ]
        return found[0] if found else None

    def _digest(self, place_id: str, code: str) -> str:
        return b64u(keyed_digest(self._code_key, f"{place_id}\n{code}".encode()))

    # -- looking

    async def of(self, principal: Principal) -> list[Place]:
        def unit(tx: Transaction) -> list[Place]:
            self._guard(tx, principal)
            return place_store.places_of(tx, principal.user_id)

        return await self._database.read(unit)

    async def find(self, principal: Principal, place_id: str) -> Place:
        """Raises `not_found`."""

        def unit(tx: Transaction) -> Place:
            self._guard(tx, principal)
            return self._own(tx, principal, place_id)

        return await self._database.read(unit)

    def of_device(self, tx: Transaction, device_id: str) -> list[Place]:
        return place_store.places_of_device(tx, device_id)

    def _sealed(self, place_id: str, token: str) -> str:
        return b64u(self._seal.close(place_id, token.encode()))

    def _own(self, tx: Transaction, principal: Principal, place_id: str) -> Place:
        place = place_store.find_place(tx, place_id) if is_id(place_id, Prefix.NOTIFICATION_PLACE) else None
        if place is None or place.user_id != principal.user_id:
            raise Problem(Code.NOT_FOUND, "There is no such place.")
        return place

    # -- ending

    async def remove(self, principal: Principal, place_id: str) -> None:
        """Raises `not_found`."""
        now_ms = self._clock.now_ms()

        def unit(tx: Transaction) -> None:
            self._guard(tx, principal)
            self._end(tx, principal, self._own(tx, principal, place_id), now_ms)

        await self._database.write(unit)

    def remove_in(self, tx: Transaction, principal: Principal, endpoint: str | None, now_ms: int) -> int:
        """What this device subscribed to: the named endpoint, or all. How many."""
        if principal.device_id is None:
            raise Problem(Code.FORBIDDEN, "Only a device has subscriptions of its own.")
        found = [
            one
            for one in place_store.places_of_device(tx, principal.device_id)
            if endpoint is None or one.address == endpoint
        ]
        for one in found:
            self._end(tx, principal, one, now_ms)
        return len(found)

    def end_of_device(self, tx: Transaction, device_id: str, now_ms: int) -> None:
        """A device that was suspended or revoked is told nothing any more. It subscribes anew when it is let in."""
        for one in place_store.places_of_device(tx, device_id):
            self._drop(tx, one, now_ms)

    def end_all(self, tx: Transaction, by: Principal, user_id: str, now_ms: int) -> None:
        """Of a person who leaves."""
        for one in place_store.places_of(tx, user_id):
            self._end(tx, by, one, now_ms)
        place_store.drop_rules(tx, user_id)

    def _end(self, tx: Transaction, by: Principal, one: Place, now_ms: int) -> None:
        self._drop(tx, one, now_ms)
        facts: dict[str, str] = {"channel": one.channel}
        self._record(tx, AuditEvent.NOTIFICATION_PLACE_REMOVED, by, one.place_id, facts, now_ms)

    def _drop(self, tx: Transaction, one: Place, now_ms: int) -> None:
        attempt_store.cancel_at_place(tx, one.place_id, "the place was removed", now_ms)
        place_store.drop_place(tx, one.place_id)

    # -- rules

    async def rules(self, principal: Principal) -> Rules:
        def unit(tx: Transaction) -> Rules:
            self._guard(tx, principal)
            return place_store.rules_of(tx, principal.user_id)

        return await self._database.read(unit)

    async def use_rules(self, principal: Principal, wanted: Rules) -> Rules:
        """The time zone was looked up before."""
        now_ms = self._clock.now_ms()

        def unit(tx: Transaction) -> Rules:
            self._guard(tx, principal)
            place_store.put_rules(tx, principal.user_id, wanted)
            self._record(tx, AuditEvent.NOTIFICATION_RULES_CHANGED, principal, principal.user_id, {}, now_ms)
            return wanted

        return await self._database.write(unit)

    def _record(
        self,
        tx: Transaction,
        event: AuditEvent,
        by: Principal,
        subject: str,
        facts: dict[str, str],
        now_ms: int,
        outcome: Outcome = Outcome.SUCCESS,
    ) -> None:
        self._audit.record(tx, event, now_ms=now_ms, outcome=outcome, actor=by, subject=subject, facts=facts)


def _is_same(old: Place, new: NewPlace) -> bool:
    is_push = new.channel in (Channel.PUSH, Channel.UNIFIEDPUSH)
    same_keys = not is_push or (old.p256dh, old.auth) == (new.p256dh, new.auth)
    return old.address == new.address and same_keys and not new.token


def token_of(seal: Seal, place: Place) -> str:
    """The access token of an ntfy topic; empty where there is none."""
    if place.channel is not Channel.NTFY or not place.auth:
        return ""
    try:
        opened = seal.open(place.place_id, unb64u(place.auth))
    except ValueError:
        return ""
    return "" if opened is None else opened.decode()
