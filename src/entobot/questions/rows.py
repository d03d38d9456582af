"""Questions as they are shown, on every surface alike."""

from typing import Any

from entobot.core.clock import rfc3339, rfc3339_or_none
from entobot.questions.form import Field
from entobot.questions.model import Question, State


def question_row(question: Question) -> dict[str, Any]:
    """`answer` is there once it was answered: text, an option, a list of options, or an object of a form's values."""
    row: dict[str, Any] = {
        "question_id": question.question_id,
        "user_id": question.user_id,
        "asked_by_user_id": question.asker.user_id,
        "asked_by_device_id": question.asker.device_id,
        "key": question.key,
        "kind": str(question.kind),
        "title": question.title,
        "text": question.text,
        "fields": [field_row(field) for field in question.fields],
        "state": str(question.state),
        "created_at": rfc3339(question.created_at_ms),
        "expires_at": rfc3339(question.expires_at_ms),
        "closed_at": rfc3339_or_none(question.closed_at_ms),
        "closed_by_device_id": question.closed_by_device_id,
    }
    return row | ({"answer": question.answer} if question.state is State.ANSWERED else {})


def field_row(field: Field) -> dict[str, Any]:
    return {
        "name": field.name,
        "kind": str(field.kind),
        "title": field.title,
        "description": field.description,
        "required": field.is_required,
        "options": [{"value": one.value, "title": one.title} for one in field.options],
        "minimum": field.minimum,
        "maximum": field.maximum,
        "format": None if field.format is None else str(field.format),
        "default": field.default,
    }


def closed_data(question: Question) -> dict[str, object]:
    """Of the event `question.closed`: that it is over and how, not what was said."""
    return {
        "question_id": question.question_id,
        "state": str(question.state),
        "device_id": question.closed_by_device_id,
        "at": rfc3339_or_none(question.closed_at_ms),
    }
