"""Notes, to-dos and reminders. Pure; times are milliseconds since 1970."""

from dataclasses import dataclass
from enum import StrEnum

MAX_TEXT_CHARACTERS = 500
MAX_OPEN = 200
"""Of one person and kind."""


class Kind(StrEnum):
    NOTE = "note"
    REMINDER = "reminder"
    TODO = "todo"


@dataclass(frozen=True, slots=True)
class Memo:
    """`due_at_ms` is a reminder's. What is done, or was told, is gone."""

    memo_id: str
    user_id: str
    kind: Kind
    text: str
    created_at_ms: int
    due_at_ms: int | None = None
