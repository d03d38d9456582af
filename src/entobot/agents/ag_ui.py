"""A run as one AG-UI 1.0 event stream, for a client that knows nothing of ours. Pure.

Durable events come from the log and are complete; live ones may be missing. So a text is continued from where the live
pieces ended, out of the message that was stored, and what is open is closed before the run ends.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Event = dict[str, Any]

_OURS = frozenset({"threadId", "runId"})
_PASSED = frozenset({"ACTIVITY_SNAPSHOT", "TOOL_CALL_ARGS", "TOOL_CALL_END", "TOOL_CALL_START"})


@dataclass(frozen=True, slots=True)
class Pending:
    """An approval for which a run waits. `action` is the text that is signed."""

    approval_id: str
    tool_call_id: str
    title: str
    action: str
    action_sha256: str
    risk: str
    expires_at: str


class Translation:
    """From the events of one of our runs to those of one AG-UI run. `thread_id` and `run_id` are the client's names.

    A run that waits and is asked for again is told anew from its beginning, as a client that came back wants it.
    """

    def __init__(self, thread_id: str, run_id: str) -> None:
        self._names: Event = {"threadId": thread_id, "runId": run_id}
        self._written: dict[str, int] = {}
        self._open_texts: set[str] = set()
        self._open_thoughts: set[str] = set()
        self._open_calls: set[str] = set()
        self._ended_calls: set[str] = set()
        self._stored: set[str] = set()
        self.is_started = self.is_over = False

    def started(self) -> list[Event]:
        """Idempotent."""
        if self.is_started:
            return []
        self.is_started = True
        return [{"type": "RUN_STARTED", "protocolVersion": "1.0", **self._names}]

    def durable(self, event: Mapping[str, Any]) -> list[Event]:
        """Of the run, or a message of its conversation that it wrote."""
        match event["type"]:
            case "RUN_STARTED":
                return self.started()
            case "message.created":
                data = event["data"]
                return self._whole(str(data["message_id"]), str(data["content"]))
            case "TOOL_CALL_RESULT":
                return self._result(event)
            case "RUN_FINISHED":
                return self._end({"type": "RUN_FINISHED", "outcome": event["outcome"], **self._names})
            case "RUN_ERROR":
                return self._end({"type": "RUN_ERROR", "code": event["code"], "message": event["message"]})
            case _:
                return []

    def live(self, event: Mapping[str, Any], offset: int | None) -> list[Event]:
        """What is shown while it is fresh. `offset` is where a piece of a text stands in it."""
        kind = event["type"]
        if kind.startswith("TEXT_MESSAGE_"):
            return self._piece(str(event["messageId"]), event, offset)
        if kind.startswith("REASONING_MESSAGE_"):
            return self._thought(kind, str(event["messageId"]), event)
        if kind not in _PASSED:
            return []
        if kind.startswith("TOOL_CALL_") and not self._may_go_on(kind, str(event["toolCallId"])):
            return []
        return [dict(event)]

    def waits(self, pending: Sequence[Pending]) -> list[Event]:
        """The run waits for people, and this stream ends. Nothing that a client answers decides anything."""
        interrupts = [
            {
                "id": one.approval_id,
                "reason": "tool_call",
                "message": one.title,
                "toolCallId": one.tool_call_id,
                "expiresAt": one.expires_at,
                "metadata": {
                    "action": one.action,
                    "action_sha256": one.action_sha256,
                    "risk": one.risk,
                    "decided": "on a paired device, which signs it",
                    "resumable": False,
                },
            }
            for one in pending
        ]
        outcome = {"type": "interrupt", "interrupts": interrupts}
        return self._end({"type": "RUN_FINISHED", "outcome": outcome, **self._names})

    def fails(self, code: str, message: str) -> list[Event]:
        """This stream cannot go on, whatever becomes of the run."""
        return self._end({"type": "RUN_ERROR", "code": code, "message": message})

    # -- parts

    def _piece(self, message_id: str, event: Mapping[str, Any], offset: int | None) -> list[Event]:
        if message_id in self._stored or event["type"] == "TEXT_MESSAGE_END":
            return []  # the stored message ends it
        if event["type"] == "TEXT_MESSAGE_START":
            return self._begin(message_id)
        delta = str(event["delta"])
        if offset != self._written.get(message_id, 0) or not delta:
            return []  # a piece is missing; what was stored brings it
        begun = self._begin(message_id)
        self._written[message_id] = (offset or 0) + len(delta)
        return [*begun, {"type": "TEXT_MESSAGE_CONTENT", "messageId": message_id, "delta": delta}]

    def _begin(self, message_id: str) -> list[Event]:
        if message_id in self._open_texts:
            return []
        self._open_texts.add(message_id)
        self._written.setdefault(message_id, 0)
        return [{"type": "TEXT_MESSAGE_START", "messageId": message_id, "role": "assistant"}]

    def _whole(self, message_id: str, content: str) -> list[Event]:
        if message_id in self._stored:
            return []
        self._stored.add(message_id)
        told = self._begin(message_id)
        rest = content[self._written[message_id] :]
        if rest:
            told.append({"type": "TEXT_MESSAGE_CONTENT", "messageId": message_id, "delta": rest})
        self._open_texts.discard(message_id)
        return [*told, {"type": "TEXT_MESSAGE_END", "messageId": message_id}]

    def _thought(self, kind: str, message_id: str, event: Mapping[str, Any]) -> list[Event]:
        if kind.endswith("_START"):
            self._open_thoughts.add(message_id)
        elif message_id not in self._open_thoughts:
            return []
        elif kind.endswith("_END"):
            self._open_thoughts.discard(message_id)
        return [dict(event)]

    def _may_go_on(self, kind: str, tool_call_id: str) -> bool:
        if kind == "TOOL_CALL_START":
            is_new = tool_call_id not in self._open_calls | self._ended_calls
            self._open_calls.add(tool_call_id)
            return is_new
        is_open = tool_call_id in self._open_calls
        if is_open and kind == "TOOL_CALL_END":
            self._open_calls.discard(tool_call_id)
            self._ended_calls.add(tool_call_id)
        return is_open

    def _result(self, event: Mapping[str, Any]) -> list[Event]:
        tool_call_id, told = str(event["toolCallId"]), list[Event]()
        if tool_call_id not in self._open_calls | self._ended_calls:
            told.append({"type": "TOOL_CALL_START", "toolCallId": tool_call_id, "toolCallName": event["toolCallName"]})
            self._open_calls.add(tool_call_id)
        if tool_call_id in self._open_calls:
            self._open_calls.discard(tool_call_id)
            told.append({"type": "TOOL_CALL_END", "toolCallId": tool_call_id})
        self._ended_calls.add(tool_call_id)
        kept = {name: value for name, value in event.items() if name not in _OURS | {"toolCallName", "state"}}
        return [*told, kept]

    def _end(self, last: Event) -> list[Event]:
        if self.is_over:
            return []
        self.is_over = True
        closing: list[Event] = [{"type": "TEXT_MESSAGE_END", "messageId": one} for one in sorted(self._open_texts)]
        closing += [{"type": "REASONING_MESSAGE_END", "messageId": one} for one in sorted(self._open_thoughts)]
        closing += [{"type": "TOOL_CALL_END", "toolCallId": one} for one in sorted(self._open_calls)]
        return [*self.started(), *closing, last]
