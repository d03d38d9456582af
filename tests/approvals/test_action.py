"""What a person is shown, and what cannot be shown."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entobot.approvals.action import MAX_ACTION_BYTES, Action, action_text, parse_action, parse_args
from entobot.core.errors import Code, Problem

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufffe\uffff"), max_size=20).filter(
    lambda text: not any(ord(c) & 0xFFFE == 0xFFFE or 0xFDD0 <= ord(c) <= 0xFDEF for c in text)
)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | texts
    | st.floats(-1e15, 1e15, allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=10,
)
args = st.dictionaries(texts, values, max_size=4)


@given(args)
def test_what_is_shown_is_what_was_asked(asked: dict[str, object]) -> None:
    action = Action("apr_1", "run_1", "note", parse_args(json.dumps(asked)))
    assert parse_action(action_text(action)) == action
    assert parse_action(action_text(action)).args == asked


@given(args)
def test_the_text_does_not_depend_on_how_the_model_spelled_it(asked: dict[str, object]) -> None:
    spellings = [
        json.dumps(asked),
        json.dumps(asked, ensure_ascii=False, indent=3),
        json.dumps(dict(reversed(asked.items()))),
    ]
    shown = {action_text(Action("apr_1", "run_1", "note", parse_args(text))) for text in spellings}
    assert len(shown) == 1


def test_the_text_is_rfc_8785() -> None:
    shown = action_text(
        Action("apr_1", "run_1", "note", parse_args('{"b": 1.50, "a":"\\u20ac\\/", "\\ud83d\\ude00":null}'))
    )
    assert shown == '{"approval_id":"apr_1","args":{"a":"€/","b":1.5,"😀":null},"run_id":"run_1","tool":"note"}'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '"text"',
        "{",
        "{} {}",
        '{"a":1,"a":1}',
        '{"o":{"a":1,"a":2}}',
        '{"a":9007199254740992}',
        '{"a":-9007199254740992}',
        '{"a":' + "9" * 5000 + "}",
        '{"a":1e400}',
        '{"a":1e20}',
        '{"a":NaN}',
        '{"a":-Infinity}',
        '{"a":"\\ud800"}',
        '{"\\udfff":1}',
        '{"a":"\\uffff"}',
        '{"a":' + "[" * 70 + "]" * 70 + "}",
        '{"a":' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"a":"\x00"}',
        '{"a":"' + "x" * (7 * MAX_ACTION_BYTES) + '"}',
    ],
)
def test_what_two_readers_might_read_differently_is_not_presentable(text: str) -> None:
    with pytest.raises(Problem) as refusal:
        parse_args(text)
    assert refusal.value.code is Code.ACTION_NOT_PRESENTABLE


def test_an_action_is_whole_or_not_presentable() -> None:
    empty = len(action_text(Action("apr_1", "run_1", "note", {"a": ""})))
    fits = Action("apr_1", "run_1", "note", {"a": "x" * (MAX_ACTION_BYTES - empty)})
    assert len(action_text(fits)) == MAX_ACTION_BYTES
    with pytest.raises(Problem) as refusal:
        action_text(Action("apr_1", "run_1", "note", {"a": "x" * (MAX_ACTION_BYTES - empty + 1)}))
    assert refusal.value.code is Code.ACTION_NOT_PRESENTABLE


@pytest.mark.parametrize(
    "text",
    [
        '{"approval_id":"a","args":{},"run_id":"r"}',
        '{"approval_id":"a","args":{},"run_id":"r","tool":"t","more":1}',
        '{"approval_id":"a","args":[],"run_id":"r","tool":"t"}',
        '{"approval_id":1,"args":{},"run_id":"r","tool":"t"}',
        '{"approval_id":"a","approval_id":"a","args":{},"run_id":"r","tool":"t"}',
        "[]",
        "\ud800",
    ],
)
def test_an_edited_text_has_exactly_the_members_of_an_action(text: str) -> None:
    with pytest.raises(Problem) as refusal:
        parse_action(text)
    assert refusal.value.code is Code.ACTION_NOT_PRESENTABLE
