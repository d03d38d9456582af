"""What an answer may be: fields, read from the schemas that MCP allows in an elicitation. Pure.

A schema is a flat JSON Schema object of strings, numbers, integers, booleans, and lists of given strings
(Model Context Protocol, "requestedSchema"). Anything else is refused: a phone could not show it.
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Any, cast
from urllib.parse import urlsplit

from entobot.core.errors import Code, Problem

MAX_FIELDS = 20
MAX_OPTIONS = 30
MAX_LABEL_CHARACTERS = 200
MAX_TEXT_CHARACTERS = 8000
MAX_SCHEMA_BYTES = 16 * 1024
MAX_WHOLE = 2**53
ANSWER = "answer"
"""The one field of a question that asks for text or a choice."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")


class FieldKind(StrEnum):
    BOOLEAN = "boolean"
    CHOICE = "choice"
    CHOICES = "choices"
    INTEGER = "integer"
    NUMBER = "number"
    TEXT = "text"


class Format(StrEnum):
    """Of a text, by the names of JSON Schema."""

    DATE = "date"
    DATE_TIME = "date-time"
    EMAIL = "email"
    URI = "uri"


@dataclass(frozen=True, slots=True)
class Option:
    value: str
    title: str


@dataclass(frozen=True, slots=True)
class Field:
    """`minimum` and `maximum` bound a number, the characters of a text, or how many options are chosen."""

    name: str
    kind: FieldKind
    title: str = ""
    description: str = ""
    is_required: bool = True
    options: tuple[Option, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    format: Format | None = None
    default: Any = None

    def check(self, value: Any) -> None:
        """Raises Problem `invalid` for a value that this field does not take."""
        check = _CHECKS[self.kind]
        if said := check(self, value):
            raise invalid(f"'{self.title or self.name}' {said}.")


def invalid(text: str) -> Problem:
    return Problem(Code.INVALID, text)


# -- reading what is asked


def text_field() -> tuple[Field, ...]:
    return (Field(ANSWER, FieldKind.TEXT, minimum=1, maximum=MAX_TEXT_CHARACTERS),)


def choice_field(options: Sequence[Option], *, is_several: bool) -> tuple[Field, ...]:
    """Raises Problem `invalid`."""
    kind = FieldKind.CHOICES if is_several else FieldKind.CHOICE
    return (Field(ANSWER, kind, options=_options(options), minimum=1 if is_several else None),)


def form_fields(schema: Mapping[str, Any]) -> tuple[Field, ...]:
    """Of a schema as a program sends it. Raises Problem `invalid` for what a phone could not show."""
    _bounded(schema)
    _known(schema, "the schema", {"$schema", "type", "properties", "required", "title", "description"})
    properties = _mapping(schema.get("properties"), "properties")
    required = schema.get("required", [])
    if schema.get("type") != "object" or not 0 < len(properties) <= MAX_FIELDS:
        raise invalid(f"The schema is of type object, with 1 to {MAX_FIELDS} properties.")
    if not all(name in properties for name in _list(required, "required")):
        raise invalid("'required' lists properties of the schema.")
    return tuple(_field(name, _mapping(one, name), is_required=name in required) for name, one in properties.items())


def _field(name: str, schema: Mapping[str, Any], *, is_required: bool) -> Field:
    if not _NAME.fullmatch(name):
        raise invalid(f"'{name[:64]}' is no name of a property: letters, digits, '_', '.' and '-'.")
    read = _READERS.get(str(schema.get("type")))
    if read is None:
        raise invalid(f"'{name}' is of type string, number, integer, boolean, or array of given strings.")
    field = read(name, schema, is_required=is_required)
    if field.default is not None:
        field.check(field.default)
    return field


_SHARED = {"type", "title", "description", "default"}


def _read_text(name: str, schema: Mapping[str, Any], *, is_required: bool) -> Field:
    if "enum" in schema or "oneOf" in schema:
        _known(schema, name, _SHARED | {"enum", "enumNames", "oneOf"})
        return _made(name, FieldKind.CHOICE, schema, is_required=is_required, options=_choices(name, schema, "oneOf"))
    _known(schema, name, _SHARED | {"minLength", "maxLength", "format"})
    longest = _bound(name, schema, "maxLength")
    try:
        format_ = None if schema.get("format") is None else Format(schema["format"])
    except ValueError:
        raise invalid(f"'{name}' has a format of {', '.join(Format)}.") from None
    return _made(
        name,
        FieldKind.TEXT,
        schema,
        is_required=is_required,
        minimum=_bound(name, schema, "minLength"),
        maximum=MAX_TEXT_CHARACTERS if longest is None else min(longest, MAX_TEXT_CHARACTERS),
        format=format_,
    )


def _read_number(name: str, schema: Mapping[str, Any], *, is_required: bool) -> Field:
    _known(schema, name, _SHARED | {"minimum", "maximum"})
    bounds = {key: _bound(name, schema, key, at_least=None) for key in ("minimum", "maximum")}
    return _made(name, FieldKind(schema["type"]), schema, is_required=is_required, **bounds)


def _read_boolean(name: str, schema: Mapping[str, Any], *, is_required: bool) -> Field:
    _known(schema, name, _SHARED)
    return _made(name, FieldKind.BOOLEAN, schema, is_required=is_required)


def _read_list(name: str, schema: Mapping[str, Any], *, is_required: bool) -> Field:
    _known(schema, name, _SHARED | {"items", "minItems", "maxItems"})
    items = _mapping(schema.get("items"), f"{name}.items")
    _known(items, f"{name}.items", {"type", "enum", "anyOf"})
    least = _bound(name, schema, "minItems")
    most = _bound(name, schema, "maxItems")
    options = _choices(name, items, "anyOf")
    return _made(name, FieldKind.CHOICES, schema, is_required=is_required, options=options, minimum=least, maximum=most)


_READERS = {
    "array": _read_list,
    "boolean": _read_boolean,
    "integer": _read_number,
    "number": _read_number,
    "string": _read_text,
}


def _made(name: str, kind: FieldKind, schema: Mapping[str, Any], *, is_required: bool, **more: Any) -> Field:
    title, description = _label(name, schema, "title"), _label(name, schema, "description")
    default = schema.get("default")
    return Field(name, kind, title, description, is_required=is_required, default=default, **more)


def _label(name: str, schema: Mapping[str, Any], key: str) -> str:
    label = schema.get(key, "")
    if not isinstance(label, str) or len(label) > MAX_LABEL_CHARACTERS:
        raise invalid(f"The {key} of '{name}' is text of at most {MAX_LABEL_CHARACTERS} characters.")
    return label


def _choices(name: str, schema: Mapping[str, Any], titled: str) -> tuple[Option, ...]:
    if titled in schema:
        pairs = [_mapping(one, name) for one in _list(schema[titled], name)]
        return _options([Option(str(one.get("const", "")), str(one.get("title", ""))) for one in pairs])
    values = _list(schema.get("enum"), name)
    names = _list(schema.get("enumNames", values), name)
    if len(names) != len(values) or not all(isinstance(one, str) for one in [*values, *names]):
        raise invalid(f"The options of '{name}' are strings, with a name each.")
    return _options([Option(value, title) for value, title in zip(values, names, strict=True)])


def _options(options: Sequence[Option]) -> tuple[Option, ...]:
    if not 0 < len(options) <= MAX_OPTIONS or len({one.value for one in options}) != len(options):
        raise invalid(f"There are 1 to {MAX_OPTIONS} options, each once.")
    if any(not one.value or len(one.value + one.title) > 2 * MAX_LABEL_CHARACTERS for one in options):
        raise invalid(f"An option is text of 1 to {MAX_LABEL_CHARACTERS} characters.")
    return tuple(Option(one.value, one.title or one.value) for one in options)


def _bound(name: str, schema: Mapping[str, Any], key: str, at_least: int | None = 0) -> float | None:
    value = schema.get(key)
    if value is None:
        return None
    if not _is_number(value) or (at_least is not None and (value < at_least or value != int(value))):
        raise invalid(f"The {key} of '{name}' is a number{'' if at_least is None else f' of at least {at_least}'}.")
    return float(value)


def _known(schema: Mapping[str, Any], name: str, keys: set[str]) -> None:
    if unknown := sorted(set(schema) - keys):
        raise invalid(f"'{unknown[0][:64]}' of {name} is not known here. Schemas are flat, as in an MCP elicitation.")


def _mapping(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise invalid(f"'{name}' is a JSON object.")
    return cast("Mapping[str, Any]", value)


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise invalid(f"'{name}' is, or has, no list where one belongs.")
    return cast("list[Any]", value)


def _bounded(schema: Mapping[str, Any]) -> None:
    if len(json.dumps(schema)) > MAX_SCHEMA_BYTES:
        raise Problem(Code.TOO_LARGE, f"A schema has at most {MAX_SCHEMA_BYTES} bytes.")


# -- checking an answer


def check_answer(fields: Sequence[Field], answer: Any, *, is_form: bool) -> Any:
    """The answer as it is kept: an object for a form, else the one field's value. Raises Problem `invalid`."""
    if not is_form:
        fields[0].check(answer)
        return answer
    values = _mapping(answer, ANSWER)
    known = {field.name: field for field in fields}
    if unknown := sorted(set(values) - set(known)):
        raise invalid(f"'{unknown[0][:64]}' was not asked for.")
    kept: dict[str, Any] = {}
    for name, field in known.items():
        if values.get(name) is None:
            if field.is_required:
                raise invalid(f"'{field.title or name}' is missing.")
            continue
        field.check(values[name])
        kept[name] = values[name]
    return kept


def _is_number(value: Any) -> bool:
    """A whole one is no greater than those that every client tells apart."""
    if isinstance(value, bool):
        return False
    return abs(value) <= MAX_WHOLE if isinstance(value, int) else isinstance(value, float) and math.isfinite(value)


def _within(field: Field, size: float, unit: str) -> str:
    if field.minimum is not None and size < field.minimum:
        return f"is at least {field.minimum:g}{unit}"
    if field.maximum is not None and size > field.maximum:
        return f"is at most {field.maximum:g}{unit}"
    return ""


def _check_boolean(_: Field, value: Any) -> str:
    return "" if isinstance(value, bool) else "is true or false"


def _check_number(field: Field, value: Any) -> str:
    return _within(field, value, "") if _is_number(value) else "is a number"


def _check_integer(field: Field, value: Any) -> str:
    return _within(field, value, "") if _is_number(value) and value == int(value) else "is a whole number"


def _check_choice(field: Field, value: Any) -> str:
    return "" if any(value == one.value for one in field.options) else "is one of the options"


def _check_choices(field: Field, value: Any) -> str:
    chosen = cast("list[object]", value) if isinstance(value, list) else [None]
    known = {one.value for one in field.options}
    if not all(isinstance(one, str) and one in known for one in chosen) or len(set(chosen)) != len(chosen):
        return "is a list of options, each once"
    return _within(field, len(chosen), " options")


def _check_text(field: Field, value: Any) -> str:
    if not isinstance(value, str) or "\0" in value:
        return "is text"
    if field.format is not None and not _FORMATS[field.format](value):
        return f"is no {field.format}"
    return _within(field, len(value), " characters")


def _is_date(value: str) -> bool:
    try:
        return date.fromisoformat(value).isoformat() == value
    except ValueError:
        return False


def _is_date_time(value: str) -> bool:
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


def _is_uri(value: str) -> bool:
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    return bool(parts.scheme and (parts.netloc or parts.path)) and not re.search(r"\s", value)


_FORMATS: dict[Format, Callable[[str], bool]] = {
    Format.DATE: _is_date,
    Format.DATE_TIME: _is_date_time,
    Format.EMAIL: lambda value: re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", value) is not None,
    Format.URI: _is_uri,
}
_CHECKS = {
    FieldKind.BOOLEAN: _check_boolean,
    FieldKind.CHOICE: _check_choice,
    FieldKind.CHOICES: _check_choices,
    FieldKind.INTEGER: _check_integer,
    FieldKind.NUMBER: _check_number,
    FieldKind.TEXT: _check_text,
}
