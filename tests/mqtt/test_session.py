"""One MQTT connection over a real store, and what becomes of what the store does not take."""

import asyncio
from collections import deque
from dataclasses import fields
from typing import Any

from entobot.bus.bus_local import LocalBus
from entobot.gateway.meters import ConnectionMeters
from entobot.mqtt import codec, session_store
from entobot.mqtt.codec import Framer
from entobot.mqtt.connection import Connection, Opened, Terms
from entobot.mqtt.model import Message
from entobot.mqtt.packets import Connect, PubAck, Publish, Version, Will
from entobot.mqtt.parts import MqttParts
from entobot.mqtt.session import MqttSession
from entobot.storage.database import Database, StorageFailed, Transaction
from entobot.telemetry.meters import Meters
from tests.mqtt.test_service import ROOT, Connected, World
from tests.support.postgres import GENEROUS_S
from tests.support.time import ManualClock

ON_EVERY_STORE = True
EVENT = f"{ROOT}/event"


class HeardWire:
    """What is sent to the client, and when it is over."""

    peer, certificate, buffered_bytes, is_writable = "192.0.2.1", None, 0, True

    def __init__(self) -> None:
        self.sent = b""
        self.is_over = asyncio.Event()

    def send(self, data: bytes) -> None:
        self.sent += data

    def close(self) -> None:
        self.is_over.set()

    abort = close

    def pause(self, *, is_paused: bool) -> None: ...
    def let_in(self) -> None: ...

    @property
    def acknowledged(self) -> list[int]:
        packets = [codec.decode(frame, Version.V5) for frame in Framer(1 << 20).feed(self.sent)]
        return [one.packet_id for one in packets if isinstance(one, PubAck)]


def session_of(world: World, board: Connected, clock: ManualClock) -> tuple[MqttSession, HeardWire]:
    """A session that was let in."""
    given: dict[str, Any] = {field.name: None for field in fields(MqttParts)}
    terms = Terms()
    given |= {"broker": world.broker, "database": world.database, "clock": clock, "terms": terms}
    given |= {"unclosed": deque(), "next_number": lambda: 1, "meters": ConnectionMeters(Meters(), "mqtt")}
    wire = HeardWire()
    session = MqttSession(wire, MqttParts(**given))
    connection = Connection(terms=terms, now_s=clock.monotonic())
    (hello,) = Framer(1 << 20).feed(codec.encode(Connect(Version.V5, "dev_1"), Version.V5))
    connection.frame(hello, clock.monotonic(), clock.now_ms())
    connection.opened(Opened(session_present=False), clock.monotonic())
    session._connection, session._held = connection, board.held
    session._framer.max_bytes = terms.max_packet_bytes
    world.broker.live.attach(board.held, session)
    return session, wire


def published(*numbers: int) -> bytes:
    return b"".join(codec.encode(Publish(EVENT, b"%d" % n, 1, packet_id=n), Version.V5) for n in numbers)


async def test_behind_a_message_that_the_store_did_not_take_none_is_taken(
    database: Database, clock: ManualClock
) -> None:
    """Its board sends it again, and those after it: a session heard 160 before 155."""
    world = World(database, LocalBus())
    screen = await world.open("dev_1/screen")
    await world.subscribe(screen, EVENT)
    is_failing = True

    def arrived(_: Transaction, message: Message) -> None:
        if message.payload == b"2" and is_failing:
            raise StorageFailed("too busy")

    world.broker.arrived = arrived
    session, wire = session_of(world, await world.open(), clock)
    session.received(published(1, 2, 3, 4))
    async with asyncio.timeout(GENEROUS_S):
        await wire.is_over.wait()
    assert (wire.acknowledged, screen.payloads) == ([1], [b"1"])
    is_failing = False
    again, wire = session_of(world, await world.open(), clock)
    again.received(published(2, 3, 4))
    async with asyncio.timeout(GENEROUS_S):
        while len(wire.acknowledged) < 3:  # noqa: ASYNC110  the state of the test itself
            await asyncio.sleep(0)
    assert screen.payloads == [b"1", b"2", b"3", b"4"]


async def test_a_board_whose_will_cannot_be_told_is_not_locked_out(database: Database, clock: ManualClock) -> None:
    """Its session kept the will and was held for ever: every later CONNECT met the same error."""
    world = World(database, LocalBus())

    def arrived(_: Transaction, message: Message) -> None:
        raise ValueError(message.topic)

    world.broker.arrived = arrived
    session, _ = session_of(world, await world.open(will=Will(EVENT, b"gone", 1, False)), clock)
    session.closed()
    async with asyncio.timeout(GENEROUS_S):
        while await world.do(session_store.nodes):  # noqa: ASYNC110  the state of the test itself
            await asyncio.sleep(0)
    await world.open()
