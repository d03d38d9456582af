"""One coarse timer for the whole process: header deadlines, handshakes, pings, silence."""

import logging
from collections.abc import Callable
from math import ceil
from typing import Protocol

log = logging.getLogger(__name__)


class Monotonic(Protocol):
    def monotonic(self) -> float: ...


class Cancellable(Protocol):
    def cancel(self) -> None: ...


class Timer:
    """A pending call. `cancel()` is idempotent and harmless after the call was made."""

    __slots__ = ("_callback", "_slot")

    def __init__(self, slot: "dict[Timer, None]", callback: Callable[[], None]) -> None:
        self._slot: dict[Timer, None] | None = slot
        self._callback: Callable[[], None] | None = callback

    @property
    def is_pending(self) -> bool:
        return self._slot is not None

    def cancel(self) -> None:
        slot, self._slot, self._callback = self._slot, None, None
        if slot is not None:
            slot.pop(self, None)

    def fire(self) -> None:
        callback = self._callback
        self.cancel()
        if callback is not None:
            callback()


class TimerWheel:
    """Calls back at or up to one slot after the asked time, never before it.

    `after` and `Timer.cancel` are O(1). At most one loop timer is armed, and none while nothing is pending, so an
    idle gateway sleeps. Calls of one slot are made in the order in which they were asked for. A callback that raises
    is logged and stops nobody else's.

    `call_later` is the loop's; `slot_s` is the coarseness in seconds.
    """

    def __init__(
        self,
        clock: Monotonic,
        call_later: Callable[[float, Callable[[], None]], Cancellable],
        *,
        slot_s: float = 0.25,
    ) -> None:
        self._clock = clock
        self._call_later = call_later
        self._slot_s = slot_s
        self._slots: dict[int, dict[Timer, None]] = {}
        self._armed: Cancellable | None = None
        self._armed_for = 0

    def after(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        now = self._clock.monotonic()
        number = ceil((now + max(delay_s, 0.0)) / self._slot_s)
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = {}
            if self._armed is None or number < self._armed_for:
                self._arm(number, now)
        timer = Timer(slot, callback)
        slot[timer] = None
        return timer

    def run_due(self) -> None:
        """Make every call whose time has come. The loop timer calls this; tests may, after moving their clock."""
        if self._armed is not None:
            self._armed.cancel()
            self._armed = None
        now = self._clock.monotonic()
        reached = int(now / self._slot_s)
        for number in sorted(number for number in self._slots if number <= reached):
            for timer in list(self._slots.pop(number)):
                try:
                    timer.fire()
                except Exception:
                    log.exception("a timer's callback failed")
        self._drop_empty_slots()
        if self._slots:
            self._arm(min(self._slots), now)

    def _drop_empty_slots(self) -> None:
        for number in [number for number, slot in self._slots.items() if not slot]:
            del self._slots[number]

    def _arm(self, number: int, now: float) -> None:
        if self._armed is not None:
            self._armed.cancel()
        self._armed_for = number
        self._armed = self._call_later(max(number * self._slot_s - now, 0.0), self.run_due)

    def close(self) -> None:
        """Forget every pending call."""
        if self._armed is not None:
            self._armed.cancel()
            self._armed = None
        self._slots.clear()
