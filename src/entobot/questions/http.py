"""REST of questions: asked by programs, waited for with a long poll, answered by people."""

from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from entobot.bus.waiting import Waiting
from entobot.core.clock import Clock
from entobot.core.errors import Code, Problem
from entobot.core.principal import Principal
from entobot.questions import form, model
from entobot.questions.form import FieldKind, Format, Option
from entobot.questions.model import Kind, State
from entobot.questions.rows import question_row
from entobot.questions.service import Questions, Wish
from entobot.storage.database import Database, Transaction
from entobot.web.authentication import Caller
from entobot.web.routes import Api

MAX_WAIT_S = 30
LOOK_EVERY_S = 2.0
"""In case the bell of another node was lost."""
MAX_BODY_BYTES = 64 * 1024
AT = "/api/v1/questions"
ONE = f"{AT}/{{question_id}}"
CLOSED = (Code.NOT_FOUND, Code.QUESTION_CLOSED)


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class OptionRow(_Body):
    value: str = Field(min_length=1, max_length=form.MAX_LABEL_CHARACTERS)
    title: str = Field(default="", max_length=form.MAX_LABEL_CHARACTERS, description="Empty: the value.")


class FieldRow(BaseModel):
    name: str
    kind: FieldKind
    title: str
    description: str
    required: bool
    options: list[OptionRow]
    minimum: float | None
    maximum: float | None
    format: Format | None
    default: Any


class QuestionRow(BaseModel):
    """`answer` is there once it was answered: text, an option, a list of options, or an object of a form's values."""

    question_id: str
    user_id: str = Field(description="Who is asked.")
    asked_by_user_id: str
    asked_by_device_id: str | None
    key: str | None
    kind: Kind
    title: str
    text: str
    fields: list[FieldRow]
    state: State
    created_at: str
    expires_at: str
    closed_at: str | None
    closed_by_device_id: str | None
    answer: Any = None


class QuestionPage(BaseModel):
    rows: list[QuestionRow]
    next: str | None = Field(description="Pass as `cursor` for the following page.")


class NewQuestion(_Body):
    """`options` belong to the kind `choice`, `form_schema` to `form`."""

    kind: Kind = Kind.TEXT
    title: str = Field(default="", max_length=model.MAX_TITLE_CHARACTERS, description="One line, for lists.")
    text: str = Field(min_length=1, max_length=model.MAX_TEXT_CHARACTERS, description="What you want to know.")
    options: list[str | OptionRow] = Field(default=[], max_length=form.MAX_OPTIONS)
    several: bool = Field(default=False, description="More than one option may be chosen.")
    form_schema: dict[str, Any] | None = Field(
        default=None, description="A flat JSON Schema, as in an MCP elicitation."
    )
    to: str | None = Field(default=None, min_length=1, max_length=256, description="A person's id or login; else you.")
    expires_in_s: int = Field(default=model.USUAL_LIFE_S, ge=model.MIN_LIFE_S, le=model.MAX_LIFE_S)
    key: str | None = Field(
        default=None,
        pattern=r"^[\x21-\x7e]{1,128}$",
        description="Your name for it: asked again, it stays one question.",
    )
    callback_url: str | None = Field(
        default=None, max_length=1024, description="Post the answer there; settings say where it may be."
    )


class NewAnswer(_Body):
    answer: Any = Field(description="Text, an option, a list of options, or an object of a form's values.")


def wish_of(asked: NewQuestion) -> Wish:
    """Raises Problem `invalid` for what does not belong together, and `too_large`."""
    if (asked.kind is not Kind.CHOICE and asked.options) or (asked.kind is Kind.FORM) != (
        asked.form_schema is not None
    ):
        raise Problem(Code.INVALID, "options belong to the kind 'choice', form_schema to the kind 'form'.")
    options = [Option(one, one) if isinstance(one, str) else Option(one.value, one.title) for one in asked.options]
    match asked.kind:
        case Kind.CHOICE:
            fields = form.choice_field(options, is_several=asked.several)
        case Kind.FORM:
            fields = form.form_fields(asked.form_schema or {})
        case Kind.TEXT:
            fields = form.text_field()
    return Wish(
        asked.kind, asked.title, asked.text, fields, asked.to, asked.expires_in_s, asked.key, asked.callback_url
    )


def add_routes(api: Api, questions: Questions, database: Database, clock: Clock, waiting: Waiting) -> None:
    async def ask_question(caller: Caller, asked: NewQuestion) -> object:
        """Put a question to a person. With a `key` that you have used before: that question, as it is now."""
        wish, now_ms = wish_of(asked), clock.now_ms()
        return await database.write(lambda tx: question_row(questions.ask(tx, caller, wish, now_ms)))

    async def list_questions(
        caller: Caller,
        whose: Annotated[
            Literal["mine", "asked"], Query(description="`mine`: put to you. `asked`: asked by you or your programs.")
        ] = "mine",
        state: Annotated[Literal["open", "all"], Query()] = "open",
        cursor: Annotated[str | None, Query(max_length=64)] = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 50,
    ) -> object:
        def unit(tx: Transaction) -> object:
            rows, following = questions.list(
                tx, caller, is_asker=whose == "asked", only_open=state == "open", cursor=cursor, limit=limit
            )
            return {"rows": [question_row(row) for row in rows], "next": following}

        return await database.read(unit)

    async def get_question(
        caller: Caller,
        question_id: str,
        wait_s: Annotated[float, Query(ge=0, le=MAX_WAIT_S, description="Wait so long for its end.")] = 0,
    ) -> object:
        """The question as it is, or as it is once it was answered, declined, taken back or has expired."""
        until_s = clock.monotonic() + wait_s
        row = await database.read(lambda tx: question_row(questions.get(tx, caller, question_id)))
        return await wait(caller, question_id, until_s) if wait_s and row["state"] == State.OPEN else row

    async def wait(caller: Principal, question_id: str, until_s: float) -> object:
        """Of somebody who may: a newer turn ends an older one."""
        with waiting.turn(question_id) as turn:
            while True:
                row = await database.read(lambda tx: question_row(questions.get(tx, caller, question_id)))
                left_s = until_s - clock.monotonic()
                if row["state"] != State.OPEN or left_s <= 0 or turn.is_over:
                    return row
                await turn.wait(min(left_s, LOOK_EVERY_S))

    async def cancel_question(caller: Caller, question_id: str) -> object:
        """Take back a question that you or your programs have asked."""
        now_ms = clock.now_ms()
        return await database.write(lambda tx: question_row(questions.take_back(tx, caller, question_id, now_ms)))

    shown = _shown()
    asking = [Code.ADDRESS_REFUSED, Code.NOT_FOUND, Code.IDEMPOTENCY_MISMATCH, Code.TOO_LARGE]
    api.add("POST", AT, ask_question, status_code=201, problems=asking, max_body_bytes=MAX_BODY_BYTES, **shown)
    api.add("GET", AT, list_questions, response_model=QuestionPage, response_model_exclude_unset=True)
    api.add("GET", ONE, get_question, problems=[Code.NOT_FOUND], **shown)
    api.add("DELETE", ONE, cancel_question, problems=CLOSED, **shown)
    _add_answering(api, questions, database, clock)


def _add_answering(api: Api, questions: Questions, database: Database, clock: Clock) -> None:
    async def answer_question(caller: Caller, question_id: str, given: NewAnswer) -> object:
        """The first answer counts. A token cannot answer: a person does, on a paired phone or in a browser."""
        now_ms = clock.now_ms()
        return await database.write(
            lambda tx: question_row(questions.answer(tx, caller, question_id, given.answer, now_ms))
        )

    async def decline_question(caller: Caller, question_id: str) -> object:
        """Say that you will not answer."""
        now_ms = clock.now_ms()
        return await database.write(lambda tx: question_row(questions.decline(tx, caller, question_id, now_ms)))

    at = f"{ONE}/answer"
    api.add("POST", at, answer_question, problems=CLOSED, max_body_bytes=MAX_BODY_BYTES, **_shown())
    api.add("POST", f"{ONE}/decline", decline_question, problems=CLOSED, **_shown())


def _shown() -> dict[str, Any]:
    return {"response_model": QuestionRow, "response_model_exclude_unset": True}
