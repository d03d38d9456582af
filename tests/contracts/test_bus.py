"""The contract of the Bus port, run on every adapter."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from entobot.bus.bus import Bus
from entobot.bus.bus_local import LocalBus


@pytest.fixture(params=["local"])
async def bus(request: pytest.FixtureRequest) -> AsyncIterator[Bus]:
    adapter = LocalBus()
    await adapter.start()
    yield adapter
    await adapter.stop()


class Ear:
    """Notes what it hears, and waits for what is to come."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self._more = asyncio.Event()

    def __call__(self, topic: str, payload: bytes) -> None:
        self.heard.append((topic, payload))
        self._more.set()

    async def until(self, count: int) -> list[tuple[str, bytes]]:
        async with asyncio.timeout(10):
            while len(self.heard) < count:
                self._more.clear()
                await self._more.wait()
        return self.heard


async def settled(bus: Bus) -> None:
    """Wait until everything published so far has been delivered: what follows in the same topic comes later."""
    ear = Ear()
    stop = bus.subscribe("settled", ear)
    bus.publish("settled")
    await ear.until(1)
    stop()


async def test_a_message_reaches_every_listener_of_its_topic_and_the_node_itself(bus: Bus) -> None:
    first, second, other = Ear(), Ear(), Ear()
    bus.subscribe("a", first)
    bus.subscribe("a", second)
    bus.subscribe("ab", other)
    bus.publish("a", b"1")
    assert await first.until(1) == await second.until(1) == [("a", b"1")]
    await settled(bus)
    assert other.heard == []


async def test_messages_of_a_topic_arrive_in_publishing_order(bus: Bus) -> None:
    ear = Ear()
    bus.subscribe("a", ear)
    for number in range(100):
        bus.publish("a", str(number).encode())
    assert [int(payload) for _, payload in await ear.until(100)] == list(range(100))


async def test_a_star_hears_every_topic_that_begins_so(bus: Bus) -> None:
    ear = Ear()
    bus.subscribe("user.*", ear)
    for topic in ("user.1", "users.1", "user", "user.2"):
        bus.publish(topic)
    assert sorted(await ear.until(2)) == [("user.1", b""), ("user.2", b"")]
    await settled(bus)
    assert len(ear.heard) == 2


async def test_who_listens_twice_hears_twice_and_stops_once(bus: Bus) -> None:
    ear = Ear()
    bus.subscribe("a", ear)
    stop = bus.subscribe("a", ear)
    bus.publish("a")
    await ear.until(2)
    stop()
    bus.publish("a")
    await ear.until(3)
    await settled(bus)
    assert len(ear.heard) == 3


@pytest.mark.parametrize("topic", ["a", "a*"])
async def test_who_stopped_hears_nothing_more(bus: Bus, topic: str) -> None:
    ear = Ear()
    stop = bus.subscribe(topic, ear)
    stop()
    stop()
    bus.publish("a")
    await settled(bus)
    assert ear.heard == []


async def test_publishing_does_not_call_listeners_before_it_returns(bus: Bus) -> None:
    ear = Ear()
    bus.subscribe("a", ear)
    bus.publish("a")
    assert ear.heard == []
    await ear.until(1)


async def test_a_listener_may_publish_subscribe_and_stop(bus: Bus) -> None:
    late = Ear()
    stops: list[Callable[[], None]] = []

    def answer(_topic: str, _payload: bytes) -> None:
        stops.pop()()
        bus.subscribe("answer", late)
        bus.publish("answer", b"yes")

    stops.append(bus.subscribe("question", answer))
    bus.publish("question")
    bus.publish("question")
    assert await late.until(1) == [("answer", b"yes")]
    await settled(bus)
    assert len(late.heard) == 1


async def test_a_listener_that_raises_does_not_silence_the_others(bus: Bus) -> None:
    loop = asyncio.get_running_loop()
    told: list[object] = []
    loop.set_exception_handler(lambda _, context: told.append(context.get("exception")))

    def broken(_topic: str, _payload: bytes) -> None:
        raise ValueError("mine")

    ear = Ear()
    bus.subscribe("a", broken)
    bus.subscribe("a", ear)
    bus.publish("a", b"1")
    bus.publish("a", b"2")
    await settled(bus)
    assert len(ear.heard) == 2
    assert len(told) == 2, "the failure is told, not swallowed"


async def test_after_stop_nobody_hears_anything(bus: Bus) -> None:
    ear = Ear()
    bus.subscribe("a", ear)
    await bus.stop()
    bus.publish("a")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert ear.heard == []
