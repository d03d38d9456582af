"""One model turn as AG-UI live events, coalesced so that a fast model does not flood slow phones. Loop thread only."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta

from entobot.agents.model import Run, clean_text
from entobot.core import topics
from entobot.core.clock import Clock
from entobot.core.ids import Ids, Prefix
from entobot.core.permissions import Scope
from entobot.stream.service import Stream

FLUSH_EVERY = timedelta(milliseconds=30)
MAX_PIECE_CHARACTERS = 32 * 1024


class LiveTurn:
    """What devices see while a model writes. `message_id` is the one that the stored message will have.

    The first fragment goes out on the next turn of the loop, later ones at most every `flush_every`.
    """

    def __init__(
        self, stream: Stream, clock: Clock, ids: Ids, run: Run, *, flush_every: timedelta = FLUSH_EVERY
    ) -> None:
        self.message_id = ids.new(Prefix.MESSAGE)
        self._stream = stream
        self._clock = clock
        self._ids = ids
        self._user_id = run.user_id
        self._topic = topics.conversation(run.conversation_id)
        self._flush_every = flush_every.total_seconds()
        self._call_ids: dict[str, str] = {}
        self._has_text = False
        self._thought_id: str | None = None
        self._activity_ids: dict[str, str] = {}
        self._open_call: str | None = None
        self._buffer: list[str] = []
        self._timer: asyncio.TimerHandle | None = None
        self._last_flush = -self._flush_every
        self._is_closed = False

    def text(self, delta: str) -> None:
        delta = clean_text(delta)
        if self._is_closed or not delta:
            return
        if self._open_call is not None:
            self._end_call()
        self._end_thought()
        if not self._has_text:
            self._has_text = True
            self._show({"type": "TEXT_MESSAGE_START", "messageId": self.message_id, "role": "assistant"})
        self._add(delta)

    def thought(self, delta: str) -> None:
        """A fragment of what the agent thinks aloud. What it says or does next ends the thought."""
        delta = clean_text(delta)
        if self._is_closed or not delta:
            return
        if self._thought_id is None:
            self._end_call() if self._open_call is not None else self._flush()
            self._thought_id = self._ids.new(Prefix.MESSAGE)
            start: dict[str, object] = {
                "type": "REASONING_MESSAGE_START",
                "messageId": self._thought_id,
                "role": "reasoning",
            }
            self._show(start)
        self._add(delta)

    def activity(self, key: str, kind: str, content: Mapping[str, object]) -> None:
        """Something that the agent does by itself, as it stands now."""
        if self._is_closed:
            return
        self._end_call() if self._open_call is not None else self._flush()
        self._end_thought()
        message_id = self._activity_ids.get(key) or self._activity_ids.setdefault(key, self._ids.new(Prefix.MESSAGE))
        shown = {"type": "ACTIVITY_SNAPSHOT", "messageId": message_id, "activityType": kind, "content": content}
        self._show({**shown, "replace": True})

    def call(self, model_call_id: str, name: str, args: str) -> None:
        """A fragment of a tool call's arguments; the first one opens the call."""
        if self._is_closed:
            return
        self._end_thought()
        if self._open_call != model_call_id:
            self._end_call() if self._open_call is not None else self._flush()
            if model_call_id in self._call_ids:  # its end was shown; what is executed comes with the turn's end
                return
            self._open_call = model_call_id
            self._show(
                {
                    "type": "TOOL_CALL_START",
                    "toolCallId": self.id_of(model_call_id),
                    "toolCallName": clean_text(name),
                    "parentMessageId": self.message_id,
                }
            )
        self._add(clean_text(args))

    def is_known(self, model_call_id: str) -> bool:
        return model_call_id in self._call_ids

    def id_of(self, model_call_id: str) -> str:
        """Our id for one of the model's calls."""
        if model_call_id not in self._call_ids:
            self._call_ids[model_call_id] = self._ids.new(Prefix.TOOL_CALL)
        return self._call_ids[model_call_id]

    def close(self) -> None:
        """Show what is buffered and end what is open. Idempotent."""
        if self._is_closed:
            return
        self._end_call() if self._open_call is not None else self._flush()
        self._end_thought()
        if self._has_text:
            self._show({"type": "TEXT_MESSAGE_END", "messageId": self.message_id})
        self._is_closed = True

    def drop(self) -> None:
        """Show nothing more: the run's end was committed, and ends its texts for every reader."""
        self._is_closed = True
        self._buffer.clear()
        self._stop_timer()

    def _add(self, text: str) -> None:
        self._buffer.append(text)
        if self._timer is None:
            loop = asyncio.get_running_loop()
            due = max(self._last_flush + self._flush_every - loop.time(), 0)
            self._timer = loop.call_later(due, self._flush)

    def _flush(self) -> None:
        self._stop_timer()
        text = "".join(self._buffer)
        self._buffer.clear()
        if not text:
            return
        self._last_flush = asyncio.get_running_loop().time()
        for start in range(0, len(text), MAX_PIECE_CHARACTERS):
            piece = text[start : start + MAX_PIECE_CHARACTERS]
            if self._thought_id is not None:
                self._show({"type": "REASONING_MESSAGE_CONTENT", "messageId": self._thought_id, "delta": piece})
            elif self._open_call is None:
                self._show({"type": "TEXT_MESSAGE_CONTENT", "messageId": self.message_id, "delta": piece})
            else:
                self._show({"type": "TOOL_CALL_ARGS", "toolCallId": self.id_of(self._open_call), "delta": piece})

    def _end_call(self) -> None:
        assert self._open_call is not None, "asked only while a call is open"
        self._flush()
        self._show({"type": "TOOL_CALL_END", "toolCallId": self.id_of(self._open_call)})
        self._open_call = None

    def _end_thought(self) -> None:
        if self._thought_id is None:
            return
        self._flush()
        self._show({"type": "REASONING_MESSAGE_END", "messageId": self._thought_id})
        self._thought_id = None

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _show(self, event: dict[str, object]) -> None:
        self._stream.show(self._user_id, event, topic=self._topic, scope=Scope.CHAT, now_ms=self._clock.now_ms())
