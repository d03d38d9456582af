"""The exact text that a person approves: RFC 8785 JSON of `{"approval_id","args","run_id","tool"}`. Pure."""

import json
import math
import re
from dataclasses import dataclass
from typing import Any, NoReturn, cast

import rfc8785

from entobot.core.errors import Code, Problem

MAX_ACTION_BYTES = 64 * 1024
MAX_RAW_BYTES = 6 * MAX_ACTION_BYTES
"""Arguments may arrive with every character escaped (`\\u0041`), which is six times the canonical length."""
MAX_DEPTH = 64
MAX_SAFE_INTEGER = 2**53 - 1
_FORBIDDEN = re.compile(
    "[\ud800-\udfff\ufdd0-\ufdef"
    + "".join(chr(plane << 16 | 0xFFFE) + chr(plane << 16 | 0xFFFF) for plane in range(17))
    + "]"
)
"""Surrogates and noncharacters (RFC 7493 §2.1)."""
_MEMBERS = frozenset({"approval_id", "args", "run_id", "tool"})

Args = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Action:
    approval_id: str
    run_id: str
    tool: str
    args: Args


def parse_args(text: str) -> Args:
    """A tool call's arguments: one I-JSON object (RFC 7493). Raises `action_not_presentable`."""
    if len(text) > MAX_RAW_BYTES:
        raise _not_presentable("it is too large")
    value = _parse(text)
    if not isinstance(value, dict):
        raise _not_presentable("its arguments are no JSON object")
    return cast("Args", value)


def action_text(action: Action) -> str:
    """The canonical text. Raises `action_not_presentable` above MAX_ACTION_BYTES."""
    members = {"approval_id": action.approval_id, "args": action.args, "run_id": action.run_id, "tool": action.tool}
    try:
        text = rfc8785.dumps(members)
    except (rfc8785.CanonicalizationError, RecursionError):
        raise _not_presentable("it has no canonical form") from None
    if len(text) > MAX_ACTION_BYTES:
        raise _not_presentable(f"its text has {len(text)} bytes and {MAX_ACTION_BYTES} are the limit")
    return text.decode("utf-8")


def parse_action(text: str) -> Action:
    """What a text stands for, read as strictly as it was written. Raises `action_not_presentable`."""
    if len(text) > MAX_ACTION_BYTES or len(text.encode("utf-8", "surrogatepass")) > MAX_ACTION_BYTES:
        raise _not_presentable("it is too large")
    value = _parse(text)
    if not isinstance(value, dict):
        raise _not_presentable("it is no JSON object")
    members = cast("dict[str, Any]", value)
    if members.keys() != _MEMBERS or not isinstance(members["args"], dict):
        raise _not_presentable("it has not exactly the members of an action")
    ids = [members["approval_id"], members["run_id"], members["tool"]]
    if not all(isinstance(item, str) for item in ids):
        raise _not_presentable("its ids are no texts")
    return Action(*ids, args=cast("Args", members["args"]))


def _parse(text: str) -> object:
    try:
        value: object = json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_float,
            parse_constant=_constant,
        )
    except (json.JSONDecodeError, RecursionError):
        raise _not_presentable("it is not valid JSON") from None
    _check_texts(value, 0)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _not_presentable("it names a member twice")
    return members


def _integer(digits: str) -> int:
    number = int(digits) if len(digits) <= 17 else 2**64
    if abs(number) > MAX_SAFE_INTEGER:
        raise _not_presentable("a number in it is beyond 2⁵³, where readers begin to differ")
    return number


def _float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number) or (number.is_integer() and abs(number) > MAX_SAFE_INTEGER):
        raise _not_presentable("a number in it is beyond what every reader understands alike")
    return number


def _constant(name: str) -> NoReturn:
    raise _not_presentable(f"{name} is no JSON number")


def _check_texts(value: object, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise _not_presentable("it is nested too deeply")
    if isinstance(value, str):
        if _FORBIDDEN.search(value):
            raise _not_presentable("a text in it holds a lone surrogate or a noncharacter")
    elif isinstance(value, dict):
        for name, member in cast("dict[str, object]", value).items():
            _check_texts(name, depth)
            _check_texts(member, depth + 1)
    elif isinstance(value, list):
        for item in cast("list[object]", value):
            _check_texts(item, depth + 1)


def _not_presentable(why: str) -> Problem:
    return Problem(Code.ACTION_NOT_PRESENTABLE, f"This action cannot be shown to a person exactly as it is: {why}.")


def action_args_json(action: Action) -> str:
    """The arguments of an approved action, canonical again: what is executed."""
    return rfc8785.dumps(action.args).decode("utf-8")
