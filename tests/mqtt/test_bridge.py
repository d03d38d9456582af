"""A bridge's rows: one node holds it, what it is told waits in order, what it takes is all or nothing. On every store."""

import pytest

from entobot.bus.bus_local import LocalBus
from entobot.mqtt import bridge_store as store
from entobot.mqtt.bridge import Bounds, Bridge, NotHeld
from entobot.mqtt.bridge_map import Boards, Inward, Map, Outward, Who
from entobot.mqtt.bridge_store import State
from entobot.mqtt.model import Message
from entobot.mqtt.packets import Publish
from entobot.mqtt.service import Broker
from entobot.storage.database import Database, Transaction

ON_EVERY_STORE = True
OVEN = Who("dev_1", "usr_1", "oven", "")
KILN = Who("dev_2", "usr_1", "kiln", "")
MAP = Map(
    (Inward("in/{device}", "telemetry/t"),),
    (Outward("telemetry", "out/{device}/{name}"), Outward("command", "cmd/{device}")),
)


def bridge(database: Database, node: str = "nod_1", **bounds: int) -> tuple[Bridge, list[Message]]:
    """With what its broker was brought."""
    brought: list[Message] = []
    broker = Broker(bus=LocalBus(), node=node, is_standing=lambda _tx, device_id, _epoch: device_id == "dev_1")
    found = Bridge("factory", node, MAP, broker, Bounds(max_payload_bytes=100, **bounds))
    found.meet = lambda _: Boards((OVEN, KILN), "name", ("*",), ())

    def arrived(tx: Transaction, message: Message) -> None:
        brought.append(message)
        found.tell(tx, "telemetry", message.device_id, lambda _: message.payload, 1, name="t")

    broker.arrived = arrived
    return found, brought


async def tell(database: Database, one: Bridge, *payloads: bytes, device_id: str = "dev_1") -> None:
    for payload in payloads:
        await database.write(lambda tx, p=payload: one.tell(tx, "telemetry", device_id, lambda _: p, 1, name="t"))


async def test_one_node_holds_it_until_that_is_gone(database: Database) -> None:
    first, second = bridge(database)[0], bridge(database, "nod_2")[0]
    both = frozenset({"nod_1", "nod_2"})
    assert (await database.write(lambda tx: first.hold(tx, both, 1))) is not None
    assert (await database.write(lambda tx: second.hold(tx, both, 1))) is None
    with pytest.raises(NotHeld):
        await database.write(lambda tx: second.take(tx, [], 1))
    with pytest.raises(NotHeld):
        await database.read(lambda tx: second.waiting(tx, 1))
    assert (await database.write(lambda tx: second.hold(tx, frozenset({"nod_2"}), 1))) is not None
    with pytest.raises(NotHeld):
        await database.write(lambda tx: first.take(tx, [], 1))
    await database.write(lambda tx: first.note(tx, State.CONNECTED, "", 5))
    (row,) = await database.read(store.all_rows)
    assert (row.node, row.state) == ("nod_2", State.IDLE), "what a node says that has lost it is not noted"


async def test_what_is_told_waits_in_order_until_it_is_acknowledged_and_the_oldest_go(database: Database) -> None:
    one, _ = bridge(database, max_waiting=3)
    await database.write(lambda tx: one.hold(tx, frozenset(), 1))
    rung: list[None] = []
    one.ring = lambda: rung.append(None)
    await tell(database, one, *(b"%d" % number for number in range(5)))
    assert len(rung) == 5
    assert await database.write(one.trim) == 2
    assert await database.write(one.trim) == 0
    waiting = await database.read(lambda tx: one.waiting(tx, 2))
    assert [(row.topic, row.payload) for row in waiting] == [("out/oven/t", b"2"), ("out/oven/t", b"3")]
    numbers = [row.number for row in waiting]
    assert await database.write(lambda tx: one.finish(tx, numbers, is_told=True)) == 2
    assert await database.write(lambda tx: one.finish(tx, numbers, is_told=True)) == 0, "counted once"
    (row,) = await database.read(store.all_rows)
    assert (row.told, row.dropped, row.waiting) == (2, 2, 1)


async def test_a_command_that_was_called_off_while_it_waited_has_expired(database: Database) -> None:
    one, _ = bridge(database)
    await database.write(lambda tx: one.hold(tx, frozenset(), 1))
    for said in (b"open", b"close"):
        await database.write(lambda tx, p=said: one.tell(tx, "command", "dev_1", lambda _: p, 1, expires_at_ms=9000))
    await tell(database, one, b"open")
    one.is_called_off = lambda _, waiting: waiting.payload == b"open"
    waiting = await database.read(lambda tx: one.waiting(tx, 9))
    assert [(row.topic, row.expires_at_ms) for row in waiting] == [
        ("cmd/oven", 0),
        ("cmd/oven", 9000),
        ("out/oven/t", None),
    ]


async def test_what_came_over_a_bridge_goes_back_over_none(database: Database) -> None:
    one, brought = bridge(database)
    await database.write(lambda tx: one.hold(tx, frozenset(), 1))
    outcome = await database.write(lambda tx: one.take(tx, [Publish("in/oven", b"5", 1)], 5000))
    assert (outcome.taken, [message.topic for message in brought]) == (1, ["devices/dev_1/telemetry/t"])
    assert await database.read(lambda tx: one.waiting(tx, 9)) == []
    await tell(database, one, b"6")
    assert [row.payload for row in await database.read(lambda tx: one.waiting(tx, 9))] == [b"6"]


async def test_what_does_not_fit_changes_nothing_and_is_counted(database: Database) -> None:
    one, brought = bridge(database)
    told: list[str] = []
    one.on_refused = lambda _tx, _name, why, _said, _now: told.append(why)
    await database.write(lambda tx: one.hold(tx, frozenset(), 1))
    came = [
        Publish("in/nobody", b"1", 1),
        Publish("in/oven", b"1", 1, retain=True),
        Publish("in/oven", b"1" * 101, 1),
        None,
        Publish("elsewhere", b"1", 1),
        Publish("in/kiln", b"1", 1),  # it may not act any more
        Publish("in/oven", b"{}", 1),
    ]
    outcome = await database.write(lambda tx: one.take(tx, came, 5000))
    assert (outcome.taken, outcome.refused.total(), brought) == (0, 7, [])
    assert told == ["device", "old", "large", "large", "topic", "device", "payload"]
    (row,) = await database.read(store.all_rows)
    assert (row.refused, row.refused_why, row.refused_at_ms) == (7, "payload: oven", 5000)


async def test_for_a_device_that_is_no_board_all_boards_are_read_once(database: Database) -> None:
    """A program with a key of its own is none: each of its readings had all boards read in its commit."""
    one, _ = bridge(database)
    meets: list[int] = []

    def meet(_: Transaction) -> Boards:
        meets.append(1)
        return Boards((OVEN, KILN), "name", ("*",), ())

    one.meet = meet
    for _ in range(3):
        await tell(database, one, b"1", device_id="dev_8")
        await tell(database, one, b"1", device_id="dev_9")
    assert len(meets) == 2
    one.boards = Boards((OVEN, KILN), "name", ("*",), ())  # devices have changed
    await tell(database, one, b"1", device_id="dev_9")
    assert len(meets) == 3
