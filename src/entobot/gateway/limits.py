"""Caps and rates whose maps cannot grow for ever. Pure: the clock's reading is an argument."""

from collections.abc import Callable
from heapq import heappop, heappush, heapreplace
from typing import Protocol


class CountCaps:
    """How many of something may be held at once, per key and in all. The map holds no more keys than `total`."""

    def __init__(self, *, per_key: int, total: int) -> None:
        self.per_key = per_key
        self.total = total
        self._held: dict[str, int] = {}
        self._held_in_all = 0

    @property
    def held(self) -> int:
        return self._held_in_all

    def held_by(self, key: str) -> int:
        return self._held.get(key, 0)

    def try_take(self, key: str) -> bool:
        """True when `key` now holds one more; every True is paid back by one `release`."""
        held = self._held.get(key, 0)
        if held >= self.per_key or self._held_in_all >= self.total:
            return False
        self._held[key] = held + 1
        self._held_in_all += 1
        return True

    def release(self, key: str) -> None:
        """Raises KeyError when the key holds nothing: a double release would lift the cap silently."""
        held = self._held[key]
        self._held_in_all -= 1
        if held == 1:
            del self._held[key]
        else:
            self._held[key] = held - 1


class Monotonic(Protocol):
    def monotonic(self) -> float: ...


TURN_S = 1 / 250
"""Between two who are told to come back: a quarter of what one core authenticates."""
SOONEST_S = 0.5
LATEST_S = 60.0


class Seat:
    """One waiting thing's place. `leave` is idempotent."""

    __slots__ = ("_room", "evict", "key", "since_s")

    def __init__(self, room: "WaitingRoom", key: str | None, since_s: float, evict: Callable[[], None]) -> None:
        self._room: WaitingRoom | None = room
        self.key = key
        self.since_s = since_s
        self.evict = evict

    def leave(self) -> None:
        room, self._room = self._room, None
        if room is not None:
            room.forget(self)


class WaitingRoom:
    """Strangers who have not said yet what they want: at most `per_key` of one address and `total` in all.

    Where it is full, who has waited longest makes room for the newcomer, if that is `patience_s` or more: somebody
    who holds every seat and says nothing keeps the others out no longer than that, and a crowd that comes back at
    once is served in turn instead of throwing one another out.
    """

    def __init__(self, *, per_key: int, total: int, clock: Monotonic, patience_s: float = 2.0) -> None:
        self.per_key = per_key
        self.total = total
        self._clock = clock
        self._patience_s = patience_s
        self._seats: dict[Seat, None] = {}
        self._by_key: dict[str, dict[Seat, None]] = {}
        self._next_turn_s = 0.0

    @property
    def held(self) -> int:
        return len(self._seats)

    def held_by(self, key: str) -> int:
        return len(self._by_key.get(key, ()))

    def enter(self, key: str | None, evict: Callable[[], None]) -> Seat | None:
        """A seat, or None when there is none to be had. `evict` is called if it is taken away again; it must not raise.

        `key` None (somebody who speaks for many addresses) counts in all only.
        """
        now_s = self._clock.monotonic()
        mine = self._by_key.get(key) if key is not None else None
        crowd = mine if mine is not None and len(mine) >= self.per_key else self._seats
        if (crowd is mine or len(crowd) >= self.total) and not self._make_room(crowd, now_s):
            return None
        seat = Seat(self, key, now_s, evict)
        self._seats[seat] = None
        if key is not None:
            self._by_key.setdefault(key, {})[seat] = None
        return seat

    def _make_room(self, crowd: dict[Seat, None], now_s: float) -> bool:
        oldest = next(iter(crowd))
        if now_s - oldest.since_s < self._patience_s:
            return False
        oldest.leave()
        oldest.evict()
        return True

    def come_back_s(self) -> float:
        """When somebody who found no seat should try again: each a little later than the one before.

        A crowd so comes back as fast as it can be served, and not all at once again.
        """
        now_s = self._clock.monotonic()
        self._next_turn_s = max(self._next_turn_s + TURN_S, now_s + SOONEST_S)
        if self._next_turn_s > now_s + LATEST_S:
            self._next_turn_s = now_s + SOONEST_S
        return self._next_turn_s - now_s

    def forget(self, seat: Seat) -> None:
        """Called by `Seat.leave`."""
        del self._seats[seat]
        if seat.key is not None:
            mine = self._by_key[seat.key]
            del mine[seat]
            if not mine:
                del self._by_key[seat.key]


_ROUNDING_S = 1e-6
"""Float error that must not turn "wait exactly this long" into one more refusal."""
_LOOKS = 32
"""So that one newcomer costs a bounded time, whatever the others did."""


class Gcra:
    """Generic cell rate algorithm: per key at most `burst` at once and `rate_per_s` after that.

    Of every key one number is kept: when it will have been idle long enough to be as good as new. At `max_keys` a key
    with little left makes room, and every newcomer from then on starts where that one stood. So eviction forgives
    nobody, memory is fixed, and a flood of keys costs newcomers their burst, not their turn.
    """

    def __init__(self, *, rate_per_s: float, burst: int, max_keys: int = 100_000) -> None:
        if rate_per_s <= 0 or burst < 1 or max_keys < 1:
            raise ValueError("rate_per_s, burst and max_keys must be positive")
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._max_keys = max_keys
        self._idle_at: dict[str, float] = {}
        self._by_idle_at: list[tuple[float, str]] = []  # one entry a key; its time is a lower bound
        self._newcomers_from = float("-inf")  # the greatest time that an evicted key stood at
        self._nodes = 1
        self.scale(1)

    def __len__(self) -> int:
        return len(self._idle_at)

    def scale(self, nodes: int) -> None:
        """From now on this is one of so many that share the limit: it gives a part of burst and rate.

        Every node admits at least one at once, however many there are.
        """
        self._nodes = nodes
        self._interval_s = nodes / self._rate_per_s
        self._tolerance_s = max(0.0, self._burst / nodes - 1) * self._interval_s

    def change(self, *, rate_per_s: float, burst: int) -> None:
        """Other numbers from now on. What each key has used stays used."""
        if rate_per_s <= 0 or burst < 1:
            raise ValueError("rate_per_s and burst must be positive")
        self._rate_per_s, self._burst = rate_per_s, burst
        self.scale(self._nodes)

    def try_take(self, key: str, now_s: float, cost: int = 1) -> float:
        """0.0 when admitted, else the seconds to wait before the next try can succeed. `now_s` must not go back.

        What costs more than one is admitted as if it were one, and paid for by who comes after it.
        """
        known = self._idle_at.get(key)
        idle_at = self._newcomers_from if known is None else known
        idle_at = max(idle_at, now_s)
        wait_s = idle_at - self._tolerance_s - now_s
        if wait_s > _ROUNDING_S:
            return wait_s
        idle_at += self._interval_s * cost
        if known is None:
            if len(self._idle_at) >= self._max_keys:
                self._evict_one()
            heappush(self._by_idle_at, (idle_at, key))
        self._idle_at[key] = idle_at
        return 0.0

    def wait_s(self, key: str, now_s: float) -> float:
        """What `try_take` would answer, without taking."""
        wait_s = self._idle_at.get(key, self._newcomers_from) - self._tolerance_s - now_s
        return wait_s if wait_s > _ROUNDING_S else 0.0

    def _evict_one(self) -> None:
        """The key that is idle first, as far as a bounded look can tell."""
        for _ in range(_LOOKS):
            bound, key = self._by_idle_at[0]
            idle_at = self._idle_at[key]
            if idle_at == bound:
                break
            heapreplace(self._by_idle_at, (idle_at, key))
        _, key = heappop(self._by_idle_at)
        self._newcomers_from = max(self._newcomers_from, self._idle_at.pop(key))
