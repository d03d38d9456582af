"""Which calls an "always" rule covers: one tool, and a condition for every argument of the call. Pure.

There is no free pattern: a person must see at a glance what a rule lets through.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, cast

import rfc8785

from entobot.approvals.action import Args, parse_args
from entobot.config_approvals import is_condition
from entobot.core.errors import Code, Problem

MAX_RULE_BYTES = 16 * 1024
MIN_LIFE_S = 60
DEFAULT_LIFE_S = 24 * 3600
MAX_LIFE_S = 30 * DEFAULT_LIFE_S
_MEMBERS = frozenset({"approval_id", "args", "ends_in_s", "tool"})

Conditions = Mapping[str, Mapping[str, Any]]
"""By argument: `{"is": value}`, `{"begins": "text"}`, `{"longest": characters}` or `{"from": low, "to": high}`."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A rule as a person signed it. `conditions` has exactly the arguments that the call may have."""

    text: str
    approval_id: str
    tool: str
    conditions: Conditions
    ends_in_s: int

    def covers(self, tool: str, args: Args) -> bool:
        return tool == self.tool and covers(self.conditions, args)


def parse_wish(text: str) -> Wish:
    """Read the RFC 8785 text of `{"approval_id","args","ends_in_s","tool"}`. Raises `invalid`."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_RULE_BYTES:
        _refuse(f"it has more than {MAX_RULE_BYTES} bytes")
    members = parse_args(text)
    if rfc8785.dumps(members).decode("utf-8") != text:
        _refuse("it is not the canonical JSON text (RFC 8785) of its members")
    if members.keys() != _MEMBERS:
        _refuse("it has not exactly the members of a rule")
    approval_id, tool, life_s = members["approval_id"], members["tool"], members["ends_in_s"]
    if not isinstance(approval_id, str) or not isinstance(tool, str):
        _refuse("its ids are no texts")
    if type(life_s) is not int or not MIN_LIFE_S <= life_s <= MAX_LIFE_S:
        _refuse(f"it ends after {MIN_LIFE_S} seconds to {MAX_LIFE_S // 86400} days")
    return Wish(text, approval_id, tool, _conditions(members["args"]), life_s)


def _conditions(value: object) -> Conditions:
    if not isinstance(value, dict):
        _refuse("its conditions are no JSON object")
    conditions = cast("dict[str, object]", value)
    for name, condition in conditions.items():
        if not isinstance(condition, dict) or not is_condition(cast("dict[str, object]", condition)):
            _refuse(f"the condition for '{name[:40]}' is none of is, begins, longest, from and to")
    return cast("Conditions", conditions)


def covers(conditions: Conditions, args: Args) -> bool:
    """Whether every argument has a condition that holds, and every condition an argument: what nobody thought of, such
    as a further argument, is not covered.
    """
    return conditions.keys() == args.keys() and all(holds_for(conditions[name], args[name]) for name in conditions)


def holds_for(condition: Mapping[str, Any], value: object) -> bool:
    """Whether one condition holds for a value."""
    if "is" in condition:
        return _canonical(condition["is"]) == _canonical(value)
    if "begins" in condition:
        return isinstance(value, str) and value.startswith(condition["begins"])
    if "longest" in condition:
        return isinstance(value, str) and len(value) <= condition["longest"]
    return _is_number(value) and condition["from"] <= value <= condition["to"]


def words(tool: str, conditions: Conditions) -> list[str]:
    """What it covers, for people: a line for the tool and one for each argument."""
    return [f"Tool: {tool}", *(f"{name} {_said(conditions[name])}" for name in conditions)]


def _said(condition: Mapping[str, Any]) -> str:
    if "is" in condition:
        return f"is exactly {_shown(condition['is'])}"
    if "begins" in condition:
        return f"begins with {_shown(condition['begins'])}"
    if "longest" in condition:
        return f"is any text of at most {condition['longest']} characters"
    return f"is a number from {_shown(condition['from'])} to {_shown(condition['to'])}"


def _shown(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _canonical(value: object) -> bytes:
    """Equal for equal JSON values: `1`, `true` and `"1"` differ."""
    return rfc8785.dumps(cast("Any", value))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _refuse(why: str) -> NoReturn:
    raise Problem(Code.INVALID, f"This rule cannot be made: {why}.")
