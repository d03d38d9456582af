"""Caps and rates: what is admitted, what the maps hold, what eviction forgives (nothing)."""

import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entobot.gateway.limits import CountCaps, Gcra, Seat, WaitingRoom
from entobot.web.addresses import address_key
from tests.support.time import ManualClock

keys = st.sampled_from("abcdefgh")


@given(st.lists(st.tuples(keys, st.booleans())), st.integers(1, 4), st.integers(1, 8))
def test_nobody_holds_more_than_allowed_and_the_map_is_bounded(steps: list[Any], per_key: int, total: int) -> None:
    caps = CountCaps(per_key=per_key, total=total)
    held: dict[str, int] = {}
    for key, takes in steps:
        if takes:
            allowed = held.get(key, 0) < per_key and sum(held.values()) < total
            assert caps.try_take(key) is allowed
            held[key] = held.get(key, 0) + allowed
        elif held.get(key):
            caps.release(key)
            held[key] -= 1
        assert caps.held == sum(held.values())
        assert all(caps.held_by(key) == count for key, count in held.items())
        assert len(caps._held) <= total
        assert 0 not in caps._held.values()


def test_a_release_too_many_is_an_error() -> None:
    caps = CountCaps(per_key=1, total=1)
    assert caps.try_take("a")
    caps.release("a")
    with pytest.raises(KeyError):
        caps.release("a")


class Room:
    """A waiting room, and who was thrown out of it, in order."""

    def __init__(self, *, per_key: int = 2, total: int = 4) -> None:
        self.clock = ManualClock()
        self.room = WaitingRoom(per_key=per_key, total=total, clock=self.clock, patience_s=2.0)
        self.evicted: list[str] = []

    def enter(self, name: str, key: str | None) -> Seat | None:
        return self.room.enter(key, lambda: self.evicted.append(name))


def test_who_has_waited_longest_makes_room_for_a_newcomer_of_the_same_address_but_not_at_once() -> None:
    room = Room()
    assert room.enter("first", "a")
    room.clock.advance(1)
    assert room.enter("second", "a")
    assert room.enter("too soon", "a") is None
    room.clock.advance(1)
    assert room.enter("third", "a")
    assert room.enter("fourth", "a") is None, "the second has not waited long enough"
    assert room.enter("other", "b")
    assert room.evicted == ["first"]
    assert (room.room.held, room.room.held_by("a"), room.room.held_by("b")) == (3, 2, 1)


def test_in_all_the_oldest_makes_room_and_a_proxy_counts_there_only() -> None:
    room = Room(per_key=1, total=3)
    seats = [room.enter(f"proxied {number}", None) for number in range(3)]
    assert all(seats)
    assert room.enter("phone", "a") is None
    room.clock.advance(2)
    assert room.enter("phone", "a")
    assert room.evicted == ["proxied 0"]
    assert room.room.held == 3


@given(st.lists(st.tuples(keys | st.none(), st.booleans(), st.floats(0, 3))), st.integers(1, 3), st.integers(1, 6))
def test_the_waiting_room_never_holds_more_than_it_may(steps: list[Any], per_key: int, total: int) -> None:
    room = Room(per_key=per_key, total=total)
    seats: list[Seat] = []
    for key, leaves, wait_s in steps:
        room.clock.advance(wait_s)
        if leaves and seats:
            seats.pop().leave()
        else:
            seat = room.enter("x", key)
            seats += [seat] if seat else []
        held = [room.room.held_by(name) for name in "abcdefgh"]
        assert max(held) <= per_key
        assert sum(held) <= room.room.held <= total
    for seat in seats:
        seat.leave()
    assert room.room.held == 0
    assert room.room._by_key == {}


waits = st.floats(0, 5)


@given(st.lists(waits), st.floats(0.1, 50), st.integers(1, 10))
def test_never_more_than_burst_plus_rate_times_time_is_admitted(steps: list[Any], rate: float, burst: int) -> None:
    limiter = Gcra(rate_per_s=rate, burst=burst)
    now, admitted = 0.0, []
    for step in steps:
        now += step
        if limiter.try_take("a", now) == 0.0:
            admitted.append(now)
    for first in range(len(admitted)):
        for last in range(first, len(admitted)):
            span = admitted[last] - admitted[first]
            assert last - first + 1 <= burst + rate * span + 1e-3


@given(st.lists(st.tuples(waits, st.integers(1, 40))), st.floats(0.1, 50), st.integers(1, 10))
def test_what_costs_more_is_paid_for_before_the_next(steps: list[Any], rate: float, burst: int) -> None:
    limiter = Gcra(rate_per_s=rate, burst=burst)
    now, admitted = 0.0, []
    for step, cost in steps:
        now += step
        if limiter.try_take("a", now, cost) == 0.0:
            admitted.append((now, cost))
    for last in range(len(admitted)):
        for first in range(last):
            paid = sum(cost for _, cost in admitted[first:last])
            assert paid + 1 <= burst + rate * (admitted[last][0] - admitted[first][0]) + 1e-3


@given(st.lists(waits, min_size=1, max_size=50), st.floats(0.1, 50), st.integers(1, 10))
def test_waiting_as_told_is_always_enough(steps: list[Any], rate: float, burst: int) -> None:
    limiter = Gcra(rate_per_s=rate, burst=burst)
    now = 0.0
    for step in steps:
        now += step / 10
        wait_s = limiter.try_take("a", now)
        if wait_s:
            now += wait_s
            assert limiter.try_take("a", now) == 0.0


@given(st.lists(st.tuples(st.integers(0, 12), st.floats(0, 0.5))), st.integers(1, 5), st.integers(1, 4))
def test_the_map_is_bounded_and_eviction_forgives_nobody(steps: list[Any], max_keys: int, burst: int) -> None:
    bounded = Gcra(rate_per_s=1, burst=burst, max_keys=max_keys)
    unbounded = Gcra(rate_per_s=1, burst=burst, max_keys=1000)
    now = 0.0
    for number, step in steps:
        now += step
        key = str(number)
        told_s = bounded.wait_s(key, now)
        wait_s = bounded.try_take(key, now)
        assert told_s == wait_s
        if wait_s == 0.0:
            assert unbounded.try_take(key, now) == 0.0, "the bound admitted what the rate refuses"
        assert wait_s <= 1.0 + 1e-6, "nobody waits longer than one request takes at the plain rate"
        assert len(bounded) <= max_keys
        assert len(bounded._by_idle_at) == len(bounded)


def test_a_flood_of_a_hundred_thousand_addresses_fits_its_memory_and_shuts_nobody_out() -> None:
    limiter = Gcra(rate_per_s=2, burst=10, max_keys=4096)
    for _ in range(10):
        assert limiter.try_take("known", 0.0) == 0.0
    size = sys.getsizeof(limiter._idle_at)
    for number in range(100_000):
        limiter.try_take(f"198.51.{number >> 8}.{number & 255}", number / 100_000)
        if number == 4096:
            size = sys.getsizeof(limiter._idle_at)
    assert len(limiter) == 4096
    assert sys.getsizeof(limiter._idle_at) <= 2 * size
    assert limiter.try_take("known", 1.0) <= 0.5, "two of the ten have passed, or the rate holds from where it stood"
    admitted = sum(limiter.try_take("known", 1.0) == 0.0 for _ in range(10))
    assert admitted <= 2, "coming back gives no fresh burst"
    assert limiter.try_take("new phone", 1.5) == 0.0
    assert limiter.try_take("new phone", 2.0) == 0.0


@given(st.lists(st.tuples(st.integers(0, 3), waits)), st.integers(1, 6), st.integers(1, 12))
def test_nodes_share_a_limit(steps: list[Any], nodes: int, burst: int) -> None:
    shares = [Gcra(rate_per_s=6, burst=burst) for _ in range(nodes)]
    for share in shares:
        share.scale(nodes)
    now, admitted = 0.0, 0
    for number, step in steps:
        now += step / 20
        admitted += shares[number % nodes].try_take("device", now) == 0.0
    assert admitted <= max(burst, nodes) + 6 * now + 1e-3


def test_a_node_that_dies_gives_its_part_back() -> None:
    limiter = Gcra(rate_per_s=1, burst=4)
    limiter.scale(2)
    assert [limiter.try_take("a", 0.0) for _ in range(3)] == [0.0, 0.0, 2.0]
    limiter.scale(1)
    assert limiter.try_take("a", 1.0) == 0.0


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_an_address_counts_as_itself_and_ipv6_by_its_64(address: str, key: str) -> None:
    assert address_key(address) == key
