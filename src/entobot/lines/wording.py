"""What is said back by SMS. Pure. Short: each part of a message is paid for."""

from collections.abc import Sequence
from datetime import datetime, tzinfo

MAX_CHARACTERS = 450
"""Three parts."""

HELP = (
    "STATUS, PENDING, NOTE text, NOTES, TODO text, TODOS, DONE 1, REMIND 10m text, REMIND 18:30 text, REMINDERS. "
    "Anything else goes to the agent. STOP ends all SMS."
)
UNKNOWN_TIME = "When? As in: REMIND 10m call Bob, REMIND 18:30 call Bob, REMIND tomorrow 9am call Bob."
NOBODY_ANSWERS = "No agent answers here."
CODES_HELP = "YES or NO with the code of an approval decides it."
NOT_BY_SMS = "Nothing is approved by SMS here. Open the app."


def numbered(title: str, texts: Sequence[str], empty: str) -> str:
    if not texts:
        return empty
    return "\n".join([f"{title}:", *(f"{index}. {text}" for index, text in enumerate(texts, start=1))])


def at_time(at_ms: int, zone: tzinfo, now_ms: int) -> str:
    at, now = (datetime.fromtimestamp(one / 1000, zone) for one in (at_ms, now_ms))
    return at.strftime("%H:%M") if at.date() == now.date() else at.strftime("%d %b %H:%M")


def cut(text: str, most: int, more: str = "") -> str:
    """The text, or as much as fits with `more` behind it."""
    text = "\n".join(" ".join(_plain(line).split()) for line in text.strip().split("\n") if line.strip())
    if len(text) <= most:
        return text
    behind = f"…\n{more}" if more else "…"
    return text[: most - len(behind)].rstrip() + behind


def _plain(text: str) -> str:
    return "".join(one if one.isprintable() else " " for one in text)
