"""Who answers, as the settings want it now: built anew when they change, for the runs that begin after that."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from entobot.agents.choice import Choice
from entobot.agents.runner import Runner
from entobot.agents.runner_loading import LoadingRunner
from entobot.agents.runner_switch import RunnerSwitch
from entobot.config import AgentSettings, Settings
from entobot.core.errors import StartupRefused
from entobot.core.principal import Principal
from entobot.settings.service import Change, StoredSettings

FIELDS = ("instructions", "max_tokens", "model", "runner", "temperature")
"""What `settings/bot` shows and changes."""

_UNUSABLE = "The stored settings cannot be used."
_FIX = "Change them in the settings, or set what they need and restart."

Build = Callable[[AgentSettings], tuple[Choice, Runner]]
"""Raises StartupRefused for settings that cannot be used. Quick: what takes long is a LoadingRunner's."""


@dataclass(frozen=True, slots=True)
class BotView:
    """`values` are in force; `sources` says of each field where it comes from, as `sources.Source`."""

    values: Mapping[str, Any]
    sources: Mapping[str, str]
    choice: Choice


class Bot:
    """Follows `settings`. Raises StartupRefused when they cannot be used even without what is stored."""

    def __init__(self, settings: StoredSettings, build: Build) -> None:
        self._settings = settings
        self._build = build
        self._is_started = False
        self._agent = settings.in_force.agent
        self.choice, self._newest = self._built(self._agent)
        self.runner = RunnerSwitch(self.choice.runner_kind, self._newest)
        settings.must_suit(lambda wanted: self._check(wanted.agent))
        settings.follow(self._use)

    def start(self) -> None:
        """Begin to load the model's library; call it once the port is open."""
        self._is_started = True
        if isinstance(self._newest, LoadingRunner):
            self._newest.start()

    def view(self) -> BotView:
        states = self._settings.states([f"agent.{field}" for field in FIELDS])
        return BotView(
            {state.at.name: state.value for state in states},
            {state.at.name: state.source for state in states},
            self.choice,
        )

    async def change(self, principal: Principal, changes: Mapping[str, Any]) -> BotView:
        """Store these fields and use them for runs that begin from now on; None goes back to file or default.

        Raises what `StoredSettings.change` raises.
        """
        await self._settings.change(principal, Change({f"agent.{name}": value for name, value in changes.items()}))
        return self.view()

    def rebuild(self) -> None:
        """What the runner is made of has changed beside the settings."""
        try:
            self.choice, self._newest = self._built(self._agent)
        except StartupRefused as refused:  # what another node has stored suits that one only
            self.choice = replace(self.choice, why=f"{_UNUSABLE} {refused}", fix=_FIX)
            return
        self.runner.use(self.choice.runner_kind, self._newest)
        if self._is_started:
            self.start()

    def _check(self, agent: AgentSettings) -> None:
        if agent != self._agent:
            self._build(agent)

    def _use(self, settings: Settings) -> None:
        if settings.agent == self._agent:
            return
        self._agent = settings.agent
        self.rebuild()

    def _built(self, agent: AgentSettings) -> tuple[Choice, Runner]:
        """What is stored and cannot be used any more is told, not obeyed: the gateway must still start."""
        try:
            return self._build(agent)
        except StartupRefused as refused:
            without = self._settings.layers.with_stored({}).settings().agent
            if without == agent:
                raise
            choice, runner = self._build(without)
            return replace(choice, why=f"{_UNUSABLE} {refused}", fix=_FIX), runner
