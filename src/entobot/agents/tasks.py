"""One task for each conversation or run that was rung for, and only so many at a time; the rest waits its turn."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from entobot.agents.model import Step
from entobot.agents.service import Claimed
from entobot.telemetry.log import get_logger

Begun = Claimed | Step
"""What a committed unit has begun, for whoever carries it out."""

log = get_logger("agents")


class Tasks:
    """`serve(key, begun)` is run for each key; `begun` None says that somebody rang and that it must look itself.

    Ringing for what is being served serves it once more afterwards.
    """

    def __init__(self, serve: Callable[[str, Begun | None], Coroutine[Any, Any, None]], most: int) -> None:
        self._serve = serve
        self._most = most
        self._backlog: dict[str, Begun | None] = {}
        self._is_closed = False
        self.running: dict[str, asyncio.Task[None]] = {}

    @property
    def has_room(self) -> bool:
        return not self._is_closed and len(self.running) < self._most

    @property
    def queued(self) -> int:
        """How many keys wait."""
        return len(self._backlog)

    @property
    def begun(self) -> frozenset[str]:
        """What is this process's to carry out, though its turn has not come."""
        return frozenset(key for key, begun in self._backlog.items() if begun is not None)

    def ring(self, key: str) -> None:
        """Look at a conversation or a run."""
        if not self._is_closed:
            self._backlog.setdefault(key, None)
            self._fill()

    def give(self, key: str, begun: Begun) -> None:
        """Carry out what was begun under this key."""
        self._backlog[key] = begun
        self._fill()

    def close(self) -> None:
        """Nobody looks at anything any more. What was begun is served even so, all of it at once, so that it ends."""
        self._is_closed = True
        self._backlog = {key: begun for key, begun in self._backlog.items() if begun is not None}
        self._fill()

    def _fill(self) -> None:
        for key in tuple(self._backlog):
            if len(self.running) >= self._most and not self._is_closed:
                return
            if key not in self.running:
                work = self._guarded(key, self._backlog.pop(key))
                task = self.running[key] = asyncio.get_running_loop().create_task(work, name=f"agent {key}")
                task.add_done_callback(lambda _, key=key: self._ended(key))

    def _ended(self, key: str) -> None:
        del self.running[key]
        self._fill()

    async def _guarded(self, key: str, begun: Begun | None) -> None:
        try:
            await self._serve(key, begun)
        except Exception:
            # The rows say where it stands; the sweep takes it up again.
            log.exception("agent.task_failed")
