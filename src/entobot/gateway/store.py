"""The gateway kit's own table: results of commands, so that an `id` is effective once in 24 h."""

from sqlalchemy import BigInteger, Column, Index, LargeBinary, Table, Text, bindparam, delete, func, insert, select

from entobot.storage.database import Transaction, metadata
from entobot.storage.memory import Memory

results = Table(
    "command_results",
    metadata,
    Column("device_id", Text, primary_key=True),
    Column("command_id", Text, primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    Column("result", LargeBinary, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Index("ix_command_results_at", "at_ms"),
)

_FIND = select(results.c.digest, results.c.result).where(
    results.c.device_id == bindparam("device"), results.c.command_id == bindparam("command")
)
_NEWEST = select(func.max(results.c.command_id).label("newest")).where(results.c.device_id == bindparam("device"))
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
        return None  # ids are made from the time: most are later than all before, and need not be looked for
    row = tx.first(_FIND, {"device": device_id, "command": command_id})
    return None if row is None else (row["digest"], row["result"])


def insert_result(
    tx: Transaction, *, device_id: str, command_id: str, digest: bytes, result: bytes, now_ms: int
) -> None:
    values = {"device_id": device_id, "command_id": command_id, "digest": digest, "result": result, "at_ms": now_ms}
    tx.add(_INSERT, values)
    if tx.memory is not None:
        tx.memory.put(("newest command", device_id), max(command_id, _newest(tx, tx.memory, device_id)))


def _newest(tx: Transaction, memory: Memory, device_id: str) -> str:
    """The last in order of this device's ids that have a result, or a later one that had; "" when there is none."""
    key = ("newest command", device_id)
    newest: str | None = memory.get(key)
    if newest is None:
        row = tx.first(_NEWEST, {"device": device_id})
        newest = "" if row is None or row["newest"] is None else str(row["newest"])
        memory.put(key, newest)
    return newest


def forget_results(tx: Transaction, before_ms: int, count: int) -> int:
    """The `count` oldest of those before `before_ms`, and what bears the same time as the last; how many."""
    oldest = tx.rows(_OLDEST, {"before": before_ms, "count": count})
    return tx.run(_FORGET, {"upto": oldest[-1]["at_ms"]}) if oldest else 0


def try_write(tx: Transaction, key: str, now_ms: int) -> None:
    """Write and take back one row: what a full or read-only disk refuses, though it would let an empty commit pass."""
    insert_result(tx, device_id=key, command_id=key, digest=b"", result=b"", now_ms=now_ms)
    tx.run(_FORGET_ONE, {"device": key, "command": key})
