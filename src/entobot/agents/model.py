"""Runs and their tool calls, and what may come next. Pure.

A run is `thinking` (a model call is under way), `acting` (its tool calls are carried out) or `waiting` (only people
can bring it on), and ends `finished`, `failed` or `cancelled`. What it was doing when the power went says what to do
at the next start, so every change is committed before the thing that it announces begins.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from entobot.agents.runner import ToolOutcome

MAX_ANSWER_BYTES = 128 * 1024
"""Of one answer as JSON text: what is stored must fit one frame."""
MAX_SHOWN_RESULT_CHARACTERS = 8 * 1024
MAX_TITLE_CHARACTERS = 120


class RunState(StrEnum):
    ACTING = "acting"
    CANCELLED = "cancelled"
    FAILED = "failed"
    FINISHED = "finished"
    THINKING = "thinking"
    WAITING = "waiting"


ACTIVE = frozenset({RunState.ACTING, RunState.THINKING, RunState.WAITING})


class CallState(StrEnum):
    CANCELLED = "cancelled"
    DONE = "done"
    EXECUTING = "executing"
    FAILED = "failed"
    READY = "ready"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    WAITING = "waiting"


@dataclass(frozen=True, slots=True)
class Run:
    """`iterations` counts model calls begun. `runner_state` is the runner's own, after its last turn."""

    run_id: str
    user_id: str
    conversation_id: str
    message_id: str
    state: RunState
    iterations: int
    runner_state: str | None
    created_at_ms: int
    updated_at_ms: int
    node_id: str | None
    """Which node drives it, while it is `thinking` or `acting`."""

    @property
    def is_active(self) -> bool:
        return self.state in ACTIVE


@dataclass(frozen=True, slots=True)
class ToolCall:
    """`model_call_id` is the model's name for it, `tool_call_id` ours. `args_json` is what will be executed."""

    tool_call_id: str
    run_id: str
    iteration: int
    position: int
    model_call_id: str
    name: str
    args_json: str
    state: CallState
    approval_id: str | None = None
    result: str | None = None

    def outcome(self) -> ToolOutcome:
        """What the model is told."""
        is_error = self.state is not CallState.DONE
        return ToolOutcome(self.model_call_id, self.name, self.result or "", is_error)


@dataclass(frozen=True, slots=True)
class Think:
    """Call the model again with these outcomes."""

    run: Run
    outcomes: tuple[ToolOutcome, ...]


@dataclass(frozen=True, slots=True)
class Execute:
    """Carry out this call; it is committed as `executing` already."""

    run: Run
    call: ToolCall


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do until a person decides."""


Step = Think | Execute | Wait


def next_ready(calls: Sequence[ToolCall]) -> ToolCall | None:
    """The call to carry out now: one at a time, in the model's order; a waiting one does not hold up the others."""
    if any(call.state is CallState.EXECUTING for call in calls):
        return None
    return next((call for call in calls if call.state is CallState.READY), None)


def is_executing(calls: Sequence[ToolCall]) -> bool:
    return any(call.state is CallState.EXECUTING for call in calls)


def is_waiting(calls: Sequence[ToolCall]) -> bool:
    return any(call.state is CallState.WAITING for call in calls)


def clean_text(text: str) -> str:
    """Model output as every database and client can hold it: no NUL, lone surrogates replaced."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")


def shown_result(text: str) -> str:
    """A tool result as it goes to devices: whole when short; the model always gets all of it."""
    if len(text) <= MAX_SHOWN_RESULT_CHARACTERS:
        return text
    left_out = len(text) - MAX_SHOWN_RESULT_CHARACTERS
    return f"{text[:MAX_SHOWN_RESULT_CHARACTERS]}\n… ({left_out} more characters)"
