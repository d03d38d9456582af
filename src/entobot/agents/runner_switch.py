"""Runner adapter that hands each run to the runner of its time, so that settings change without a restart."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import cast

from entobot.agents.runner import RunErrorCode, RunFailed, Runner, TurnEnd, TurnEvent, TurnRequest

MAX_HELD_RUNS = 1024
_SEPARATOR = "\n"


@dataclass(slots=True, eq=False)
class _Fitted:
    kind: str
    runner: Runner
    turns: int = 0


class RunnerSwitch:
    """See `Runner`. A run goes on with the runner that began it, for as long as this process lives; after a restart
    with one of the same kind, since the state of another kind means nothing to it. A runner that was replaced is
    closed when its last run has ended.
    """

    def __init__(self, kind: str, runner: Runner) -> None:
        self._current = _Fitted(kind, runner)
        self._held: OrderedDict[str, _Fitted] = OrderedDict()
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def name(self) -> str:
        return self._current.runner.name

    def use(self, kind: str, runner: Runner) -> None:
        """Give runs that begin from now on to this runner."""
        replaced, self._current = self._current, _Fitted(kind, runner)
        self._let_go(replaced)

    async def turn(self, request: TurnRequest) -> AsyncIterator[TurnEvent]:
        fitted, state = self._for(request)
        fitted.turns += 1
        is_over = True
        try:
            turn = cast("AsyncGenerator[TurnEvent, None]", fitted.runner.turn(replace(request, state=state)))
            async with aclosing(turn) as events:
                async for event in events:
                    if isinstance(event, TurnEnd):
                        is_over = not event.tool_calls
                        yield replace(event, state=f"{fitted.kind}{_SEPARATOR}{event.state}")
                    else:
                        yield event
        finally:
            fitted.turns -= 1
            if is_over:
                self._held.pop(request.run_id, None)
            self._let_go(fitted)

    async def close(self) -> None:
        runners = {id(one): one.runner for one in (self._current, *self._held.values())}
        self._held.clear()
        for runner in runners.values():
            await runner.close()

    def _for(self, request: TurnRequest) -> tuple[_Fitted, str | None]:
        """The runner of this run and the state as it knows it. Raises RunFailed."""
        if request.state is None:
            self._held[request.run_id] = self._current
            if len(self._held) > MAX_HELD_RUNS:
                _, forgotten = self._held.popitem(last=False)
                self._let_go(forgotten)
            return self._current, None
        kind, _, state = request.state.partition(_SEPARATOR)
        fitted = self._held.get(request.run_id, self._current)
        if fitted.kind != kind:
            text = "The agent that began this answer is not set up any more. Ask again."
            raise RunFailed(RunErrorCode.AGENT_NOT_READY, text)
        return fitted, state

    def _let_go(self, fitted: _Fitted) -> None:
        if fitted is self._current or fitted.turns or fitted in self._held.values():
            return
        task = asyncio.get_running_loop().create_task(fitted.runner.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
