"""An agent outside for which nothing waits in this process: whatever it needs again stands in the run's state."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import Any, cast

from entobot.agents.bridging import BridgeState, Standing
from entobot.agents.runner import LeaveRefused, Lost, RunErrorCode, RunFailed, Runner, TurnEvent, TurnRequest

OUT_OF_ORDER = frozenset(
    {
        RunErrorCode.AGENT_NOT_READY,
        RunErrorCode.PROVIDER_OUT_OF_CREDIT,
        RunErrorCode.PROVIDER_REJECTED,
        RunErrorCode.PROVIDER_UNAUTHORIZED,
        RunErrorCode.PROVIDER_UNREACHABLE,
    }
)
"""Failures that the next message will meet as well."""
Allow = Callable[[str, Mapping[str, Any], str], None]
"""Whether the next turn tells the agent that it may: call, arguments, the run's state. Raises LeaveRefused."""
NOT_ASKED = "not asked yet"
ANSWERED = "answered last time"


class PlainBridge:
    """See `bridging.Bridged`. It stands as it was found when it was asked last: nobody is asked only to see.

    `allow` is of agents that ask leave; the others do what they do by tool calls of the gateway, or not at all.
    """

    def __init__(self, runner: Runner, allow: Allow | None = None) -> None:
        self._runner = runner
        self._allow = allow
        self._state = BridgeState(Standing.READY, NOT_ASKED)

    @property
    def name(self) -> str:
        return self._runner.name

    def start(self) -> None:
        """Nothing runs here."""

    def standing(self) -> BridgeState:
        return self._state

    async def turn(self, request: TurnRequest) -> AsyncIterator[TurnEvent]:
        turn = cast("AsyncGenerator[TurnEvent, None]", self._runner.turn(request))
        try:
            async with aclosing(turn) as events:
                async for event in events:
                    self._state = BridgeState(Standing.READY, ANSWERED)
                    yield event
        except RunFailed as failure:
            if failure.code in OUT_OF_ORDER:
                self._state = BridgeState(Standing.FAILED, failure.message)
            raise

    async def close(self) -> None:
        await self._runner.close()

    def tell_lost(self, lost: Lost) -> None:
        """Nothing waits here."""

    def runs(self) -> frozenset[str]:
        return frozenset()

    def allow(self, run_id: str, tool_call_id: str, args: Mapping[str, Any], state: str) -> None:
        del run_id
        if self._allow is None:
            raise LeaveRefused("No agent waits for this.")
        self._allow(tool_call_id, args, state)

    def drop(self, run_id: str) -> None:
        """Nothing waits here."""
