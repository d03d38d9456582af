"""Where to commit: on the event loop while the disk is fast, in a thread when it is not. Pure. See docs/adr/0021."""

from collections import deque

FAST_S = 0.0015
"""On the loop while the median of the last commits is below this."""
SLOW_S = 0.0025
"""Off it when the median is above this."""
HELD_S = 0.002
"""Off it, and reads as well, while what was done there held it up for longer than this on average."""
PAUSE_S = 2.0
WEIGHT = 1 / 16
"""Of one commit or read in that average: a single one of 32 ms is enough, and a dozen short ones make it good."""
SAMPLES = 9
MIN_SAMPLES = 3


class CommitPlace:
    """Starts off the loop, and learns from what each commit takes, wherever it is done."""

    def __init__(self) -> None:
        self._took: deque[float] = deque(maxlen=SAMPLES)
        self._is_fast = False
        self._held_s = 0.0
        self._paused_until_s = float("-inf")

    def took(self, seconds: float) -> None:
        """A commit took so long, its fsync included."""
        self._took.append(seconds)
        if len(self._took) < MIN_SAMPLES:
            return
        median = sorted(self._took)[len(self._took) // 2]
        if median <= FAST_S:
            self._is_fast = True
        elif median >= SLOW_S:
            self._is_fast = False

    def held_loop(self, seconds: float, now_s: float) -> None:
        """A commit or a read held the loop up for so long."""
        self._held_s += (seconds - self._held_s) * WEIGHT
        if self._held_s > HELD_S:
            self._held_s = 0.0
            self._paused_until_s = now_s + PAUSE_S

    def may_commit_on_loop(self, now_s: float) -> bool:
        return self._is_fast and now_s >= self._paused_until_s

    def may_read_on_loop(self, now_s: float) -> bool:
        return now_s >= self._paused_until_s
