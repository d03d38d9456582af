"""Rows of bridges, and of what waits for their other brokers."""

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import and_, bindparam, delete, func, insert, or_, select, update

from entobot.mqtt.tables import bridge_outbox, bridges
from entobot.storage.database import Row, Transaction
from entobot.storage.upsert import upsert

_B, _O = bridges.c, bridge_outbox.c
_ONE = _B.name == bindparam("of_name")
_MINE = and_(_ONE, _B.node == bindparam("of_node"))


class State(StrEnum):
    CONNECTED = "connected"
    CONNECTING = "connecting"
    IDLE = "idle"
    """No node holds it."""
    WAITING = "waiting"
    """It failed, and is tried again."""


@dataclass(frozen=True, slots=True)
class BridgeRow:
    """`waiting` is what the other broker has not acknowledged; `dropped` is what had to go from there."""

    name: str
    node: str | None
    state: State
    since_ms: int
    error: str
    filters: str
    taken: int
    told: int
    refused: int
    refused_why: str
    refused_at_ms: int | None
    dropped: int
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class Outgoing:
    number: int
    topic: str
    payload: bytes
    retain: bool
    expires_at_ms: int | None


_ADD = upsert(bridges).on_conflict_do_nothing()
_FIND = select(bridges).where(_ONE)
_ALL = select(bridges).order_by(_B.name)
_HOLD = (
    update(bridges)
    .where(_ONE, or_(_B.node == bindparam("seen"), and_(_B.node.is_(None), bindparam("seen").is_(None))))
    .values(node=bindparam("to_node"))
)
_IS_MINE = select(_B.name).where(_MINE)
_SET_STATE = (
    update(bridges)
    .where(_MINE)
    .values(state=bindparam("to_state"), since_ms=bindparam("now"), error=bindparam("to_error"))
)
_SET_FILTERS = update(bridges).where(_MINE).values(filters=bindparam("to_filters"))
_COUNT = (
    update(bridges)
    .where(_ONE)
    .values(
        taken=_B.taken + bindparam("more_taken"),
        told=_B.told + bindparam("more_told"),
        dropped=_B.dropped + bindparam("more_dropped"),
    )
)
_REFUSE = (
    update(bridges)
    .where(_ONE)
    .values(refused=_B.refused + bindparam("more"), refused_why=bindparam("why"), refused_at_ms=bindparam("now"))
)


def add(tx: Transaction, name: str, now_ms: int) -> None:
    """Nothing where it is there."""
    tx.run(
        _ADD,
        {
            "name": name,
            "node": None,
            "state": State.IDLE.value,
            "since_ms": now_ms,
            "error": "",
            "filters": "",
            "taken": 0,
            "told": 0,
            "refused": 0,
            "refused_why": "",
            "refused_at_ms": None,
            "dropped": 0,
        },
    )


def find(tx: Transaction, name: str) -> BridgeRow | None:
    row = tx.first(_FIND, {"of_name": name})
    return None if row is None else _row(row, {})


def all_rows(tx: Transaction) -> list[BridgeRow]:
    waiting = {row["bridge"]: int(row["many"]) for row in tx.rows(_WAITING)}
    return [_row(row, waiting) for row in tx.rows(_ALL)]


def hold(tx: Transaction, name: str, node: str, *, seen: str | None) -> bool:
    """Take it from who was seen to hold it, None for nobody. False where somebody else did."""
    return tx.run(_HOLD, {"of_name": name, "seen": seen, "to_node": node}) == 1


def is_mine(tx: Transaction, name: str, node: str) -> bool:
    return tx.first(_IS_MINE, {"of_name": name, "of_node": node}) is not None


def set_state(tx: Transaction, name: str, node: str, state: State, error: str, now_ms: int) -> None:
    given = {"of_name": name, "of_node": node, "to_state": state.value, "to_error": error, "now": now_ms}
    tx.run(_SET_STATE, given)


def set_filters(tx: Transaction, name: str, node: str, filters: str) -> None:
    tx.run(_SET_FILTERS, {"of_name": name, "of_node": node, "to_filters": filters})


def count(tx: Transaction, name: str, *, taken: int = 0, told: int = 0, dropped: int = 0) -> None:
    tx.run(_COUNT, {"of_name": name, "more_taken": taken, "more_told": told, "more_dropped": dropped})


def refuse(tx: Transaction, name: str, many: int, why: str, now_ms: int) -> None:
    tx.run(_REFUSE, {"of_name": name, "more": many, "why": why, "now": now_ms})


def _row(row: Row, waiting: dict[str, int]) -> BridgeRow:
    at_ms = row["refused_at_ms"]
    return BridgeRow(
        name=row["name"],
        node=row["node"],
        state=State(row["state"]),
        since_ms=int(row["since_ms"]),
        error=row["error"],
        filters=row["filters"],
        taken=int(row["taken"]),
        told=int(row["told"]),
        refused=int(row["refused"]),
        refused_why=row["refused_why"],
        refused_at_ms=None if at_ms is None else int(at_ms),
        dropped=int(row["dropped"]),
        waiting=waiting.get(row["name"], 0),
    )


# what waits

_PUT = insert(bridge_outbox)
_NEXT = (
    select(_O.id, _O.topic, _O.payload, _O.retain, _O.expires_at_ms)
    .where(_O.bridge == bindparam("of_bridge"))
    .order_by(_O.id)
    .limit(bindparam("most"))
)
_DONE = delete(bridge_outbox).where(_O.id == bindparam("number"), _O.bridge == bindparam("of_bridge"))
_WAITING = select(_O.bridge, func.count().label("many")).group_by(_O.bridge)
_NEWEST_TO_GO = (
    select(_O.id)
    .where(_O.bridge == bindparam("of_bridge"))
    .order_by(_O.id.desc())
    .offset(bindparam("kept"))
    .limit(1)
    .scalar_subquery()
)
_TRIM = delete(bridge_outbox).where(_O.bridge == bindparam("of_bridge"), _O.id <= _NEWEST_TO_GO)


def put(tx: Transaction, bridge: str, one: Outgoing, now_ms: int) -> None:
    """Its number is given here."""
    tx.run(
        _PUT,
        {
            "bridge": bridge,
            "topic": one.topic,
            "payload": one.payload,
            "retain": int(one.retain),
            "at_ms": now_ms,
            "expires_at_ms": one.expires_at_ms,
        },
    )


def oldest(tx: Transaction, bridge: str, most: int) -> list[Outgoing]:
    rows = tx.rows(_NEXT, {"of_bridge": bridge, "most": most})
    return [
        Outgoing(int(row["id"]), row["topic"], bytes(row["payload"]), bool(row["retain"]), row["expires_at_ms"])
        for row in rows
    ]


def done(tx: Transaction, bridge: str, number: int) -> bool:
    return tx.run(_DONE, {"number": number, "of_bridge": bridge}) == 1


def trim(tx: Transaction, bridge: str, kept: int) -> int:
    """Drop the oldest beyond so many; how many those were."""
    return tx.run(_TRIM, {"of_bridge": bridge, "kept": kept})
