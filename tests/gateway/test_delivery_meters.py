"""How much is on its way, counted where it waits."""

from prometheus_client.parser import text_string_to_metric_families as parse

from entobot.core.permissions import Scope
from entobot.gateway.meters import DeliveryMeters
from entobot.gateway.window import MAX_UNACKED_EVENTS
from entobot.telemetry.exposition import expose
from entobot.telemetry.meters import Meters
from tests.support.gateway import Reader, World, device, quiet


class Counted(Reader):
    def __init__(self, world: World, name: str, meters: Meters) -> None:
        super().__init__(world, device(name, frozenset({Scope.CHAT})))
        self.delivery._meters = DeliveryMeters(meters, "websocket")


async def told(meters: Meters) -> tuple[float, float, float]:
    """Events sent and not acknowledged, events not sent, connections for which such wait."""
    text = (await expose(meters, ""))[0].decode()
    values = {family.name: family.samples[0].value for family in parse(text) if family.name.startswith("entobot")}
    return (
        values["entobot_delivery_unacknowledged"],
        values["entobot_delivery_waiting"],
        values["entobot_connections_behind"],
    )


async def test_what_was_sent_counts_until_it_is_acknowledged(world: World) -> None:
    meters = Meters()
    one = await Counted(world, "dev_1", meters).open(0)
    await world.append(5)
    await quiet()
    assert await told(meters) == (5, 0, 0)
    one.delivery.acknowledged(3)
    assert await told(meters) == (2, 0, 0)
    one.delivery.acknowledged(5)
    assert await told(meters) == (0, 0, 0)


async def test_what_a_full_window_holds_back_waits_and_is_no_more_when_it_was_sent(world: World) -> None:
    meters = Meters()
    one = await Counted(world, "dev_1", meters).open(0)
    await world.append(MAX_UNACKED_EVENTS + 40)
    await quiet()
    assert await told(meters) == (MAX_UNACKED_EVENTS, 40, 1)
    one.delivery.acknowledged(MAX_UNACKED_EVENTS)
    await quiet()
    assert await told(meters) == (40, 0, 0)


async def test_a_connection_that_ends_leaves_nothing_behind_in_the_counts(world: World) -> None:
    meters = Meters()
    one = await Counted(world, "dev_1", meters).open(0)
    await world.append(MAX_UNACKED_EVENTS + 40)
    await quiet()
    one.delivery.stop()
    one.delivery.acknowledged(10)
    one.delivery.stop()
    assert await told(meters) == (0, 0, 0)
