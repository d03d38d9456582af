"""Notices when something holds up the event loop, and what it was."""

import asyncio
import sys
import threading
from types import FrameType

from entobot.core.clock import Clock
from entobot.telemetry.log import get_logger
from entobot.telemetry.meters import Meters
from entobot.telemetry.metrics import Metric

BEAT_S = 0.1
HELD_S = 0.02
"""Late by so much, the loop is looked at from outside. Less is often the machine's own doing."""
LOOK_EVERY_S = 0.05
TOLD_EVERY_S = 60.0
SHOWN_CALLS = 4

log = get_logger("loop")


class LoopWatch:
    """Asks the loop for a call ten times a second and measures how late it comes.

    A thread looks at the loop's stack while it is late, so that the log can say where it was; once a minute at most.
    Short holds are met by chance: what happens often is seen within seconds.
    """

    def __init__(self, clock: Clock, meters: Meters) -> None:
        self._clock = clock
        self._late = meters.histogram(Metric.EVENT_LOOP_LATE_SECONDS)
        self._due_s = float("inf")
        self._seen = ""
        self._told_s = float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        self._is_over = threading.Event()

    def start(self) -> None:
        self._beat_later()
        threading.Thread(target=self._look, args=(threading.get_ident(),), name="loop-watch", daemon=True).start()

    def stop(self) -> None:
        self._is_over.set()
        if self._timer is not None:
            self._timer.cancel()

    def beat(self) -> None:
        """The call that was due; of the loop's timer, or of a test."""
        now_s = self._clock.monotonic()
        late_s = max(0.0, now_s - self._due_s)
        self._late.observe(late_s)
        if late_s >= HELD_S and now_s - self._told_s >= TOLD_EVERY_S:
            self._told_s = now_s
            log.warning("loop.held_up", milliseconds=round(late_s * 1000), at=self._seen or "unknown")
        self._seen = ""
        self._beat_later()

    def look_at(self, frame: FrameType | None) -> None:
        """Note where the loop is, if it is late."""
        if self._clock.monotonic() - self._due_s >= HELD_S:
            self._seen = _where(frame)

    def _beat_later(self) -> None:
        self._due_s = self._clock.monotonic() + BEAT_S
        self._timer = asyncio.get_running_loop().call_later(BEAT_S, self.beat)

    def _look(self, loop_thread: int) -> None:
        while not self._is_over.wait(LOOK_EVERY_S):
            self.look_at(sys._current_frames().get(loop_thread))  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  documented, and the only way to see another thread


def _where(frame: FrameType | None) -> str:
    """The innermost calls of this package, the innermost first. Names of code only, no values."""
    calls: list[str] = []
    while frame is not None and len(calls) < SHOWN_CALLS:
        module = str(frame.f_globals.get("__name__", ""))
        if module.startswith("entobot."):
            calls.append(f"{module.removeprefix('entobot.')}.{frame.f_code.co_name}:{frame.f_lineno}")
        frame = frame.f_back
    return " < ".join(calls)
