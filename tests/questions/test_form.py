"""What may be asked is what a phone can show; what is taken is what was asked for."""

import json
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entobot.core.errors import Code, Problem
from entobot.questions.form import (
    ANSWER,
    MAX_FIELDS,
    MAX_OPTIONS,
    FieldKind,
    Option,
    check_answer,
    choice_field,
    form_fields,
    text_field,
)


def refused(schema: Any) -> Code:
    with pytest.raises(Problem) as caught:
        form_fields(schema)
    return caught.value.code


def flat(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def test_a_form_is_read_as_it_is_shown() -> None:
    schema = flat(
        room={"type": "string", "title": "Room", "enum": ["a", "b"], "enumNames": ["Attic", "Basement"]},
        days={"type": "array", "items": {"anyOf": [{"const": "mo", "title": "Monday"}]}, "minItems": 1, "maxItems": 1},
        note={"type": "string", "maxLength": 20, "default": "none", "description": "Anything else?"},
        guests={"type": "integer", "minimum": 1, "maximum": 4},
        late={"type": "boolean"},
    ) | {"required": ["room", "guests"]}
    fields = form_fields(schema)
    assert [(one.name, one.kind, one.is_required) for one in fields] == [
        ("room", FieldKind.CHOICE, True),
        ("days", FieldKind.CHOICES, False),
        ("note", FieldKind.TEXT, False),
        ("guests", FieldKind.INTEGER, True),
        ("late", FieldKind.BOOLEAN, False),
    ]
    assert fields[0].options == (Option("a", "Attic"), Option("b", "Basement"))
    assert check_answer(fields, {"room": "b", "guests": 2, "late": None}, is_form=True) == {"room": "b", "guests": 2}


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "array"},
        flat(),
        flat(**{f"f{n}": {"type": "boolean"} for n in range(MAX_FIELDS + 1)}),
        flat(deep={"type": "object", "properties": {"a": {"type": "string"}}}),
        flat(any={"type": ["string", "null"]}),
        flat(one={"type": "string", "pattern": "(a+)+$"}),
        flat(one={"type": "string", "$ref": "https://example.org/schema"}),
        flat(one={"type": "string", "format": "hostname"}),
        flat(one={"type": "string", "minLength": -1}),
        flat(one={"type": "string", "enum": []}),
        flat(one={"type": "string", "enum": ["a", "a"]}),
        flat(one={"type": "string", "enum": ["a", 1]}),
        flat(one={"type": "string", "enum": [str(n) for n in range(MAX_OPTIONS + 1)]}),
        flat(one={"type": "integer", "minimum": "1"}),
        flat(one={"type": "integer", "default": "x"}),
        flat(one={"type": "array", "items": {"type": "string"}}),
        flat(one={"type": "string", "title": "x" * 1000}),
        flat(**{"a b": {"type": "string"}}),
        flat(one={"type": "string"}) | {"required": ["two"]},
        flat(one={"type": "string"}) | {"required": "one"},
        flat(one={"type": "string"}) | {"additionalProperties": True},
        flat(one="string"),
    ],
)
def test_what_a_phone_could_not_show_is_refused(schema: Any) -> None:
    assert refused(schema) is Code.INVALID


def test_a_large_schema_is_refused_before_it_is_read() -> None:
    assert refused(flat(one={"type": "string", "enum": ["x" * 20_000]})) is Code.TOO_LARGE


@pytest.mark.parametrize(
    ("property_", "good", "bad"),
    [
        ({"type": "string", "minLength": 2, "maxLength": 3}, ["ab", "äöü"], ["a", "abcd", 12, None, ["ab"], "a\0b"]),
        ({"type": "string", "format": "email"}, ["a@b.org"], ["a", "a@b", "a b@c.org"]),
        ({"type": "string", "format": "date"}, ["2026-02-28"], ["2026-02-30", "28.2.2026", "20260228"]),
        ({"type": "string", "format": "date-time"}, ["2026-02-28T10:00:00Z"], ["2026-02-28T10:00:00", "now"]),
        ({"type": "string", "format": "uri"}, ["https://a.org/b"], ["a.org", "https://a b", "http://[::"]),
        ({"type": "string", "enum": ["a", "b"]}, ["a"], ["c", "", ["a"]]),
        ({"type": "integer", "minimum": 1, "maximum": 3}, [1, 3, 2.0], [0, 4, 1.5, "1", True, float("nan")]),
        ({"type": "number", "maximum": 1}, [0.5, -3], [1.01, float("inf"), "0"]),
        ({"type": "boolean"}, [True, False], [0, 1, "true"]),
        (
            {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}, "minItems": 1},
            [["a"], ["b", "a"]],
            [[], ["a", "a"], ["c"], "a", [["a"]], [{}]],
        ),
    ],
)
def test_an_answer_is_what_was_asked_for(property_: dict[str, Any], good: list[Any], bad: list[Any]) -> None:
    fields = form_fields(flat(one=property_) | {"required": ["one"]})
    for value in good:
        assert check_answer(fields, {"one": value}, is_form=True) == {"one": value}
    for value in [*bad, None]:
        with pytest.raises(Problem) as caught:
            check_answer(fields, {"one": value}, is_form=True)
        assert caught.value.code is Code.INVALID
    for answer in ({"one": good[0], "two": 1}, [good[0]], good[0], None):
        with pytest.raises(Problem):
            check_answer(fields, answer, is_form=True)


def test_text_and_choices_are_taken_as_they_are() -> None:
    assert check_answer(text_field(), "at seven", is_form=False) == "at seven"
    options = [Option("yes", ""), Option("no", "Rather not")]
    assert choice_field(options, is_several=False)[0].options[0].title == "yes"
    assert check_answer(choice_field(options, is_several=False), "no", is_form=False) == "no"
    assert check_answer(choice_field(options, is_several=True), ["no", "yes"], is_form=False) == ["no", "yes"]
    for fields, answer in (
        (text_field(), ""),
        (text_field(), {ANSWER: "x"}),
        (choice_field(options, is_several=True), []),
    ):
        with pytest.raises(Problem):
            check_answer(fields, answer, is_form=False)


SCALARS = st.one_of(
    st.fixed_dictionaries({"type": st.just("boolean")}),
    st.fixed_dictionaries({"type": st.just("integer"), "minimum": st.integers(-9, 0), "maximum": st.integers(1, 9)}),
    st.fixed_dictionaries({"type": st.just("string"), "minLength": st.integers(0, 2), "maxLength": st.integers(3, 9)}),
    st.fixed_dictionaries(
        {"type": st.just("string"), "enum": st.lists(st.text("abc", min_size=1), min_size=1, max_size=4, unique=True)}
    ),
)
VALUES = st.one_of(st.booleans(), st.integers(-12, 12), st.text("abcd", max_size=10), st.lists(st.text("ab")))


@given(st.dictionaries(st.text("pqr", min_size=1, max_size=3), SCALARS, min_size=1, max_size=4), st.data())
def test_what_is_taken_is_what_a_validator_of_json_schema_takes(
    properties: dict[str, Any], data: st.DataObject
) -> None:
    schema = flat(**properties) | {"required": sorted(properties)[:1]}
    answer = data.draw(st.dictionaries(st.sampled_from(sorted(properties)), VALUES))
    is_valid = jsonschema_rs.is_valid(schema, json.loads(json.dumps(answer)))
    try:
        check_answer(form_fields(schema), answer, is_form=True)
    except Problem:
        assert not is_valid
    else:
        assert is_valid


@pytest.mark.parametrize("kind", ["integer", "number"])
def test_a_whole_number_that_is_no_double_is_refused_in_words(kind: str) -> None:
    fields = form_fields(flat(a={"type": kind}))
    for great in (10**400, -(10**400), 2**53 + 1):
        with pytest.raises(Problem) as caught:
            check_answer(fields, {"a": great}, is_form=True)
        assert caught.value.code is Code.INVALID
        assert refused(flat(a={"type": kind, "minimum": great})) is Code.INVALID
    assert check_answer(fields, {"a": 2**53}, is_form=True) == {"a": 2**53}
