"""A coding agent's hook before a tool runs: a person approves it on the phone. Whatever goes wrong is a no."""

import contextlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from entobot.core.clock import Clock
from entobot.core.errors import Code, Problem
from entobot.mcp.human import Human, Row

MAX_EVENT_BYTES = 1024 * 1024
STEP_S = 20.0
GRACE_S = 60
"""An agent that kills its hook leaves a request behind, which ends by itself so long after the hook would have."""
_TOOL = re.compile(r"[A-Za-z0-9_.:-]{1,100}")
_TITLES = ("command", "file_path", "path", "url", "query")
FOLDER = "cwd"


class Refused(Exception):  # noqa: N818  reads as what happened
    """Do not do it. The text says why, for the agent."""


@dataclass(frozen=True, slots=True)
class Terms:
    """`takes_edits`: the agent carries out `updatedInput`."""

    risk: str
    wait_s: float
    takes_edits: bool


async def approve(
    event: str, human: Human, clock: Clock, terms: Terms, show: Callable[[str], bool]
) -> Mapping[str, Any]:
    """What the hook prints when a person, or a rule, has let the tool through. Raises Refused for everything else.

    `event` is the JSON that agents give their hooks: `tool_name`, `tool_input`, `cwd`, `hook_event_name`. `show` puts a
    line before the person at the terminal; False when there is none.
    """
    kind, tool, given, folder = _read(event)
    args = {FOLDER: folder} | given if folder else given
    wish = {"tool": tool, "args": args, "title": _title(tool, given), "risk": terms.risk, "edits": terms.takes_edits}
    try:
        row = await human.request(wish | {"expires_in_s": max(60, round(terms.wait_s) + GRACE_S)})
        row = await _wait(row, human, clock, terms.wait_s, show)
    except Problem as problem:
        raise Refused(f"{problem.code}: {problem.detail}") from None
    if row["state"] != "approved":
        raise Refused(_why(row))
    changed = cast("dict[str, Any]", row["args"])
    if folder and FOLDER not in given and changed.get(FOLDER) != folder:
        raise Refused("The person changed the folder, which a hook cannot. It was not done.")
    shown = {name: value for name, value in changed.items() if name in given or name != FOLDER}
    return _answer(kind, shown if row["edited"] else None)


def _read(event: str) -> tuple[str, str, dict[str, Any], str]:
    try:
        read = json.loads(event)
        kind, tool, given = str(read["hook_event_name"]), str(read["tool_name"]), read["tool_input"]
        folder = str(read.get("cwd") or "")
    except (ValueError, TypeError, KeyError, AttributeError):
        raise Refused("This is no event of a hook: it has tool_name, tool_input and hook_event_name.") from None
    if not _TOOL.fullmatch(tool) or not isinstance(given, dict):
        raise Refused("The tool's name or input is nothing that could be shown to a person.")
    return kind, tool, cast("dict[str, Any]", given), folder


def _title(tool: str, given: Mapping[str, Any]) -> str:
    said = next((str(given[name]) for name in _TITLES if isinstance(given.get(name), str)), "")
    return f"{tool}: {said}"[:120] if said else tool[:120]


async def _wait(row: Row, human: Human, clock: Clock, wait_s: float, show: Callable[[str], bool]) -> Row:
    digits = row["number"]
    if digits is not None and not show(f"entobot: type {digits} on the phone to approve this."):
        await _take_back(row, human)
        raise Refused("A policy wants digits that you show to the person, and this hook has no terminal to do it.")
    until_s = clock.monotonic() + wait_s
    while row["state"] == "pending" and (left_s := until_s - clock.monotonic()) > 0:
        row = await human.look_at_request(row["request_id"], min(STEP_S, left_s))
    return row if row["state"] != "pending" else await _take_back(row, human)


async def _take_back(row: Row, human: Human) -> Row:
    """As it is then: it may have been decided at this very moment."""
    try:
        return await human.take_back_request(row["request_id"])
    except Problem as problem:
        if problem.code is not Code.APPROVAL_ALREADY_DECIDED:
            raise
    return await human.look_at_request(row["request_id"], 0)


def _why(row: Row) -> str:
    reason = f" Reason given: {row['reason']}" if row["reason"] else ""
    said = "A person refused this." if row["state"] == "denied" else "Nobody decided in time. Ask again later."
    return f"{said}{reason} It was not done."


def _answer(kind: str, changed: dict[str, Any] | None) -> Mapping[str, Any]:
    """In the words of either event."""
    edit = {} if changed is None else {"updatedInput": changed}
    if kind == "PermissionRequest":
        said: dict[str, Any] = {"decision": {"behavior": "allow"} | edit}
    else:
        said = {"permissionDecision": "allow", "permissionDecisionReason": "Approved on the phone."} | edit
    return {"hookSpecificOutput": {"hookEventName": kind} | said}


def show_on_terminal(line: str) -> bool:
    """Standard output is the agent's; a person reads the terminal itself. Blocks."""
    with contextlib.suppress(OSError), open("/dev/tty", "w", encoding="utf-8") as terminal:  # noqa: PTH123  no file of ours
        terminal.write(f"\n{line}\n")
        return True
    return False
