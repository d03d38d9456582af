"""Device commands: `question.answer`, `question.decline`, `question.list`."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from entobot.core.principal import Principal
from entobot.gateway.commands import Command
from entobot.questions.rows import question_row
from entobot.questions.service import Questions
from entobot.storage.database import Transaction

Id = Annotated[str, Meta(max_length=64)]


class Answer(Struct, forbid_unknown_fields=True):
    question_id: Id
    answer: Any


class Decline(Struct, forbid_unknown_fields=True):
    question_id: Id


class ListQuestions(Struct, forbid_unknown_fields=True):
    state: Literal["open", "all"] = "open"
    cursor: Id | None = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 50


def commands(questions: Questions) -> list[Command]:
    def answer(tx: Transaction, caller: Principal, data: Answer, now_ms: int) -> object:
        return question_row(questions.answer(tx, caller, data.question_id, data.answer, now_ms))

    def decline(tx: Transaction, caller: Principal, data: Decline, now_ms: int) -> object:
        return question_row(questions.decline(tx, caller, data.question_id, now_ms))

    def list_(tx: Transaction, caller: Principal, data: ListQuestions, now_ms: int) -> object:
        rows, following = questions.list(
            tx, caller, only_open=data.state == "open", cursor=data.cursor, limit=data.limit
        )
        return {"rows": [question_row(row) for row in rows], "next": following}

    return [
        Command("question.answer", Answer, answer),
        Command("question.decline", Decline, decline),
        Command("question.list", ListQuestions, list_, writes=False),
    ]
