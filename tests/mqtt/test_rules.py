"""Rules that change while sessions live: what is asked of each message, wherever it is on its way."""

from dataclasses import dataclass, field, replace

import pytest

from entobot.bus.bus_local import LocalBus
from entobot.core.topic_limits import NO_LIMITS, TopicLimits, clean_limits
from entobot.mqtt.effects import Finished
from entobot.mqtt.holding import Forbidden, Owner, Rules
from entobot.mqtt.model import Action, Withheld
from entobot.mqtt.packets import Properties, Publish, Reason, Will
from entobot.mqtt.policy import Decision, own_subtree
from entobot.storage.database import Database, Transaction
from tests.mqtt.test_service import World

ON_EVERY_STORE = True
OTHER = Owner("dev_2", "usr_2", 1)
EVENT = "devices/dev_1/event"


@dataclass
class Said:
    """The own subtree, and what else is said; what is taken back is so at once."""

    also: set[tuple[str, Action, str]] = field(default_factory=set[tuple[str, Action, str]])
    never: set[tuple[str, Action, str]] = field(default_factory=set[tuple[str, Action, str]])

    def decide(self, _tx: Transaction, device_id: str, action: Action, text: str) -> Decision:
        asked = (device_id, action, text)
        if asked in self.never:
            return Decision(is_allowed=False, rule="never")
        return Decision(is_allowed=True, rule="also") if asked in self.also else own_subtree(*asked)

    def may_receive(self, tx: Transaction, device_id: str, topic: str) -> bool:
        return self.decide(tx, device_id, Action.SUBSCRIBE, topic).is_allowed


@pytest.fixture
def said() -> Said:
    return Said({("dev_2", Action.SUBSCRIBE, EVENT), ("dev_2", Action.SUBSCRIBE, "devices/+/#")})


@pytest.fixture
def world(database: Database, said: Said) -> World:
    world = World(database, LocalBus())
    world.broker.rules = Rules(said.decide, said.may_receive)
    return world


@pytest.fixture
def withheld(world: World) -> list[tuple[Withheld, int]]:
    found: list[tuple[Withheld, int]] = []
    world.broker.on_withheld = lambda why, many: found.append((why, many))
    return found


@pytest.mark.parametrize("text", [EVENT, "devices/+/#"])
async def test_each_message_is_asked_about_when_it_comes(
    world: World, said: Said, withheld: list[tuple[Withheld, int]], text: str
) -> None:
    board, reader = await world.open(), await world.open("dev_2", owner=OTHER)
    assert await world.subscribe(reader, text) == (Reason.GRANTED_QOS_1,)
    await world.publish(board, EVENT, b"1")
    await world.publish(board, "devices/dev_1/status", b"not for others")
    said.also.discard(("dev_2", Action.SUBSCRIBE, EVENT))
    await world.publish(board, EVENT, b"2")
    said.also.add(("dev_2", Action.SUBSCRIBE, EVENT))
    await world.publish(board, EVENT, b"3", qos=0)
    assert reader.payloads == [b"1", b"3"]
    assert [one.message.payload for one in await world.waiting(reader)] == [b"1"]
    status_too = text != EVENT
    assert withheld == [(Withheld.ARRIVED, 1)] * (1 + status_too), "whatever nobody asked for is not withheld"


async def test_what_waits_is_withdrawn_when_it_may_not_be_read_any_more(
    world: World, said: Said, withheld: list[tuple[Withheld, int]]
) -> None:
    board, reader = await world.open(), await world.open("dev_2", owner=OTHER)
    await world.subscribe(reader, EVENT, "devices/dev_2/#")
    await world.close(reader)
    await world.publish(board, EVENT, b"1")
    await world.publish(await world.open("dev_2/own", owner=OTHER), "devices/dev_2/event", b"own")
    said.also.clear()
    again = await world.open("dev_2", owner=OTHER)
    found = [(one.message.payload, one.is_withdrawn) for one in await world.waiting(again)]
    assert found == [(b"1", True), (b"own", False)]
    assert withheld == [], "it was only looked at"
    done = [Finished(1, is_withheld=True), Finished(2)]
    await world.do(lambda tx: world.broker.finish(tx, again.held, done))
    assert withheld == [(Withheld.WAITED, 1)]


async def test_a_forbidden_topic_of_the_own_subtree_costs_the_others_nothing(world: World, said: Said) -> None:
    said.never.add(("dev_1", Action.SUBSCRIBE, EVENT))
    board, screen = await world.open(), await world.open("dev_1/screen")
    assert await world.subscribe(screen, "devices/dev_1/#", EVENT) == (Reason.GRANTED_QOS_1, Reason.NOT_AUTHORIZED)
    await world.publish(board, EVENT, b"1")
    await world.publish(board, "devices/dev_1/status", b"2")
    assert screen.payloads == [b"2"]


async def test_what_is_retained_is_asked_about_as_well(world: World, withheld: list[tuple[Withheld, int]]) -> None:
    board, reader = await world.open(), await world.open("dev_2", owner=OTHER)
    await world.publish(board, EVENT, b"1", retain=True)
    await world.publish(board, "devices/dev_1/status", b"2", retain=True)
    await world.subscribe(reader, "devices/+/#")
    assert [one.message.payload for one in await world.waiting(reader)] == [b"1"]
    assert withheld == [(Withheld.RETAINED, 1)]


async def test_a_share_gives_nothing_to_a_member_that_may_not_read_it(world: World, said: Said) -> None:
    board, one, two = await world.open(), await world.open("dev_1/one"), await world.open("dev_2", owner=OTHER)
    for member in (one, two):
        await world.subscribe(member, f"$share/group/{EVENT}")
    said.also.clear()
    for n in range(3):
        await world.publish(board, EVENT, b"%d" % n)
    assert (one.payloads, two.payloads) == ([b"0", b"1", b"2"], [])


async def test_a_will_is_asked_about_when_it_is_made_and_when_it_is_published(world: World, said: Said) -> None:
    will = Will("devices/dev_1/gone", b"gone", 1, False, Properties())
    screen = await world.open("dev_1/screen")
    await world.subscribe(screen, "devices/dev_1/#")
    board = await world.open(will=will)
    said.never.add(("dev_1", Action.PUBLISH, will.topic))
    await world.close(board, keeps_will=True)
    assert screen.payloads == []
    with pytest.raises(Forbidden, match="never"):
        await world.open(will=will)
    said.never.clear()
    await world.close(await world.open(will=will), keeps_will=True)
    assert screen.payloads == [b"gone"]


async def test_live_sessions_are_told_that_other_rules_hold(world: World) -> None:
    board, gone = await world.open(), await world.open("dev_1/gone")
    await world.close(gone)
    world.broker.live.rules_changed()
    assert (board.rereads, gone.rereads) == (1, 0)


# -- credentials that are limited to topics


@pytest.fixture
def limits(world: World) -> dict[str, TopicLimits]:
    """By credential; what is changed here holds at once."""
    found: dict[str, TopicLimits] = {}
    world.broker.rules = replace(world.broker.rules, limits_of=lambda _tx, one: found.get(one, NO_LIMITS))
    return found


def by(credential_id: str) -> Owner:
    return Owner("dev_1", "usr_1", 1, credential_id)


async def test_a_credential_publishes_within_its_limits_and_the_refusal_names_it(
    world: World, limits: dict[str, TopicLimits]
) -> None:
    limits["key_narrow"] = clean_limits(["telemetry/#"], None)
    narrow, wide = await world.open(owner=by("key_narrow")), await world.open("dev_1/wide", owner=by("key_wide"))
    await world.subscribe(wide, "devices/dev_1/#")
    assert await world.publish(narrow, "devices/dev_1/telemetry/t", b"1") is Reason.SUCCESS
    refused = Publish(EVENT, b"2", 1)
    reason, why = await world.do(lambda tx: world.broker.publish(tx, narrow.held, refused, world.now_ms))
    assert (reason, "key_narrow" in why, "telemetry/#" in why) == (Reason.NOT_AUTHORIZED, True, True)
    assert await world.publish(narrow, "devices/dev_2/telemetry/t", b"3") is Reason.NOT_AUTHORIZED
    assert await world.publish(wide, EVENT, b"4") is Reason.SUCCESS
    assert wide.payloads == [b"1", b"4"]
    limits["key_narrow"] = NO_LIMITS
    assert await world.publish(narrow, EVENT, b"5") is Reason.SUCCESS
    limits["key_narrow"] = clean_limits([], None)
    assert await world.publish(narrow, "devices/dev_1/telemetry/t", b"6") is Reason.NOT_AUTHORIZED


async def test_a_credential_is_brought_what_lies_within_its_limits(
    world: World, limits: dict[str, TopicLimits]
) -> None:
    limits["key_narrow"] = clean_limits(None, ["command", "status"])
    board, screen = await world.open(), await world.open("dev_1/screen", owner=by("key_narrow"))
    await world.publish(board, "devices/dev_1/status", b"kept", retain=True)
    await world.publish(board, EVENT, b"not kept", retain=True)
    found = await world.subscribe(screen, "devices/dev_1/#", EVENT, "devices/dev_1/telemetry/+")
    assert found == (Reason.GRANTED_QOS_1, Reason.NOT_AUTHORIZED, Reason.NOT_AUTHORIZED)
    for qos in (0, 1):
        await world.publish(board, "devices/dev_1/status", b"%d" % qos, qos)
        await world.publish(board, EVENT, b"not this", qos)
    assert screen.payloads == [b"0", b"1"]
    assert [one.message.payload for one in await world.waiting(screen)] == [b"kept", b"1"]


async def test_what_waits_is_read_by_the_credential_that_comes_for_it(
    world: World, limits: dict[str, TopicLimits]
) -> None:
    """And while nobody is there, by the last one."""
    limits["key_narrow"] = clean_limits(None, ["command"])
    board, screen = await world.open(), await world.open("dev_1/screen", owner=by("key_wide"))
    await world.subscribe(screen, "devices/dev_1/#")
    await world.close(screen)
    await world.publish(board, EVENT, b"1")
    again = await world.open("dev_1/screen", owner=by("key_narrow"))
    assert [one.is_withdrawn for one in await world.waiting(again)] == [True]
    await world.close(again)
    await world.publish(board, EVENT, b"2")
    assert len(await world.waiting(await world.open("dev_1/screen", owner=by("key_wide")))) == 1
    limits["key_wide"] = clean_limits(None, [])
    world.broker.live.rules_changed("dev_2")
    assert board.rereads == 0
    world.broker.live.rules_changed("dev_1")
    assert board.rereads == 1


async def test_a_will_lies_within_the_limits_when_it_is_made_and_when_it_is_published(
    world: World, limits: dict[str, TopicLimits]
) -> None:
    will = Will("devices/dev_1/status", b"gone", 1, False, Properties())
    screen = await world.open("dev_1/screen")
    await world.subscribe(screen, "devices/dev_1/#")
    board = await world.open(owner=by("key_1"), will=will)
    limits["key_1"] = clean_limits(["telemetry/#"], None)
    await world.close(board, keeps_will=True)
    assert screen.payloads == []
    with pytest.raises(Forbidden, match="key_1"):
        await world.open(owner=by("key_1"), will=will)
    limits["key_1"] = clean_limits(["status"], None)
    await world.close(await world.open(owner=by("key_1"), will=will), keeps_will=True)
    assert screen.payloads == [b"gone"]
