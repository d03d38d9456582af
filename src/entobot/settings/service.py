"""Settings while the gateway runs: what holds, what waits for a restart, and the one way to change them."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from entobot.audit.service import Audit
from entobot.config import Section, Settings
from entobot.core.clock import Clock
from entobot.core.errors import Code, Problem, StartupRefused
from entobot.core.permissions import Scope
from entobot.core.principal import Principal
from entobot.nodes.marks import Mark, move_mark
from entobot.settings import store
from entobot.settings.editable import EDITABLE, Applies
from entobot.settings.history import Happened, find, record
from entobot.settings.model import Difference, Field, Plan, Wrong, fields, refusal
from entobot.settings.planning import Asking, plan, usable
from entobot.settings.store import Row, Stored
from entobot.sources import Layers, Source
from entobot.storage.database import Database, Transaction
from entobot.telemetry.log import get_logger

log = get_logger("settings")

TRIES = 3
"""Of a change that names no version, against others at the same moment."""
Write = Callable[[Transaction, Settings], None]
"""Writes with a change, in its unit, what follows from the new settings."""
Guard = Callable[[Transaction, Principal], None]
Check = Callable[[Settings], None]
"""Whether a part can use these settings. Raises StartupRefused; called in a thread."""
Use = Callable[[Settings], None]
"""Takes settings into use. Must not raise."""


@dataclass(frozen=True, slots=True)
class Beside:
    """What is written in the same unit as a change of settings, and taken into use with it.

    `check` raises StartupRefused, in a thread; `write` is given the time in milliseconds; `done` is called when all is
    committed, before the parts are told.
    """

    check: Check
    write: Callable[[Transaction, int], None]
    done: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Change:
    """Values in JSON by key; None takes back what is stored.

    `version`: what the caller has seen; None for callers that change whatever there is. `by_route` are keys that only
    this caller's route may change; `among` are all that it may, None: any.
    """

    values: Mapping[str, Any]
    version: int | None = None
    asking: Asking | None = None
    by_route: Collection[str] = ()
    among: Collection[str] | None = None
    is_dry_run: bool = False
    beside: Beside | None = None


@dataclass(frozen=True, slots=True)
class Changed:
    version: int
    differences: tuple[Difference, ...]


@dataclass(frozen=True, slots=True)
class State:
    """One setting now. `waiting` holds after the next start; `is_waiting` says that it differs from `value`."""

    at: Field
    value: Any
    is_set: bool
    source: Source
    pinned_by: str | None
    waiting: Any
    is_waiting: bool
    changed: Row | None
    refused: str | None


@dataclass(slots=True)
class _Parts:
    checks: list[Check] = field(default_factory=list[Check])
    users: list[Use] = field(default_factory=list[Use])
    writers: list[Write] = field(default_factory=list[Write])
    renewing: list[Callable[[], Awaitable[None]]] = field(default_factory=list[Callable[[], Awaitable[None]]])


class StoredSettings:
    """`layers` without what is stored; `found` is what is stored. What of it cannot be used is told, not obeyed."""

    def __init__(
        self, database: Database, clock: Clock, audit: Audit, guard: Guard, *, layers: Layers, found: Stored
    ) -> None:
        self._database = database
        self._clock = clock
        self._audit = audit
        self._guard = guard
        self._parts = _Parts()
        self._lock = asyncio.Lock()
        self._found = found
        self._layers, self.refused = usable(layers, found.values)
        self._newest = self._layers.settings()
        self.in_force = self._newest
        for key, why in self.refused.items():
            log.warning("settings.stored_refused", key=key, why=why)

    def must_suit(self, check: Check) -> None:
        """Ask `check` before a change is stored."""
        self._parts.checks.append(check)

    def follow(self, use: Use) -> None:
        """Call `use` with what holds whenever that has changed."""
        self._parts.users.append(use)

    def write_with(self, write: Write) -> None:
        self._parts.writers.append(write)

    # -- look

    @property
    def version(self) -> int:
        return self._found.version

    @property
    def layers(self) -> Layers:
        return self._layers

    def states(self, keys: Collection[str] | None = None) -> list[State]:
        return [self._state(at) for key, at in fields().items() if keys is None or key in keys]

    @property
    def waiting(self) -> list[str]:
        """Keys whose stored change holds after the next start only."""
        return [key for key, at in fields().items() if at.of(self._newest) != at.of(self.in_force)]

    def _state(self, at: Field) -> State:
        value, waiting = at.of(self.in_force), at.of(self._newest)
        return State(
            at=at,
            value=value,
            is_set=at.is_set(self.in_force),
            source=self._layers.source(at.section, at.name),
            pinned_by=self._layers.pin(at.section, at.name),
            waiting=waiting,
            is_waiting=value != waiting,
            changed=self._found.rows.get(at.key),
            refused=self.refused.get(at.key),
        )

    def unknown(self) -> dict[str, str]:
        """Stored keys that this version does not know, and why they are not used."""
        return {key: why for key, why in self.refused.items() if key not in fields()}

    # -- change

    async def change(self, principal: Principal, change: Change) -> Changed:
        """Store all of it or nothing, and use at once what applies at once.

        Raises `invalid` with everything that is wrong, `settings_changed` when it is not what the caller has seen, and
        what the guard raises.
        """
        principal.require(Scope.SETTINGS)
        async with self._lock:
            for attempt in range(TRIES):
                await self._renew()
                self._refuse_other(change.version)
                planned = await self._planned(change)
                is_empty = not self._changed_keys(planned) and change.beside is None
                if change.is_dry_run or is_empty:
                    return Changed(self.version, planned.differences)
                if await self._stored(principal, change, planned):
                    return Changed(self.version, planned.differences)
                if change.version is not None or attempt == TRIES - 1:
                    break
        raise settings_changed()

    def renew_with(self, renew: Callable[[], Awaitable[None]]) -> None:
        """Call `renew` when another node may have changed something, before its settings are used."""
        self._parts.renewing.append(renew)

    async def renew(self) -> None:
        """Use what another node has stored meanwhile."""
        async with self._lock:
            for renew in self._parts.renewing:
                await renew()
            await self._renew()

    def _refuse_other(self, seen: int | None) -> None:
        if seen is not None and seen != self.version:
            raise settings_changed()

    def _changed_keys(self, planned: Plan) -> list[str]:
        before = self._found.values
        return sorted(key for key in {*before, *planned.stored} if before.get(key) != planned.stored.get(key))

    async def _planned(self, change: Change) -> Plan:
        if change.among is not None and (strange := sorted(set(change.values) - set(change.among))):
            raise refusal([Wrong(key[:100], "is not among these settings.") for key in strange])
        planned = plan(self._layers, self._found.values, change.values, asking=change.asking, by_route=change.by_route)
        checks = [change.beside.check] if change.beside is not None else self._parts.checks
        if change.beside is None and planned.settings.agent == self._newest.agent:
            return planned
        try:
            for check in checks:
                await asyncio.to_thread(check, planned.settings)
        except StartupRefused as refused:
            key = next((one.key for one in planned.differences if one.key.startswith("agent.")), "agent")
            raise refusal([Wrong(key, f"cannot be used. {refused}")]) from None
        return planned

    async def _stored(self, principal: Principal, change: Change, planned: Plan) -> bool:
        """False when somebody else was faster."""
        basis, now_ms = self._found, self._clock.now_ms()
        keys = self._changed_keys(planned)

        def unit(tx: Transaction) -> Stored | None:
            self._guard(tx, principal)
            if store.find_all(tx) != basis:
                return None
            write_rows(tx, keys, planned.stored, now_ms, principal.user_id)
            for one in planned.differences:
                record(tx, self._audit, one, now_ms, principal)
            if change.beside is not None:
                change.beside.write(tx, now_ms)
            for write in self._parts.writers:
                write(tx, planned.settings)
            move_mark(tx, Mark.SETTINGS)
            return store.find_all(tx)

        found = await self._database.write(unit)
        if found is None:
            return False
        if change.beside is not None:
            change.beside.done()
        self._take(found)
        log.info("settings.changed", changed=keys, by=principal.device_id or principal.session_id or "local")
        return True

    async def _renew(self) -> None:
        found = await self._database.read(store.find_all)
        if found != self._found:
            self._take(found)

    def _take(self, found: Stored) -> None:
        self._found = found
        self._layers, self.refused = usable(self._layers, found.values)
        self._newest = self._layers.settings()
        self.in_force = _moved(self.in_force, self._newest)
        for use in self._parts.users:
            use(self.in_force)

    async def history(self, before: int | None, limit: int) -> tuple[list[Happened], int | None]:
        """See `history.find`."""
        return await self._database.read(lambda tx: find(tx, self._audit, before, limit))


async def read_stored(database: Database) -> Stored:
    return await database.read(store.find_all)


def take_back(tx: Transaction, audit: Audit, keys: Collection[str], now_ms: int) -> list[str]:
    """What the owner of the machine does while no gateway runs: forget these keys. Returns those that were stored."""
    rows = store.find_all(tx).rows
    taken = sorted(key for key in set(keys) if key in rows)
    for key in taken:
        store.remove(tx, key)
        rule = EDITABLE.get(key)
        is_told = rule is not None and rule.is_told
        record(tx, audit, Difference(key, rows[key].value, None, Applies.RESTART, is_told), now_ms, None)
    if taken:
        move_mark(tx, Mark.SETTINGS)
    return taken


def write_rows(tx: Transaction, keys: Collection[str], stored: Mapping[str, Any], now_ms: int, who: str) -> None:
    for key in keys:
        if key in stored:
            store.put(tx, key, Row(stored[key], now_ms, who))
        else:
            store.remove(tx, key)


def _moved(in_force: Settings, newest: Settings) -> Settings:
    """`in_force` with everything of `newest` that applies at once."""
    sections: dict[str, Any] = {}
    for section in Settings.model_fields:
        now: Section = getattr(newest, section)
        update: dict[str, Any] = {
            name: getattr(now, name)
            for name in type(now).model_fields
            if (rule := EDITABLE.get(f"{section}.{name}")) is not None and rule.applies is Applies.NOW
        }
        sections[section] = getattr(in_force, section).model_copy(update=update)
    return in_force.model_copy(update=sections)


def settings_changed() -> Problem:
    text = "Somebody changed the settings meanwhile. Look at them again, then repeat what is still wanted."
    return Problem(Code.SETTINGS_CHANGED, text)
