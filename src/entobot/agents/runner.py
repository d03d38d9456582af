"""The Runner port: one model turn at a time. A runner never executes a tool; loop, approvals and limits are ours."""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Protocol

MAX_EDIT_CHARACTERS = 8 * 1024


class Speaker(StrEnum):
    ASSISTANT = "assistant"
    USER = "user"


@dataclass(frozen=True, slots=True)
class LineFile:
    """A file of a message. `data` is there where the model may have it: text as UTF-8, or a picture as it is."""

    file_id: str
    name: str
    media_type: str
    size: int
    data: bytes | None = None

    @property
    def is_picture(self) -> bool:
        return self.media_type.startswith("image/")


@dataclass(frozen=True, slots=True)
class Line:
    """One message of the conversation, as the model is told."""

    speaker: Speaker
    content: str
    files: tuple[LineFile, ...] = ()
    message_id: str = ""
    """Our name of the message, where there is one."""

    def told_without_pictures(self) -> str:
        """`told`, for an agent that is given words alone: pictures are named only."""
        files = tuple(replace(file, data=None) if file.is_picture else file for file in self.files)
        return replace(self, files=files).told()

    def told(self) -> str:
        """In words alone: what was said, and each file, texts with what they hold."""
        return "\n\n".join([*([self.content] if self.content.strip() else []), *map(_told, self.files)])


def _told(file: LineFile) -> str:
    head = f"[File {file.name!r}, {file.media_type}, {file.size} bytes"
    if file.data is None:
        return f"{head}; its content is not shown to you]"
    if file.is_picture:
        return f"{head}; shown to you]"
    return f"{head}; its content follows]\n{file.data.decode('utf-8', 'replace')}\n[End of {file.name!r}]"


@dataclass(frozen=True, slots=True)
class ToolOutcome:
    """What became of a tool call of the turn before. `tool_call_id` is the model's own id of the call. `edited_args` are
    those with which it was carried out, where the person who approved it gave it others.
    """

    tool_call_id: str
    name: str
    content: str
    is_error: bool = False
    edited_args: str = ""

    def told(self) -> str:
        """In words alone, for a model: it goes on from what was done, not from what it asked for."""
        if not self.edited_args:
            return self.content
        args = self.edited_args
        if len(args) > MAX_EDIT_CHARACTERS:
            args = f"{args[:MAX_EDIT_CHARACTERS]}… ({len(args) - MAX_EDIT_CHARACTERS} more characters)"
        return f"[The person who approved this changed its arguments; it was carried out with {args}]\n{self.content}"


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
    conversation_id: str = ""
    agent: str = ""
    """Which of several is asked, in a run's first turn; empty: the gateway's own."""
    before: str | None = None
    """The `state` with which the last run of the conversation ended that had one, in a run's first turn; of agents
    outside alone.
    """


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
class ThoughtDelta:
    """A fragment of what the agent thinks aloud; shown while it is fresh, and not stored."""

    text: str


@dataclass(frozen=True, slots=True)
class Activity:
    """Something that the agent does by itself, as it stands now; shown while it is fresh, and not stored.

    `key` is the agent's name for it: a later one with the same key replaces it. `kind` is `PLAN` or `TOOL`.
    """

    key: str
    kind: str
    content: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ToolRequest:
    """A whole tool call as the model made it; `args_json` is not validated yet.

    `asks_leave`: the agent carries it out itself, in its own process, and waits there for the word to do so.
    """

    tool_call_id: str
    name: str
    args_json: str
    asks_leave: bool = False


@dataclass(frozen=True, slots=True)
class TurnEnd:
    """`text` is the whole text of the turn. Without `tool_calls` it is the run's answer."""

    text: str
    tool_calls: tuple[ToolRequest, ...]
    state: str


TurnEvent = TextDelta | ThoughtDelta | Activity | ToolCallDelta | TurnEnd


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


class LeaveRefused(Exception):  # noqa: N818  reads as what happened
    """The agent cannot be told that it may. The text is for people."""


Lost = Callable[[str, RunFailed], None]


class Waiting(Protocol):
    """Agents in processes of their own that wait, between two turns of a run, for leave to do something.

    Only this process can give it, so such a run is brought on by its own node and ends with it.
    """

    def tell_lost(self, lost: Lost) -> None:
        """Whoever drives runs wants to be told of those that cannot go on, since what waited for them is gone."""
        ...

    def runs(self) -> frozenset[str]:
        """Ids of the runs for which something waits."""
        ...

    def allow(self, run_id: str, tool_call_id: str, args: Mapping[str, Any], state: str) -> None:
        """Tell the agent that it may do exactly this, once, or see to it that the next turn does. `state` is the run's.
        Raises LeaveRefused when it is not told.
        """
        ...

    def drop(self, run_id: str) -> None:
        """The run is over: let go of what waits for it. Idempotent."""
        ...
