"""The Runner port: one model turn at a time. A runner never executes a tool; loop, approvals and limits are ours."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol


class Speaker(StrEnum):
    ASSISTANT = "assistant"
    USER = "user"


@dataclass(frozen=True, slots=True)
class Line:
    """One message of the conversation, as the model is told."""

    speaker: Speaker
    content: str


@dataclass(frozen=True, slots=True)
class ToolOutcome:
    """What became of a tool call of the turn before. `tool_call_id` is the model's own id of the call."""

    tool_call_id: str
    name: str
    content: str
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class ToolOffer:
    """A tool that the model may ask for. `schema` is the JSON Schema of its arguments."""

    name: str
    description: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TurnRequest:
    """`transcript` (oldest first, ending with the prompt) counts in a run's first turn, where `state` is None;
    later turns bring the `state` of the turn before and the outcomes of its tool calls, in order.
    """

    run_id: str
    transcript: tuple[Line, ...]
    state: str | None
    tool_results: tuple[ToolOutcome, ...]
    tools: tuple[ToolOffer, ...]


@dataclass(frozen=True, slots=True)
class TextDelta:
    text: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A fragment of a call's arguments while the model writes it."""

    tool_call_id: str
    name: str
    args: str


@dataclass(frozen=True, slots=True)
class ToolRequest:
    """A whole tool call as the model made it; `args_json` is not validated yet."""

    tool_call_id: str
    name: str
    args_json: str


@dataclass(frozen=True, slots=True)
class TurnEnd:
    """`text` is the whole text of the turn. Without `tool_calls` it is the run's answer."""

    text: str
    tool_calls: tuple[ToolRequest, ...]
    state: str


TurnEvent = TextDelta | ToolCallDelta | TurnEnd


class RunErrorCode(StrEnum):
    """Codes of RUN_ERROR. Retryable ones may succeed when the person asks again."""

    AGENT_NOT_READY = "agent_not_ready"
    ANSWER_TOO_LARGE = "answer_too_large"
    EMPTY_ANSWER = "empty_answer"
    GATEWAY_RESTARTED = "gateway_restarted"
    INTERNAL = "internal"
    ITERATION_LIMIT = "iteration_limit"
    PROVIDER_ERROR = "provider_error"
    PROVIDER_OUT_OF_CREDIT = "provider_out_of_credit"
    PROVIDER_RATE_LIMITED = "provider_rate_limited"
    PROVIDER_REJECTED = "provider_rejected"
    PROVIDER_TIMEOUT = "provider_timeout"
    PROVIDER_UNAUTHORIZED = "provider_unauthorized"
    PROVIDER_UNREACHABLE = "provider_unreachable"
    TOOL_OUTCOME_UNKNOWN = "tool_outcome_unknown"


RETRYABLE = frozenset(
    {
        RunErrorCode.AGENT_NOT_READY,
        RunErrorCode.EMPTY_ANSWER,
        RunErrorCode.GATEWAY_RESTARTED,
        RunErrorCode.INTERNAL,
        RunErrorCode.PROVIDER_ERROR,
        RunErrorCode.PROVIDER_RATE_LIMITED,
        RunErrorCode.PROVIDER_TIMEOUT,
        RunErrorCode.PROVIDER_UNREACHABLE,
    }
)


class RunFailed(Exception):  # noqa: N818  reads as what happened
    """The turn has no answer. `message` is our own text, for a person; a provider's never goes into it."""

    def __init__(self, code: RunErrorCode, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class Runner(Protocol):
    """One turn of a model (or of something that behaves like one).

    `turn` yields any number of deltas and then exactly one TurnEnd. It raises RunFailed for everything that is the
    provider's or the configuration's fault. It holds nothing between turns: what it needs again goes into
    `TurnEnd.state`, opaque text that is stored with the run and outlives a restart. It is cancelled like any task.
    """

    @property
    def name(self) -> str: ...

    def turn(self, request: TurnRequest) -> AsyncIterator[TurnEvent]: ...

    async def close(self) -> None:
        """Let go of connections. No turn is under way or begun afterwards. Idempotent."""
        ...
