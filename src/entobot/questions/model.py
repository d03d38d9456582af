"""A question: open → answered | declined | cancelled | expired. Pure; time comes in as an argument."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from entobot.core.errors import Code, Problem
from entobot.questions.form import Field

MAX_TITLE_CHARACTERS = 120
MAX_TEXT_CHARACTERS = 4000
MAX_OPEN = 20
"""Of one program to one person: who asks without end is not read."""
MIN_LIFE_S = 60
MAX_LIFE_S = 30 * 24 * 3600
USUAL_LIFE_S = 24 * 3600


class Kind(StrEnum):
    CHOICE = "choice"
    FORM = "form"
    TEXT = "text"


class State(StrEnum):
    ANSWERED = "answered"
    CANCELLED = "cancelled"
    DECLINED = "declined"
    EXPIRED = "expired"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks: a person's program by its device, or the person in a browser or at the terminal."""

    user_id: str
    device_id: str | None

    @property
    def key(self) -> str:
        """One name for the asker's own keys: programs of one person do not meet."""
        return self.device_id or self.user_id


@dataclass(frozen=True, slots=True)
class Question:
    """`user_id` is the person who is asked. `key` is the asker's own name for the question, so that it can be asked
    again after a crash and stays one.
    """

    question_id: str
    user_id: str
    asker: Asker
    key: str | None
    kind: Kind
    title: str
    text: str
    fields: tuple[Field, ...]
    state: State
    created_at_ms: int
    expires_at_ms: int
    answer: Any = None
    closed_at_ms: int | None = None
    closed_by_device_id: str | None = None

    def same_words(self, other: "Question") -> bool:
        mine = (self.user_id, self.kind, self.title, self.text, self.fields)
        return mine == (other.user_id, other.kind, other.title, other.text, other.fields)


def check_open(question: Question, now_ms: int) -> None:
    """Raises `question_closed` with the state, also when the sweep has not been by yet."""
    state = State.EXPIRED if question.state is State.OPEN and now_ms >= question.expires_at_ms else question.state
    if state is not State.OPEN:
        raise Problem(
            Code.QUESTION_CLOSED,
            f"This question is closed: {_CLOSED[state]}",
            extra={"state": str(state)},
        )


_CLOSED = {
    State.ANSWERED: "it was answered already, and the first answer counts.",
    State.CANCELLED: "who asked has taken it back.",
    State.DECLINED: "it was declined.",
    State.EXPIRED: "the time to answer has passed.",
}
