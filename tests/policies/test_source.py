"""Where a text is wrong: line and column, as a person would point at it."""

import pytest

from entobot.policies.engine_cedar import CedarEngine
from entobot.policies.model import Flaw

ENGINE = CedarEngine()
HEAD = 'permit (principal, action == Action::"publish", resource)'


@pytest.mark.parametrize(
    ("text", "line", "column", "said"),
    [
        (f'// why\n{HEAD}\nwhen {{ context.topic likes "a" }};', 3, 22, "unexpected token `likes`"),
        (f"{HEAD};\n\n{HEAD} wenn {{ true }};", 3, 59, "invalid policy condition: wenn"),
        (f"{HEAD}\nwhen {{ context.topc == 1 }};", 2, 16, "`topc`"),
        (f"{HEAD}\nwhen {{ principl.type }};", 2, 8, "`principl.type`"),
        ('permit (principal, action == Action::"publsh", resource);', 1, 38, "unrecognized action"),
        (f"{HEAD} when {{ 1 + }};", 1, 70, "unexpected token `}`"),
        (f"{HEAD}", 1, 58, "unexpected end of input"),
        (f'{HEAD} when {{ "open }};', 1, 66, "invalid token"),
        (f"{HEAD};;", 1, 59, "unexpected token `;`"),
        ("permit (principal == ?principal, action, resource);", 1, 22, "templates"),
        (f"{HEAD} when {{ foo::bar(1) }};", 1, 71, "not a valid function"),
        ("", 1, 1, "no policy"),
        ("// nothing; at all", 1, 1, "no policy"),
    ],
)
def test_a_flaw_is_where_the_eye_finds_it(text: str, line: int, column: int, said: str) -> None:
    found = ENGINE.flaws(text)
    assert [(one.line, one.column) for one in found[:1]] == [(line, column)]
    assert said in found[0].text


def test_a_good_text_has_none_and_semicolons_in_strings_and_comments_end_nothing() -> None:
    text = f'// first; of all\n{HEAD} when {{ context.topic == "a;b\\"c//d" }};\n@id("x")\n{HEAD};'
    assert ENGINE.flaws(text) == []
    assert ENGINE.flaws(f"{HEAD} when {{ 1 }};\n{HEAD} when {{ 2 }};") == [
        Flaw(1, 1, ENGINE.flaws(f"{HEAD} when {{ 1 }};")[0].text),
        Flaw(2, 1, ENGINE.flaws(f"{HEAD} when {{ 2 }};")[0].text),
    ], "of what is well formed, every flaw is told"
