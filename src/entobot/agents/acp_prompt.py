"""One prompt of an agent that speaks ACP: what it says until it is done, and what it asks leave for meanwhile."""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from entobot.agents import acp_words
from entobot.agents.runner import (
    LeaveRefused,
    RunErrorCode,
    RunFailed,
    TextDelta,
    ToolOutcome,
    ToolRequest,
    TurnEnd,
    TurnEvent,
)

MAX_UPDATE_BYTES = 16 * 1024 * 1024
"""Of all that an agent tells in one prompt."""
MAX_ASKED = 50
"""Questions that wait at a time; more are refused."""
NO_TEXT = "The agent finished without writing an answer."


@dataclass(slots=True)
class Asked:
    """Leave that the agent waits for. `args_json` is what a person is shown."""

    key: str
    name: str
    args_json: str
    options: Sequence[acp_words.Json]
    answer: asyncio.Future[dict[str, Any]] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def settle(self, *, is_allowed: bool) -> None:
        if not self.answer.done():
            self.answer.set_result(acp_words.answer(self.options, is_allowed=is_allowed))


class Prompt:
    """Everything is called on the loop's thread. `failed` and `done` end it; whichever comes first."""

    def __init__(self, run_id: str, agent: str, session_id: str) -> None:
        self.run_id = run_id
        self.session_id = session_id
        self.was_answered = asyncio.Event()
        """The agent has answered the prompt, or will not any more."""
        self._agent = agent
        self._items: deque[TurnEvent | Asked] = deque()
        self._stirred = asyncio.Event()
        self._asked: dict[str, Asked] = {}
        self._calls: dict[str, dict[str, Any]] = {}
        self._numbers = 0
        self._told_bytes = 0
        self._ended: str | RunFailed | None = None

    # -- what the agent does

    def told(self, update: acp_words.Json, size_bytes: int) -> None:
        """It shows something."""
        self._told_bytes += size_bytes
        if self._told_bytes > MAX_UPDATE_BYTES:
            text = f"The agent told more than {MAX_UPDATE_BYTES} bytes for one answer."
            self.failed(RunFailed(RunErrorCode.ANSWER_TOO_LARGE, text))
            return
        event = acp_words.shown(update, self._calls)
        if event is not None and self._ended is None:
            self._items.append(event)
            self._stirred.set()

    async def asks(self, tool_call: acp_words.Json, options: Sequence[acp_words.Json]) -> dict[str, Any]:
        """It wants to do something and waits for the answer. Nobody is asked what could not be said afterwards."""
        is_sayable = acp_words.option(options, acp_words.ALLOW_ONCE) is not None
        if self._ended is not None or not is_sayable or len(self._asked) >= MAX_ASKED:
            return acp_words.answer(options, is_allowed=False)
        known = self._calls.get(str(tool_call.get("toolCallId")), {})
        self._numbers += 1
        asked = Asked(
            f"leave_{self._numbers}",
            acp_words.tool_of(self._agent, {**known, **tool_call}),
            acp_words.leave_args(tool_call, known),
            options,
        )
        self._asked[asked.key] = asked
        self._items.append(asked)
        self._stirred.set()
        try:
            return await asked.answer
        finally:
            self._asked.pop(asked.key, None)

    def done(self, stop_reason: str) -> None:
        self._end(stop_reason)

    def failed(self, failure: RunFailed) -> None:
        self._end(failure)
        self.refuse_all()

    def _end(self, how: str | RunFailed) -> None:
        if self._ended is None:
            self._ended = how
            self._stirred.set()

    @property
    def is_ended(self) -> bool:
        return self._ended is not None

    @property
    def is_full(self) -> bool:
        return len(self._items) >= 1000

    # -- what people answer

    def allow(self, key: str, args: Mapping[str, Any]) -> None:
        """Raises LeaveRefused."""
        asked = self._asked.get(key)
        if asked is None or asked.answer.done():
            raise LeaveRefused("The agent no longer waits for this; it was not told to do it.")
        if json.loads(asked.args_json) != dict(args):
            raise LeaveRefused("This agent cannot be told to do something else than it asked for; it was told no.")
        asked.settle(is_allowed=True)

    def take(self, outcomes: Sequence[ToolOutcome]) -> None:
        """What became of what it asked for; what was allowed has been told already."""
        for outcome in outcomes:
            asked = self._asked.get(outcome.tool_call_id)
            if asked is not None:
                asked.settle(is_allowed=False)

    def refuse_all(self) -> None:
        for asked in tuple(self._asked.values()):
            asked.settle(is_allowed=False)

    # -- the turn

    async def events(self) -> AsyncIterator[TurnEvent]:
        """Up to a TurnEnd: when it is done, or when it asks. Raises RunFailed."""
        said: list[str] = []
        asked: list[Asked] = []
        while True:
            self._stirred.clear()
            while self._items:
                item = self._items.popleft()
                if isinstance(item, Asked):
                    asked.append(item)
                    continue
                if isinstance(item, TextDelta):
                    said.append(item.text)
                yield item
            if isinstance(self._ended, RunFailed):
                raise self._ended
            if asked:
                calls = tuple(ToolRequest(one.key, one.name, one.args_json, asks_leave=True) for one in asked)
                yield TurnEnd("".join(said), calls, self.run_id)
                return
            if self._ended is not None:
                yield TurnEnd(self._last_words("".join(said)), (), "")
                return
            await self._stirred.wait()

    def _last_words(self, text: str) -> str:
        if self._ended == "refusal":
            raise RunFailed(RunErrorCode.PROVIDER_REJECTED, "The agent refused to answer this.")
        if self._ended == "cancelled":
            raise RunFailed(RunErrorCode.PROVIDER_ERROR, "The agent broke its answer off.")
        return text if text.strip() or not (self._calls or self._numbers) else NO_TEXT
