"""The contract of the Bus port, run on every adapter."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack

import pytest

from entobot.bus.bus import Bus
from entobot.bus.bus_local import LocalBus
from tests.support.buses import Nodes, nats_nodes, postgres_nodes
from tests.support.nats import NatsServer
from tests.support.postgres import PostgresServer
from tests.support.process import GENEROUS_S


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path_factory.mktemp("nats")).start()
    yield server
    server.kill()


@pytest.fixture
async def nodes(request: pytest.FixtureRequest) -> AsyncIterator[Nodes]:
    """Opens buses of nodes that share a server."""
    server: NatsServer | PostgresServer = request.getfixturevalue(request.param)
    async with AsyncExitStack() as stack:
        opened = postgres_nodes(server) if isinstance(server, PostgresServer) else nats_nodes(server)
        stack.push_async_callback(opened.close)
        yield opened


@pytest.fixture(params=["local", "nats", "postgres"])
async def bus(request: pytest.FixtureRequest) -> AsyncIterator[Bus]:
    adapter: Bus
    if request.param == "local":
        adapter = LocalBus()
        await adapter.start()
        yield adapter
        await adapter.stop()
        return
    server: NatsServer | PostgresServer = request.getfixturevalue(request.param)
    opened = postgres_nodes(server) if isinstance(server, PostgresServer) else nats_nodes(server)
    yield await opened.open()
    await opened.close()


each_remote = pytest.mark.parametrize("nodes", ["nats", "postgres"], indirect=True)


class Ear:
    """Notes what it hears, and waits for what is to come."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self._more = asyncio.Event()

    def __call__(self, topic: str, payload: bytes) -> None:
        self.heard.append((topic, payload))
        self._more.set()

    async def until(self, count: int) -> list[tuple[str, bytes]]:
        async with asyncio.timeout(GENEROUS_S):
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


# -- over a server that nodes share


async def hears(bus: Bus, other: Bus) -> None:
    """Wait until what `bus` publishes reaches `other`."""
    ear = Ear()
    stop = other.subscribe_others("hello", ear)
    bus.publish("hello")
    await ear.until(1)
    stop()


@each_remote
async def test_what_one_node_publishes_is_heard_by_every_other_in_order(nodes: Nodes) -> None:
    one, two, three = [await nodes.open() for _ in range(3)]
    ears = [Ear(), Ear()]
    for bus, ear in zip((two, three), ears, strict=True):
        bus.subscribe("a", ear)
        await hears(one, bus)
    for number in range(300):
        one.publish("a", str(number).encode())
    for ear in ears:
        assert [int(payload) for _, payload in await ear.until(300)] == list(range(300))


@each_remote
async def test_a_node_hears_itself_once_and_without_the_server(nodes: Nodes) -> None:
    one, two = await nodes.open(), await nodes.open()
    ear, others, elsewhere = Ear(), Ear(), Ear()
    one.subscribe("a", ear)
    one.subscribe_others("a", others)
    two.subscribe_others("a", elsewhere)
    one.publish("a", b"1")
    await asyncio.sleep(0)
    assert ear.heard == [("a", b"1")], "at once"
    await elsewhere.until(1)
    await hears(two, one)  # whatever would have come back has come by now
    assert ear.heard == [("a", b"1")]
    assert others.heard == []


@each_remote
async def test_what_is_for_this_node_stays_here(nodes: Nodes) -> None:
    one, two = await nodes.open(), await nodes.open()
    here, elsewhere = Ear(), Ear()
    one.subscribe("here.work", here)
    two.subscribe("*", elsewhere)
    one.publish("here.work", b"1")
    one.publish("a", b"2")
    await here.until(1)
    assert await elsewhere.until(1) == [("a", b"2")]


@each_remote
async def test_nodes_with_another_key_hear_nothing_and_say_nothing(nodes: Nodes) -> None:
    one, stranger, two = await nodes.open(), await nodes.open(key=b"x" * 32), await nodes.open()
    ear, strange = Ear(), Ear()
    two.subscribe("a", ear)
    stranger.subscribe_others("a", strange)
    stranger.publish("a", b"made up")
    one.publish("a", b"true")
    assert await ear.until(1) == [("a", b"true")]
    await hears(one, two)
    assert strange.heard == []


@each_remote
async def test_without_the_server_a_node_starts_rings_here_and_comes_back_by_itself(nodes: Nodes) -> None:
    one, two = await nodes.open(through_proxy=True), await nodes.open()
    await hears(one, two)
    ear, here = Ear(), Ear()
    two.subscribe("a", ear)
    one.subscribe("a", here)
    nodes.cut()
    await nodes.until(lambda: not one.health().is_connected)
    one.publish("a", b"kept")
    one.publish("a", b"late", may_drop=True)
    for seq in range(50):
        one.publish("b", str(seq).encode(), replaces=True)
    assert len(await here.until(2)) == 2
    health = one.health()
    assert health.waiting == 2, "bounded: what replaces is one, what may be dropped is not kept"
    assert "127.0.0.1" in health.detail
    assert health.away_s > health.oldest_s > 0
    assert one.health().oldest_s > health.oldest_s, "it grows older"
    nodes.mend()
    assert await ear.until(1) == [("a", b"kept")]
    await nodes.until(lambda: one.health().waiting == 0)
    health = one.health()
    assert (health.is_connected, health.away_s, health.oldest_s, health.reconnects) == (True, 0, 0, 1)


@each_remote
async def test_a_node_starts_while_the_server_is_away(nodes: Nodes) -> None:
    nodes.cut()
    one = await nodes.open(through_proxy=True)
    assert not one.health().is_connected
    assert one.health().detail
    assert one.health().away_s > 0
    ear = Ear()
    one.subscribe("a", ear)
    one.publish("a")
    await ear.until(1)
    nodes.mend()
    await nodes.until(lambda: one.health().is_connected)
    assert one.health().reconnects == 0, "the first time is no return"


@each_remote
async def test_a_large_message_is_dropped_and_counted_rather_than_cut(nodes: Nodes) -> None:
    one, two = await nodes.open(), await nodes.open()
    ear = Ear()
    two.subscribe("a", ear)
    one.publish("a", b"x" * 300_000, may_drop=True)
    one.publish("a", b"y" * 5_000, may_drop=True)
    assert await ear.until(1) == [("a", b"y" * 5_000)]
    assert one.health().dropped == 1
