"""Sessions, queues and retained messages: the same on every store."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import pytest

from entobot.app.boards import Boards
from entobot.bus.bus_local import LocalBus
from entobot.mqtt import store
from entobot.mqtt.effects import Finished
from entobot.mqtt.holding import (
    Bounds,
    CutOff,
    Held,
    Owner,
    Rules,
    Superseded,
    TooManySessions,
)
from entobot.mqtt.model import Delivery, Message, Stage
from entobot.mqtt.packets import Properties, Publish, Reason, Subscribe, Subscription, Unsubscribe, Will
from entobot.mqtt.retention import expendable, forget
from entobot.mqtt.service import GONE_NODE_GRACE_S, Broker
from entobot.storage.database import Database, Transaction
from entobot.telemetry.log import get_logger

ON_EVERY_STORE = True
T = TypeVar("T")
BOARD = Owner("dev_1", "usr_1", 1)
ROOT = "devices/dev_1"
HOUR_S = 3600


@dataclass(eq=False)
class Connected:
    """A connection of this node that writes down what it is told."""

    held: Held
    deliveries: list[Delivery] = field(default_factory=list[Delivery])
    news: int = 0
    is_over: bool = False
    rereads: int = 0

    @property
    def connection(self) -> int:
        return self.held.connection

    @property
    def device_id(self) -> str:
        return self.held.owner.device_id

    def told(self, delivery: Delivery) -> None:
        self.deliveries.append(delivery)

    show_message = told

    def has_news(self, last_seq: int) -> None:
        self.news = last_seq

    def taken_over(self) -> None:
        self.is_over = True

    def rules_changed(self) -> None:
        self.rereads += 1

    @property
    def payloads(self) -> list[bytes]:
        return [one.message.payload for one in self.deliveries]


class World:
    def __init__(self, database: Database, bus: LocalBus, node: str = "nod_1") -> None:
        self.database = database
        self.epochs = {"dev_1": 1, "dev_2": 1}
        self.now_ms = 1_000_000
        self.node = node
        self.broker = Broker(
            bus=bus,
            node=node,
            is_standing=self._is_standing,
            bounds=Bounds(max_queued=5, max_subscriptions=3, max_sessions=3, max_retained=2),
        )

    def _is_standing(self, _: Transaction, device_id: str, epoch: int | None) -> bool:
        found = self.epochs.get(device_id)
        return found is not None and epoch in (None, found)

    async def do(self, unit: Callable[[Transaction], T]) -> T:
        return await self.database.write(unit)

    async def open(
        self, name: str = "dev_1", *, owner: Owner = BOARD, is_clean: bool = False, expiry_s: int = HOUR_S,
        will: Will | None = None,
    ) -> Connected:  # fmt: skip
        held = await self.do(
            lambda tx: self.broker.open(tx, owner, name, will, self.now_ms, is_clean=is_clean, expiry_s=expiry_s)
        )
        connected = Connected(held)
        self.broker.live.attach(held, connected)
        return connected

    async def close(
        self, one: Connected, *, expiry_s: int = HOUR_S, keeps_will: bool = False, sent_seq: int = 0
    ) -> None:
        self.broker.live.detach(one.held, one)
        await self.do(
            lambda tx: self.broker.close(
                tx, one.held, self.now_ms, sent_seq=sent_seq, expiry_s=expiry_s, keeps_will=keeps_will
            )
        )

    async def publish(self, one: Connected, topic: str, payload: bytes, qos: int = 1, **more: Any) -> Reason:
        packet = Publish(topic, payload, qos, **more)
        reason, _ = await self.do(lambda tx: self.broker.publish(tx, one.held, packet, self.now_ms))
        return reason

    async def subscribe(self, one: Connected, *filters: str, qos: int = 1, **more: Any) -> tuple[Reason, ...]:
        packet = Subscribe(1, tuple(Subscription(text, qos, **more) for text in filters))
        reasons, _ = await self.do(lambda tx: self.broker.subscribe(tx, one.held, packet, self.now_ms))
        return reasons

    async def waiting(self, one: Connected, after: int = 0) -> list[Delivery]:
        found, _ = await self.do(lambda tx: self.broker.fetch(tx, one.held, after, 100))
        return found

    async def sweep(self, *alive: str) -> None:
        nodes = frozenset(alive or (self.node,))
        while steps := await self.do(lambda tx: self.broker.steps(tx, nodes, self.now_ms)):
            for step in steps:
                await self.do(step.unit)


@pytest.fixture
def bus() -> LocalBus:
    return LocalBus()


@pytest.fixture
def world(database: Database, bus: LocalBus) -> World:
    return World(database, bus)


# -- messages


async def test_what_is_published_is_told_to_whoever_subscribed_and_kept_until_it_is_acknowledged(world: World) -> None:
    board, screen = await world.open(), await world.open("dev_1/screen")
    assert await world.subscribe(screen, f"{ROOT}/telemetry/+") == (Reason.GRANTED_QOS_1,)
    assert await world.publish(board, f"{ROOT}/telemetry/t", b"21") is Reason.SUCCESS
    assert await world.publish(board, f"{ROOT}/status", b"up") is Reason.SUCCESS
    (told,) = screen.deliveries
    assert (told.seq, told.packet_id, told.qos, told.message.payload) == (1, 1, 1, b"21")
    assert [one.message.payload for one in await world.waiting(screen)] == [b"21"]
    await world.do(lambda tx: world.broker.finish(tx, screen.held, [Finished(1)]))
    assert await world.waiting(screen) == []


async def test_a_message_is_stored_with_what_belongs_to_it(world: World) -> None:
    arrived: list[Message] = []
    world.broker.arrived = lambda _, message: arrived.append(message)
    board = await world.open()
    said = Properties(content_type="text/plain", user=(("a", "b"),), message_expiry_s=60, topic_alias=3)
    await world.publish(board, f"{ROOT}/event", b"\0\xff", properties=said)
    (message,) = arrived
    assert (message.device_id, message.user_id, message.payload) == ("dev_1", "usr_1", b"\0\xff")
    assert message.expires_at_ms == world.now_ms + 60_000
    assert message.properties == Properties(content_type="text/plain", user=(("a", "b"),))


async def test_other_topics_are_refused_and_leave_no_trace(world: World) -> None:
    board = await world.open()
    arrived: list[Message] = []
    world.broker.arrived = lambda _, message: arrived.append(message)
    for topic in ("devices/dev_2/status", f"{ROOT}/command", "status"):
        assert await world.publish(board, topic, b"x", retain=True) is Reason.NOT_AUTHORIZED
    assert arrived == []


async def test_a_device_that_may_not_go_on_publishes_nothing(world: World) -> None:
    board = await world.open()
    world.epochs["dev_1"] = 2
    with pytest.raises(CutOff):
        await world.publish(board, f"{ROOT}/status", b"x")


async def test_a_message_of_qos_2_is_published_once_however_often_it_comes(world: World) -> None:
    board, screen = await world.open(), await world.open("dev_1/screen")
    await world.subscribe(screen, f"{ROOT}/#", qos=2)
    for _ in range(3):
        assert await world.publish(board, f"{ROOT}/event", b"once", 2, packet_id=9) is Reason.SUCCESS
    assert screen.payloads == [b"once"]
    await world.close(board)
    board = await world.open()
    assert board.held.received == {9}
    assert await world.publish(board, f"{ROOT}/event", b"once", 2, packet_id=9) is Reason.SUCCESS
    assert screen.payloads == [b"once"]
    await world.do(lambda tx: world.broker.release(tx, board.held, 9))
    await world.publish(board, f"{ROOT}/event", b"twice", 2, packet_id=9)
    assert screen.payloads == [b"once", b"twice"]


async def test_qos_is_the_lower_of_both_and_the_highest_of_overlapping_filters(world: World) -> None:
    board, screen = await world.open(), await world.open("dev_1/screen")
    await world.subscribe(screen, f"{ROOT}/#", qos=2)
    await world.subscribe(screen, f"{ROOT}/status", qos=0)
    for qos in (0, 1, 2):
        await world.publish(board, f"{ROOT}/status", b"x", qos, packet_id=qos)
    assert [(one.qos, one.seq) for one in screen.deliveries] == [(0, 0), (1, 1), (2, 2)]


async def test_somebody_who_is_away_misses_qos_0_and_nothing_else(world: World) -> None:
    board, screen = await world.open(), await world.open("dev_1/screen")
    await world.subscribe(screen, f"{ROOT}/#", qos=2)
    await world.close(screen)
    for qos in (0, 1, 2):
        await world.publish(board, f"{ROOT}/status", b"%d" % qos, qos, packet_id=qos)
    again = await world.open("dev_1/screen")
    assert again.held.is_present
    assert [(one.message.payload, one.is_repeat) for one in await world.waiting(again)] == [
        (b"1", False),
        (b"2", False),
    ]


async def test_what_may_have_been_sent_before_is_a_repeat(world: World) -> None:
    board, screen = await world.open(), await world.open("dev_1/screen")
    await world.subscribe(screen, f"{ROOT}/#", qos=2)
    for n in range(3):
        await world.publish(board, f"{ROOT}/event", b"%d" % n, 1)
    await world.do(lambda tx: world.broker.mark_released(tx, screen.held, 2))
    await world.close(screen, sent_seq=2)
    again = await world.open("dev_1/screen")
    found = [(one.seq, one.is_repeat, one.stage) for one in await world.waiting(again)]
    assert found == [(1, True, Stage.WAITING), (2, True, Stage.RELEASED), (3, False, Stage.WAITING)]
    taken = await world.open("dev_1/screen")  # the one before did not say how far it came
    assert all(one.is_repeat for one in await world.waiting(taken))


async def test_a_full_queue_takes_no_more_and_the_others_get_theirs(world: World) -> None:
    dropped: list[int] = []
    world.broker.on_dropped = dropped.append
    board, away, screen = await world.open(), await world.open("dev_1/away"), await world.open("dev_1/screen")
    for one in (away, screen):
        await world.subscribe(one, f"{ROOT}/#")
    await world.close(away)
    for n in range(7):
        await world.publish(board, f"{ROOT}/event", b"%d" % n)
        await world.do(lambda tx, n=n: world.broker.finish(tx, screen.held, [Finished(n + 1)]))
    assert (len(screen.deliveries), sum(dropped)) == (7, 2)
    again = await world.open("dev_1/away")
    assert [one.message.payload for one in await world.waiting(again)] == [b"0", b"1", b"2", b"3", b"4"]


async def test_the_gateway_itself_says_something_that_waits_for_a_board(world: World) -> None:
    board = await world.open()
    await world.subscribe(board, f"{ROOT}/command")
    await world.close(board)
    await world.do(lambda tx: world.broker.send(tx, f"{ROOT}/command", b"open", user_id="usr_1", now_ms=world.now_ms))
    again = await world.open()
    assert [one.message.payload for one in await world.waiting(again)] == [b"open"]


async def test_what_was_called_off_while_it_waited_is_over_for_whoever_was_not_sent_it(world: World) -> None:
    board = await world.open()
    await world.subscribe(board, f"{ROOT}/#")
    await world.close(board)
    for said in (b"open", b"close"):
        await world.do(lambda tx, p=said: world.broker.send(tx, f"{ROOT}/c", p, user_id="usr_1", now_ms=world.now_ms))
    await world.publish(await world.open("dev_1/other"), f"{ROOT}/event", b"open")
    world.broker.is_called_off = lambda _, message: message.payload == b"open"
    again = await world.open()
    found = [(one.message.payload, one.message.is_over(world.now_ms)) for one in await world.waiting(again)]
    assert found == [(b"open", True), (b"close", False), (b"open", False)], "what a device says is never asked about"
    assert not any(one.is_withdrawn for one in await world.waiting(again)), "no rule forbids it"


# -- sessions


async def test_a_clean_start_or_an_end_takes_everything_with_it(world: World) -> None:
    board = await world.open()
    await world.subscribe(board, f"{ROOT}/command")
    await world.close(board)
    again = await world.open(is_clean=True)
    assert not again.held.is_present
    await world.close(again, expiry_s=0)
    assert not (await world.open()).held.is_present


async def test_the_end_of_a_connection_does_not_end_the_session_that_came_after_its_own(world: World) -> None:
    """SQLite gives the number of a row that was deleted again."""
    first = await world.open(is_clean=True)
    second = await world.open(is_clean=True)
    assert first.is_over
    await world.close(first, expiry_s=0)
    assert await world.subscribe(second, f"{ROOT}/command") == (Reason.GRANTED_QOS_1,)
    world.epochs["dev_1"] = 2
    await world.do(lambda tx: world.broker.forget(tx, "dev_1"))
    other = await world.open("dev_2", owner=Owner("dev_2", "usr_1", 1))
    await world.close(second, expiry_s=0)
    assert await world.subscribe(other, "devices/dev_2/command") == (Reason.GRANTED_QOS_1,)


async def test_a_session_ends_when_its_time_is_over(world: World) -> None:
    board = await world.open()
    await world.close(board, expiry_s=60)
    world.now_ms += 59_999
    await world.sweep()
    board = await world.open()
    assert board.held.is_present
    await world.close(board, expiry_s=60)
    world.now_ms += 60_000
    await world.sweep()
    assert not (await world.open()).held.is_present


async def test_credentials_of_another_epoch_find_nothing_of_the_one_before(world: World) -> None:
    board = await world.open()
    await world.subscribe(board, f"{ROOT}/command")
    await world.close(board)
    world.epochs["dev_1"] = 2
    again = await world.open(owner=Owner("dev_1", "usr_1", 2))
    assert not again.held.is_present
    assert await world.waiting(again) == []


async def test_the_same_client_id_again_takes_the_session_over(world: World) -> None:
    first = await world.open()
    second = await world.open()
    assert first.is_over
    assert second.held.is_present
    with pytest.raises(Superseded):
        await world.subscribe(first, f"{ROOT}/command")
    for qos in (0, 1, 2):  # what waited at a node that it left would come behind what it said since
        with pytest.raises(Superseded):
            await world.publish(first, f"{ROOT}/event", b"late", qos, packet_id=1)
    assert await world.do(lambda tx: expendable(tx, before_ms=world.now_ms + 1, keep=0)) == []
    await world.close(first, expiry_s=0)  # too late to end what is another's
    assert await world.subscribe(second, f"{ROOT}/command") == (Reason.GRANTED_QOS_1,)


async def test_a_connection_that_was_taken_over_does_not_say_that_it_released_what_is_still_remembered(
    world: World,
) -> None:
    """Its client would use the number for the next message, which was dropped as one that is there."""
    first = await world.open()
    await world.publish(first, f"{ROOT}/event", b"one", 2, packet_id=7)
    second = await world.open()
    with pytest.raises(Superseded):
        await world.do(lambda tx: world.broker.release(tx, first.held, 7))
    assert second.held.received == {7}
    await world.do(lambda tx: world.broker.release(tx, second.held, 7))
    screen = await world.open("dev_1/screen")
    await world.subscribe(screen, f"{ROOT}/#", qos=2)
    assert await world.publish(second, f"{ROOT}/event", b"two", 2, packet_id=7) is Reason.SUCCESS
    assert screen.payloads == [b"two"]
    with pytest.raises(Superseded):
        await world.publish(first, f"{ROOT}/event", b"one", 2, packet_id=7)


async def test_a_session_is_taken_over_and_told_across_nodes(
    world: World, bus: LocalBus, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus, "subscribe_others", bus.subscribe)  # both of these nodes are in this process
    here, there = World(database, bus, "nod_a"), World(database, bus, "nod_b")
    board, screen = await here.open(), await there.open("dev_1/screen")
    await there.subscribe(screen, f"{ROOT}/#", qos=1)
    await here.publish(board, f"{ROOT}/event", b"over there")
    await here.publish(board, f"{ROOT}/event", b"and live", 0)
    assert (screen.news, screen.deliveries) == (2, [])
    assert [one.message.payload for one in await there.waiting(screen)] == [b"over there", b"and live"]
    moved = await here.open("dev_1/screen")
    assert (screen.is_over, moved.held.is_present) == (True, True)


async def test_what_a_lost_bell_was_to_tell_is_found_in_the_rows(world: World, bus: LocalBus) -> None:
    """PostgreSQL was killed: it carried the bells as well, and a screen waited for the next message of all."""
    there = World(world.database, bus, "nod_b")  # of the same process: its bells are not heard by the other
    board, moved, screen = await there.open(), await world.open("dev_1/moved"), await world.open("dev_1/screen")
    await world.subscribe(screen, f"{ROOT}/#")
    was = world.broker.live.held
    await there.publish(board, f"{ROOT}/event", b"one")
    await there.publish(board, f"{ROOT}/event", b"two")
    await there.open("dev_1/moved")
    assert (screen.news, moved.is_over) == (0, False)
    late = await world.open("dev_2", owner=Owner("dev_2", "usr_1", 1))
    first = await world.do(lambda tx: world.broker.heads(tx, 0, 1))
    rest = await world.do(lambda tx: world.broker.heads(tx, first[-1].session, 10))
    world.broker.live.catch_up(was, [*first, *rest])
    assert (screen.news, screen.is_over) == (2, False)
    assert (moved.is_over, late.is_over) == (True, False)
    assert set(world.broker.live.held) == {screen.held.session, late.held.session}


async def test_a_device_has_a_bounded_number_of_sessions(world: World) -> None:
    for n in range(3):
        await world.open(f"dev_1/{n}")
    with pytest.raises(TooManySessions):
        await world.open("dev_1/3")
    await world.open("dev_2", owner=Owner("dev_2", "usr_1", 1))


async def test_a_device_that_is_cut_off_leaves_no_session_and_nothing_retained(world: World) -> None:
    board = await world.open()
    await world.publish(board, f"{ROOT}/status", b"up", retain=True)
    await world.subscribe(board, f"{ROOT}/command")
    await world.close(board)
    del world.epochs["dev_1"]
    assert await world.do(lambda tx: world.broker.fallen(tx, 0)) == (["dev_1"], 0)
    await world.do(lambda tx: world.broker.forget(tx, "dev_1"))
    assert await world.do(lambda tx: world.broker.fallen(tx, 0)) == ([], 0)
    world.epochs["dev_1"] = 1
    again = await world.open()
    assert not again.held.is_present
    await world.subscribe(again, f"{ROOT}/#")
    assert await world.waiting(again) == []


# -- subscriptions


async def test_filters_that_reach_outside_are_refused_one_by_one(world: World) -> None:
    board = await world.open()
    first = await world.subscribe(board, "#", f"{ROOT}/command", "devices/+/status")
    assert first + await world.subscribe(board, f"$share/a/{ROOT}/x", "$share/a/#") == (
        Reason.NOT_AUTHORIZED,
        Reason.GRANTED_QOS_1,
        Reason.NOT_AUTHORIZED,
        Reason.GRANTED_QOS_1,
        Reason.NOT_AUTHORIZED,
    )


async def test_a_session_has_a_bounded_number_of_subscriptions(world: World) -> None:
    board = await world.open()
    assert await world.subscribe(board, *(f"{ROOT}/{n}" for n in range(3))) == (Reason.GRANTED_QOS_1,) * 3
    assert await world.subscribe(board, f"{ROOT}/3") == (Reason.QUOTA_EXCEEDED,)
    assert await world.subscribe(board, f"{ROOT}/0", qos=2) == (Reason.GRANTED_QOS_2,)


async def test_one_packet_names_a_bounded_number_of_filters(world: World) -> None:
    board = await world.open()
    filters = [f"{ROOT}/event"] * 4
    assert set(await world.subscribe(board, *filters)) == {Reason.QUOTA_EXCEEDED}
    packet = Unsubscribe(2, tuple(filters))
    found = await world.do(lambda tx: world.broker.unsubscribe(tx, board.held, packet))
    assert set(found) == {Reason.IMPLEMENTATION_SPECIFIC_ERROR}
    await world.publish(board, f"{ROOT}/event", b"x")
    assert board.deliveries == []


async def test_who_unsubscribes_hears_no_more(world: World) -> None:
    board = await world.open()
    await world.subscribe(board, f"{ROOT}/event")
    packet = Unsubscribe(2, (f"{ROOT}/event", f"{ROOT}/none"))
    found = await world.do(lambda tx: world.broker.unsubscribe(tx, board.held, packet))
    assert found == (Reason.SUCCESS, Reason.NO_SUBSCRIPTION_EXISTED)
    await world.publish(board, f"{ROOT}/event", b"x")
    assert board.deliveries == []


async def test_who_wants_none_of_its_own_gets_none(world: World) -> None:
    board, other = await world.open(), await world.open("dev_1/other")
    await world.subscribe(board, f"{ROOT}/event", no_local=True)
    await world.publish(board, f"{ROOT}/event", b"mine")
    await world.publish(other, f"{ROOT}/event", b"other")
    assert board.payloads == [b"other"]


async def test_a_shared_subscription_gives_each_message_to_one_of_its_members(world: World) -> None:
    board, one, two = await world.open(), await world.open("dev_1/one"), await world.open("dev_1/two")
    for member in (one, two):
        await world.subscribe(member, f"$share/group/{ROOT}/event")
    for n in range(4):
        await world.publish(board, f"{ROOT}/event", b"%d" % n)
    assert sorted(one.payloads + two.payloads) == [b"0", b"1", b"2", b"3"]
    assert (len(one.payloads), len(two.payloads)) == (2, 2)
    await world.close(two)
    await world.publish(board, f"{ROOT}/event", b"4")
    assert one.payloads[-1] == b"4"


async def test_identifiers_of_all_filters_that_match_are_told(world: World) -> None:
    board = await world.open()
    for identifier, text in ((7, f"{ROOT}/#"), (8, f"{ROOT}/event")):
        packet = Subscribe(1, (Subscription(text, 1),), Properties(subscription_ids=(identifier,)))
        await world.do(lambda tx, packet=packet: world.broker.subscribe(tx, board.held, packet, world.now_ms))
    await world.publish(board, f"{ROOT}/event", b"x")
    assert [sorted(one.identifiers) for one in board.deliveries] == [[7, 8]]
    assert [sorted(one.identifiers) for one in await world.waiting(board)] == [[7, 8]]


# -- retained


async def test_what_is_retained_is_told_to_whoever_comes_later(world: World) -> None:
    board = await world.open()
    await world.publish(board, f"{ROOT}/status", b"old", retain=True)
    await world.publish(board, f"{ROOT}/status", b"up", retain=True)
    await world.publish(board, f"{ROOT}/event", b"not kept")
    late = await world.open("dev_1/late")
    await world.subscribe(late, f"{ROOT}/#")
    assert late.news == 1
    (found,) = await world.waiting(late)
    assert (found.message.payload, found.retain, found.qos) == (b"up", True, 1)
    await world.publish(board, f"{ROOT}/status", b"", retain=True)
    later = await world.open("dev_1/late", is_clean=True)
    await world.subscribe(later, f"{ROOT}/#")
    assert await world.waiting(later) == []


@pytest.mark.parametrize(("handling", "times"), [(0, 2), (1, 1), (2, 0)])
async def test_retained_messages_come_as_the_subscription_asks(world: World, handling: int, times: int) -> None:
    board = await world.open()
    await world.publish(board, f"{ROOT}/status", b"up", retain=True)
    for _ in range(2):
        await world.subscribe(board, f"{ROOT}/#", retain_handling=handling)
    assert len(await world.waiting(board)) == times


async def test_a_message_says_that_it_is_retained_only_to_who_asked_for_that(world: World) -> None:
    board, plain, told = await world.open(), await world.open("dev_1/plain"), await world.open("dev_1/told")
    await world.subscribe(plain, f"{ROOT}/#")
    await world.subscribe(told, f"{ROOT}/#", retain_as_published=True)
    await world.publish(board, f"{ROOT}/status", b"up", retain=True)
    assert ([one.retain for one in plain.deliveries], [one.retain for one in told.deliveries]) == ([False], [True])


async def test_a_device_retains_a_bounded_number(world: World) -> None:
    board = await world.open()
    for n in range(2):
        assert await world.publish(board, f"{ROOT}/telemetry/{n}", b"x", retain=True) is Reason.SUCCESS
    assert await world.publish(board, f"{ROOT}/telemetry/2", b"x", retain=True) is Reason.QUOTA_EXCEEDED
    assert await world.publish(board, f"{ROOT}/telemetry/1", b"y", retain=True) is Reason.SUCCESS
    assert await world.publish(board, f"{ROOT}/telemetry/0", b"", retain=True) is Reason.SUCCESS
    assert await world.publish(board, f"{ROOT}/telemetry/2", b"x", retain=True) is Reason.SUCCESS


async def test_wills_do_not_lift_the_number_of_retained_messages(world: World) -> None:
    screen = await world.open("dev_1/screen")
    await world.subscribe(screen, f"{ROOT}/#")
    for n in range(4):
        last = Will(f"{ROOT}/telemetry/{n}", b"gone", 1, True)
        await world.close(await world.open(will=last), keeps_will=True)
    assert len(screen.deliveries) == 4
    late = await world.open("dev_1/late")
    await world.subscribe(late, f"{ROOT}/#")
    assert len(await world.waiting(late)) == 2


async def test_a_retained_message_that_is_over_is_told_to_nobody(world: World) -> None:
    board = await world.open()
    said = Properties(message_expiry_s=10)
    await world.publish(board, f"{ROOT}/status", b"up", retain=True, properties=said)
    world.now_ms += 10_000
    await world.subscribe(board, f"{ROOT}/#")
    assert await world.waiting(board) == []


# -- wills


def will(delay_s: int = 0, *, retain: bool = False) -> Will:
    return Will(f"{ROOT}/status", b"gone", 1, retain, Properties(will_delay_s=delay_s) if delay_s else Properties())


Ending = Callable[[World, Connected], Awaitable[None]]


async def test_a_will_is_published_when_the_connection_breaks_and_not_when_it_is_ended(world: World) -> None:
    screen = await world.open("dev_1/screen")
    await world.subscribe(screen, f"{ROOT}/#")
    await world.close(await world.open(will=will()), keeps_will=False)
    assert screen.payloads == []
    await world.close(await world.open(will=will()), keeps_will=True)
    assert screen.payloads == [b"gone"]
    await world.close(await world.open(will=will(30)), keeps_will=True, expiry_s=0)  # its session ends: no delay
    assert screen.payloads == [b"gone", b"gone"]


async def test_a_will_waits_as_long_as_it_says_and_not_for_somebody_who_came_back(world: World) -> None:
    screen = await world.open("dev_1/screen")
    await world.subscribe(screen, f"{ROOT}/#")
    await world.close(await world.open(will=will(30)), keeps_will=True)
    world.now_ms += 29_999
    await world.sweep()
    board = await world.open()
    world.now_ms += 60_000
    await world.sweep()
    assert screen.payloads == []
    await world.close(board)
    await world.close(await world.open(will=will(30)), keeps_will=True)
    world.now_ms += 30_000
    await world.sweep()
    await world.sweep()
    assert screen.payloads == [b"gone"]


async def test_a_device_that_was_cut_off_has_no_will(world: World) -> None:
    screen = await world.open("dev_1/screen")
    await world.subscribe(screen, f"{ROOT}/#")
    board, waiting = await world.open(will=will()), await world.open("dev_1/waiting", will=will(30))
    await world.close(waiting, keeps_will=True)
    world.epochs["dev_1"] = 2
    await world.close(board, keeps_will=True)
    world.now_ms += 60_000
    await world.sweep()
    assert screen.payloads == []


async def test_what_is_wrong_with_one_session_is_not_the_others(world: World) -> None:
    """A will that could not be told came first in every sweep: no other was told, and no session ended."""
    screen = await world.open("dev_1/screen")
    await world.subscribe(screen, f"{ROOT}/#")

    def arrived(_: Transaction, message: Message) -> None:
        if message.payload == b"bad":
            raise ValueError("an error of ours")

    world.broker.arrived = arrived
    for name, payload in (("bad", b"bad"), ("good", b"gone")):
        said = Will(f"{ROOT}/status", payload, 1, False, Properties(will_delay_s=1))
        await world.close(await world.open(f"dev_1/{name}", will=said), keeps_will=True)
    world.now_ms += 1000
    boards = cast("Any", object.__new__(Boards))
    boards.broker, boards.parts, boards._log = world.broker, SimpleNamespace(unclosed=[]), get_logger("test")
    clock = SimpleNamespace(now_ms=lambda: world.now_ms)
    boards._ground = SimpleNamespace(database=world.database, clock=clock)
    boards._alive = lambda _: frozenset({world.node})
    await boards._look_at_sessions()
    assert screen.payloads == [b"gone"]
    assert await world.do(lambda tx: world.broker.steps(tx, frozenset({world.node}), world.now_ms)) == []


async def test_a_key_that_was_revoked_has_no_will(world: World) -> None:
    """Its device stands: days later it said what a thief had left."""
    gone: set[str] = set()
    world.broker.rules = replace(Rules(), holds=lambda _tx, credential_id, _now: credential_id not in gone)
    screen = await world.open("dev_1/screen")
    await world.subscribe(screen, f"{ROOT}/#")
    for name in ("stolen", "own"):
        owner = replace(BOARD, credential_id=f"key_{name}")
        said = Will(f"{ROOT}/status", name.encode(), 1, False, Properties(will_delay_s=60))
        await world.close(await world.open(f"dev_1/{name}", owner=owner, will=said), keeps_will=True)
    gone.add("key_stolen")
    world.now_ms += 60_000
    await world.sweep()
    assert screen.payloads == [b"own"]


async def test_boards_of_a_node_that_is_gone_have_a_moment_to_come_back(world: World) -> None:
    lost = World(world.database, LocalBus(), "nod_gone")
    await lost.open(will=will())
    await lost.open("dev_1/back", will=will())
    screen = await world.open("dev_1/screen")
    await world.subscribe(screen, f"{ROOT}/#")
    await world.sweep()
    back = await world.open("dev_1/back")
    assert back.held.is_present
    world.now_ms += GONE_NODE_GRACE_S * 1000
    await world.sweep()
    assert screen.payloads == [b"gone"]


# -- retention


async def test_what_many_devices_retain_is_found_whatever_else_they_do(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a filter over several devices the first thousand topics of the installation were looked at."""
    monkeypatch.setattr(store, "_PAGE", 2)
    devices = [f"dev_{number}" for number in range(1, 6)]
    for device in devices:
        world.epochs[device] = 1
        board = await world.open(device, owner=Owner(device, "usr_1", 1))
        for topic in ("a%status", "status"):
            await world.publish(board, f"devices/{device}/{topic}", b"x", retain=True)

    def topics(text: str) -> Callable[[Transaction], list[str]]:
        return lambda tx: [one.topic for one in store.retained_for(tx, text)]

    assert await world.do(topics("devices/+/status")) == [f"devices/{device}/status" for device in devices]
    assert await world.do(topics("devices/dev_2/status")) == ["devices/dev_2/a%status", "devices/dev_2/status"]
    assert len(await world.do(topics("#"))) == 10


async def test_messages_are_forgotten_by_age_and_number_unless_somebody_waits_for_them(world: World) -> None:
    board, away = await world.open(), await world.open("dev_1/away")
    await world.subscribe(away, f"{ROOT}/event")
    await world.close(away)
    await world.publish(board, f"{ROOT}/event", b"waited for")
    await world.publish(board, f"{ROOT}/status", b"retained", retain=True)
    for n in range(4):
        world.now_ms += 1000
        await world.publish(board, f"{ROOT}/telemetry/t", b"%d" % n)

    async def trim(before_ms: int, keep: int) -> int:
        found = await world.do(lambda tx: expendable(tx, before_ms=before_ms, keep=keep))
        await world.do(lambda tx: forget(tx, found))
        return len(found)

    assert await trim(world.now_ms - 2000, 100) == 1
    assert await trim(0, 4) == 1
    assert await trim(world.now_ms + 1, 100) == 2
    again = await world.open("dev_1/away")
    assert [one.message.payload for one in await world.waiting(again)] == [b"waited for"]
    await world.subscribe(again, f"{ROOT}/status")
    assert [one.message.payload for one in await world.waiting(again)][1:] == [b"retained"]
