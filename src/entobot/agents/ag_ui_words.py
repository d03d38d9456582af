"""What an AG-UI server says, in our words: what it shows, what it asks, and what it is answered. Pure.

It is spoken to as its client, with one difference: no tools of ours are offered to it, so it carries out its own.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from pydantic import Field

from entobot.agents.acp_words import MAX_SHOWN_CHARACTERS, MAX_SHOWN_ITEMS
from entobot.agents.runner import Activity, Line, Speaker, TextDelta, ThoughtDelta, TurnEvent
from entobot.agents.tools import Arguments, ToolSpec
from entobot.approvals.model import Risk

MAX_CALLS = 500
"""Tool calls of one answer that are shown; an agent with more goes on unseen."""
MAX_TITLE_CHARACTERS = 500
MAX_ASKED = 50
APPROVED = "approved"
_APPROVALS = frozenset({"approval", "confirmation", "tool_call", "tool_approval"})
"""Reasons of interrupts that want a yes or a no. They are an open list; a schema that wants `approved` says it too."""

Json = Mapping[str, Any]


class Ask(Arguments):
    """What an agent says that it will do. `input` is what its tool is called with."""

    title: str
    tool: str = ""
    input: Any = Field(default=None)


def ask_tool(agent: str) -> ToolSpec:
    """What people may be asked for by this agent."""
    return ToolSpec(
        tool_name(agent),
        f"What {agent} does itself, once it may.",
        Ask,
        _carried_out_elsewhere,
        needs_approval=True,
        risk=Risk.MEDIUM,
        title=lambda args: f"{agent}: {args.title}",
        asks_leave=True,
        is_durable=True,
    )


def tool_name(agent: str) -> str:
    return f"{agent}.call"


def _carried_out_elsewhere(_: Ask) -> str:
    raise NotImplementedError("an agent outside carries it out")


@dataclass(frozen=True, slots=True)
class Interrupt:
    """Something that it needs from a person. `tool_call_id` is the call that it is about."""

    id: str
    message: str
    schema: Json | None
    tool_call_id: str
    is_approval: bool
    is_resumable: bool

    @staticmethod
    def of(value: Json) -> "Interrupt":
        given = value.get("responseSchema")
        schema = cast("Json", given) if isinstance(given, dict) else None
        metadata = value.get("metadata")
        told = _object(metadata)
        is_asked_for = schema is not None and (schema.get("type") == "boolean" or APPROVED in _properties(schema))
        return Interrupt(
            _str(value, "id"),
            _str(value, "message"),
            schema,
            _str(value, "toolCallId"),
            is_approval=is_asked_for or (schema is None and _str(value, "reason") in _APPROVALS),
            is_resumable=told.get("resumable") is not False,
        )

    def decided(self, *, is_allowed: bool) -> dict[str, Any]:
        """What it is told of an approval. What a person said in words never becomes one."""
        is_plain = self.schema is not None and self.schema.get("type") == "boolean"
        payload: object = is_allowed if is_plain else {APPROVED: is_allowed}
        return {"interruptId": self.id, "status": "resolved", "payload": payload}

    def answered(self, text: str) -> dict[str, Any]:
        """The same of a question. An answer that its schema has no place for is none."""
        if self.schema is None or self.schema.get("type") == "string":
            return {"interruptId": self.id, "status": "resolved", "payload": text}
        properties = _properties(self.schema)
        if len(properties) == 1:
            (name, wanted) = next(iter(properties.items()))
            if _object(wanted).get("type") == "string":
                return {"interruptId": self.id, "status": "resolved", "payload": {name: text}}
        return self.dropped()

    def dropped(self) -> dict[str, Any]:
        return {"interruptId": self.id, "status": "cancelled"}


def _properties(schema: Json) -> Json:
    found = schema.get("properties")
    return _object(found)


@dataclass(frozen=True, slots=True)
class Finished:
    """`left_over` are names of tools that it wanted its client to have."""

    left_over: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Interrupted:
    interrupts: tuple[Interrupt, ...]


@dataclass(frozen=True, slots=True)
class BrokenOff:
    is_failure: bool


Outcome = Finished | Interrupted | BrokenOff


@dataclass(slots=True)
class _Call:
    name: str
    message_id: str
    args: list[str] = field(default_factory=list[str])
    result: str | None = None

    def told(self) -> dict[str, Any]:
        title = f"{self.name} {''.join(self.args)}".strip()
        done = {} if self.result is None else {"output": cut(self.result)}
        status = "in_progress" if self.result is None else "completed"
        return {"title": cut(title, MAX_TITLE_CHARACTERS), "kind": "other", "status": status, **done}


class Hearing:
    """One run of it. `outcome` is there when it has said how it ended; what comes after that is not heard."""

    def __init__(self) -> None:
        self.outcome: Outcome | None = None
        self._said: list[str] = []
        self._texts: dict[str, list[str]] = {}
        self._others: set[str] = set()
        self._at = ""
        self._calls: dict[str, _Call] = {}
        self._at_call = ""
        self._steps: dict[str, str] = {}
        self._snapshot: list[Json] | None = None

    @property
    def text(self) -> str:
        return "".join(self._said)

    @property
    def has_begun(self) -> bool:
        """It has answered something."""
        return bool(self._said or self._calls or self._steps)

    @property
    def has_shown(self) -> bool:
        return bool(self._calls or self._steps)

    def call(self, tool_call_id: str) -> tuple[str, str] | None:
        """Name and arguments of a tool call that it told of."""
        found = self._calls.get(tool_call_id)
        return None if found is None else (found.name, "".join(found.args))

    def heard(self, event: Json) -> list[TurnEvent]:  # noqa: PLR0911  a table of the protocol's words
        match _str(event, "type"):
            case "TEXT_MESSAGE_START" | "TEXT_MESSAGE_CONTENT" | "TEXT_MESSAGE_CHUNK":
                return self._text(event)
            case "REASONING_MESSAGE_CONTENT" | "REASONING_MESSAGE_CHUNK":
                return _thought(_str(event, "delta"))
            case "TOOL_CALL_START" | "TOOL_CALL_ARGS" | "TOOL_CALL_CHUNK" | "TOOL_CALL_END" | "TOOL_CALL_RESULT":
                return self._tool(_str(event, "type"), event)
            case "STEP_STARTED":
                return self._step(_str(event, "stepName"), "in_progress")
            case "STEP_FINISHED":
                return self._step(_str(event, "stepName"), "completed")
            case "ACTIVITY_SNAPSHOT":
                return _activity(event)
            case "MESSAGES_SNAPSHOT":
                self._snapshot = objects(event.get("messages"))
                return []
            case "RUN_FINISHED":
                return self._finish(event.get("outcome"))
            case "RUN_ERROR":
                self.outcome = BrokenOff(is_failure=True)
                return []
            case _:
                return []

    def messages(self) -> list[Json]:
        """What its thread has more by this run, as its client would keep it."""
        made: list[dict[str, Any]] = []
        by_message: dict[str, dict[str, Any]] = {}
        for message_id, pieces in self._texts.items():
            by_message[message_id] = {"id": message_id, "role": "assistant", "content": "".join(pieces)}
            made.append(by_message[message_id])
        for call_id, call in self._calls.items():
            holder = by_message.get(call.message_id)
            if holder is None:
                holder = by_message[call.message_id] = {"id": call.message_id, "role": "assistant"}
                made.append(holder)
            function = {"name": call.name, "arguments": "".join(call.args)}
            holder.setdefault("toolCalls", []).append({"id": call_id, "type": "function", "function": function})
        made += [
            {"id": f"{call_id}-result", "role": "tool", "toolCallId": call_id, "content": call.result}
            for call_id, call in self._calls.items()
            if call.result is not None
        ]
        return [*made]

    def snapshot(self) -> list[Json] | None:
        """The whole thread as it told it last."""
        return self._snapshot

    # -- parts

    def _text(self, event: Json) -> list[TurnEvent]:
        message_id, delta = _str(event, "messageId") or self._at, _str(event, "delta")
        if event.get("subagentRunId"):
            return _thought(delta)
        if event.get("role") not in (None, "assistant"):
            self._others.add(message_id)
        if message_id in self._others:
            return []  # whoever it quotes, it is not its answer
        pieces = self._texts.setdefault(message_id, [])
        if not delta:
            return []
        is_next = bool(self._said) and message_id != self._at
        self._at = message_id
        pieces.append(delta)
        delta = f"\n\n{delta}" if is_next else delta
        self._said.append(delta)
        return [TextDelta(delta)]

    def _tool(self, kind: str, event: Json) -> list[TurnEvent]:
        call_id = _str(event, "toolCallId") or self._at_call
        call, name = self._calls.get(call_id), _str(event, "toolCallName")
        if call is None:
            if not name or len(self._calls) >= MAX_CALLS:
                return []
            call = self._calls[call_id] = _Call(name, _str(event, "parentMessageId") or call_id)
        elif kind == "TOOL_CALL_START":
            return []
        self._at_call = call_id
        if kind == "TOOL_CALL_RESULT":
            call.result = as_text(event.get("content"))
        elif kind in ("TOOL_CALL_ARGS", "TOOL_CALL_CHUNK"):
            call.args.append(_str(event, "delta"))
            if len(call.args) > 1 or kind == "TOOL_CALL_ARGS":
                return []  # shown with its end
        return [Activity(call_id, "TOOL", call.told())]

    def _step(self, name: str, status: str) -> list[TurnEvent]:
        if not name or (name not in self._steps and len(self._steps) >= MAX_SHOWN_ITEMS):
            return []
        self._steps[name] = status
        entries = [{"content": cut(one, MAX_TITLE_CHARACTERS), "status": how} for one, how in self._steps.items()]
        return [Activity("steps", "PLAN", {"entries": entries})]

    def _finish(self, outcome: object) -> list[TurnEvent]:
        told = _object(outcome)
        interrupts = [Interrupt.of(one) for one in objects(told.get("interrupts"))[:MAX_ASKED]]
        if told.get("type") == "interrupt" and interrupts:
            self.outcome = Interrupted(tuple(interrupts))
            return []
        if told.get("type") == "cancelled":
            self.outcome = BrokenOff(is_failure=False)
            return []
        self.outcome = Finished(tuple(call.name for call in self._calls.values() if call.result is None))
        return self._unsaid()

    def _unsaid(self) -> list[TurnEvent]:
        """The answer of a server that tells of its messages only when they are whole."""
        if self._said or not self._snapshot:
            return []
        found: list[str] = []
        for message in reversed(self._snapshot):
            if message.get("role") == "user":
                break
            if message.get("role") == "assistant" and _str(message, "content"):
                found.insert(0, _str(message, "content"))
        if not found:
            return []
        self._said.append("\n\n".join(found))
        return [TextDelta(self.text)]


def _thought(delta: str) -> list[TurnEvent]:
    return [ThoughtDelta(delta)] if delta else []


def _activity(event: Json) -> list[TurnEvent]:
    content = event.get("content")
    told = _object(content)
    key, kind = f"activity {_str(event, 'messageId')}", _str(event, "activityType")
    lists = (objects(told.get(name)) for name in ("entries", "steps", "tasks", "todos"))
    entries = next(filter(None, lists), list[Json]())
    if kind.upper() == "PLAN" and entries:
        words = ("content", "description", "title", "name")
        shown = [
            {
                "content": cut(next((_str(one, word) for word in words if _str(one, word)), ""), MAX_TITLE_CHARACTERS),
                **{name: cut(_str(one, name), 40) for name in ("priority", "status") if _str(one, name)},
            }
            for one in entries[:MAX_SHOWN_ITEMS]
        ]
        return [Activity(key, "PLAN", {"entries": shown})]
    title, status = _str(told, "title") or kind, _str(told, "status") or "in_progress"
    output = _str(told, "output") or as_text({name: told[name] for name in told if name not in ("title", "status")})
    shown_tool = {"title": cut(title, MAX_TITLE_CHARACTERS), "kind": "other", "status": cut(status, 40)}
    return [Activity(key, "TOOL", {**shown_tool, "output": cut(output)})]


def prompt(transcript: Sequence[Line], *, is_whole: bool) -> list[dict[str, Any]]:
    """The conversation as messages; of one whose server keeps it the newest only."""
    lines = transcript if is_whole else transcript[-1:]
    roles = {Speaker.USER: "user", Speaker.ASSISTANT: "assistant"}
    return [
        {"id": line.message_id or f"line-{place}", "role": roles[line.speaker], "content": line.told_without_pictures()}
        for place, line in enumerate(lines)
    ]


def ask_args(interrupt: Interrupt, call: tuple[str, str] | None) -> str:
    """The arguments of the call that asks for leave."""
    args: dict[str, Any] = {"title": interrupt.message or "something that it did not name"}
    if call is not None:
        name, given = call
        args["tool"] = name
        try:
            args["input"] = json.loads(given or "{}")
        except (ValueError, RecursionError):
            args["input"] = given
    return json.dumps(args, ensure_ascii=False)


def objects(value: object) -> list[Json]:
    return (
        [cast("Json", one) for one in cast("list[object]", value) if isinstance(one, dict)]
        if isinstance(value, list)
        else []
    )


def as_text(value: object) -> str:
    """Of a content: a text, parts of which the texts count, or anything else as JSON."""
    if isinstance(value, str):
        return value
    parts = objects(value)
    if parts:
        return "\n".join(_str(part, "text") or f"[{_str(part, 'type') or 'data'}]" for part in parts)
    return json.dumps(value, ensure_ascii=False) if value else ""


def cut(text: str, most: int = MAX_SHOWN_CHARACTERS) -> str:
    return text if len(text) <= most else f"{text[:most]}… ({len(text) - most} more characters)"


def _object(value: object) -> Json:
    return cast("Json", value) if isinstance(value, dict) else {}


def _str(value: Json, name: str) -> str:
    found = value.get(name)
    return found if isinstance(found, str) else ""
