"""Runner adapter that stands in while the real one is loaded in a thread, so that the port opens at once."""

import asyncio
from collections.abc import AsyncIterator, Callable

from entobot.agents.runner import RunErrorCode, RunFailed, Runner, TurnEvent, TurnRequest
from entobot.agents.threads import in_daemon_thread
from entobot.telemetry.log import get_logger

log = get_logger("agents")


class LoadingRunner:
    """See `Runner`. Turns wait for `load`; when it fails, the next turn tries again."""

    def __init__(self, load: Callable[[], Runner], name: str) -> None:
        self.name = name
        self._load = load
        self._loading: asyncio.Task[Runner] | None = None

    def start(self) -> None:
        """Begin to load; call it once the port is open. Without it the first turn begins it."""
        if self._loading is None or (self._loading.done() and self._has_failed(self._loading)):
            self._loading = asyncio.create_task(self._loaded())
            self._loading.add_done_callback(self._has_failed)

    async def turn(self, request: TurnRequest) -> AsyncIterator[TurnEvent]:
        self.start()
        assert self._loading is not None, "start has just made it"
        # Shielded: a run that is cancelled while it waits must not stop the loading for the others.
        runner = await asyncio.shield(self._loading)
        async for event in runner.turn(request):
            yield event

    async def close(self) -> None:
        if self._loading is None:
            return
        if self._loading.done() and not self._has_failed(self._loading):
            await self._loading.result().close()
        self._loading.cancel()

    async def _loaded(self) -> Runner:
        try:
            return await in_daemon_thread(self._load, "agent-loader")
        except RunFailed:
            raise
        except Exception as error:
            log.exception("agent.not_loaded", runner=self.name)
            text = f"The agent could not be loaded ({type(error).__name__}). The gateway's log says more."
            raise RunFailed(RunErrorCode.AGENT_NOT_READY, text) from None

    @staticmethod
    def _has_failed(task: "asyncio.Task[Runner]") -> bool:
        return task.cancelled() or task.exception() is not None
