"""Runner adapter for an agent on this machine that speaks the Agent Client Protocol on its standard input and output.

One process serves all conversations, each in a session of its own. It is started with the gateway and again after it
ended, later each time. While it waits for leave its run waits, and lives no longer than the process.
"""

import asyncio
import contextlib
import contextvars
import importlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from entobot.agents.acp_life import Life, Patience
from entobot.agents.acp_process import AgentProcess, NotStarted, make_folder, variables_for
from entobot.agents.acp_prompt import Prompt
from entobot.agents.bridging import BridgeState, Standing
from entobot.agents.runner import LeaveRefused, Lost, RunErrorCode, RunFailed, TurnEnd, TurnEvent, TurnRequest
from entobot.agents.threads import in_daemon_thread
from entobot.config_bridges import AcpBridge
from entobot.core.clock import Clock
from entobot.telemetry.log import get_logger

SOON = timedelta(seconds=5)
"""Whoever writes while an agent is about to be started again waits for it, and not longer than that."""

log = get_logger("agents")


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long after its end it is started again: twice as long each time, until it has lived for `steady`."""

    first: timedelta = timedelta(seconds=1)
    longest: timedelta = timedelta(minutes=2)
    steady: timedelta = timedelta(minutes=1)

    def after(self, failures: int) -> timedelta:
        return min(self.longest, self.first * 2 ** min(max(failures - 1, 0), 20))


class AcpRunner:
    """See `Runner` and `Waiting`."""

    def __init__(
        self,
        bridge: AcpBridge,
        own_folder: Path,
        environment: Mapping[str, str],
        clock: Clock,
        *,
        backoff: Backoff | None = None,
        patience: Patience | None = None,
    ) -> None:
        """`own_folder` is where it works when the settings name no folder."""
        self.name = bridge.name
        self._lost: Lost = _nobody_asks
        self._bridge = bridge
        self._folder = bridge.folder or own_folder
        self._variables = variables_for(environment, bridge.variables)
        self._clock = clock
        self._backoff = backoff or Backoff()
        self._patience = patience or Patience()
        self._life: Life | None = None
        self._waiting: dict[str, Prompt] = {}
        self._keeper: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._trouble = ""
        self._is_back_soon = False
        self._is_closed = False

    # -- its lives

    def start(self) -> None:
        """Start the process, and again whenever it ends. Idempotent."""
        if self._keeper is None:
            # In a context of its own: what it logs belongs to no run.
            self._keeper = asyncio.create_task(self._keep(), context=contextvars.Context())

    def standing(self) -> BridgeState:
        if self._life is not None:
            return BridgeState(Standing.READY, self._life.title)
        return BridgeState(Standing.FAILED if self._trouble else Standing.STARTING, self._trouble)

    async def close(self) -> None:
        self._is_closed = True
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        self._waiting.clear()

    async def _keep(self) -> None:
        failures = 0
        while not self._is_closed:  # what a life awaits at its end may swallow a cancellation
            begun_s = self._clock.monotonic()
            why = await self._live()
            lived_s = self._clock.monotonic() - begun_s
            failures = 1 if lived_s >= self._backoff.steady.total_seconds() else failures + 1
            log.warning("agent.ended", agent=self.name, why=why)
            self._trouble = f"{why}."
            pause = self._backoff.after(failures)
            self._is_back_soon = pause <= SOON
            self._change()
            self._lose_what_waits()
            await asyncio.sleep(pause.total_seconds())

    async def _live(self) -> str:
        """One life; how it ended, or why it did not begin."""
        life: Life | None = None
        try:
            life = await self._begin()
            self._life, self._trouble = life, ""
            self._change()
            log.info("agent.started", agent=self.name)
            return await asyncio.shield(life.gone)
        except NotStarted as failure:
            return str(failure)
        except Exception as error:
            log.exception("agent.bridge_failed", agent=self.name)
            return f"it could not be started ({type(error).__name__})"
        finally:
            self._life = None
            if life is not None:
                await life.end()

    async def _begin(self) -> Life:
        await in_daemon_thread(self._prepare, "agent-loader")
        process = await AgentProcess.start(self._bridge.command, self._folder, self._variables)
        return await Life.begin(self.name, process, self._folder, self._patience)

    def _prepare(self) -> None:
        make_folder(self._folder, is_own=self._bridge.folder is None)
        try:
            for module in ("acp.connection", "acp.schema"):
                importlib.import_module(module)
        except ImportError:
            raise NotStarted("the extra 'acp' is not installed (pip install 'entobot[acp]')") from None

    def _change(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _lose_what_waits(self) -> None:
        failure = RunFailed(RunErrorCode.AGENT_NOT_READY, f"{self.name} ended while it waited for leave. Ask again.")
        for run_id in tuple(self._waiting):
            del self._waiting[run_id]
            self._lost(run_id, failure)

    # -- turns

    async def turn(self, request: TurnRequest) -> AsyncIterator[TurnEvent]:
        if request.state is None:
            life = await self._ready()
            prompt = await life.prompt(request.run_id, request.conversation_id, request.transcript)
        else:
            life, prompt = self._life, self._waiting.pop(request.run_id, None)
            if life is None or prompt is None:
                text = f"{self.name} was stopped while it waited for leave. Ask again."
                raise RunFailed(RunErrorCode.GATEWAY_RESTARTED, text)
            prompt.take(request.tool_results)
        is_settled = False
        try:
            async for event in prompt.events():
                life.took()
                if isinstance(event, TurnEnd):
                    is_settled = True
                    if event.tool_calls:
                        self._waiting[request.run_id] = prompt
                yield event
        finally:
            if not is_settled:
                life.cancel(prompt)

    async def _ready(self) -> Life:
        """Its present life; one that begins is waited for. Raises RunFailed."""
        self.start()
        has_failed = False
        while self._life is None or self._life.is_ending:
            if self._life is None and self._trouble:
                if has_failed or not self._is_back_soon:
                    text = f"{self.name} does not run. Whoever runs this gateway sees why on the page of agents."
                    raise RunFailed(RunErrorCode.AGENT_NOT_READY, text)
                has_failed = True
            await self._changed.wait()
        return self._life

    # -- leave

    def tell_lost(self, lost: Lost) -> None:
        self._lost = lost

    def runs(self) -> frozenset[str]:
        return frozenset(self._waiting)

    def allow(self, run_id: str, tool_call_id: str, args: Mapping[str, Any], state: str) -> None:
        del state  # what waits is in this process
        prompt = self._waiting.get(run_id)
        if prompt is None:
            raise LeaveRefused("The agent was stopped while it waited for this; it was not told to do it.")
        prompt.allow(tool_call_id, args)

    def drop(self, run_id: str) -> None:
        prompt = self._waiting.pop(run_id, None)
        if prompt is not None and self._life is not None:
            self._life.cancel(prompt)


def _nobody_asks(_run_id: str, _failure: RunFailed) -> None:
    return None
