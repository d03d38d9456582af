"""The gateway kit's own table: results of commands, so that an `id` is effective once in 24 h."""

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    bindparam,
    delete,
    func,
    insert,
    select,
)

from entobot.storage.database import Transaction, metadata
from entobot.storage.memory import Memory

results = Table(
    "command_results",
    metadata,
    Column("device_id", Text, nullable=False),
    Column("command_id", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("result", LargeBinary, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    # Ids are made from the time: with them in front, rows of all devices go to the table's end, not each to its page.
    PrimaryKeyConstraint("command_id", "device_id"),
    Index("ix_command_results_at", "at_ms"),
    sqlite_with_rowid=False,
)

_FIND = select(results.c.digest, results.c.result).where(
    results.c.device_id == bindparam("device"), results.c.command_id == bindparam("command")
)
_NEWEST = select(func.max(results.c.command_id).label("newest"))
_INSERT = insert(results)
_OLDEST = (
    select(results.c.at_ms)
    .where(results.c.at_ms < bindparam("before"))
    .order_by(results.c.at_ms)
    .limit(bindparam("count"))
)
_FORGET = delete(results).where(results.c.at_ms <= bindparam("upto"))
_FORGET_ONE = delete(results).where(
    results.c.device_id == bindparam("device"), results.c.command_id == bindparam("command")
)


def find_result(tx: Transaction, device_id: str, command_id: str) -> tuple[bytes, bytes] | None:
    """The digest of the command's name and data, and its result, if it was executed before."""
    if tx.memory is not None and command_id > _newest(tx, tx.memory, device_id):
        return None  # most ids are later than all before, and need not be looked for
    row = tx.first(_FIND, {"device": device_id, "command": command_id})
    return None if row is None else (row["digest"], row["result"])


def insert_result(
    tx: Transaction, *, device_id: str, command_id: str, digest: bytes, result: bytes, now_ms: int
) -> None:
    values = {"device_id": device_id, "command_id": command_id, "digest": digest, "result": result, "at_ms": now_ms}
    tx.add(_INSERT, values)
    if tx.memory is not None:
        tx.memory.put((_OF_DEVICE, device_id), max(command_id, _newest(tx, tx.memory, device_id)))


_OF_DEVICE = "newest command"
_OF_ALL = ("newest command of all",)


def _newest(tx: Transaction, memory: Memory, device_id: str) -> str:
    """No id of this device that is later has a result. What was written before anything was remembered counts for
    every device: nobody's last id can be later than the last of all.
    """
    newest: str | None = memory.get((_OF_DEVICE, device_id)) or memory.get(_OF_ALL)
    if newest is None:
        row = tx.first(_NEWEST)
        newest = "" if row is None or row["newest"] is None else str(row["newest"])
        memory.put(_OF_ALL, newest)
    return newest


def forget_results(tx: Transaction, before_ms: int, count: int) -> int:
    """The `count` oldest of those before `before_ms`, and what bears the same time as the last; how many."""
    oldest = tx.rows(_OLDEST, {"before": before_ms, "count": count})
    return tx.run(_FORGET, {"upto": oldest[-1]["at_ms"]}) if oldest else 0


def try_write(tx: Transaction, key: str, now_ms: int) -> None:
    """Write and take back one row: what a full or read-only disk refuses, though it would let an empty commit pass."""
    insert_result(tx, device_id=key, command_id=key, digest=b"", result=b"", now_ms=now_ms)
    tx.run(_FORGET_ONE, {"device": key, "command": key})
