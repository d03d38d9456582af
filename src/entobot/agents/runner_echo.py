"""Runner adapter without a model: it says back what it hears, and asks before it takes a note.

`!note TEXT` calls the tool `note`, which needs approval: the whole way of an approval can be tried without a key.
"""

import json
import re
from collections.abc import AsyncIterator
from typing import Any

from entobot.agents.runner import TextDelta, ToolCallDelta, ToolRequest, TurnEnd, TurnEvent, TurnRequest

NOTE_COMMAND = "!note "
TOOL = "note"
_WORDS = re.compile(r"\S+\s*|\s+")


class EchoRunner:
    """See `Runner`."""

    name = "echo"

    async def turn(self, request: TurnRequest) -> AsyncIterator[TurnEvent]:
        if request.state is not None:
            answer = _report(json.loads(request.state), request)
        else:
            prompt = request.transcript[-1].told()
            note = prompt.removeprefix(NOTE_COMMAND).strip()
            if prompt.startswith(NOTE_COMMAND) and note:
                call = ToolRequest("call_1", TOOL, json.dumps({"text": note}, ensure_ascii=False))
                yield ToolCallDelta(call.tool_call_id, call.name, call.args_json)
                yield TurnEnd("", (call,), json.dumps({"note": note}))
                return
            answer = prompt
        for word in _WORDS.findall(answer):
            yield TextDelta(word)
        yield TurnEnd(answer, (), "{}")

    async def close(self) -> None:
        """Nothing is held."""


def _report(state: dict[str, Any], request: TurnRequest) -> str:
    outcome = request.tool_results[0]
    if outcome.is_error:
        return f"not noted: {state['note']}. {outcome.content}"
    return outcome.content
