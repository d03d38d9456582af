"""The agent's settings while the gateway runs: what is stored over what the file says, under what is pinned."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from entobot.agents import store
from entobot.agents.choice import Choice
from entobot.agents.runner import Runner
from entobot.agents.runner_loading import LoadingRunner
from entobot.agents.runner_switch import RunnerSwitch
from entobot.audit.events import AuditEvent
from entobot.audit.model import Fact
from entobot.audit.service import Audit
from entobot.config import AgentSettings
from entobot.core.clock import Clock
from entobot.core.errors import Code, Problem, StartupRefused
from entobot.core.permissions import Scope
from entobot.core.principal import Principal
from entobot.devices.service import Devices
from entobot.nodes.marks import Mark, move_mark
from entobot.storage.database import Database, Transaction
from entobot.telemetry.log import get_logger

log = get_logger("agents")

FIELDS = ("instructions", "max_tokens", "model", "runner", "temperature")
"""What may be changed while it runs. Keys and addresses of models stay in the file and the environment."""

Build = Callable[[AgentSettings], tuple[Choice, Runner]]
"""Blocks: called in a thread. Raises StartupRefused for settings that cannot be used."""


@dataclass(frozen=True, slots=True)
class BotView:
    """`values` are in force; `sources` says of each field: `default`, `file`, `stored`, `environment` or `command`."""

    values: Mapping[str, Any]
    sources: Mapping[str, str]
    choice: Choice


@dataclass(frozen=True, slots=True)
class Pin:
    """What beats everything stored: `source` as in BotView, `place` for a person."""

    source: str
    place: str


class Bot:
    """`base` are the settings without what is stored; `pinned` the fields that may not be changed here.

    Raises StartupRefused when `base` cannot be used.
    """

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        audit: Audit,
        devices: Devices,
        base: AgentSettings,
        pinned: Mapping[str, Pin],
        build: Build,
    ) -> None:
        self._database = database
        self._clock = clock
        self._audit = audit
        self._devices = devices
        self._base = base
        self._pinned = pinned
        self._build = build
        self._stored: dict[str, Any] = {}
        self._settings = base
        self._lock = asyncio.Lock()
        self._is_started = False
        self.choice, self._newest = build(base)
        self.runner = RunnerSwitch(self.choice.runner_kind, self._newest)

    # -- start

    async def load(self) -> None:
        """Read what is stored. What cannot be used any more is told, not obeyed: the gateway must still start."""
        self._stored = await self._database.read(store.find_settings)
        if not self._stored:
            return
        try:
            settings = self._merged(self._stored)
            choice, runner = await asyncio.to_thread(self._build, settings)
        except (StartupRefused, ValidationError) as refused:
            why = str(refused) if isinstance(refused, StartupRefused) else "One is out of bounds."
            self.choice = Choice(
                self.choice.runner_kind,
                self.choice.model,
                f"The stored settings cannot be used. {why}",
                "Change them in the settings, or set what they need and restart.",
                self.choice.endpoint,
            )
            return
        self._apply(settings, choice, runner)

    async def renew(self) -> None:
        """Use what another node has stored meanwhile."""
        async with self._lock:
            await self._renew()

    async def _renew(self) -> None:
        known = self._stored
        stored = await self._database.read(store.find_settings)
        if stored == known:
            return
        if stored:
            await self.load()
            return
        choice, runner = await asyncio.to_thread(self._build, self._base)
        self._stored = {}
        self._apply(self._base, choice, runner)

    def start(self) -> None:
        """Begin to load the model's library; call it once the port is open."""
        self._is_started = True
        if isinstance(self._newest, LoadingRunner):
            self._newest.start()

    # -- use

    def view(self) -> BotView:
        values = {field: getattr(self._settings, field) for field in FIELDS}
        return BotView(values, {field: self._source(field) for field in FIELDS}, self.choice)

    async def change(self, principal: Principal, changes: Mapping[str, Any]) -> BotView:
        """Store these fields and use them for runs that begin from now on; None goes back to file or default.

        Raises `invalid` for a pinned field and for settings that cannot be used, and what `guard` raises.
        """
        principal.require(Scope.SETTINGS)
        async with self._lock:
            await self._renew()
            basis = self._stored
            stored = self._wanted(changes)
            changed = [field for field in FIELDS if stored.get(field) != self._stored.get(field)]
            if not changed:
                return self.view()
            settings, choice, runner = await self._prepared(stored)
            now_ms = self._clock.now_ms()

            def unit(tx: Transaction) -> None:
                self._devices.guard(tx, principal)
                if store.find_settings(tx) != basis:
                    text = "Somebody changed the settings at the same moment. Look at them, then repeat it."
                    raise Problem(Code.RATE_LIMITED, text, retry_after_s=1)
                store.put_settings(tx, stored, now_ms)
                move_mark(tx, Mark.SETTINGS)
                self._audit.record(
                    tx,
                    AuditEvent.SETTINGS_CHANGED,
                    now_ms=now_ms,
                    actor=principal,
                    subject="agent",
                    facts=_facts(changed, settings),
                )

            try:
                await self._database.write(unit)
            except BaseException:
                await runner.close()
                raise
            self._stored = stored
            self._apply(settings, choice, runner)
            log.info(
                "settings.changed",
                section="agent",
                changed=changed,
                by=principal.device_id or principal.session_id or "local",
            )
            return self.view()

    def _wanted(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """What will be stored. A field that is given as it is already changes nothing, pinned or not."""
        stored = dict(self._stored)
        for field, value in changes.items():
            if value is None:
                stored.pop(field, None)
            elif value != getattr(self._settings, field):
                if field in self._pinned:
                    raise Problem(
                        Code.INVALID,
                        f"{field} is set by {self._pinned[field].place}, which wins. Change it there and restart.",
                    )
                stored[field] = value
        return stored

    async def _prepared(self, stored: Mapping[str, Any]) -> tuple[AgentSettings, Choice, Runner]:
        try:
            settings = self._merged(stored)
            choice, runner = await asyncio.to_thread(self._build, settings)
        except StartupRefused as refused:
            raise Problem(Code.INVALID, str(refused)) from None
        except ValidationError:
            raise Problem(Code.INVALID, "A value is out of its bounds.") from None
        return settings, choice, runner

    def _merged(self, stored: Mapping[str, Any]) -> AgentSettings:
        """Raises ValidationError."""
        over = {field: value for field, value in stored.items() if field in FIELDS and field not in self._pinned}
        return AgentSettings.model_validate(self._base.model_dump() | over)

    def _apply(self, settings: AgentSettings, choice: Choice, runner: Runner) -> None:
        self._settings, self.choice, self._newest = settings, choice, runner
        self.runner.use(choice.runner_kind, runner)
        if self._is_started:
            self.start()

    def _source(self, field: str) -> str:
        if field in self._pinned:
            return self._pinned[field].source
        if field in self._stored:
            return "stored"
        return "file" if field in self._base.model_fields_set else "default"


def _facts(changed: list[str], settings: AgentSettings) -> dict[str, Fact]:
    """What changed and to what. Instructions are people's words: that they changed is told, not what they are."""
    facts: dict[str, Fact] = {"changed": " ".join(changed)}
    for field in changed:
        if field != "instructions":
            value = getattr(settings, field)
            facts[field] = None if value is None else str(value)
    return facts
