"""Runner adapter for a server that speaks AG-UI 1.0: it is posted the conversation, and answers with a stream of events.

It is a client like any other there, without tools of its own. A tool call that the server wants approved becomes a call
that asks for leave; other questions end the answer, and what the person writes next answers them. Nothing waits in this
process: what is open stands in the run's state.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import msgspec

from entobot.agents.acp_prompt import NO_TEXT
from entobot.agents.ag_ui_words import (
    BrokenOff,
    Finished,
    Hearing,
    Interrupt,
    Interrupted,
    Json,
    ask_args,
    cut,
    prompt,
    tool_name,
)
from entobot.agents.model import clean_text
from entobot.agents.remote import EVENT_STREAM, Remote
from entobot.agents.runner import (
    LeaveRefused,
    RunErrorCode,
    RunFailed,
    TextDelta,
    ToolRequest,
    TurnEnd,
    TurnEvent,
    TurnRequest,
)

MAX_STATE_BYTES = 4 * 1024 * 1024
"""Of what is kept of a thread while it waits for somebody."""
PROTOCOL_VERSION = "1.0"
REFUSALS = frozenset({RunErrorCode.PROVIDER_ERROR, RunErrorCode.PROVIDER_REJECTED})


@dataclass(frozen=True, slots=True)
class _Asked:
    """Leave that it waits for. `args_json` is what a person is shown."""

    key: str
    interrupt: Interrupt
    args_json: str


@dataclass(frozen=True, slots=True)
class _Open:
    """A thread that waits for somebody: what was said in it, and the interrupts. `turns` were begun in this run."""

    turns: int = 0
    messages: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    asked: list[_Asked] = field(default_factory=list[_Asked])
    questions: list[Interrupt] = field(default_factory=list[Interrupt])


@dataclass(frozen=True, slots=True)
class _Said:
    """What is posted: messages, and answers to interrupts."""

    turn: int
    messages: Sequence[Json]
    resume: Sequence[Json]


class AgUiRunner:
    """See `Runner`. `sends_all`: the whole conversation, for servers that keep nothing; else the newest message."""

    def __init__(self, url: str, remote: Remote, *, sends_all: bool) -> None:
        self.name = remote.name
        self._url = url
        self._remote = remote
        self._sends_all = sends_all

    async def turn(self, request: TurnRequest) -> AsyncIterator[TurnEvent]:
        said, hearing = self._said(request), Hearing()
        try:
            async with aclosing(self._heard(request, said, hearing)) as events:
                async for event in events:
                    yield event
        except RunFailed as failure:
            if request.state is not None or not said.resume or hearing.has_begun or failure.code not in REFUSALS:
                raise
            # It knows nothing of what it once asked: what the person writes is a message like any other.
            said, hearing = _Said(1, [*prompt(request.transcript, is_whole=self._sends_all)], []), Hearing()
            async with aclosing(self._heard(request, said, hearing)) as events:
                async for event in events:
                    yield event

    async def _heard(self, request: TurnRequest, said: _Said, hearing: Hearing) -> AsyncGenerator[TurnEvent]:
        async with (
            self._remote.ask("POST", self._url, _body(request, said), EVENT_STREAM) as opened,
            aclosing(self._remote.events(opened)) as events,
        ):
            async for event in events:
                for shown in hearing.heard(event):
                    yield shown
                if hearing.outcome is not None:
                    break
        for event in self._end(hearing, said):
            yield event

    async def close(self) -> None:
        """Nothing is held."""

    def allow(self, tool_call_id: str, args: Mapping[str, Any], state: str) -> None:
        """See `plain_bridge.Allow`."""
        asked = next((one for one in _load(state).asked if one.key == tool_call_id), None)
        if asked is None:
            raise LeaveRefused("The agent no longer waits for this; it was not told to do it.")
        if msgspec.json.decode(asked.args_json) != dict(args):
            raise LeaveRefused("This agent cannot be told to do something else than it asked for; it was told no.")

    # -- what it is told

    def _said(self, request: TurnRequest) -> _Said:
        if request.state is not None:
            kept = _load(request.state)
            allowed = {one.tool_call_id for one in request.tool_results if not one.is_error}
            resume = [one.interrupt.decided(is_allowed=one.key in allowed) for one in kept.asked]
            return _Said(kept.turns + 1, [*kept.messages], resume)
        kept = _load(request.before or "")
        messages: list[Json] = [*prompt(request.transcript, is_whole=self._sends_all)]
        if not kept.asked and not kept.questions:
            return _Said(1, messages, [])
        newest = messages[-1]
        answers = [one.answered(str(newest["content"])) for one in kept.questions]
        is_answer = len(answers) == 1 and answers[0]["status"] == "resolved"
        if not is_answer:
            answers = [one.dropped() for one in kept.questions]
        resume = [*answers, *(one.interrupt.dropped() for one in kept.asked)]
        return _Said(1, [*kept.messages, *([] if is_answer else [newest])], resume)

    # -- how it ends

    def _end(self, hearing: Hearing, said: _Said) -> list[TurnEvent]:
        match hearing.outcome:
            case Finished(left_over):
                return _last_words(hearing, _without_tools(left_over) if left_over else "")
            case Interrupted(interrupts):
                return self._waits(hearing, said, interrupts)
            case BrokenOff(is_failure=True):
                raise RunFailed(RunErrorCode.PROVIDER_ERROR, f"{self.name} failed while it answered.")
            case _:
                raise RunFailed(RunErrorCode.PROVIDER_ERROR, f"{self.name} broke its answer off.")

    def _waits(self, hearing: Hearing, said: _Said, interrupts: tuple[Interrupt, ...]) -> list[TurnEvent]:
        elsewhere = [one for one in interrupts if not one.is_resumable]
        if elsewhere:
            text = f"{self.name} waits for a decision that is made elsewhere, on a device of its own: "
            return _last_words(hearing, text + "; ".join(_shown(one) for one in elsewhere))
        asked = [
            _Asked(f"leave_{place}", one, clean_text(ask_args(one, hearing.call(one.tool_call_id))))
            for place, one in enumerate(interrupts)
            if one.is_approval
        ]
        questions = [one for one in interrupts if not one.is_approval]
        messages = [*(hearing.snapshot() or said.messages), *hearing.messages()]
        state = msgspec.json.encode(_Open(said.turn, [dict(one) for one in messages], asked, questions))
        if len(state) > MAX_STATE_BYTES:
            raise self._remote.too_large(MAX_STATE_BYTES)
        if questions:
            # A word in a chat is no approval: what wants one beside a question is asked for again after it.
            return _last_words(hearing, "\n\n".join(_shown(one) for one in questions), state.decode())
        calls = tuple(ToolRequest(one.key, tool_name(self.name), one.args_json, asks_leave=True) for one in asked)
        return [TurnEnd(hearing.text, calls, state.decode())]


def _last_words(hearing: Hearing, more: str, state: str = "") -> list[TurnEvent]:
    """`more` is said behind what it said."""
    before = hearing.text
    if not more and not before.strip() and hearing.has_shown:
        more = NO_TEXT
    delta = f"\n\n{more}" if before and more else more
    end = TurnEnd(before + delta, (), state)
    return [TextDelta(delta), end] if delta else [end]


def _shown(interrupt: Interrupt) -> str:
    return interrupt.message or "It waits for an answer, and did not say to what."


def _without_tools(names: tuple[str, ...]) -> str:
    return f"It wanted to use {cut(', '.join(names), 200)}, which this gateway does not have for it."


def _body(request: TurnRequest, said: _Said) -> dict[str, Any]:
    body: dict[str, Any] = {
        "threadId": f"thread-{request.conversation_id or request.run_id}",
        "runId": request.run_id if said.turn == 1 else f"{request.run_id}-{said.turn}",
        "protocolVersion": PROTOCOL_VERSION,
        "state": {},
        "messages": said.messages,
        "tools": [],
        "context": [],
        "forwardedProps": {},
    }
    return body | ({"resume": said.resume} if said.resume else {})


def _load(state: str) -> _Open:
    return msgspec.json.decode(state, type=_Open) if state else _Open()
