"""What a sender may say. Pure."""

import re
from dataclasses import replace

from entobot.core.errors import Code, Problem
from entobot.core.names import is_showable
from entobot.notifications.addresses import is_link
from entobot.notifications.model import MAX_BODY_CHARACTERS, MAX_KEY_CHARACTERS, MAX_TITLE_CHARACTERS, Note
from entobot.notifications.wording import general, one_line, paragraph

_KIND = re.compile(r"[a-z][a-z0-9_.-]{0,31}")


def checked(note: Note) -> Note:
    """What a sender may say. Raises `invalid`."""
    if _KIND.fullmatch(note.kind) is None:
        raise Problem(Code.INVALID, "A kind is 1 to 32 of a-z, 0-9 and _ . - and begins with a letter, as in 'backup'.")
    if not 1 <= len(note.title) <= MAX_TITLE_CHARACTERS or not is_showable(note.title):
        raise Problem(
            Code.INVALID, f"A title has 1 to {MAX_TITLE_CHARACTERS} characters on one line, none of them invisible."
        )
    if len(note.body) > MAX_BODY_CHARACTERS or not _is_text(note.body):
        raise Problem(Code.INVALID, f"A body has at most {MAX_BODY_CHARACTERS} characters, none of them invisible.")
    if len(note.collapse_key) > MAX_KEY_CHARACTERS or (note.collapse_key and not note.collapse_key.isprintable()):
        raise Problem(Code.INVALID, f"A collapse key has at most {MAX_KEY_CHARACTERS} printable characters.")
    if note.link and not is_link(note.link):
        raise Problem(Code.INVALID, "A link is a path of this gateway, as in /chat/ID, or an https:// URL.")
    return note


def cleaned(note: Note) -> Note:
    """The same, made to fit: cut, on one line, without invisible characters."""
    return replace(note, title=one_line(note.title) or general(note.kind), body=paragraph(note.body))


def _is_text(text: str) -> bool:
    return all(not line.strip() or is_showable(line) for line in text.replace("\t", " ").split("\n"))
