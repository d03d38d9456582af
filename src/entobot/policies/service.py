"""Use cases of policies: read, check, change, explain, and say what a change would do."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from entobot.accounts.service import Accounts
from entobot.audit.events import AuditEvent
from entobot.audit.service import Audit
from entobot.bus.bus import Bus
from entobot.core import topics
from entobot.core.clock import Clock
from entobot.core.errors import Code, Problem
from entobot.core.ids import Prefix, is_id
from entobot.core.permissions import Scope
from entobot.core.principal import Principal
from entobot.devices.model import Device, Platform, Status
from entobot.devices.service import Devices
from entobot.mqtt.model import Action
from entobot.mqtt.policy import Decision, own_subtree
from entobot.policies import store
from entobot.policies.deciding import Commanding, Decider, FactsOf, decide_topic
from entobot.policies.engine import Compiled, Engine, Shut, Unreadable
from entobot.policies.model import (
    BUILT_IN,
    MAX_POLICIES,
    MAX_TEXT_CHARACTERS,
    Facts,
    Flaw,
    Person,
    Policy,
    Question,
    Verdict,
    check_name,
)
from entobot.storage.database import Database, Transaction
from entobot.telemetry.log import get_logger

log = get_logger("policies")

T = TypeVar("T")

MAX_KNOWN = 2_000
"""Topics at which a change is looked at."""
MAX_HISTORY = 50
OWN_THINGS = "built-in:own-things"

TypeOf = Callable[[Transaction, str], str | None]
"""Of which type the thing is; None where that is not known."""
Guard = Callable[[Transaction, Principal], None]


@dataclass(frozen=True, slots=True)
class Wish:
    """Somebody wants to command a thing. `manages`: their credentials let them command all things. `via` is `person`,
    or by what else the command comes; `by_device` is the device that they came with.
    """

    user_id: str
    manages: bool
    via: str
    by_device: str | None
    thing: Device
    command: str


def built_in_refusal(_tx: Transaction, wish: Wish) -> str | None:
    """What is so without policies."""
    is_theirs = wish.manages or wish.thing.user_id == wish.user_id
    return None if is_theirs else "this is somebody else's thing, and commanding it needs 'devices.manage'"


@dataclass(frozen=True, slots=True)
class KnownTopic:
    """Something that a device does at present."""

    device_id: str
    action: Action
    text: str


@dataclass(frozen=True, slots=True)
class Shift:
    """Somebody who would gain something, or lose it."""

    known: KnownTopic
    device_name: str
    is_gained: bool
    rule: str


@dataclass(frozen=True, slots=True)
class Checked:
    """`shifts` are what would change; `has_more`: there are more topics than were looked at."""

    flaws: list[Flaw]
    shifts: list[Shift]
    looked_at: int = 0
    has_more: bool = False


@dataclass(frozen=True, slots=True)
class Parts:
    """What policies stand on. `load_engine` blocks; it raises ImportError where there is none.

    `known_topics(tx, count)` are what devices publish and subscribe to at present.
    """

    database: Database
    clock: Clock
    bus: Bus
    audit: Audit
    accounts: Accounts
    devices: Devices
    load_engine: Callable[[], Engine]
    type_of: TypeOf
    known_topics: Callable[[Transaction, int], list[KnownTopic]]


class Policies:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._number = -1
        self._engine: Engine | None = None
        self._reloading = asyncio.Lock()
        self.decider = Decider(parts.clock, self.facts_of)
        self.on_changed: list[Callable[[], None]] = []
        parts.bus.subscribe(topics.CONTROL_POLICIES, self._rung)
        self.spawn: Callable[[Coroutine[None, None, None]], None] = lambda work: work.close()

    # -- what is in force

    async def renew(self) -> None:
        """Make the stored policies those in force here, where they are not. What cannot be used permits nothing."""
        async with self._reloading:
            number = await self._parts.database.read(store.last_number, is_small=True)
            if number == self._number:
                return
            number, found = await self._parts.database.read(lambda tx: (store.last_number(tx), store.present(tx)))
            self.decider.use(await asyncio.to_thread(self._compile, found) if found else None)
            self._number = number
        for tell in self.on_changed:
            tell()

    def _rung(self, _topic: str, _payload: bytes) -> None:
        self.spawn(self.renew())

    def _compile(self, found: Sequence[Policy]) -> Compiled:
        try:
            return self._find_engine().compile(found)
        except Problem as problem:
            why = problem.detail
        except Unreadable as error:
            why = str(error)
        log.error("nothing is permitted while the policies cannot be used", why=why)
        return Shut(why)

    def _find_engine(self) -> Engine:
        """Raises `policy_unavailable`. Blocks."""
        if self._engine is None:
            try:
                self._engine = self._parts.load_engine()
            except ImportError:
                raise Problem(
                    Code.POLICY_UNAVAILABLE,
                    "Policies need a package that is not installed. Run: pip install 'entobot[policy]'",
                ) from None
        return self._engine

    # -- facts

    def facts_of(self, tx: Transaction, device_id: str) -> Facts | None:
        """None of a device that may not act."""
        device = self._parts.devices.find_device(tx, device_id) if is_id(device_id, Prefix.DEVICE) else None
        return None if device is None or device.status is not Status.ACTIVE else self.facts(tx, device)

    def facts(self, tx: Transaction, device: Device) -> Facts:
        thing_type = self._parts.type_of(tx, device.device_id) or device.device_type
        return Facts(device.device_id, self.person(tx, device.user_id), thing_type, device.tags)

    def person(self, tx: Transaction, user_id: str) -> Person:
        user = self._parts.accounts.get_user(tx, user_id)
        return Person(user_id, user.role.value, Scope.DEVICES_MANAGE in user.scopes)

    def refusal_of(self, tx: Transaction, wish: Wish) -> str | None:
        """Why this command may not be sent; None: it may."""
        decision = self.decide_command(tx, wish)
        return None if decision.is_allowed else decision.rule

    def decide_command(self, tx: Transaction, wish: Wish) -> Decision:
        if self.decider.compiled is None:
            why = built_in_refusal(tx, wish)
            return Decision(why is None, OWN_THINGS if why is None else why)
        person = replace(self.person(tx, wish.user_id), manages_devices=wish.manages)
        device = None if wish.by_device is None else self._parts.devices.find_device(tx, wish.by_device)
        board = None if device is None or device.platform is not Platform.IOT else self.facts(tx, device)
        thing = self.facts(tx, wish.thing)
        return self.decider.decide_command(Commanding(person, wish.via, board, thing, wish.command))

    # -- reading

    async def all(self, principal: Principal) -> list[Policy]:
        """By name, without what is built in."""
        return await self._read(principal, store.present)

    async def find(self, principal: Principal, name: str) -> tuple[Policy, list[Policy]]:
        """With its versions, newest first. Raises `not_found`."""
        built_in = next((one for one in BUILT_IN if one.name == name), None)
        if built_in is not None:
            return built_in, []

        def unit(tx: Transaction) -> tuple[Policy | None, list[Policy]]:
            return store.find(tx, name), store.history(tx, name, MAX_HISTORY)

        found, versions = await self._read(principal, unit)
        if found is None:
            raise _no_policy()
        return found, versions

    async def _read(self, principal: Principal, unit: Callable[[Transaction], T]) -> T:
        def guarded(tx: Transaction) -> T:
            self._parts.devices.guard(tx, principal)
            return unit(tx)

        return await self._parts.database.read(guarded)

    # -- changing

    async def put(self, by: Principal, name: str, text: str, based_on: int | None = None) -> Policy:
        """Store a policy, or a new version of it. Felt here when this returns, elsewhere within a second.

        `based_on` is the number of the version that it was made from, 0 for none. Raises `invalid` with `flaws`,
        `policy_changed`, `policy_unavailable`, `quota_exceeded`.
        """
        check_name(name)
        flaws = await self._flaws(text)
        if flaws:
            first = flaws[0]
            raise Problem(
                Code.INVALID,
                f"Line {first.line}, column {first.column}: {first.text}. Nothing was changed.",
                extra={"flaws": [{"line": one.line, "column": one.column, "text": one.text} for one in flaws]},
            )
        now_ms = self._parts.clock.now_ms()

        def unit(tx: Transaction) -> Policy:
            self._parts.devices.guard(tx, by)
            before = store.find(tx, name)
            self._refuse_stale(before, based_on)
            if before is not None and before.text == text:
                return before
            if before is None and len(store.present(tx)) >= MAX_POLICIES:
                raise Problem(Code.QUOTA_EXCEEDED, f"There are {MAX_POLICIES} policies already. Remove some first.")
            return Policy(name, text, self._store(tx, by, name, text, now_ms), by.user_id, now_ms)

        stored = await self._parts.database.write(unit)
        await self.renew()
        return stored

    async def remove(self, by: Principal, name: str) -> None:
        """Raises `not_found`."""
        now_ms = self._parts.clock.now_ms()

        def unit(tx: Transaction) -> None:
            self._parts.devices.guard(tx, by)
            if store.find(tx, name) is None:
                raise _no_policy()
            self._store(tx, by, name, "", now_ms)

        await self._parts.database.write(unit)
        await self.renew()

    def _store(self, tx: Transaction, by: Principal, name: str, text: str, now_ms: int) -> int:
        number = store.put(tx, name, text, by.user_id, now_ms)
        event = AuditEvent.POLICY_CHANGED if text else AuditEvent.POLICY_REMOVED
        self._parts.audit.record(tx, event, now_ms=now_ms, actor=by, subject=name, facts={"version": number})
        tx.after_commit(lambda: self._parts.bus.publish(topics.CONTROL_POLICIES))
        return number

    def _refuse_stale(self, before: Policy | None, based_on: int | None) -> None:
        if based_on is not None and based_on != (0 if before is None else before.number):
            raise Problem(Code.POLICY_CHANGED, "Somebody changed this policy meanwhile. Look at it again.")

    # -- checking

    async def _flaws(self, text: str) -> list[Flaw]:
        if len(text) > MAX_TEXT_CHARACTERS:
            return [Flaw(1, 1, f"a policy has at most {MAX_TEXT_CHARACTERS} characters")]
        return await asyncio.to_thread(lambda: self._find_engine().flaws(text))

    async def check(self, principal: Principal, name: str, text: str) -> Checked:
        """What is wrong with the text of this policy, else who would lose or gain something by it.

        An empty text: by its removal. Raises `policy_unavailable`.
        """
        flaws = await self._flaws(text) if text else []
        if flaws:
            return Checked(flaws, [])

        def unit(tx: Transaction) -> tuple[list[Policy], list[KnownTopic], dict[str, Facts | None], dict[str, str]]:
            known = self._parts.known_topics(tx, MAX_KNOWN + 1)
            ids = {one.device_id for one in known} | {one.text.split("/")[1] for one in known if "/" in one.text}
            devices = {one: self._parts.devices.find_device(tx, one) for one in ids if is_id(one, Prefix.DEVICE)}
            names = {one: device.name for one, device in devices.items() if device is not None}
            return store.present(tx), known, {one: self.facts_of(tx, one) for one in ids}, names

        present, known, facts, names = await self._read(principal, unit)
        after = [one for one in present if one.name != name] + ([Policy(name, text)] if text else [])
        shifts = await asyncio.to_thread(self._shifts, present, after, known[:MAX_KNOWN], facts)
        named = [replace(one, device_name=names.get(one.known.device_id, "")) for one in shifts]
        return Checked([], named, min(len(known), MAX_KNOWN), len(known) > MAX_KNOWN)

    def _shifts(
        self,
        before: Sequence[Policy],
        after: Sequence[Policy],
        known: Sequence[KnownTopic],
        facts: dict[str, Facts | None],
    ) -> list[Shift]:
        minute = self.decider.minute()
        was, would = self._asked_by(before), self._asked_by(after)
        found: list[Shift] = []
        for one in known:
            old = _answer(was, facts.get, one, minute)
            new = _answer(would, facts.get, one, minute)
            if old.is_allowed != new.is_allowed:
                found.append(Shift(one, "", new.is_allowed, new.rule))
        return found

    def _asked_by(self, policies: Sequence[Policy]) -> Callable[[Question], Verdict] | None:
        return self._compile(policies).ask if policies else None

    # -- explaining

    async def explain_topic(self, principal: Principal, device_id: str, action: Action, text: str) -> Decision:
        """What would be answered to this device now. Raises `not_found`."""

        def unit(tx: Transaction) -> Decision:
            self._device(tx, device_id)
            return self.decider.decide_anew(tx, device_id, action, text)

        return await self._read(principal, unit)

    async def explain_command(
        self, principal: Principal, device_id: str, command: str, user_id: str, via: str, by_device: str | None
    ) -> Decision:
        """What would be answered to this person now. Raises `not_found`."""

        def unit(tx: Transaction) -> Decision:
            thing, manages = self._device(tx, device_id), self.person(tx, user_id).manages_devices
            if by_device is not None:
                self._device(tx, by_device)
            return self.decide_command(tx, Wish(user_id, manages, via, by_device, thing, command))

        return await self._read(principal, unit)

    def _device(self, tx: Transaction, device_id: str) -> Device:
        return self._parts.devices.get_device(tx, device_id)


def _answer(ask: Callable[[Question], Verdict] | None, facts_of: FactsOf, one: KnownTopic, minute: int) -> Decision:
    if ask is None:
        return own_subtree(one.device_id, one.action, one.text)
    return decide_topic(ask, facts_of, one.device_id, one.action, one.text, minute)


def _no_policy() -> Problem:
    return Problem(Code.NOT_FOUND, "There is no such policy.")
