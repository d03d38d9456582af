"""Settings as fields: their kind, schema and values in JSON, and what a change would make of them. Pure."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, cast, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo

from entobot.config import Settings
from entobot.config_approvals import ApprovalPolicy
from entobot.core.errors import Code, Problem
from entobot.settings.editable import EDITABLE, Applies, Rule
from entobot.sources import Layers

MAX_ENTRY_CHARACTERS = 300
MAX_TABLES_CHARACTERS = 16_000
"""Of tables as JSON: the audit log holds them whole, before and after."""


class Kind(StrEnum):
    """What a value is in JSON: a duration is a number of seconds, a path and a secret are texts."""

    BOOLEAN = "boolean"
    CHOICE = "choice"
    DURATION = "duration"
    INTEGER = "integer"
    LIST = "list"
    NUMBER = "number"
    PATH = "path"
    SECRET = "secret"  # noqa: S105  a kind of setting
    TABLES = "tables"
    TEXT = "text"


_KINDS: dict[Any, Kind] = {
    Path: Kind.PATH,
    SecretStr: Kind.SECRET,
    bool: Kind.BOOLEAN,
    float: Kind.NUMBER,
    int: Kind.INTEGER,
    str: Kind.TEXT,
    timedelta: Kind.DURATION,
}


@dataclass(frozen=True, slots=True)
class Field:
    """One setting as the schema declares it. `rule` is None where it may not be stored."""

    section: str
    name: str
    kind: Kind
    choices: tuple[str, ...]
    is_optional: bool
    description: str
    default: Any
    bounds: Mapping[str, float]
    """`minimum`, `exclusiveMinimum` and `maximum`, as in JSON Schema; seconds for durations."""
    rule: Rule | None

    @property
    def key(self) -> str:
        return f"{self.section}.{self.name}"

    def of(self, settings: Settings) -> Any:
        """Its value in JSON. A secret is never told: None."""
        return None if self.kind is Kind.SECRET else to_json(getattr(getattr(settings, self.section), self.name))

    def is_set(self, settings: Settings) -> bool:
        value = getattr(getattr(settings, self.section), self.name)
        return bool(value.get_secret_value()) if isinstance(value, SecretStr) else value is not None

    def schema(self) -> dict[str, Any]:
        """JSON Schema (2020-12) of what may be given."""
        names = {Kind.BOOLEAN: "boolean", Kind.INTEGER: "integer", Kind.DURATION: "number", Kind.NUMBER: "number"}
        name = "array" if self.kind in (Kind.LIST, Kind.TABLES) else names.get(self.kind, "string")
        schema: dict[str, Any] = {"type": [name, "null"] if self.is_optional else name, **self.bounds}
        if self.choices:
            schema["enum"] = list(self.choices)
        if self.kind is Kind.LIST:
            schema |= {"items": {"type": "string", "maxLength": MAX_ENTRY_CHARACTERS}}
        if self.kind is Kind.TABLES:
            schema |= {"items": {"type": "object"}}
        if self.rule is not None and self.kind in (Kind.LIST, Kind.TABLES, Kind.TEXT):
            schema["maxLength" if self.kind is Kind.TEXT else "maxItems"] = self.rule.max_length
        if self.kind is Kind.DURATION:
            schema["format"] = "seconds"
        return schema


@cache
def fields() -> Mapping[str, Field]:
    """Every setting by its key, in the order of the schema."""
    found = [
        _field(section, name, info)
        for section, model in Settings.model_fields.items()
        for name, info in _class_of(model).model_fields.items()
    ]
    return {one.key: one for one in found}


def _class_of(info: FieldInfo) -> type[BaseModel]:
    assert isinstance(info.annotation, type), "each section is a model"
    return info.annotation


def _field(section: str, name: str, info: FieldInfo) -> Field:
    annotation, is_optional = info.annotation, False
    if get_origin(annotation) in (Union, UnionType):
        (annotation,) = (one for one in get_args(annotation) if one is not NoneType)
        is_optional = True
    choices = get_args(annotation) if get_origin(annotation) is Literal else ()
    rule = EDITABLE.get(f"{section}.{name}")
    kind = Kind.CHOICE if choices else Kind.LIST if get_origin(annotation) is tuple else _KINDS[annotation]
    if kind is Kind.LIST and rule is not None and get_args(annotation)[0] is ApprovalPolicy:
        kind = Kind.TABLES
    return Field(
        section=section,
        name=name,
        kind=kind,
        choices=choices,
        is_optional=is_optional,
        description=info.description or "",
        default=None if kind is Kind.SECRET else to_json(info.default),
        bounds=_bounds(info, rule),
        rule=rule,
    )


def _bounds(info: FieldInfo, rule: Rule | None) -> dict[str, float]:
    bounds: dict[str, float] = {}
    for one in info.metadata:
        if isinstance(one, Gt):
            bounds["exclusiveMinimum"] = _plain(one.gt)
        elif isinstance(one, Ge):
            bounds["minimum"] = _plain(one.ge)
        elif isinstance(one, Le):
            bounds["maximum"] = _plain(one.le)
    if rule is not None and rule.least is not None:
        bounds.pop("exclusiveMinimum", None)
        bounds["minimum"] = max(rule.least, bounds.get("minimum", rule.least))
    if rule is not None and rule.most is not None:
        bounds["maximum"] = min(rule.most, bounds.get("maximum", rule.most))
    return bounds


def _plain(bound: Any) -> float:
    return bound.total_seconds() if isinstance(bound, timedelta) else bound


def to_json(value: object) -> Any:
    """A table in a list is told by its name: what else it holds may be an address with a secret in it. Policies hold none."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, tuple):
        entries = cast("tuple[object, ...]", value)
        return [one.to_json() if isinstance(one, ApprovalPolicy) else str(getattr(one, "name", one)) for one in entries]
    return str(value) if isinstance(value, Path) else value


# -- one value


def check_value(at: Field, value: Any) -> None:
    """Raises ValueError saying what is wrong with it, for a person."""
    if value is None and at.is_optional:
        return
    match at.kind:
        case Kind.INTEGER | Kind.NUMBER | Kind.DURATION:
            _check_number(at, value)
        case Kind.LIST:
            _check_list(at, value)
        case Kind.TABLES:
            _check_policies(at, value)
        case Kind.CHOICE if value not in at.choices or not isinstance(value, str):
            raise ValueError(f"is one of {', '.join(at.choices)}.")
        case Kind.BOOLEAN if not isinstance(value, bool):
            raise ValueError("is true or false.")
        case Kind.TEXT:
            _check_text(at, value)
        case _:
            pass


def _check_number(at: Field, value: Any) -> None:
    what = "a whole number" if at.kind is Kind.INTEGER else "a number"
    what += " of seconds" if at.kind is Kind.DURATION else ""
    is_number = isinstance(value, int if at.kind is Kind.INTEGER else int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value):
        raise ValueError(f"is {what}.")
    lowest, above, most = (at.bounds.get(name) for name in ("minimum", "exclusiveMinimum", "maximum"))
    if lowest is not None and value < lowest:
        raise ValueError(f"is at least {lowest:g}.")
    if above is not None and value <= above:
        raise ValueError(f"is more than {above:g}.")
    if most is not None and value > most:
        raise ValueError(f"is at most {most:g}.")


def _check_text(at: Field, value: Any) -> None:
    rule = at.rule
    if rule is None:
        return
    if not isinstance(value, str) or len(value) > rule.max_length:
        raise ValueError(f"is a text of at most {rule.max_length} characters.")
    visible = value.replace("\n", "").replace("\r", "").replace("\t", "") if rule.has_lines else value
    if not visible.isprintable() or (not rule.has_lines and value != value.strip()):
        raise ValueError("has visible characters only.")


def _check_list(at: Field, value: Any) -> None:
    entries = [one for one in cast("list[object]", value) if isinstance(one, str)] if isinstance(value, list) else None
    if entries is None or entries != value:
        raise ValueError("is a list of texts.")
    most = MAX_ENTRY_CHARACTERS if at.rule is None else at.rule.max_length
    if len(entries) > most:
        raise ValueError(f"has at most {most} entries.")
    if any(len(one) > MAX_ENTRY_CHARACTERS or not one.isprintable() or not one.strip() for one in entries):
        raise ValueError(f"has entries of 1 to {MAX_ENTRY_CHARACTERS} visible characters.")


def _check_policies(at: Field, value: Any) -> None:
    most = MAX_ENTRY_CHARACTERS if at.rule is None else at.rule.max_length
    entries = cast("list[object]", value) if isinstance(value, list) else None
    if entries is None or len(entries) > most:
        raise ValueError(f"is a list of at most {most} policies.")
    if len(json.dumps(entries)) > MAX_TABLES_CHARACTERS:
        raise ValueError(f"has at most {MAX_TABLES_CHARACTERS} characters in all.")
    for place, one in enumerate(entries, start=1):
        try:
            ApprovalPolicy.model_validate(one)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            said = str(first["msg"]).removeprefix("Value error, ")
            raise ValueError(f"is not right: policy {place}{f', {where}' if where else ''}: {said}") from None


# -- a change


@dataclass(frozen=True, slots=True)
class Wrong:
    """What is wrong with one key, in words that go on after its name."""

    key: str
    message: str


def refusal(wrong: Sequence[Wrong]) -> Problem:
    """`invalid`, with every key that is wrong: nothing was changed."""
    first = f"{wrong[0].key} {wrong[0].message}"
    more = f" ({len(wrong) - 1} more)" if len(wrong) > 1 else ""
    errors = [{"key": one.key, "message": one.message} for one in wrong]
    return Problem(Code.INVALID, first + more, extra={"errors": errors})


@dataclass(frozen=True, slots=True)
class Difference:
    """What a change does to one setting: the values that win before and after, in JSON."""

    key: str
    before: Any
    after: Any
    applies: Applies
    is_told: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """A change that is right. `stored` is everything that will be stored; `changed` the keys whose row changes."""

    layers: Layers
    settings: Settings
    stored: Mapping[str, Any]
    differences: tuple[Difference, ...] = field(default=())


def tree_of(stored: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    tree: dict[str, dict[str, Any]] = {}
    for key, value in stored.items():
        section, _, name = key.partition(".")
        tree.setdefault(section, {})[name] = value
    return tree


def explained(error: ValidationError, keys: Sequence[str]) -> list[Wrong]:
    """What the schema says, by key. What it says of a whole section stands at the changed keys of that section."""
    wrong: dict[str, Wrong] = {}
    for item in error.errors(include_url=False, include_input=False):
        message = f"is not right: {str(item['msg']).removeprefix('Value error, ')}"
        place = [str(part) for part in item["loc"]]
        exact = ".".join(place[:2])
        hit = [exact] if len(place) > 1 else [key for key in keys if key.startswith(f"{exact}.")] or [exact]
        for key in hit:
            wrong.setdefault(key, Wrong(key, message))
    return list(wrong.values())
