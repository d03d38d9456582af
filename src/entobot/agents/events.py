"""The durable AG-UI 1.0 events of a run, appended in the caller's transaction."""

from entobot.agents.meters import OK, RunMeters
from entobot.agents.model import Run, ToolCall, shown_result
from entobot.agents.runner import RunFailed
from entobot.core import topics
from entobot.core.ids import Ids, Prefix
from entobot.core.permissions import Scope
from entobot.storage.database import Transaction
from entobot.stream.service import Stream
from entobot.telemetry.meters import Meters

PROTOCOL_VERSION = "1.0"


class RunEvents:
    def __init__(self, stream: Stream, ids: Ids, meters: Meters | None = None) -> None:
        self._stream = stream
        self._ids = ids
        self._meters = RunMeters(meters or Meters())

    def started(self, tx: Transaction, run: Run, now_ms: int) -> None:
        self._append(tx, run, {"type": "RUN_STARTED", "protocolVersion": PROTOCOL_VERSION}, now_ms)

    def finished(self, tx: Transaction, run: Run, now_ms: int) -> None:
        self._append(tx, run, {"type": "RUN_FINISHED", "outcome": {"type": "success"}}, now_ms)
        self._ended(tx, run, OK, now_ms)

    def cancelled(self, tx: Transaction, run: Run, now_ms: int) -> None:
        self._append(tx, run, {"type": "RUN_FINISHED", "outcome": {"type": "cancelled"}}, now_ms)
        self._ended(tx, run, "cancelled", now_ms)

    def failed(self, tx: Transaction, run: Run, failure: RunFailed, now_ms: int, *, retry: bool) -> int:
        """AG-UI's RUN_ERROR names no run; ours adds `threadId`, `runId` and whether asking again may help. The event's
        number.
        """
        event: dict[str, object] = {
            "type": "RUN_ERROR",
            "code": failure.code,
            "message": failure.message,
            "retry": retry,
        }
        seq = self._append(tx, run, event, now_ms)
        self._ended(tx, run, failure.code, now_ms)
        return seq

    def tool_result(self, tx: Transaction, run: Run, call: ToolCall, now_ms: int) -> None:
        event: dict[str, object] = {
            "type": "TOOL_CALL_RESULT",
            "messageId": self._ids.new(Prefix.MESSAGE),
            "toolCallId": call.tool_call_id,
            "toolCallName": call.name,
            "role": "tool",
            "content": shown_result(call.result or ""),
            "state": call.state,
        }
        self._append(tx, run, event, now_ms)

    def _ended(self, tx: Transaction, run: Run, outcome: str, now_ms: int) -> None:
        tx.after_commit(lambda: self._meters.run_ended(outcome, (now_ms - run.created_at_ms) / 1000))

    def _append(self, tx: Transaction, run: Run, event: dict[str, object], now_ms: int) -> int:
        whole = event | {"threadId": run.conversation_id, "runId": run.run_id}
        topic = topics.conversation(run.conversation_id)
        return self._stream.append(tx, run.user_id, whole, topic=topic, scope=Scope.CHAT, now_ms=now_ms)
