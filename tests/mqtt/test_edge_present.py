"""Who is at the edge, from what servers tell of it, in whatever order that comes."""

import json
from typing import Any

import pytest

from entobot.mqtt.edge_present import Connection, Happened, Place, Present, read_event, read_rows
from entobot.mqtt.edge_words import Entrant, Unreadable

BY = Entrant("dev_1", "key_1", "0f")
START = "2026-11-23T03:22:24.46426607Z"
START_MS = 1795404144464


def connection(number: int, device_id: str = "dev_1") -> Connection:
    return Connection(Place("S", number), Entrant(device_id, "key_1", "0f"), "192.0.2.7", START_MS)


def event(**more: Any) -> bytes:
    client = {"start": START, "host": "192.0.2.7", "id": 35, "user": BY.name, "client_type": "mqtt"}
    said = {name: more.pop(name) for name in ("reason",) if name in more}
    return json.dumps({"server": {"id": "S"}, "client": client | more} | said).encode()


def test_events_are_of_boards_and_say_whether_the_connection_broke() -> None:
    assert read_event(event()) == Happened(connection(35))
    ended = {"stop": "2026-11-23T03:22:25.46426607Z"}
    assert read_event(event(**ended, reason="Client Closed")) == Happened(connection(35), START_MS + 1000)
    for why in ("Stale Connection", "Slow Consumer (Write Deadline)"):
        assert read_event(event(**ended, reason=why)) == Happened(connection(35), START_MS + 1000, is_broken=True)
    assert read_event(event(client_type="nats")) is None


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", event(id="x"), event(start="soon"), event(user=5)])
def test_what_cannot_be_read_says_so(data: bytes) -> None:
    with pytest.raises(Unreadable):
        read_event(data)


def test_a_list_names_boards() -> None:
    row = {"cid": 35, "type": "mqtt", "authorized_user": BY.name, "ip": "192.0.2.7", "start": START}
    assert read_rows("S", [row, row | {"type": "nats"}]) == [connection(35)]
    with pytest.raises(Unreadable):
        read_rows("S", [row | {"cid": None}])


def test_a_board_is_present_until_its_last_connection_ends() -> None:
    present = Present()
    present.note(Happened(connection(1)))
    present.note(Happened(connection(2)))
    present.note(Happened(connection(1), 5))
    present.note(Happened(connection(1), 5))
    assert (present.has("dev_1"), present.of("dev_1"), len(present)) == (True, [connection(2)], 1)
    present.note(Happened(connection(2), 5))
    assert (present.has("dev_1"), present.all()) == (False, [])


def test_lists_tell_who_came_and_went_unheard() -> None:
    present = Present()
    present.note(Happened(connection(1)))
    present.begin_comparing()
    assert present.compare([connection(2, "dev_2")]) == ([connection(2, "dev_2")], [connection(1)])
    assert (present.has("dev_1"), present.has("dev_2")) == (False, True)


def test_what_happens_while_the_lists_are_asked_for_is_newer_than_they_are() -> None:
    present = Present()
    present.note(Happened(connection(1)))
    present.begin_comparing()
    present.note(Happened(connection(1), 5))
    present.note(Happened(connection(2)))
    assert present.compare([connection(1)]) == ([], [])
    assert present.all() == [connection(2)]
