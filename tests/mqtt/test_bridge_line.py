"""One connection of a bridge to a broker on loopback, in injected time: how fast it takes, and that it stays meanwhile."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from entobot.gateway.limits import Gcra
from entobot.mqtt.bridge_client import Terms
from entobot.mqtt.bridge_line import Line, Parts
from entobot.mqtt.bridge_place import Place
from entobot.mqtt.codec import Framer, decode, encode
from entobot.mqtt.packets import (
    ConnAck,
    Connect,
    Packet,
    PingReq,
    PingResp,
    PubAck,
    Publish,
    Reason,
    SubAck,
    Subscribe,
    Version,
)
from entobot.storage.database import Database
from tests.mqtt.test_bridge import bridge
from tests.support.process import GENEROUS_S
from tests.support.served import Served
from tests.support.time import ManualClock

V5 = Version.V5


class Sleepers:
    """Who sleeps in injected time."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self._begun_s = clock.monotonic()
        self._asleep = asyncio.Condition()
        self._until: list[tuple[float, asyncio.Future[None]]] = []

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.get_running_loop().create_future()
        async with self._asleep:
            self._until.append((self._clock.monotonic() + seconds, woken))
            self._asleep.notify_all()
        await woken

    async def to(self, at_s: float, *, asleep: int) -> None:
        """Seconds since the start: once so many sleep it is that late, and who should be awake is."""
        async with asyncio.timeout(GENEROUS_S), self._asleep:
            await self._asleep.wait_for(lambda: len(self._until) >= asleep)
        self._clock.advance(at_s - (self._clock.monotonic() - self._begun_s))
        for one in [one for one in self._until if one[0] <= self._clock.monotonic()]:
            self._until.remove(one)
            one[1].set_result(None)


class OtherBroker:
    """It lets the bridge in, says `said`, and answers pings."""

    def __init__(self, *said: bytes) -> None:
        self._said = b"".join(said)
        self._heard: asyncio.Queue[Packet] = asyncio.Queue()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        framer = Framer(1 << 20)
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                for frame in framer.feed(data):
                    packet: Packet = decode(frame, V5)
                    if isinstance(packet, PubAck | PingReq):
                        self._heard.put_nowait(packet)
                    writer.write(self._answer(packet))

    def _answer(self, packet: Packet) -> bytes:
        match packet:
            case Connect():
                return encode(ConnAck(Reason.SUCCESS), V5)
            case Subscribe(packet_id=packet_id):
                return encode(SubAck(packet_id, (Reason.GRANTED_QOS_1,)), V5) + self._said
            case PingReq():
                return encode(PingResp(), V5)
            case _:
                return b""

    async def heard(self) -> Packet:
        return await asyncio.wait_for(self._heard.get(), GENEROUS_S)


@asynccontextmanager
async def bridged(database: Database, other: OtherBroker, rate: Gcra) -> AsyncGenerator[Sleepers]:
    clock = ManualClock()
    sleepers = Sleepers(clock)
    one, _ = bridge(database)
    await database.write(lambda tx: one.hold(tx, frozenset({"nod_1"}), 1))
    server = Served(other.serve)
    place = Place("127.0.0.1", server.port, has_tls=False)
    terms = Terms(V5, "me", None, None, filters=one.map.filters, max_payload_bytes=100, keep_alive_s=60)
    parts = Parts(one, place, lambda _: terms, database, clock, rate, sleepers.sleep)
    living = asyncio.create_task(Line(parts, ()).live())
    try:
        yield sleepers
        assert not living.done()
    finally:
        living.cancel()
        await asyncio.gather(living, return_exceptions=True)
        await server.stop()


async def test_what_comes_too_fast_is_taken_in_its_time_and_the_other_broker_is_pinged_meanwhile(
    database: Database,
) -> None:
    other = OtherBroker(*(encode(Publish("in/oven", b"1", 1, packet_id=number), V5) for number in (1, 2, 3)))
    async with bridged(database, other, Gcra(rate_per_s=1 / 100, burst=1, max_keys=1)) as sleepers:
        assert await other.heard() == PubAck(1), "it does not wait for those that have to"
        for at_s, packet in ((60, PingReq()), (100, PubAck(2)), (120, PingReq()), (180, PingReq()), (200, PubAck(3))):
            await sleepers.to(at_s, asleep=2)
            assert await other.heard() == packet
