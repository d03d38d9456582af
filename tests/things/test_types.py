"""Which types are taken, and what they take."""

from typing import Any

import pytest
from pydantic import ValidationError

from entobot.core.errors import Code, Problem
from entobot.things.types import type_of

LOCK: dict[str, Any] = {
    "readings": {"locked": {"kind": "boolean"}},
    "commands": {
        "open": {
            "risk": "high",
            "args": {
                "type": "object",
                "properties": {"seconds": {"type": "integer", "minimum": 1, "maximum": 30}},
                "required": ["seconds"],
            },
        },
        "beep": {"risk": "none"},
        "blink": {},
    },
}


def test_arguments_are_held_to_their_schema() -> None:
    lock = type_of("lock", LOCK)
    assert lock.commands["open"].check({"seconds": 5}) == {"seconds": 5}
    assert lock.commands["beep"].check({}) == {}
    for wrong in ({}, {"seconds": 31}, {"seconds": "5"}, {"seconds": True}, {"seconds": 5, "more": 1}):
        with pytest.raises(Problem) as refused:
            lock.commands["open"].check(wrong)
        assert refused.value.code is Code.INVALID
    with pytest.raises(Problem):
        lock.commands["beep"].check({"loud": True})


def test_a_command_has_a_risk_unless_it_is_said_to_have_none() -> None:
    commands = type_of("lock", LOCK).commands
    assert [commands[name].approval_risk for name in ("open", "blink", "beep")] == ["high", "medium", None]


def test_a_type_is_kept_as_it_was_given() -> None:
    lock = type_of("lock", LOCK)
    assert type_of("lock", lock.model_dump()) == lock


@pytest.mark.parametrize(
    "body",
    [
        {"readings": {"Bad": {"kind": "number"}}},
        {"readings": {"a": {"kind": "number", "minimum": 2, "maximum": 1}}},
        {"readings": {"a": {"kind": "boolean", "unit": "x"}}},
        {"readings": {"a": {"kind": "choice"}}},
        {"readings": {"a": {"kind": "number", "maximum": float("inf")}}},
        {"readings": {"a": {"kind": "number", "minimum": -(10**400)}}},
        {
            "commands": {
                "open": {"args": {"type": "object", "properties": {"a": {"type": "integer", "maximum": 10**400}}}}
            }
        },
        {"readings": {f"r{n}": {"kind": "number"} for n in range(65)}},
        {"commands": {"open": {"risk": "some"}}},
        {"commands": {"open": {"args": {"type": "object", "properties": {"a": {"type": "object"}}}}}},
        {"commands": {"open": {"expires_after_s": 1}}},
        {"title": "a\u202eb"},
        {"more": 1},
    ],
)
def test_what_is_no_type_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        type_of("lock", body)
