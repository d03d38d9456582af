"""One who wants much does not keep the others waiting: counted in turns of the loop, not in time."""

import asyncio
from itertools import pairwise
from typing import Any

from entobot.core.permissions import Scope
from entobot.gateway.channel import FAN_OUT
from entobot.gateway.hub import MAX_OPENINGS, MAX_REPLAYS
from entobot.gateway.limits import LATEST_S, SOONEST_S, TURN_S, WaitingRoom
from entobot.gateway.live import Live
from entobot.gateway.wire import Close
from entobot.storage.database import Transaction
from tests.support.gateway import ManualLink, Reader, World, device, quiet
from tests.support.time import ManualClock

CHAT = frozenset({Scope.CHAT})


class Listener:
    """Notes in which turn of the loop it was told."""

    last_heard_s = 0.0
    transport = "websocket"
    address = ""
    joined_s = 0.0

    def __init__(self, world: World, number: int, turns: list[int]) -> None:
        self.principal = device(f"dev_{number}", CHAT)
        self._turns = turns
        self.told: list[int] = []
        self.shown: list[int] = []
        self.channel = world.hub.join(self)

    def news(self) -> None:
        self.told.append(self._turns[0])

    def show(self, live: Live, payload: bytes) -> None:
        self.shown.append(self._turns[0])

    def acknowledged(self, seq: int) -> None: ...
    def end(self, code: Close, reason: str, retry_after_s: float | None = None) -> None: ...
    def drain(self, retry_after_s: float) -> None: ...


async def test_an_event_for_thousands_is_told_a_part_a_turn_so_that_others_have_theirs(world: World) -> None:
    turns = [0]

    async def somebody_else() -> None:
        while True:
            turns[0] += 1
            await asyncio.sleep(0)

    other = asyncio.ensure_future(somebody_else())
    crowd = [Listener(world, n, turns) for n in range(4 * FAN_OUT)]
    crowd[0].channel.starts_at(0)
    await world.append()
    world.show("TEXT_MESSAGE_START")
    while not crowd[-1].shown:  # noqa: ASYNC110  the loop's turns are what is counted
        await asyncio.sleep(0)
    other.cancel()
    for heard in ([one.told for one in crowd], [one.shown for one in crowd]):
        assert all(len(times) == 1 for times in heard), "each once"
        in_one_turn = [sum(times[0] == turn for times in heard) for turn in {times[0] for times in heard}]
        assert max(in_one_turn) == FAN_OUT
    assert all(one.told[0] <= one.shown[0] for one in crowd)
    await quiet()


async def test_one_that_leaves_while_the_others_are_told_is_left_alone(world: World) -> None:
    turns = [0]
    crowd = [Listener(world, n, turns) for n in range(FAN_OUT)]
    reader = await Reader(world, device("dev_late", CHAT)).open(0)
    crowd[0].news = lambda: reader.end(Close.REVOKED, "gone")  # type: ignore[method-assign]
    await world.append()
    await quiet()
    assert reader.link.seqs == []


async def counted(world: World, monkeypatch: Any) -> list[int]:
    """How many reads ran at once, at most."""
    running, most = [0], [0]
    read = world.database.read

    async def watched(unit: Any, **how: Any) -> Any:
        running[0] += 1
        most[0] = max(most[0], running[0])
        try:
            await asyncio.sleep(0)
            return await read(unit, **how)
        finally:
            running[0] -= 1

    monkeypatch.setattr(world.database, "read", watched)
    return most


async def test_long_replays_take_turns_and_all_arrive(world: World, monkeypatch: Any) -> None:
    await world.append(1200)
    readers = [Reader(world, device(f"dev_{n}", CHAT)) for n in range(4 * MAX_REPLAYS)]
    openings = [await one.read_opening(0) for one in readers]
    most = await counted(world, monkeypatch)
    for one, opening in zip(readers, openings, strict=True):
        assert one.channel is not None
        one.delivery.open(opening, one.channel)
    firsts: list[int] = []
    while any(one.link.seqs[-1:] != [1200] for one in readers):
        await quiet()
        firsts.append(min(len(one.link.seqs) for one in readers))
        for one in readers:
            assert one.delivery.acknowledged(one.link.seqs[-1])
    assert firsts[0] == 256, "everybody had a page before anybody had a second window"
    assert most[0] <= MAX_REPLAYS
    assert all(one.link.seqs == list(range(1, 1201)) for one in readers)


async def test_thousands_that_open_at_once_wait_for_their_turn_and_none_is_refused(
    world: World, monkeypatch: Any
) -> None:
    most = await counted(world, monkeypatch)
    done: list[int] = []

    async def open_one(number: int) -> None:
        def unit(tx: Transaction) -> int:
            return world.stream.head(tx, "usr_1").seq

        await world.hub.read_opening(unit, is_small=False)
        done.append(number)

    await asyncio.gather(*(open_one(n) for n in range(10 * MAX_OPENINGS)))
    assert sorted(done) == list(range(10 * MAX_OPENINGS))
    assert most[0] == MAX_OPENINGS


async def test_a_replay_that_waits_does_not_hold_up_what_is_new_for_the_others(world: World) -> None:
    await world.append(3000)
    behind = await Reader(world, device("dev_behind", CHAT), ManualLink(is_reading=False)).open(0)
    current = await Reader(world, device("dev_current", CHAT)).open(3000)
    for n in range(3):
        await world.append()
        await quiet()
        assert current.link.seqs[-1] == 3001 + n
    assert behind.link.seqs == []


def test_a_crowd_without_a_seat_is_told_to_come_back_one_after_the_other() -> None:
    clock = ManualClock()
    room = WaitingRoom(per_key=1, total=1, clock=clock)
    told = [room.come_back_s() for _ in range(1000)]
    assert told[0] == SOONEST_S
    assert all(abs(later - sooner - TURN_S) < 1e-6 for sooner, later in pairwise(told))
    clock.advance(2)
    assert abs(room.come_back_s() - (SOONEST_S + 1000 * TURN_S - 2)) < 1e-6
    clock.advance(3600)
    assert room.come_back_s() == SOONEST_S


def test_nobody_is_sent_away_for_longer_than_a_minute() -> None:
    room = WaitingRoom(per_key=1, total=1, clock=ManualClock())
    told = [room.come_back_s() for _ in range(40_000)]
    assert max(told) <= LATEST_S
    assert min(told) >= SOONEST_S
