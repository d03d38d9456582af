"""What a rule covers, and which rules can be read at all."""

from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from entobot.approvals.matching import MAX_LIFE_S, Wish, covers, parse_wish, words
from entobot.core.errors import Code, Problem

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**50), 2**50) | st.text("abc/", max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=2),
    max_leaves=4,
)
ARGS = st.dictionaries(st.text("abc", min_size=1, max_size=2), VALUES, max_size=3)


def text_of(**changes: Any) -> str:
    wish = {"approval_id": "apr_1", "args": {"text": {"is": "milk"}}, "ends_in_s": 3600, "tool": "note"}
    return rfc8785.dumps(wish | changes).decode()


@given(ARGS, ARGS)
def test_a_rule_of_exact_values_covers_exactly_that_call(made: dict[str, Any], called: dict[str, Any]) -> None:
    conditions = {name: {"is": value} for name, value in made.items()}
    assert covers(conditions, made)
    assert covers(conditions, called) == (rfc8785.dumps(made) == rfc8785.dumps(called))


@pytest.mark.parametrize(
    ("condition", "inside", "outside"),
    [
        ({"is": 1}, [1, 1.0], [True, "1", None, [1]]),
        ({"is": False}, [False], [0, "", None]),
        ({"begins": "notes/"}, ["notes/a", "notes/"], ["notes", "anotes/", "Notes/a", 1, None, ["notes/"]]),
        ({"longest": 3}, ["", "abc"], ["abcd", 1, None, ["a"]]),
        ({"from": 1, "to": 5}, [1, 5, 2.5], [0, 6, True, "3", None]),
    ],
)
def test_each_condition_holds_for_what_it_says_and_nothing_else(
    condition: dict[str, Any], inside: list[Any], outside: list[Any]
) -> None:
    assert all(covers({"a": condition}, {"a": value}) for value in inside)
    assert not any(covers({"a": condition}, {"a": value}) for value in outside)


def test_a_further_or_a_missing_argument_is_not_covered() -> None:
    conditions = {"text": {"longest": 100}}
    assert covers(conditions, {"text": "x"})
    assert not covers(conditions, {"text": "x", "to": "somebody"})
    assert not covers(conditions, {})


def test_another_tool_is_not_covered() -> None:
    wish = parse_wish(text_of())
    assert isinstance(wish, Wish)
    assert wish.covers("note", {"text": "milk"})
    assert not wish.covers("files.write", {"text": "milk"})


@pytest.mark.parametrize(
    "text",
    [
        text_of(extra=1),
        text_of(ends_in_s=59),
        text_of(ends_in_s=MAX_LIFE_S + 1),
        text_of(ends_in_s=True),
        text_of(ends_in_s="3600"),
        text_of(tool=1),
        text_of(args=[]),
        text_of(args={"a": {}}),
        text_of(args={"a": "x"}),
        text_of(args={"a": {"matches": ".*"}}),
        text_of(args={"a": {"begins": ""}}),
        text_of(args={"a": {"begins": "x", "longest": 4}}),
        text_of(args={"a": {"longest": 0}}),
        text_of(args={"a": {"longest": True}}),
        text_of(args={"a": {"longest": 10**6}}),
        text_of(args={"a": {"from": 2, "to": 1}}),
        text_of(args={"a": {"from": 1}}),
        text_of(args={"a": {"is": "x" * 17_000}}),
        " " + text_of(),
        text_of().replace('"note"', '"not\\u0065"'),
        text_of().replace('"tool":"note"', '"tool":"note","tool":"note"'),
        "[]",
    ],
)
def test_what_is_no_plain_rule_is_refused(text: str) -> None:
    with pytest.raises(Problem) as refusal:
        parse_wish(text)
    assert refusal.value.code in (Code.INVALID, Code.ACTION_NOT_PRESENTABLE)


def test_a_rule_says_what_it_covers() -> None:
    conditions = {
        "path": {"begins": "notes/"},
        "content": {"longest": 500},
        "n": {"from": 1, "to": 3},
        "x": {"is": None},
    }
    assert words("files.write", conditions) == [
        "Tool: files.write",
        'path begins with "notes/"',
        "content is any text of at most 500 characters",
        "n is a number from 1 to 3",
        "x is exactly null",
    ]
