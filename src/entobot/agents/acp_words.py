"""What an agent says by ACP, in our words: what it shows, what it asks leave for, and what it is answered. Pure."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from pydantic import Field

from entobot.agents.runner import Activity, Line, Speaker, TextDelta, ThoughtDelta, TurnEvent
from entobot.agents.tools import Arguments, ToolSpec
from entobot.approvals.model import Risk

MAX_SHOWN_CHARACTERS = 8 * 1024
MAX_SHOWN_ITEMS = 50
ALLOW_ONCE = "allow_once"
REJECT_ONCE = "reject_once"
KINDS: dict[str, Risk] = {
    "delete": Risk.MEDIUM,
    "edit": Risk.MEDIUM,
    "execute": Risk.MEDIUM,
    "fetch": Risk.MEDIUM,
    "move": Risk.MEDIUM,
    "other": Risk.MEDIUM,
    "read": Risk.LOW,
    "search": Risk.LOW,
    "switch_mode": Risk.HIGH,
    "think": Risk.LOW,
}
"""ACP's kinds of tool calls. In another mode an agent may do more without asking, so that is worth most."""

Json = Mapping[str, Any]


class Leave(Arguments):
    """What an agent says that it will do. `input` is what its tool is called with, `changes` are files with what
    becomes of them.
    """

    title: str
    input: Any = None
    paths: list[str] = Field(default_factory=list[str])
    changes: list[dict[str, Any]] = Field(default_factory=list[dict[str, Any]])


def leave_tools(agent: str) -> list[ToolSpec]:
    """What people may be asked for by this agent: one tool for each kind, as `claude.edit`."""

    def title(args: Leave) -> str:
        return f"{agent}: {args.title}"

    return [
        ToolSpec(
            f"{agent}.{kind}",
            f"What {agent} does itself, of the kind '{kind}'.",
            Leave,
            _carried_out_elsewhere,
            needs_approval=True,
            risk=risk,
            title=title,
            asks_leave=True,
        )
        for kind, risk in KINDS.items()
    ]


def _carried_out_elsewhere(_: Leave) -> str:
    raise NotImplementedError("an agent outside carries it out")


def tool_of(agent: str, tool_call: Json) -> str:
    kind = tool_call.get("kind")
    return f"{agent}.{kind if kind in KINDS else 'other'}"


def leave_args(tool_call: Json, known: Json) -> str:
    """The arguments of the call that asks for leave. `known` is what the agent told of this tool call before."""
    whole = {**known, **{name: value for name, value in tool_call.items() if value is not None}}
    args: dict[str, Any] = {"title": str(whole.get("title") or "something that it did not name")}
    if whole.get("rawInput") is not None:
        args["input"] = whole["rawInput"]
    paths = [str(place["path"]) for place in _list(whole.get("locations"))]
    if paths:
        args["paths"] = paths
    changes = [_change(item) for item in _list(whole.get("content")) if item.get("type") == "diff"]
    if changes:
        args["changes"] = changes
    return json.dumps(args, ensure_ascii=False)


def _change(item: Json) -> dict[str, Any]:
    before = item.get("oldText")
    return {"path": item["path"], "after": item["newText"], **({} if before is None else {"before": before})}


def option(options: Sequence[Json], kind: str) -> str | None:
    """The id of the option that means exactly this; None where the agent offers none."""
    return next((str(one["optionId"]) for one in options if one.get("kind") == kind), None)


def answer(options: Sequence[Json], *, is_allowed: bool) -> dict[str, Any]:
    """What the agent is told. `always` is never said to it: rules that let calls through are the gateway's."""
    chosen = option(options, ALLOW_ONCE if is_allowed else REJECT_ONCE)
    if chosen is None:
        return {"outcome": {"outcome": "cancelled"}}
    return {"outcome": {"outcome": "selected", "optionId": chosen}}


def shown(update: Json, calls: dict[str, dict[str, Any]]) -> TurnEvent | None:
    """What an update means to us. `calls` remembers what was told of each tool call, since updates bring parts."""
    kind = update.get("sessionUpdate")
    if kind in ("agent_message_chunk", "agent_thought_chunk"):
        text = _text(update.get("content"))
        if not text:
            return None
        return TextDelta(text) if kind == "agent_message_chunk" else ThoughtDelta(text)
    if kind in ("tool_call", "tool_call_update"):
        key = str(update["toolCallId"])
        call = calls.setdefault(key, {})
        call.update({name: value for name, value in update.items() if value is not None})
        return Activity(key, "TOOL", _tool(call))
    if kind == "plan":
        entries = [
            {name: _cut(str(entry[name])) for name in ("content", "priority", "status") if name in entry}
            for entry in _list(update.get("entries"))[:MAX_SHOWN_ITEMS]
        ]
        return Activity("plan", "PLAN", {"entries": entries})
    return None


def _tool(call: Json) -> dict[str, Any]:
    content = _list(call.get("content"))
    found: dict[str, Any] = {
        "title": _cut(str(call.get("title") or "")),
        "kind": str(call.get("kind") or "other"),
        "status": str(call.get("status") or "pending"),
    }
    paths = [_cut(str(place["path"])) for place in _list(call.get("locations"))[:MAX_SHOWN_ITEMS]]
    text = "\n".join(filter(None, (_text(item.get("content")) for item in content if item.get("type") == "content")))
    changes = [_change(item) for item in content if item.get("type") == "diff"][:MAX_SHOWN_ITEMS]
    room = MAX_SHOWN_CHARACTERS // max(1, len(changes))
    shortened = [{name: _cut(str(value), room) for name, value in change.items()} for change in changes]
    return found | {
        name: value for name, value in (("paths", paths), ("output", _cut(text)), ("changes", shortened)) if value
    }


def _text(content: object) -> str:
    """Of a content block; what is no text is named."""
    if not isinstance(content, dict):
        return ""
    block = cast("Json", content)
    kind = block.get("type")
    if kind == "text":
        return str(block.get("text") or "")
    if kind == "resource_link":
        return str(block.get("uri") or "")
    return f"[{kind}]" if isinstance(kind, str) else ""


def _list(value: object) -> list[Json]:
    return cast("list[Json]", value) if isinstance(value, list) else []


def _cut(text: str, most: int = MAX_SHOWN_CHARACTERS) -> str:
    return text if len(text) <= most else f"{text[:most]}… ({len(text) - most} more characters)"


def prompt(transcript: Sequence[Line], *, is_new: bool) -> list[dict[str, Any]]:
    """What the agent is sent. To a session that knows nothing of the conversation, what was said before as well."""
    blocks: list[dict[str, Any]] = []
    before = transcript[:-1]
    if is_new and before:
        names = {Speaker.USER: "Person", Speaker.ASSISTANT: "Agent"}
        said = "\n\n".join(f"{names[line.speaker]}: {line.told_without_pictures()}" for line in before)
        blocks.append({"type": "text", "text": f"Earlier in this conversation:\n\n{said}\n\nNow:"})
    blocks.append({"type": "text", "text": transcript[-1].told_without_pictures()})
    return blocks
