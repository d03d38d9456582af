"""Rows of commands to things."""

from sqlalchemy import bindparam, delete, func, insert, select, update

from entobot.storage.database import Row, Transaction
from entobot.things.model import Command, CommandState
from entobot.things.tables import commands

_C = commands.c
_IS_WAITING = _C.ended_at_ms.is_(None)
_OF_DEVICE = _C.device_id == bindparam("device")
_INSERT = insert(commands)
_ONE = select(commands).where(_C.command_id == bindparam("command"))
_OF = (
    select(commands)
    .where(_OF_DEVICE, _C.command_id < bindparam("before"))
    .order_by(_C.command_id.desc())
    .limit(bindparam("count"))
)
_WAITING_OF = select(commands).where(_OF_DEVICE, _IS_WAITING).order_by(_C.command_id)
_COUNT_WAITING = select(func.count().label("many")).where(_OF_DEVICE, _IS_WAITING)
_ACCEPT = (
    update(commands)
    .where(_C.command_id == bindparam("command"), _OF_DEVICE, _IS_WAITING, _C.state == CommandState.QUEUED.value)
    .values(state=CommandState.ACCEPTED.value, accepted_at_ms=bindparam("now"))
)
_END = (
    update(commands)
    .where(_C.command_id == bindparam("command"), _OF_DEVICE, _IS_WAITING)
    .values(
        state=bindparam("to_state"),
        ended_at_ms=bindparam("now"),
        result=bindparam("to_result"),
        error=bindparam("to_error"),
    )
)
_DUE = select(commands).where(_IS_WAITING, _C.expires_at_ms <= bindparam("now")).limit(bindparam("count"))
_UNANSWERED = (
    select(_C.device_id)
    .where(
        _IS_WAITING,
        _C.state == CommandState.QUEUED.value,
        _C.expires_at_ms > bindparam("now"),
        _C.made_at_ms <= bindparam("before"),
        _C.device_id > bindparam("after"),
    )
    .group_by(_C.device_id)
    .order_by(_C.device_id)
    .limit(bindparam("count"))
)
_DELETE_OLD = delete(commands).where(_C.ended_at_ms < bindparam("before"))


def insert_command(tx: Transaction, one: Command) -> None:
    tx.run(
        _INSERT,
        {
            "command_id": one.command_id,
            "device_id": one.device_id,
            "user_id": one.user_id,
            "name": one.name,
            "args": one.args,
            "via": one.via,
            "state": one.state,
            "made_at_ms": one.made_at_ms,
            "expires_at_ms": one.expires_at_ms,
            "accepted_at_ms": one.accepted_at_ms,
            "ended_at_ms": one.ended_at_ms,
            "result": one.result,
            "error": one.error,
        },
    )


def find_command(tx: Transaction, command_id: str) -> Command | None:
    row = tx.first(_ONE, {"command": command_id})
    return None if row is None else _command(row)


def commands_of(tx: Transaction, device_id: str, before: str, count: int) -> list[Command]:
    """Newest first."""
    return [_command(row) for row in tx.rows(_OF, {"device": device_id, "before": before, "count": count})]


def waiting_of(tx: Transaction, device_id: str) -> list[Command]:
    """Those that are not over, oldest first. Bounded by how many may wait."""
    return [_command(row) for row in tx.rows(_WAITING_OF, {"device": device_id})]


def count_waiting(tx: Transaction, device_id: str) -> int:
    row = tx.first(_COUNT_WAITING, {"device": device_id})
    return 0 if row is None else int(row["many"])


def accept(tx: Transaction, device_id: str, command_id: str, now_ms: int) -> bool:
    return tx.run(_ACCEPT, {"device": device_id, "command": command_id, "now": now_ms}) == 1


def end(
    tx: Transaction, device_id: str, command_id: str, state: CommandState, now_ms: int, *, result: str | None = None,
    error: str = "",
) -> bool:  # fmt: skip
    """False where it is over, or no command of this device."""
    given = {
        "device": device_id,
        "command": command_id,
        "to_state": state,
        "now": now_ms,
        "to_result": result,
        "to_error": error,
    }
    return tx.run(_END, given) == 1


def due(tx: Transaction, now_ms: int, count: int) -> list[Command]:
    return [_command(row) for row in tx.rows(_DUE, {"now": now_ms, "count": count})]


def devices_unanswered(tx: Transaction, made_before_ms: int, now_ms: int, after: str, count: int) -> list[str]:
    """With commands that were not taken up, by device id."""
    given = {"now": now_ms, "before": made_before_ms, "after": after, "count": count}
    return [row["device_id"] for row in tx.rows(_UNANSWERED, given)]


def delete_old(tx: Transaction, before_ms: int) -> None:
    tx.run(_DELETE_OLD, {"before": before_ms})


def _command(row: Row) -> Command:
    return Command(
        command_id=row["command_id"],
        device_id=row["device_id"],
        user_id=row["user_id"],
        name=row["name"],
        args=row["args"],
        via=row["via"],
        state=CommandState(row["state"]),
        made_at_ms=int(row["made_at_ms"]),
        expires_at_ms=int(row["expires_at_ms"]),
        accepted_at_ms=row["accepted_at_ms"],
        ended_at_ms=row["ended_at_ms"],
        result=row["result"],
        error=row["error"],
    )
