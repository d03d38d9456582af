"""Tables that the nodes of one database share about themselves."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Column, Index, Integer, Table, Text, bindparam, delete, func, insert, select, update
from sqlalchemy.sql.elements import BindParameter

from entobot.storage.database import Row, Transaction, metadata
from entobot.storage.upsert import upsert

BIG = BigInteger().with_variant(Integer, "sqlite")
CHUNK = 50
"""Rows of one statement: few sizes, so that each is compiled once."""
THE_CLUSTER = 1

nodes = Table(
    "nodes",
    metadata,
    Column("node_id", Text, primary_key=True),
    Column("place", Text, nullable=False),
    Column("beat", BigInteger, nullable=False),
    Column("version", Text, nullable=False),
    Column("started_at_ms", BigInteger, nullable=False),
)
connections = Table(
    "node_connections",
    metadata,
    Column("id", BIG, primary_key=True, autoincrement=True),
    Column("node_id", Text, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("device_id", Text, nullable=False),
    Column("is_one_too_many", Integer, nullable=False),
    Index("ix_node_connections_device", "device_id"),
    Index("ix_node_connections_node", "node_id", "number"),
)
marks = Table(
    "node_marks",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
)
cluster = Table(
    "node_cluster",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("server_key", Text, nullable=False),
    Column("audit_key", Text, nullable=False),
    Column("origin", Text, nullable=False),
    Column("name", Text, nullable=False),
)

# -- nodes

_INSERT_NODE = insert(nodes)
_BEAT = update(nodes).where(nodes.c.node_id == bindparam("node")).values(beat=nodes.c.beat + 1)
_NODES = select(nodes.c.node_id, nodes.c.place, nodes.c.beat)
_REMOVE_STILL = delete(nodes).where(nodes.c.node_id == bindparam("node"), nodes.c.beat == bindparam("at_beat"))
_REMOVE = delete(nodes).where(nodes.c.node_id == bindparam("node"))
_REMOVE_CONNECTIONS = delete(connections).where(connections.c.node_id == bindparam("node"))


class NodeRow(NamedTuple):
    node_id: str
    place: str
    beat: int


def insert_node(tx: Transaction, node_id: str, place: str, version: str, now_ms: int) -> None:
    row = {"node_id": node_id, "place": place, "beat": 0, "version": version, "started_at_ms": now_ms}
    tx.run(_INSERT_NODE, row)


def beat(tx: Transaction, node_id: str) -> bool:
    """False when others took this node for dead and removed it."""
    return tx.run(_BEAT, {"node": node_id}) == 1


def all_nodes(tx: Transaction) -> list[NodeRow]:
    return [NodeRow(row["node_id"], row["place"], int(row["beat"])) for row in tx.rows(_NODES)]


def remove_node(tx: Transaction, node_id: str, *, at_beat: int | None = None) -> bool:
    """Remove a node and its connections; with `at_beat` only if it has not beaten since."""
    if at_beat is None:
        is_gone = tx.run(_REMOVE, {"node": node_id}) == 1
    else:
        is_gone = tx.run(_REMOVE_STILL, {"node": node_id, "at_beat": at_beat}) == 1
    if is_gone:
        tx.run(_REMOVE_CONNECTIONS, {"node": node_id})
    return is_gone


# -- connections

_ROWS = {
    count: insert(connections).values(
        [
            {
                "node_id": bindparam("node"),
                "number": bindparam(f"number_{n}"),
                "device_id": bindparam(f"device_{n}"),
                "is_one_too_many": 0,
            }
            for n in range(count)
        ]
    )
    for count in (1, CHUNK)
}
_some_numbers: list[BindParameter[Any]] = [bindparam(f"number_{n}") for n in range(CHUNK)]
_some_devices: list[BindParameter[Any]] = [bindparam(f"device_{n}") for n in range(CHUNK)]
_REMOVE_SOME = delete(connections).where(
    connections.c.node_id == bindparam("node"), connections.c.number.in_(_some_numbers)
)
_ONLINE = select(connections.c.device_id).distinct().where(connections.c.device_id.in_(_some_devices))
_PLACES = (
    select(nodes.c.place)
    .select_from(connections.join(nodes, nodes.c.node_id == connections.c.node_id))
    .where(connections.c.device_id == bindparam("device"), connections.c.node_id != bindparam("node"))
)
_CROWDED = (
    select(connections.c.device_id, func.count().label("held"))
    .where(connections.c.device_id.in_(_some_devices), connections.c.is_one_too_many == 0)
    .group_by(connections.c.device_id)
    .having(func.count() > bindparam("most"))
)
_OLDEST = (
    select(connections.c.id, connections.c.node_id)
    .where(connections.c.device_id == bindparam("device"), connections.c.is_one_too_many == 0)
    .order_by(connections.c.id)
    .limit(bindparam("count"))
)
_MARK_CONNECTION = update(connections).where(connections.c.id == bindparam("which")).values(is_one_too_many=1)
_TOO_MANY = select(connections.c.number).where(
    connections.c.node_id == bindparam("node"), connections.c.is_one_too_many == 1
)


def insert_connections(tx: Transaction, node_id: str, rows: Sequence[tuple[int, str]]) -> None:
    """`rows` are number and device id. Their order here is the order in which devices count them."""
    for some in _chunks(rows):
        size = CHUNK if len(some) == CHUNK else 1
        for start in range(0, len(some), size):
            part = some[start : start + size]
            given: dict[str, object] = {"node": node_id}
            for n, (number, device_id) in enumerate(part):
                given[f"number_{n}"], given[f"device_{n}"] = number, device_id
            tx.run(_ROWS[size], given)


def remove_connections(tx: Transaction, node_id: str, numbers: Sequence[int]) -> None:
    for some in _chunks(numbers):
        tx.run(_REMOVE_SOME, {"node": node_id, **_padded("number", some, -1)})


def remove_all_connections(tx: Transaction, node_id: str) -> None:
    tx.run(_REMOVE_CONNECTIONS, {"node": node_id})


def online(tx: Transaction, device_ids: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for some in _chunks(device_ids):
        found |= {row["device_id"] for row in tx.rows(_ONLINE, _padded("device", some, ""))}
    return found


def places_of(tx: Transaction, device_id: str, other_than: str) -> list[str]:
    """Of the nodes that hold the device's connections, one for each connection, but for one node's."""
    return [row["place"] for row in tx.rows(_PLACES, {"device": device_id, "node": other_than})]


def mark_oldest(tx: Transaction, device_ids: Sequence[str], most: int) -> set[str]:
    """Of each device mark the oldest connections beyond `most`. Returns the nodes that have to end one."""
    concerned: set[str] = set()
    for some in _chunks(device_ids):
        for row in tx.rows(_CROWDED, {"most": most, **_padded("device", some, "")}):
            given = {"device": row["device_id"], "count": int(row["held"]) - most}
            for oldest in tx.rows(_OLDEST, given):
                tx.run(_MARK_CONNECTION, {"which": oldest["id"]})
                concerned.add(oldest["node_id"])
    return concerned


def marked_connections(tx: Transaction, node_id: str) -> list[int]:
    """Numbers of this node's connections that it has to end."""
    return [int(row["number"]) for row in tx.rows(_TOO_MANY, {"node": node_id})]


def _chunks(rows: Sequence[object]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(rows), CHUNK):
        yield rows[start : start + CHUNK]


def _padded(name: str, values: Sequence[object], filler: object) -> dict[str, object]:
    return {f"{name}_{n}": values[n] if n < len(values) else filler for n in range(CHUNK)}


# -- marks

_MARKS = select(marks.c.name, marks.c.value)
_MOVE_MARK = (
    upsert(marks)
    .values(name=bindparam("mark"), value=1)
    .on_conflict_do_update(index_elements=["name"], set_={"value": marks.c.value + 1})
    .returning(marks.c.value)
)


def move_mark(tx: Transaction, name: str) -> int:
    row = tx.first(_MOVE_MARK, {"mark": name})
    assert row is not None, "it is inserted or updated"
    return int(row["value"])


def all_marks(tx: Transaction) -> dict[str, int]:
    return {row["name"]: int(row["value"]) for row in tx.rows(_MARKS)}


# -- what all nodes have in common

_CLUSTER = select(cluster).where(cluster.c.id == THE_CLUSTER)
_INSERT_CLUSTER = insert(cluster)
_CHANGE_CLUSTER = (
    update(cluster).where(cluster.c.id == THE_CLUSTER).values(origin=bindparam("to_origin"), name=bindparam("to_name"))
)


def find_cluster(tx: Transaction) -> Row | None:
    return tx.first(_CLUSTER)


def insert_cluster(tx: Transaction, *, server_key: str, audit_key: str, origin: str, name: str) -> None:
    row = {"id": THE_CLUSTER, "server_key": server_key, "audit_key": audit_key, "origin": origin, "name": name}
    tx.run(_INSERT_CLUSTER, row)


def change_cluster(tx: Transaction, *, origin: str, name: str) -> None:
    tx.run(_CHANGE_CLUSTER, {"to_origin": origin, "to_name": name})
