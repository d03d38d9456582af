"""Names that people give to things, safe to show beside any text."""

import unicodedata

from entobot.core.errors import Code, Problem

MAX_NAME_CHARACTERS = 64
_JOINERS = "\u200c\u200d"
"""Persian spelling and many emoji need them; every other invisible character is refused."""


def clean_name(text: str, what: str = "device name") -> str:
    """A name, trimmed and in NFC: 1 to 64 characters, none of them invisible. Raises `invalid`, which says `what` it is."""
    name = unicodedata.normalize("NFC", text.strip()) if len(text) <= 4 * MAX_NAME_CHARACTERS else ""
    if not 1 <= len(name) <= MAX_NAME_CHARACTERS or not is_showable(name):
        raise Problem(
            Code.INVALID,
            f"A {what} has 1 to {MAX_NAME_CHARACTERS} characters, without control or text direction characters.",
        )
    return name


def is_showable(text: str) -> bool:
    """No control, format (bidi among them), surrogate or line-breaking character; more than joiners."""
    categories = (unicodedata.category(character) for character in text if character not in _JOINERS)
    return not any(category in {"Cc", "Cf", "Cs", "Zl", "Zp"} for category in categories) and bool(text.strip(_JOINERS))
