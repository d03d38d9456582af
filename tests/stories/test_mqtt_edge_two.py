"""Two gateways at one edge: what boards say and hear does not depend on which of them lives."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.board import Board, mqtt_environment, wait_for
from tests.support.edge import Edge, EdgeServer, answer
from tests.support.nodes import Pair
from tests.support.postgres import PostgresServer
from tests.support.process import ROOMY
from tests.support.thing import Thing

BOARDS, MOST, AFTERWARDS, PAUSE_S = 4, 5_000, 20, 0.005


class Two:
    def __init__(self, folder: Path, postgres: PostgresServer) -> None:
        self.server = EdgeServer(folder)
        self.pair = Pair(folder, postgres, settings=ROOMY | self.server.environment)
        for node in (self.pair.a, self.pair.b):
            node.environment |= mqtt_environment()
        self.pair.start()
        self.server.begin(self.pair.a)
        self.at_a, self.at_b = Edge(self.pair.a, self.server), Edge(self.pair.b, self.server)
        self.at_a.opened(Thing.make(self.pair.a, "First")).disconnect()
        for one in (self.at_a, self.at_b):
            wait_for(lambda one=one: "edge.connected" in one.gateway.log.read_text())

    def events(self, thing: Thing) -> list[str]:
        rows = self.pair.query(f"SELECT name FROM thing_events WHERE device_id = '{thing.device_id}'")
        return [str(row["name"]) for row in rows]

    def close(self) -> None:
        self.pair.close()
        self.server.kill()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer) -> Iterator[Two]:
    found = Two(tmp_path_factory.mktemp("two"), postgres)
    yield found
    found.close()


def test_both_know_who_is_at_the_edge(two: Two) -> None:
    thing = Thing.make(two.pair.a, "Board")
    board = two.at_a.board(thing).opened()
    wait_for(lambda: two.at_a.is_online(thing) and two.at_b.is_online(thing))
    two.pair.b.ask("devices", "revoke", thing.device_id)
    board.ended()
    wait_for(lambda: not two.at_a.is_online(thing) and not two.at_b.is_online(thing))


def test_nothing_that_the_edge_acknowledged_is_lost_when_a_gateway_is_killed(two: Two) -> None:
    """It may be there twice: what the killed one had committed and not yet acknowledged comes again."""
    things = [Thing.make(two.pair.a, f"Board {n}") for n in range(BOARDS)]
    boards = [two.at_a.board(one).opened() for one in things]
    waiting = two.at_b.lamp()
    command_id = two.at_a.command(waiting)

    killed = threading.Event()

    def say(board: Board) -> set[str]:
        """Before and after."""
        names = [f"n{n}" for n in range(MOST)]
        last = MOST
        for number, name in enumerate(names):
            if number == last:
                break
            if last == MOST and killed.wait(PAUSE_S):
                last = number + AFTERWARDS
            assert board.publish(f"{board.root}/event", json.dumps({"event": name})) == 0
        return set(names[:last])

    with ThreadPoolExecutor(BOARDS) as pool:
        saying = [pool.submit(say, one) for one in boards]
        wait_for(lambda: len(two.events(things[0])) > AFTERWARDS)
        two.pair.a.kill()
        killed.set()
        wanted = [one.result() for one in saying]
    wait_for(lambda: all(set(two.events(one)) == names for one, names in zip(things, wanted, strict=True)))
    for one in boards:
        one.disconnect()
    lamp = two.at_b.opened(waiting)
    lamp.subscribe(f"{lamp.root}/command")
    assert json.loads(lamp.heard().payload)["command_id"] == command_id, "of a command that the other one made"
    answer(lamp, command_id)
    wait_for(lambda: two.at_b.state_of(waiting) == "done")
    assert two.at_b.is_online(waiting)
    lamp.disconnect()
