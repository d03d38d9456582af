"""Who is connected to the nats-servers of the edge, from what they say of it: events, and lists of connections. Pure."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from entobot.mqtt.edge_words import Entrant, Unreadable

BOARDS = frozenset({"mqtt", "mqtt_ws", "mqtt_websocket"})
"""Kinds of clients, as they stand in requests, events and lists."""
BROKE = frozenset({"Stale Connection", "Read Error", "Write Error", "TLS Handshake Failure"})
BROKE_BEGINS = "Slow Consumer"
"""Reasons of an end that was nobody's wish. A socket that is closed without a word looks like one that was closed with."""


@dataclass(frozen=True, slots=True)
class Place:
    """Of one connection. Numbers are given once in the life of a server."""

    server_id: str
    number: int


@dataclass(frozen=True, slots=True)
class Connection:
    place: Place
    entrant: Entrant
    address: str
    since_ms: int


@dataclass(frozen=True, slots=True)
class Happened:
    """A board connected, or its connection ended at `ended_ms`."""

    connection: Connection
    ended_ms: int | None = None
    is_broken: bool = False


def read_event(data: bytes) -> Happened | None:
    """None for other clients than boards. Raises Unreadable."""
    try:
        said: Any = json.loads(data)
        client = said["client"]
        if client.get("client_type") not in BOARDS:
            return None
        found = Connection(
            Place(said["server"]["id"], int(client["id"])),
            Entrant.parse(client.get("user", "")),
            client.get("host", ""),
            _ms(client["start"]),
        )
        if "stop" not in client:
            return Happened(found)
        why = said.get("reason", "")
        return Happened(found, _ms(client["stop"]), why in BROKE or why.startswith(BROKE_BEGINS))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise Unreadable(str(error)) from None


def read_rows(server_id: str, rows: Iterable[Mapping[str, Any]]) -> list[Connection]:
    """Of a server's list of its connections. Raises Unreadable."""
    try:
        return [
            Connection(
                Place(server_id, int(row["cid"])),
                Entrant.parse(row.get("authorized_user", "")),
                row.get("ip", ""),
                _ms(row["start"]),
            )
            for row in rows
            if row.get("type") in BOARDS
        ]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise Unreadable(str(error)) from None


def _ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


class Present:
    """Every node of the gateway knows all of them, whoever let them in."""

    def __init__(self) -> None:
        self._at: dict[Place, Connection] = {}
        self._of: dict[str, dict[Place, Connection]] = {}
        self._meanwhile: dict[Place, Connection | None] | None = None

    def __len__(self) -> int:
        return len(self._at)

    def has(self, device_id: str) -> bool:
        return device_id in self._of

    def of(self, device_id: str) -> list[Connection]:
        return list(self._of.get(device_id, {}).values())

    def all(self) -> list[Connection]:
        return list(self._at.values())

    def note(self, happened: Happened) -> None:
        """In whatever order."""
        one = happened.connection
        if self._meanwhile is not None:
            self._meanwhile[one.place] = one if happened.ended_ms is None else None
        if happened.ended_ms is None:
            self._add(one)
        else:
            self._remove(one.place)

    def begin_comparing(self) -> None:
        """Before the lists are asked for: what happens meanwhile is newer than they are."""
        self._meanwhile = {}

    def compare(self, found: Iterable[Connection]) -> tuple[list[Connection], list[Connection]]:
        """Those that had come, and those that had gone, unheard."""
        wanted = {one.place: one for one in found}
        for place, one in (self._meanwhile or {}).items():
            if one is None:
                wanted.pop(place, None)
            else:
                wanted[place] = one
        self._meanwhile = None
        came = [one for place, one in wanted.items() if place not in self._at]
        went = [one for place, one in self._at.items() if place not in wanted]
        for one in came:
            self._add(one)
        for one in went:
            self._remove(one.place)
        return came, went

    def _add(self, one: Connection) -> None:
        self._at[one.place] = one
        self._of.setdefault(one.entrant.device_id, {})[one.place] = one

    def _remove(self, place: Place) -> None:
        one = self._at.pop(place, None)
        if one is not None:
            mine = self._of[one.entrant.device_id]
            del mine[place]
            if not mine:
                del self._of[one.entrant.device_id]
