"""Which of the agents answers: the gateway's own, or one outside; and how those outside stand."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Protocol, cast

from entobot.agents.runner import (
    LeaveRefused,
    Lost,
    RunErrorCode,
    RunFailed,
    Runner,
    TurnEnd,
    TurnEvent,
    TurnRequest,
    Waiting,
)
from entobot.config_bridges import Bridge
from entobot.core.errors import Code, Problem
from entobot.core.permissions import Role
from entobot.storage.database import Transaction

_MARK = "@"
_SEPARATOR = "\n"


class Standing(StrEnum):
    FAILED = "failed"
    READY = "ready"
    STARTING = "starting"


@dataclass(frozen=True, slots=True)
class BridgeState:
    """`detail` is how an agent that is ready calls itself, or why one does not run; the reason is for operators."""

    standing: Standing
    detail: str = ""


class Bridged(Runner, Waiting, Protocol):
    """A runner for an agent outside."""

    def start(self) -> None:
        """Begin to be ready; call it once the port is open. Idempotent."""
        ...

    def standing(self) -> BridgeState: ...


@dataclass(frozen=True, slots=True)
class Outside:
    """One agent as the settings name it, and its runner."""

    bridge: Bridge
    runner: Bridged


RoleOf = Callable[[Transaction, str], Role]


class Bridges:
    """See `Runner` and `Waiting`. A run stays with the agent that began it: its name stands in the run's state."""

    def __init__(self, own: Runner, outside: Sequence[Outside], default: str, role_of: RoleOf) -> None:
        self._own = own
        self.outside = {one.bridge.name: one for one in outside}
        self.default = default
        self._role_of = role_of

    @property
    def name(self) -> str:
        return self._own.name

    def start(self) -> None:
        for one in self.outside.values():
            one.runner.start()

    async def close(self) -> None:
        for one in self.outside.values():
            await one.runner.close()
        await self._own.close()

    # -- who answers

    def check(self, tx: Transaction, user_id: str, agent: str) -> None:
        """Raises `not_found`, `forbidden`. See `conversations.service.CheckAgent`."""
        one = self.outside.get(agent)
        if one is None:
            raise Problem(Code.NOT_FOUND, "There is no agent of that name.")
        if self._role_of(tx, user_id) not in one.bridge.roles:
            raise Problem(Code.FORBIDDEN, "This agent is not for people of your role.")

    def may_use(self, tx: Transaction, user_id: str, agent: str) -> bool:
        one = self.outside.get(agent)
        return one is not None and self._role_of(tx, user_id) in one.bridge.roles

    def choose(self, tx: Transaction, user_id: str, named: str | None) -> str:
        """Who answers in a conversation that names this agent; empty: the gateway's own.

        An agent that is gone, or that this person may not use any more, is returned as it stands, and refuses.
        """
        if named is not None:
            return named if named not in self.outside or self.may_use(tx, user_id, named) else f"{_MARK}{named}"
        return self.default if self.default and self.may_use(tx, user_id, self.default) else ""

    # -- turns

    async def turn(self, request: TurnRequest) -> AsyncIterator[TurnEvent]:
        name, state = self._agent_of(request)
        runner = self._find(name) if name else self._own
        turn = cast(
            "AsyncGenerator[TurnEvent, None]",
            runner.turn(replace(request, state=state, before=_of(name, request.before))),
        )
        async with aclosing(turn) as events:
            async for event in events:
                if name and isinstance(event, TurnEnd):
                    yield replace(event, state=f"{_MARK}{name}{_SEPARATOR}{event.state}")
                else:
                    yield event

    def _agent_of(self, request: TurnRequest) -> tuple[str, str | None]:
        if request.state is None:
            return request.agent, None
        if not request.state.startswith(_MARK):
            return "", request.state
        name, _, state = request.state.removeprefix(_MARK).partition(_SEPARATOR)
        return name, state

    def _find(self, name: str) -> Runner:
        if name.startswith(_MARK):
            text = f"{name.removeprefix(_MARK)} is not for people of your role any more. Begin a new conversation."
            raise RunFailed(RunErrorCode.PROVIDER_REJECTED, text)
        one = self.outside.get(name)
        if one is None:
            text = f"{name}, the agent of this conversation, is not set up any more. Begin a new conversation."
            raise RunFailed(RunErrorCode.PROVIDER_REJECTED, text)
        return one.runner

    # -- leave

    def tell_lost(self, lost: Lost) -> None:
        for one in self.outside.values():
            one.runner.tell_lost(lost)

    def runs(self) -> frozenset[str]:
        return frozenset[str]().union(*(one.runner.runs() for one in self.outside.values()))

    def allow(self, run_id: str, tool_call_id: str, args: Mapping[str, Any], state: str) -> None:
        name, _, kept = state.removeprefix(_MARK).partition(_SEPARATOR)
        one = self.outside.get(name) if state.startswith(_MARK) else None
        if one is None:
            raise LeaveRefused("The agent that asked for this is not set up any more; it was not told to do it.")
        one.runner.allow(run_id, tool_call_id, args, kept)

    def drop(self, run_id: str) -> None:
        for one in self.outside.values():
            one.runner.drop(run_id)


def _of(name: str, before: str | None) -> str | None:
    """What this agent left of an earlier run; nothing of another's."""
    found, _, state = (before or "").partition(_SEPARATOR)
    return state if name and found == f"{_MARK}{name}" else None
