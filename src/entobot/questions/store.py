"""The table of questions. A row leaves `open` once, by a conditional update."""

import json
from dataclasses import asdict
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Table,
    Text,
    bindparam,
    delete,
    func,
    literal_column,
    or_,
    select,
    update,
)

from entobot.questions.form import Field, FieldKind, Format, Option
from entobot.questions.model import Asker, Kind, Question, State
from entobot.storage.database import Row, Transaction, metadata
from entobot.storage.partial_index import partial_index
from entobot.storage.upsert import upsert

questions = Table(
    "questions",
    metadata,
    Column("question_id", Text, primary_key=True),
    Column("user_id", Text, nullable=False),
    Column("asked_by_user_id", Text, nullable=False),
    Column("asked_by_device_id", Text),
    Column("asker_key", Text),
    Column("kind", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("fields", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("expires_at_ms", BigInteger, nullable=False),
    Column("answer", Text),
    Column("closed_at_ms", BigInteger),
    Column("closed_by_device_id", Text),
    Index("ix_questions_user", "user_id", "question_id"),
    Index("ix_questions_asker", "asked_by_user_id", "question_id"),
    # The asker's own name for it, with the asker: asked twice, it is one question.
    Index("ix_questions_key", "asker_key", unique=True),
    partial_index("ix_questions_open", "expires_at_ms", where="state = 'open'"),
)
LAST = "~"
"""Sorts after every id: where a first page begins."""

_OPEN = questions.c.state == literal_column("'open'")
_INSERT = upsert(questions).on_conflict_do_nothing()
_BY_ID = select(questions).where(questions.c.question_id == bindparam("question"))
_BY_KEY = select(questions).where(questions.c.asker_key == bindparam("key"))
_PAGES = {
    (is_asker, only_open): select(questions)
    .where(column == bindparam("user"), questions.c.question_id < bindparam("before"), *([_OPEN] if only_open else []))
    .order_by(questions.c.question_id.desc())
    .limit(bindparam("n"))
    for is_asker, column in ((False, questions.c.user_id), (True, questions.c.asked_by_user_id))
    for only_open in (False, True)
}
_COUNT_OPEN = select(func.count().label("n")).where(
    questions.c.user_id == bindparam("user"),
    questions.c.asked_by_user_id == bindparam("by"),
    _OPEN,
)
_OVERDUE = (
    select(questions)
    .where(_OPEN, questions.c.expires_at_ms <= bindparam("now"))
    .order_by(questions.c.expires_at_ms)
    .limit(bindparam("n"))
)
_OF_LEAVER = (
    select(questions)
    .where(_OPEN, or_(questions.c.user_id == bindparam("user"), questions.c.asked_by_user_id == bindparam("user")))
    .order_by(questions.c.question_id)
)
_CLOSE = (
    update(questions)
    .where(questions.c.question_id == bindparam("question"), _OPEN)
    .values(
        state=bindparam("to_state"),
        answer=bindparam("to_answer"),
        closed_at_ms=bindparam("at"),
        closed_by_device_id=bindparam("device"),
    )
)
_FORGET = delete(questions).where(questions.c.closed_at_ms < bindparam("before"))


def insert_question(tx: Transaction, question: Question) -> bool:
    """False when the asker has used this key before."""
    asker = question.asker
    return (
        tx.run(
            _INSERT,
            {
                "question_id": question.question_id,
                "user_id": question.user_id,
                "asked_by_user_id": asker.user_id,
                "asked_by_device_id": asker.device_id,
                "asker_key": _key(asker, question.key),
                "kind": question.kind,
                "title": question.title,
                "text": question.text,
                "fields": json.dumps([asdict(field) for field in question.fields]),
                "state": question.state,
                "created_at_ms": question.created_at_ms,
                "expires_at_ms": question.expires_at_ms,
                "answer": None,
                "closed_at_ms": None,
                "closed_by_device_id": None,
            },
        )
        == 1
    )


def find(tx: Transaction, question_id: str) -> Question | None:
    row = tx.first(_BY_ID, {"question": question_id})
    return None if row is None else _question(row)


def find_by_key(tx: Transaction, asker: Asker, key: str) -> Question | None:
    row = tx.first(_BY_KEY, {"key": _key(asker, key)})
    return None if row is None else _question(row)


def page(tx: Transaction, user_id: str, before: str, count: int, *, is_asker: bool, only_open: bool) -> list[Question]:
    """Newest first."""
    statement = _PAGES[is_asker, only_open]
    return [_question(row) for row in tx.rows(statement, {"user": user_id, "before": before, "n": count})]


def count_open(tx: Transaction, user_id: str, by_user_id: str) -> int:
    row = tx.first(_COUNT_OPEN, {"user": user_id, "by": by_user_id})
    return 0 if row is None else int(row["n"])


def overdue(tx: Transaction, now_ms: int, count: int) -> list[Question]:
    return [_question(row) for row in tx.rows(_OVERDUE, {"now": now_ms, "n": count})]


def open_with(tx: Transaction, user_id: str) -> list[Question]:
    """Those that this person is asked, and those that this person's programs ask."""
    return [_question(row) for row in tx.rows(_OF_LEAVER, {"user": user_id})]


def close(tx: Transaction, question: Question) -> bool:
    """Write the end that `question` carries; False when the row had left `open` before."""
    return (
        tx.run(
            _CLOSE,
            {
                "question": question.question_id,
                "to_state": question.state,
                "to_answer": None if question.state is not State.ANSWERED else json.dumps(question.answer),
                "at": question.closed_at_ms,
                "device": question.closed_by_device_id,
            },
        )
        == 1
    )


def forget(tx: Transaction, before_ms: int) -> int:
    return tx.run(_FORGET, {"before": before_ms})


def _key(asker: Asker, key: str | None) -> str | None:
    return None if key is None else f"{asker.key} {key}"


def _question(row: Row) -> Question:
    asker = Asker(row["asked_by_user_id"], row["asked_by_device_id"])
    stored, closed_at = row["asker_key"], row["closed_at_ms"]
    return Question(
        question_id=row["question_id"],
        user_id=row["user_id"],
        asker=asker,
        key=None if stored is None else str(stored).partition(" ")[2],
        kind=Kind(row["kind"]),
        title=row["title"],
        text=row["text"],
        fields=tuple(_field(one) for one in json.loads(row["fields"])),
        state=State(row["state"]),
        created_at_ms=int(row["created_at_ms"]),
        expires_at_ms=int(row["expires_at_ms"]),
        answer=None if row["answer"] is None else json.loads(row["answer"]),
        closed_at_ms=None if closed_at is None else int(closed_at),
        closed_by_device_id=row["closed_by_device_id"],
    )


def _field(stored: dict[str, Any]) -> Field:
    options = tuple(Option(**one) for one in stored["options"])
    form = None if stored["format"] is None else Format(stored["format"])
    read: dict[str, Any] = {"kind": FieldKind(stored["kind"]), "options": options, "format": form}
    return Field(**stored | read)
