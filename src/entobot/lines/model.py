"""An SMS as commands, and what is said back. Pure.

A message has one command in each line; `;` parts them as well. What begins with no word of a command is for the agent.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum

MAX_COMMANDS = 8
"""Of one message; more are not looked at, and the answer says so."""
MAX_AHEAD = timedelta(days=366)


class Word(StrEnum):
    """The first word of a command, in capitals or not."""

    ASK = "ASK"
    DONE = "DONE"
    HELP = "HELP"
    NO = "NO"
    NOTE = "NOTE"
    NOTES = "NOTES"
    PENDING = "PENDING"
    REMIND = "REMIND"
    REMINDERS = "REMINDERS"
    STATUS = "STATUS"
    TODO = "TODO"
    TODOS = "TODOS"
    YES = "YES"


_ALSO = {"?": Word.HELP, "COMMANDS": Word.HELP, "APPROVE": Word.YES, "DENY": Word.NO}
_BARE = frozenset({Word.HELP, Word.NOTES, Word.PENDING, Word.REMINDERS, Word.STATUS, Word.TODOS})
"""With something behind it, it is a sentence, and for the agent."""
_CODED = frozenset({Word.NO, Word.YES})
_CODE = re.compile(r"([0-9]{3}) ?([0-9]{3})")
"""Six digits, as a person may part them."""
_AFTER = re.compile(
    r"(?:me\s+)?(?:in\s+)?(\d{1,4})\s*(m|min|mins|minutes?|h|hours?|d|days?)\b\s*(?:to\s+)?(.*)", re.IGNORECASE
)
_AT = re.compile(
    r"(?:me\s+)?(?:(today|tomorrow)\s+)?(?:at\s+)?(\d{1,2})(?::(\d{2}))?\s*(am|pm)?\b\s*(today|tomorrow)?\s*(?:to\s+)?(.*)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Command:
    word: Word
    rest: str = ""


def commands_of(text: str) -> list[Command]:
    """In the order of the message; at most MAX_COMMANDS and one more, which says that there were too many."""
    found: list[Command] = []
    for line in text.split("\n"):
        for index, part in enumerate(line.split(";")):
            command = _command(part.strip())
            if command is None and not part.strip():
                continue
            if command is not None:
                found.append(command)
            elif found and found[-1].rest:  # a sentence that goes on behind a semicolon or in the next line
                found[-1] = Command(found[-1].word, f"{found[-1].rest}{';' if index else ''} {part.strip()}")
            else:
                found.append(Command(Word.ASK, part.strip()))
    return found[: MAX_COMMANDS + 1]


def _command(text: str) -> Command | None:
    first, _, rest = text.partition(" ")
    rest, name = rest.strip(), first.rstrip(":!.").upper() or first
    word = _ALSO.get(name) or next((one for one in Word if one == name), None)
    if word is None or (word in _BARE and rest):
        return None
    if word in _CODED:
        code = _CODE.fullmatch(rest)
        return None if code is None else Command(word, code[1] + code[2])
    return Command(word, rest)


def when(rest: str, zone: tzinfo, now_ms: int) -> tuple[int, str] | None:
    """When to remind, and of what; None for what says no time. A time of the day that is over is tomorrow's."""
    now = datetime.fromtimestamp(now_ms / 1000, zone)
    found = _AFTER.fullmatch(rest)
    if found is not None:
        return _ahead(now, now + timedelta(minutes=int(found[1]) * _MINUTES[found[2][0].lower()]), found[3])
    found = _AT.fullmatch(rest)
    if found is None or (found[3] is None and found[4] is None):
        return None
    hour, minute = _hour(int(found[2]), found[4]), int(found[3] or 0)
    if hour is None or minute > 59:
        return None
    at = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
    if "tomorrow" in ((found[1] or "").lower(), (found[5] or "").lower()) or at <= now:
        at += timedelta(days=1)
    return _ahead(now, at, found[6])


_MINUTES = {"m": 1, "h": 60, "d": 24 * 60}


def _hour(hour: int, half: str | None) -> int | None:
    if half is None:
        return hour if hour < 24 else None
    if not 1 <= hour <= 12:
        return None
    return hour % 12 + (12 if half.lower() == "pm" else 0)


def _ahead(now: datetime, at: datetime, text: str) -> tuple[int, str] | None:
    """Wall-clock times are made exact through UTC, so that a change of the clocks in between is kept."""
    moment = at.astimezone(UTC)
    if not timedelta(0) < moment - now.astimezone(UTC) <= MAX_AHEAD or not text.strip():
        return None
    return round(moment.timestamp() * 1000), text.strip()
