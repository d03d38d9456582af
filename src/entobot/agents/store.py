"""Tables of runs and tool calls. Every change of state is a conditional update whose row count decides."""

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    Table,
    Text,
    bindparam,
    func,
    insert,
    select,
    text,
    update,
)

from entobot.agents.model import CallState, Run, RunState, ToolCall
from entobot.storage.database import Row, Transaction, metadata
from entobot.storage.partial_index import partial_index

_ACTIVE = "state IN ('acting', 'thinking', 'waiting')"

runs = Table(
    "runs",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("user_id", Text, nullable=False),
    Column("conversation_id", Text, nullable=False),
    Column("message_id", Text, nullable=False, unique=True),
    Column("state", Text, nullable=False),
    Column("iterations", Integer, nullable=False),
    Column("runner_state", Text),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("updated_at_ms", BigInteger, nullable=False),
    Column("error_code", Text),
    Column("node_id", Text),
    partial_index("uq_runs_active_conversation", "conversation_id", where=_ACTIVE, unique=True),
)
tool_calls = Table(
    "tool_calls",
    metadata,
    Column("tool_call_id", Text, primary_key=True),
    Column("run_id", Text, nullable=False),
    Column("iteration", Integer, nullable=False),
    Column("position", Integer, nullable=False),
    Column("model_call_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("args_json", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("approval_id", Text),
    Column("result", Text),
    Column("updated_at_ms", BigInteger, nullable=False),
    Index("ix_tool_calls_run", "run_id", "iteration", "position"),
    partial_index("ix_tool_calls_executing", "tool_call_id", where="state = 'executing'"),
)

_INSERT_RUN = insert(runs)
_RUN = select(runs).where(runs.c.run_id == bindparam("run"))
_RUN_OF = select(runs).where(runs.c.message_id == bindparam("message"))
_ACTIVE_RUNS = select(runs).where(text(_ACTIVE)).order_by(runs.c.run_id)
_ACTIVE_IN = select(runs).where(runs.c.conversation_id == bindparam("conversation"), text(_ACTIVE)).limit(1)
_BUSY_OF_USER = select(func.count().label("busy")).where(
    runs.c.user_id == bindparam("user"),
    text(_ACTIVE),  # in the words of the index, so that runs that have ended are not looked at
    text("state <> 'waiting'"),
)
_MOVE_RUN = (
    update(runs)
    .where(runs.c.run_id == bindparam("run"), runs.c.state == bindparam("old_state"))
    .values(
        state=bindparam("new_state"),
        iterations=bindparam("new_iterations"),
        runner_state=bindparam("new_runner_state"),
        error_code=bindparam("new_error_code"),
        updated_at_ms=bindparam("now"),
        node_id=bindparam("new_node"),
    )
)
_INSERT_CALL = insert(tool_calls)
_CALL = select(tool_calls).where(tool_calls.c.tool_call_id == bindparam("call"))
_CALLS = (
    select(tool_calls)
    .where(tool_calls.c.run_id == bindparam("run"), tool_calls.c.iteration == bindparam("iteration_no"))
    .order_by(tool_calls.c.position)
)
_EXECUTING = select(tool_calls).where(text("state = 'executing'")).order_by(tool_calls.c.tool_call_id)
_MOVE_CALL = (
    update(tool_calls)
    .where(tool_calls.c.tool_call_id == bindparam("call"), tool_calls.c.state == bindparam("old_state"))
    .values(
        state=bindparam("new_state"),
        args_json=bindparam("new_args"),
        result=bindparam("new_result"),
        updated_at_ms=bindparam("now"),
    )
)


def insert_run(tx: Transaction, run: Run) -> None:
    tx.run(
        _INSERT_RUN,
        {
            "run_id": run.run_id,
            "user_id": run.user_id,
            "conversation_id": run.conversation_id,
            "message_id": run.message_id,
            "state": run.state,
            "iterations": run.iterations,
            "runner_state": run.runner_state,
            "created_at_ms": run.created_at_ms,
            "updated_at_ms": run.created_at_ms,
            "node_id": run.node_id,
        },
    )


def find_run(tx: Transaction, run_id: str) -> Run | None:
    row = tx.first(_RUN, {"run": run_id})
    return None if row is None else _run(row)


def find_run_of(tx: Transaction, message_id: str) -> Run | None:
    """The run that answers this message."""
    row = tx.first(_RUN_OF, {"message": message_id})
    return None if row is None else _run(row)


def active_runs(tx: Transaction) -> list[Run]:
    return [_run(row) for row in tx.rows(_ACTIVE_RUNS)]


def find_active_run(tx: Transaction, conversation_id: str) -> Run | None:
    row = tx.first(_ACTIVE_IN, {"conversation": conversation_id})
    return None if row is None else _run(row)


def count_busy(tx: Transaction, user_id: str) -> int:
    """Runs of the user that use a model or a tool right now; those that wait for people do not count."""
    row = tx.first(_BUSY_OF_USER, {"user": user_id})
    return 0 if row is None else int(row["busy"])


def move_run(tx: Transaction, run: Run, *, from_state: RunState, now_ms: int, error_code: str | None = None) -> bool:
    """Write the new state that `run` carries; False when the row is no longer in `from_state`."""
    return (
        tx.run(
            _MOVE_RUN,
            {
                "run": run.run_id,
                "old_state": from_state,
                "new_state": run.state,
                "new_iterations": run.iterations,
                "new_runner_state": run.runner_state,
                "new_error_code": error_code,
                "now": now_ms,
                "new_node": run.node_id,
            },
        )
        == 1
    )


def insert_call(tx: Transaction, call: ToolCall, now_ms: int) -> None:
    tx.run(
        _INSERT_CALL,
        {
            "tool_call_id": call.tool_call_id,
            "run_id": call.run_id,
            "iteration": call.iteration,
            "position": call.position,
            "model_call_id": call.model_call_id,
            "name": call.name,
            "args_json": call.args_json,
            "state": call.state,
            "approval_id": call.approval_id,
            "result": call.result,
            "updated_at_ms": now_ms,
        },
    )


def find_call(tx: Transaction, tool_call_id: str) -> ToolCall | None:
    row = tx.first(_CALL, {"call": tool_call_id})
    return None if row is None else _call(row)


def calls_of(tx: Transaction, run: Run) -> list[ToolCall]:
    """The calls of the run's last turn, in the model's order."""
    return [_call(row) for row in tx.rows(_CALLS, {"run": run.run_id, "iteration_no": run.iterations})]


def executing_calls(tx: Transaction) -> list[ToolCall]:
    return [_call(row) for row in tx.rows(_EXECUTING)]


def move_call(tx: Transaction, call: ToolCall, *, from_state: CallState, now_ms: int) -> bool:
    """Write the new state that `call` carries; False when the row is no longer in `from_state`."""
    return (
        tx.run(
            _MOVE_CALL,
            {
                "call": call.tool_call_id,
                "old_state": from_state,
                "new_state": call.state,
                "new_args": call.args_json,
                "new_result": call.result,
                "now": now_ms,
            },
        )
        == 1
    )


def _run(row: Row) -> Run:
    return Run(
        run_id=row["run_id"],
        user_id=row["user_id"],
        conversation_id=row["conversation_id"],
        message_id=row["message_id"],
        state=RunState(row["state"]),
        iterations=int(row["iterations"]),
        runner_state=row["runner_state"],
        created_at_ms=int(row["created_at_ms"]),
        updated_at_ms=int(row["updated_at_ms"]),
        node_id=row["node_id"],
    )


def _call(row: Row) -> ToolCall:
    return ToolCall(
        tool_call_id=row["tool_call_id"],
        run_id=row["run_id"],
        iteration=int(row["iteration"]),
        position=int(row["position"]),
        model_call_id=row["model_call_id"],
        name=row["name"],
        args_json=row["args_json"],
        state=CallState(row["state"]),
        approval_id=row["approval_id"],
        result=row["result"],
    )
