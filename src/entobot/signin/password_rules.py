"""Which passwords are taken: long ones, of anything, that are not the first that somebody would try. Pure.

No rules about kinds of characters, and no end date (NIST SP 800-63B §3.1.1.2).
"""

import re
import unicodedata
from collections.abc import Iterable

from entobot.core.errors import Code, Problem

MIN_CHARACTERS = 12
MAX_CHARACTERS = 256
_FEWEST_DIFFERENT = 5
_SHORTEST_REPEATED = 8
_LEFT_OVER = 5
"""What must remain of a password beside words that everybody tries."""
_ROWS = ("abcdefghijklmnopqrstuvwxyz" * 2, "0123456789" * 4, "qwertyuiopasdfghjklzxcvbnm" * 2, "qazwsxedcrfvtgbyhnujm")
_OBVIOUS = [
    "entobot",
    "passwort",
    "password",
    "passwd",
    "welcome",
    "letmein",
    "qwertz",
    "qwerty",
    "iloveyou",
    "administrator",
    "admin",
    "dragon",
    "monkey",
    "football",
    "baseball",
    "superman",
    "batman",
    "sunshine",
    "princess",
    "starwars",
    "changeme",
    "secret",
    "master",
    "login",
    "default",
    "hello",
    "trustno",
    "shadow",
    "whatever",
    "freedom",
    "computer",
    "internet",
    "asdfgh",
    "zxcvbn",
    "1q2w3e4r",
    "123456789",
    "12345678",
    "1234567",
    "123456",
    "12345",
    "1234",
    "123",
    "abc",
]
_LOOKALIKES = str.maketrans("@0135$7!", "aolessti")
_NO_LETTERS = re.compile(r"[^a-z]+")


def normalised(password: str) -> str:
    """The same password from any keyboard (NIST SP 800-63B §3.1.1.2: NFKC)."""
    return unicodedata.normalize("NFKC", password)


def checked(password: str, *, about: Iterable[str]) -> str:
    """The password as it is hashed. `about` are names that others know: of the person, of the gateway.

    Raises `invalid` with what to do instead.
    """
    text = normalised(password)
    if len(text) < MIN_CHARACTERS:
        raise _refused(
            f"A password has at least {MIN_CHARACTERS} characters; a few words that do not belong together are good."
        )
    if len(text) > MAX_CHARACTERS:
        raise _refused(f"A password has at most {MAX_CHARACTERS} characters.")
    if _is_pattern(text.lower()) or _is_obvious(text.lower(), about):
        raise _refused(
            "This password is among the first that somebody would try. Take a few words that do not belong together."
        )
    return text


def _is_pattern(text: str) -> bool:
    """One character again and again, a short piece again and again, a row of the keyboard."""
    if len(set(text)) < _FEWEST_DIFFERENT:
        return True
    period = (text + text).find(text, 1)
    if period < _SHORTEST_REPEATED:
        return True
    return any(text in row or text[::-1] in row for row in _ROWS)


def _is_obvious(text: str, about: Iterable[str]) -> bool:
    """Whether little is left when the words that everybody tries, and digits and signs around them, are taken away."""
    names = [part for name in about for part in re.split(r"[^\w]+", normalised(name).lower()) if len(part) > 2]
    words = sorted({*_OBVIOUS, *names}, key=len, reverse=True)
    for form in (text, text.translate(_LOOKALIKES)):
        left = form
        for word in words:
            left = left.replace(word, "\0")
        if left != form and len(_NO_LETTERS.sub("", left)) < _LEFT_OVER:
            return True
    return False


def _refused(text: str) -> Problem:
    return Problem(Code.INVALID, text)
