"""A node that stops: everybody is told when to come back, in slices, and nobody's answer is cut off."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from entobot.core.ids import ulid
from entobot.gateway.hub import ANSWERED_WITHIN_S, DRAIN_S, DRAIN_SLICE, DRAIN_SLICES
from entobot.gateway.live import Live
from entobot.gateway.wire import Close
from entobot.storage.database_sqlite import SqliteDatabase
from tests.support.gateway import World, device, frame, until
from tests.support.time import ManualClock


class Held:
    """An executor whose commands end when the test says so."""

    def __init__(self) -> None:
        self.settle: list[Callable[[bytes | None, BaseException | None], None]] = []

    def submit(self, *command: Any) -> None:
        self.settle.append(command[-1])


@pytest.fixture
async def world(database: SqliteDatabase, clock: ManualClock) -> World:
    return await World(database, clock).start()


@pytest.fixture
def held(world: World) -> Held:
    held = Held()
    world.parts = replace(world.parts, executor=held)  # type: ignore[arg-type]
    return held


def command(n: int) -> bytes:
    return frame("command", id=ulid(1, n.to_bytes(10, "big")), name="message.send", data={})


class Crowd:
    """Many subscribers that do nothing but go."""

    def __init__(self, world: World, count: int) -> None:
        self.delays: list[float] = []
        self.slices: list[int] = []
        self.slept_s = 0.0
        self.members = [Member(self, world, n) for n in range(count)]

    async def sleep(self, seconds: float) -> None:
        self.slept_s += seconds
        self.slices.append(len(self.delays) - sum(self.slices))
        await asyncio.sleep(0)


class Member:
    last_heard_s = 0.0
    transport = "websocket"
    address = ""
    joined_s = 0.0

    def __init__(self, crowd: Crowd, world: World, number: int) -> None:
        self._crowd = crowd
        self._hub = world.hub
        self.principal = device(f"dev_{number}")
        world.hub.join(self)

    def news(self) -> None: ...
    def show(self, live: Live, payload: bytes) -> None: ...
    def acknowledged(self, seq: int) -> None: ...
    def end(self, code: Close, reason: str, retry_after_s: float | None = None) -> None:
        raise AssertionError("it has gone already")

    def drain(self, retry_after_s: float) -> None:
        self._crowd.delays.append(retry_after_s)
        self._hub.leave(self)


async def test_a_crowd_goes_in_slices_and_comes_back_one_by_one(world: World) -> None:
    crowd = Crowd(world, 3 * DRAIN_SLICE + 1)
    await world.hub.drain(crowd.sleep)
    assert crowd.slices == [DRAIN_SLICE] * 3
    assert crowd.slept_s == pytest.approx(3 * DRAIN_S / DRAIN_SLICES)
    apart = {round(later - sooner, 6) for sooner, later in zip(crowd.delays, crowd.delays[1:], strict=False)}
    assert apart == {round(5 / len(crowd.delays), 6)}
    assert crowd.delays[-1] == pytest.approx(5.5)


@pytest.mark.parametrize("count", [1, 5_000, 20_000])
async def test_however_many_they_are_the_last_has_gone_in_time_and_they_return_at_a_bounded_rate(
    world: World, count: int
) -> None:
    crowd = Crowd(world, count)
    await world.hub.drain(crowd.sleep)
    assert len(crowd.delays) == count
    assert crowd.slept_s <= DRAIN_S + 0.001
    assert min(crowd.delays) >= 0.5
    assert max(crowd.delays) == pytest.approx(0.5 + max(5.0, count / 500))


async def test_a_command_that_runs_is_answered_before_the_connection_ends(world: World, held: Held) -> None:
    link, session = await world.connect("dev_1")
    idle, _ = await world.connect("dev_2")
    session.text(command(1))
    looked = asyncio.Event()

    async def wait(_: float) -> None:
        await looked.wait()

    draining = asyncio.ensure_future(world.hub.drain(wait))
    await until(lambda: idle.closed is not None)
    assert link.closed is None
    session.text(command(2))
    held.settle[0](b"{}", None)
    looked.set()
    await draining
    *_, refused, answer, goodbye = link.frames
    assert (refused["code"], refused["retry"], refused["id"]) == ("draining", True, ulid(1, (2).to_bytes(10, "big")))
    assert (answer["type"], answer["id"]) == ("result", ulid(1, (1).to_bytes(10, "big")))
    assert (goodbye["code"], goodbye["retry_after_s"]) == ("draining", 3.0)
    assert link.close_code == Close.DRAINING


async def test_a_command_that_does_not_end_holds_the_node_for_a_second(world: World, held: Held) -> None:
    link, session = await world.connect("dev_1")
    session.text(command(1))
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    await world.hub.drain(sleep)
    assert sum(slept) == pytest.approx(ANSWERED_WITHIN_S)
    assert link.close_code == Close.DRAINING
    held.settle[0](b"{}", None)
    assert link.frames[-1]["code"] == "draining", "nothing after the end"


async def test_nobody_is_let_in_any_more(world: World) -> None:
    await world.hub.drain()
    link, _ = await world.connect("dev_1")
    assert link.close_code == Close.DRAINING
    assert [f for f in link.frames if f["type"] == "ready"] == []
    assert world.hub.connection_count == 0


async def test_a_session_that_is_idle_is_told_when_to_come_back(world: World) -> None:
    link, _ = await world.connect("dev_1")
    await world.hub.drain()
    last: dict[str, Any] = link.frames[-1]
    assert (last["type"], last["code"], last["retry_after_s"], last["retry"]) == ("error", "draining", 5.5, True)
    assert link.close_code == Close.DRAINING
