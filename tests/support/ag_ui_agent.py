"""An AG-UI server made of the protocol's own library: it checks what it is sent, and encodes what it says."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from ag_ui.core import (
    BaseEvent,
    EventType,
    RunAgentInput,
    RunFinishedEvent,
    RunStartedEvent,
    TextMessageContentEvent,
    TextMessageEndEvent,
    TextMessageStartEvent,
    UserMessage,
)
from ag_ui.encoder import EventEncoder

from tests.support.remote import Asked, Rogue, head

KEY = "sk-ag-ui-0123456789"
Script = Callable[[Any], list[Any]]


def say(*pieces: str, message_id: str = "m1") -> list[BaseEvent]:
    return [
        TextMessageStartEvent(type=EventType.TEXT_MESSAGE_START, message_id=message_id, role="assistant"),
        *(
            TextMessageContentEvent(type=EventType.TEXT_MESSAGE_CONTENT, message_id=message_id, delta=piece)
            for piece in pieces
        ),
        TextMessageEndEvent(type=EventType.TEXT_MESSAGE_END, message_id=message_id),
    ]


def echo(given: RunAgentInput) -> list[BaseEvent]:
    text = newest(given)
    return say(text[:3], text[3:]) if len(text) > 3 else say(text)


def newest(given: RunAgentInput) -> str:
    said = [one.content for one in given.messages if isinstance(one, UserMessage)]
    assert isinstance(said[-1], str)
    return said[-1]


class AgUiAgent(Rogue):
    """`scripts` are followed in order, between a run's start and its end; then it echoes. `given` is what it was sent."""

    def __init__(self, *scripts: Script) -> None:
        super().__init__(self._answers)
        self.scripts = list(scripts)
        self.given: list[RunAgentInput] = []

    async def _answers(self, asked: Asked) -> AsyncIterator[bytes]:
        if asked.headers.get("authorization") != f"Bearer {KEY}":
            yield head(401, "application/json") + b"{}"
            return
        assert (asked.method, asked.headers["content-type"]) == ("POST", "application/json")
        given = RunAgentInput.model_validate_json(asked.body)
        self.given.append(given)
        encoder = EventEncoder(accept=asked.headers["accept"])
        yield head(media_type=encoder.get_content_type())
        script = self.scripts.pop(0) if self.scripts else echo
        events: list[Any] = [
            RunStartedEvent(type=EventType.RUN_STARTED, thread_id=given.thread_id, run_id=given.run_id),
            *script(given),
        ]
        if not any(one.type in (EventType.RUN_FINISHED, EventType.RUN_ERROR) for one in events):
            events.append(RunFinishedEvent(type=EventType.RUN_FINISHED, thread_id=given.thread_id, run_id=given.run_id))
        for event in events:
            yield encoder.encode(event).encode()


def body(asked: Asked) -> dict[str, Any]:
    return json.loads(asked.body)
