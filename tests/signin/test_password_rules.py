from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entobot.core.errors import Code, Problem
from entobot.signin.password_rules import MIN_CHARACTERS, checked, normalised

ABOUT = ("bob.miller@example.org", "Bob Miller", "Kitchen")


def is_taken(password: str, about: Iterable[str] = ABOUT) -> bool:
    try:
        return len(checked(password, about=about)) >= MIN_CHARACTERS
    except Problem as problem:
        if problem.code is not Code.INVALID:
            raise
        return False


@pytest.mark.parametrize(
    "password",
    [
        "seven herons under a bridge",
        "correct horse battery staple",
        "830571924613",
        "ヘロンが橋の下に七羽いる朝",
        "my password manager made this one up",
        "aB3$kP9!xQ2z",
        "x" * 4 + " very long and " + "y" * 200,
    ],
)
def test_long_passwords_of_anything_are_taken(password: str) -> None:
    assert is_taken(password)


@pytest.mark.parametrize(
    "password",
    [
        "",
        "short",
        "eleven char",
        "password1234",
        "P@ssw0rd2026",
        "Passwort!2026",
        "welcometoentobot",
        "entobotentobot",
        "123456789012",
        "qwertyuiopas",
        "lkjhgfdsapoi",
        "aaaaaaaaaaaaaaaa",
        "abcabcabcabcabc",
        "121212121212",
        "changemechangeme",
        "bobmiller2026",
        "Bob.Miller@example.org",
        "kitchenkitchen",
        "letmein letmein!",
        "x" * 257,
    ],
)
def test_what_everybody_tries_first_is_refused(password: str) -> None:
    assert not is_taken(password)


def test_the_same_password_from_another_keyboard_is_the_same() -> None:
    assert checked("\uff21ngström unter der Brücke", about=()) == checked(
        "Angstro\u0308m unter der Bru\u0308cke", about=()
    )


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=40), st.lists(st.text(max_size=20), max_size=3))
def test_what_is_too_short_is_never_taken_and_nothing_else_is_raised(password: str, about: list[str]) -> None:
    assert not is_taken(password, about) or len(normalised(password)) >= MIN_CHARACTERS
