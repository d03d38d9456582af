"""What is traced of a run: each stretch in which it is driven, its model turns and its tool calls. Ids only."""

from dataclasses import dataclass

from entobot.agents.meters import OK
from entobot.agents.model import Run
from entobot.telemetry.tracing import NO_SPAN, Span, Tracer

CANCELLED = "cancelled"
FAILED = "failed"
STOPPED = "stopped"
WAITING = "waiting"
WAITS = "approval.wait"


@dataclass(slots=True)
class _Stretch:
    span: Span
    outcome: str = OK
    is_failed: bool = False


class RunTraces:
    """A run goes on in the trace of its message, and after an approval in that of the stretch before, where this
    process knows them; else it begins a trace.
    """

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._driven: dict[str, _Stretch] = {}

    def begin(self, run: Run, *, is_resumed: bool) -> None:
        if not self._tracer.is_on:
            return
        before = self._tracer.recall(run.run_id if is_resumed else run.message_id)
        span = self._tracer.start(
            "run", before, run_id=run.run_id, conversation_id=run.conversation_id, resumed=is_resumed
        )
        self._driven[run.run_id] = _Stretch(span)

    def turn(self, run: Run) -> Span:
        return self._start(run, "model turn")

    def tool(self, run: Run, name: str) -> Span:
        """`name` is one of ours: what a model makes up is its text."""
        span = self._start(run, "tool call")
        span.set(tool=name)
        return span

    def settle(self, run: Run, outcome: str, *, is_failed: bool = False) -> None:
        """How the stretch under way will have ended."""
        stretch = self._driven.get(run.run_id)
        if stretch is not None:
            stretch.outcome, stretch.is_failed = outcome, is_failed

    def end(self, run: Run, *, is_waiting: bool) -> None:
        stretch = self._driven.pop(run.run_id, None)
        if stretch is None:
            return
        if is_waiting:
            stretch.outcome = WAITING
            stretch.span.note(WAITS)
            self._tracer.remember(run.run_id, stretch.span)
        stretch.span.end(stretch.outcome, is_failed=stretch.is_failed)

    def _start(self, run: Run, name: str) -> Span:
        stretch = self._driven.get(run.run_id)
        return NO_SPAN if stretch is None else self._tracer.start(name, stretch.span, run_id=run.run_id)
