"""Tables of the audit log: the chain, its head, the personal values beside it, and the signed heads."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.sql import ColumnElement

from entobot.audit.model import Actor, Entry, Found, Head, Personal, canonical, genesis, parse_personal, personal_text
from entobot.audit.tree import Frontier
from entobot.storage.database import Row, Transaction, metadata
from entobot.storage.upsert import upsert

BIG = BigInteger().with_variant(Integer, "sqlite")
THE_HEAD = 1


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """`hash` is the chain's hash at the newest of the tree's entries; `note` the signed note over the tree."""

    tree: Frontier
    hash: bytes
    note: str
    made_at_ms: int


log = Table(
    "audit_log",
    metadata,
    Column("seq", BIG, primary_key=True, autoincrement=False),
    Column("audit_id", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("event", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("actor_user", Text),
    Column("actor_device", Text),
    Column("subject", Text, nullable=False),
    Column("facts", Text, nullable=False),
    Column("commitments", Text, nullable=False),
    Column("previous", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Index("ix_audit_log_actor_device", "actor_device", "seq"),
    Index("ix_audit_log_actor_user", "actor_user", "seq"),
    Index("ix_audit_log_at", "at_ms", "seq"),
    Index("ix_audit_log_event", "event", "seq"),
    Index("ix_audit_log_outcome", "outcome", "seq"),
    Index("ix_audit_log_subject", "subject", "seq"),
)
personal = Table(
    "audit_personal",
    metadata,
    Column("seq", BIG, primary_key=True, autoincrement=False),
    Column("fields", Text, nullable=False),
)
head = Table(
    "audit_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("log_id", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("hash", LargeBinary, nullable=False),
)
signed_heads = Table(
    "audit_signed_heads",
    metadata,
    Column("seq", BIG, primary_key=True, autoincrement=False),
    Column("jws", Text, nullable=False),
)
checkpoints = Table(
    "audit_checkpoints",
    metadata,
    Column("size", BIG, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary, nullable=False),
    Column("tree", LargeBinary, nullable=False),
    Column("note", Text, nullable=False),
    Column("made_at_ms", BigInteger, nullable=False),
)
sinks = Table(
    "audit_sinks",
    metadata,
    Column("name", Text, primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("node", Text, nullable=False),
)

_HEAD = select(head.c.log_id, head.c.seq, head.c.hash).where(head.c.id == THE_HEAD)
_CREATE_HEAD = upsert(head).on_conflict_do_nothing()
_MOVE_HEAD = (
    update(head)
    .where(head.c.id == THE_HEAD, head.c.seq == bindparam("from_seq"))
    .values(seq=bindparam("to_seq"), hash=bindparam("to_hash"))
)
_INSERT_ENTRY = insert(log)
_INSERT_PERSONAL = insert(personal)
_INSERT_SIGNED = upsert(signed_heads).on_conflict_do_nothing()
_HASH_AT = select(log.c.hash).where(log.c.seq == bindparam("at_seq"))
with_personal = select(log, personal.c.fields).select_from(log.outerjoin(personal, log.c.seq == personal.c.seq))
_WALK = select(log).where(log.c.seq > bindparam("after"), log.c.seq <= bindparam("through")).order_by(log.c.seq)
_WALK_PERSONAL = select(personal).where(personal.c.seq > bindparam("after"), personal.c.seq <= bindparam("through"))
_SIGNED = (
    select(signed_heads.c.seq, signed_heads.c.jws)
    .where(signed_heads.c.seq > bindparam("after"), signed_heads.c.seq <= bindparam("through"))
    .order_by(signed_heads.c.seq)
)
_LAST_SIGNED = select(func.max(signed_heads.c.seq).label("seq"))
_LAST_ENTRY = select(func.max(log.c.seq).label("seq"))

_EVENT_AFTER = select(log.c.event).where(log.c.event > bindparam("name")).order_by(log.c.event).limit(1)

_CHECKPOINT = (
    select(checkpoints).where(checkpoints.c.size <= bindparam("at_most")).order_by(checkpoints.c.size.desc()).limit(1)
)
_INSERT_CHECKPOINT = upsert(checkpoints).on_conflict_do_nothing()
_HASHES = (
    select(log.c.seq, log.c.previous, log.c.hash)
    .where(log.c.seq > bindparam("after"), log.c.seq <= bindparam("through"))
    .order_by(log.c.seq)
)

_SINK = select(sinks).where(sinks.c.name == bindparam("sink"))
_INSERT_SINK = upsert(sinks).on_conflict_do_nothing()
_CLAIM_SINK = (
    update(sinks)
    .where(sinks.c.name == bindparam("sink"), sinks.c.node == bindparam("from_node"))
    .values(node=bindparam("to_node"))
)
_MOVE_SINK = (
    update(sinks)
    .where(sinks.c.name == bindparam("sink"), sinks.c.node == bindparam("of_node"), sinks.c.seq < bindparam("to_seq"))
    .values(seq=bindparam("to_seq"))
)

_ERASABLE: dict[str, ColumnElement[bool]] = {
    "actor": (log.c.actor_user == bindparam("actor")) | (log.c.actor_device == bindparam("actor")),
    "subject": log.c.subject == bindparam("subject"),
    "until_ms": log.c.at_ms < bindparam("until_ms"),
}


def find_head(tx: Transaction) -> Head | None:
    row = tx.first(_HEAD)
    return None if row is None else Head(row["log_id"], int(row["seq"]), _digest(row["hash"]))


def create_head(tx: Transaction, log_id: str) -> Head:
    """The head of an empty log; whoever was first has made it."""
    tx.run(_CREATE_HEAD, {"id": THE_HEAD, "log_id": log_id, "seq": 0, "hash": genesis(log_id)})
    made = find_head(tx)
    assert made is not None
    return made


def append(tx: Transaction, entry: Entry, fields: Mapping[str, Personal]) -> None:
    """Insert the entry and move the head onto it. The entry must follow the head that this unit has read."""
    actor = entry.actor
    values = {
        "seq": entry.seq,
        "audit_id": entry.audit_id,
        "at_ms": entry.at_ms,
        "event": entry.event,
        "outcome": entry.outcome,
        "actor_user": None if actor is None else actor.user_id,
        "actor_device": None if actor is None else actor.device_id,
        "subject": entry.subject,
        "facts": canonical(entry.facts) if entry.facts else "{}",
        "commitments": canonical(entry.commitments) if entry.commitments else "{}",
        "previous": entry.previous,
        "hash": entry.hash,
    }
    tx.run(_INSERT_ENTRY, values)
    if fields:
        tx.run(_INSERT_PERSONAL, {"seq": entry.seq, "fields": personal_text(fields)})
    moved = tx.run(_MOVE_HEAD, {"from_seq": entry.seq - 1, "to_seq": entry.seq, "to_hash": values["hash"]})
    assert moved == 1, "units are isolated like a serial execution"


def insert_signed_head(tx: Transaction, seq: int, jws: str) -> None:
    tx.run(_INSERT_SIGNED, {"seq": seq, "jws": jws})


def find_hash(tx: Transaction, seq: int) -> bytes | None:
    row = tx.first(_HASH_AT, {"at_seq": seq})
    return None if row is None else _digest(row["hash"])


def last_seq(tx: Transaction) -> int:
    """The number of the newest entry that is there, whatever the head says."""
    row = tx.first(_LAST_ENTRY)
    return 0 if row is None or row["seq"] is None else int(row["seq"])


def last_signed_seq(tx: Transaction) -> int | None:
    row = tx.first(_LAST_SIGNED)
    return None if row is None or row["seq"] is None else int(row["seq"])


def signed_between(tx: Transaction, after: int, through: int) -> dict[int, str]:
    return {int(row["seq"]): row["jws"] for row in tx.rows(_SIGNED, {"after": after, "through": through})}


def find_checkpoint(tx: Transaction, at_most: int) -> StoredCheckpoint | None:
    """The newest of no more than `at_most` entries. Raises ValueError for an altered one."""
    row = tx.first(_CHECKPOINT, {"at_most": at_most})
    if row is None:
        return None
    size = int(row["size"])
    return StoredCheckpoint(Frontier.unpacked(size, row["tree"]), _digest(row["hash"]), row["note"], row["made_at_ms"])


def insert_checkpoint(tx: Transaction, made: StoredCheckpoint) -> None:
    values = {"size": made.tree.size, "hash": made.hash, "tree": made.tree.packed(), "note": made.note}
    tx.run(_INSERT_CHECKPOINT, values | {"made_at_ms": made.made_at_ms})


def links(tx: Transaction, after: int, through: int) -> list[tuple[int, bytes, bytes]]:
    """(seq, previous, hash) of the entries behind `after`, in order. Raises ValueError for an altered one."""
    rows = tx.rows(_HASHES, {"after": after, "through": through})
    return [(int(row["seq"]), _digest(row["previous"]), _digest(row["hash"])) for row in rows]


@dataclass(frozen=True, slots=True)
class SinkPlace:
    """Everything up to `seq` was taken; the node that sends."""

    seq: int
    node: str


def find_sink(tx: Transaction, name: str) -> SinkPlace | None:
    row = tx.first(_SINK, {"sink": name})
    return None if row is None else SinkPlace(int(row["seq"]), row["node"])


def claim_sink(tx: Transaction, name: str, node_id: str, alive: frozenset[str]) -> int | None:
    """Where `node_id` has to go on with the sink; None while another living node sends."""
    tx.run(_INSERT_SINK, {"name": name, "seq": 0, "node": node_id})
    found = find_sink(tx, name)
    assert found is not None
    if found.node == node_id:
        return found.seq
    if found.node in alive:
        return None
    tx.run(_CLAIM_SINK, {"sink": name, "from_node": found.node, "to_node": node_id})
    return found.seq


def move_sink(tx: Transaction, name: str, node_id: str, seq: int) -> None:
    """Everything up to `seq` was taken; nothing happens where another node sends by now."""
    tx.run(_MOVE_SINK, {"sink": name, "of_node": node_id, "to_seq": seq})


Walked = tuple[int, Entry | None, Mapping[str, Personal] | None]
"""Number, entry, personal values. An entry that cannot even be read is None."""


def raw_rows(tx: Transaction, after: int, through: int) -> list[dict[str, Any]]:
    """The rows of the entries after < seq ≤ through, for `walked`, which need not run in the unit."""
    bounds = {"after": after, "through": through}
    # One query for both tables would be planned by statistics: it may go through all personal values for each page.
    values: dict[int, Any] = {int(row["seq"]): row["fields"] for row in tx.rows(_WALK_PERSONAL, bounds)}
    return [{name: row[name] for name in _NAMES} | {"fields": values.get(row["seq"])} for row in tx.rows(_WALK, bounds)]


_NAMES = [column.name for column in log.columns]


def walked(rows: list[dict[str, Any]]) -> Iterator[Walked]:
    """What the rows say, in order."""
    for row in rows:
        try:
            yield int(row["seq"]), _entry(row), _personal(row)
        except (ValueError, TypeError, KeyError, AttributeError):
            yield int(row["seq"]), None, None


def walk(tx: Transaction, after: int, through: int) -> Iterator[Walked]:
    """The entries after < seq ≤ through, in order."""
    return walked(raw_rows(tx, after, through))


def find_event_after(tx: Transaction, name: str) -> str | None:
    """The first event in the order of names behind `name` that is in the log."""
    row = tx.first(_EVENT_AFTER, {"name": name})
    return None if row is None else row["event"]


def erase(tx: Transaction, filters: Mapping[str, object]) -> int:
    """Delete the personal values of the entries that meet every filter (keys of `_ERASABLE`).

    Returns how many entries lost theirs.
    """
    return tx.run(_erase(frozenset(filters)), filters)


@cache
def _erase(filters: frozenset[str]):  # noqa: ANN202  a Delete without a type of its own worth naming
    chosen = select(log.c.seq).where(*(_ERASABLE[name] for name in sorted(filters)))
    return delete(personal).where(personal.c.seq.in_(chosen))


def found(row: Row) -> Found:
    """An entry of `with_personal`. Raises ValueError for an altered one that cannot be read."""
    entry = _entry(row)
    fields = _personal(row)
    if fields is None:
        return Found(entry, None if entry.commitments else {})
    return Found(entry, {name: field.value for name, field in fields.items()}, fields)


def _personal(row: Row) -> dict[str, Personal] | None:
    return None if row["fields"] is None else parse_personal(row["fields"])


def _entry(row: Row) -> Entry:
    user, device = row["actor_user"], row["actor_device"]
    if user is None and device is not None:
        raise ValueError("a device without its user")
    return Entry(
        seq=int(row["seq"]),
        audit_id=row["audit_id"],
        at_ms=int(row["at_ms"]),
        event=row["event"],
        outcome=row["outcome"],
        actor=None if user is None else Actor(user, device),
        subject=row["subject"],
        facts=json.loads(row["facts"]),
        commitments=json.loads(row["commitments"]),
        previous=_digest(row["previous"]),
        hash=_digest(row["hash"]),
    )


def _digest(value: object) -> bytes:
    if not isinstance(value, bytes) or len(value) != 32:
        raise ValueError("no SHA-256 digest")
    return value
