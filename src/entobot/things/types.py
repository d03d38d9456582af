"""Types of things: what boards of a kind read, and which commands they take. Made by admins, as TOML, JSON or by REST.

Nothing of it is executed, and no pattern of it is matched: a type is a table of names and limits.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from entobot.approvals.model import Risk
from entobot.core.errors import Problem
from entobot.questions.form import check_answer, form_fields
from entobot.things.model import MAX_NAMES, Pace, Reading, Refusal, Unfit, Value
from entobot.things.payloads import NAME

TYPE_NAME = r"^[a-z][a-z0-9_-]{0,31}$"
MAX_COMMANDS = 32
MAX_TYPE_BYTES = 64 * 1024
NO_RISK = "none"


def _shown(text: str) -> str:
    if not text.isprintable():
        raise ValueError("has characters that cannot be shown")
    return text


def _named(names: Mapping[str, object]) -> Mapping[str, object]:
    for name in names:
        if not NAME.fullmatch(name):
            raise ValueError(f"'{name[:64]}' is no name: 1 to 32 of a to z, 0 to 9 and _, beginning with a letter")
    return names


def _as_schema(schema: dict[str, Any] | None) -> dict[str, Any] | None:
    if schema is not None:
        try:
            form_fields(schema)
        except Problem as problem:
            raise ValueError(problem.detail) from None
    return schema


Shown = Annotated[str, AfterValidator(_shown)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ReadingSpec(_Part):
    kind: Literal["boolean", "choice", "integer", "number", "text"]
    title: Annotated[Shown, Field(max_length=60)] = ""
    unit: Annotated[Shown, Field(max_length=16, description="As it is shown after the number, such as °C.")] = ""
    minimum: Annotated[float | None, Field(allow_inf_nan=False)] = None
    maximum: Annotated[float | None, Field(allow_inf_nan=False)] = None
    options: Annotated[tuple[Shown, ...], Field(max_length=30, description="Of a choice.")] = ()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.kind == "choice") != bool(self.options):
            raise ValueError("a choice has options, and nothing else has")
        if self.kind not in ("integer", "number") and (self.minimum, self.maximum, self.unit) != (None, None, ""):
            raise ValueError("only numbers have unit, minimum and maximum")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError("minimum is greater than maximum")
        return self

    def check(self, name: str, value: Value) -> None:
        """Raises Unfit."""
        if self.kind in ("integer", "number"):
            if isinstance(value, bool | str) or (self.kind == "integer" and value != int(value)):
                raise Unfit(Refusal.KIND, f"{name} is a{'n integer' if self.kind == 'integer' else ' number'}.")
            is_low = self.minimum is not None and value < self.minimum
            if is_low or (self.maximum is not None and value > self.maximum):
                raise Unfit(Refusal.RANGE, f"{name} is from {_end(self.minimum)} to {_end(self.maximum)}.")
        elif isinstance(value, bool) != (self.kind == "boolean") or isinstance(value, float):
            raise Unfit(Refusal.KIND, f"{name} is {'true or false' if self.kind == 'boolean' else 'text'}.")
        elif self.kind == "choice" and value not in self.options:
            raise Unfit(Refusal.RANGE, f"{name} is one of the options of its type.")


class CommandSpec(_Part):
    title: Annotated[Shown, Field(max_length=60)] = ""
    description: Annotated[Shown, Field(max_length=300, description="For the agent: what it does, and when.")] = ""
    risk: Literal["none", "low", "medium", "high"] = Field(
        default="medium", description="`none`: the agent may without asking. With the others a person is asked first."
    )
    args: Annotated[dict[str, Any] | None, AfterValidator(_as_schema)] = Field(
        default=None, description="A flat JSON Schema, as of a form. Without it there are none."
    )
    expires_after_s: Annotated[
        int, Field(ge=5, le=7 * 24 * 3600, description="So long it waits for a thing that is away.")
    ] = 3600

    @property
    def approval_risk(self) -> Risk | None:
        """What is at stake; None where nobody need be asked."""
        return None if self.risk == NO_RISK else Risk(self.risk)

    def check(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments as they are sent. Raises Problem `invalid`."""
        if self.args is None:
            return check_answer((), args, is_form=True)
        return check_answer(form_fields(self.args), args, is_form=True)


class ThingType(_Part):
    """What things of a kind read and do."""

    name: Annotated[str, Field(pattern=TYPE_NAME)]
    title: Annotated[Shown, Field(max_length=60)] = ""
    description: Annotated[Shown, Field(max_length=500)] = ""
    readings: Annotated[dict[str, ReadingSpec], AfterValidator(_named), Field(max_length=MAX_NAMES)] = {}
    commands: Annotated[dict[str, CommandSpec], AfterValidator(_named), Field(max_length=MAX_COMMANDS)] = {}
    every_s: Annotated[
        int | None, Field(ge=1, le=7 * 24 * 3600, description="How often a thing speaks that does not say so itself.")
    ] = None

    def check(self, one: Reading) -> None:
        """Raises Unfit."""
        spec = self.readings.get(one.name)
        if spec is None:
            raise Unfit(Refusal.UNKNOWN, f"The type {self.name} has no reading {one.name}.")
        spec.check(one.name, one.value)

    def pace(self, usual: Pace) -> Pace:
        return Pace.of(self.every_s, usual)

    def to_json(self) -> str:
        return self.model_dump_json(exclude_defaults=True)


def type_of(name: str, body: Mapping[str, Any]) -> ThingType:
    """Raises pydantic's ValidationError."""
    return ThingType.model_validate({**body, "name": name})


def is_type_name(name: str) -> bool:
    return re.fullmatch(TYPE_NAME, name) is not None


def _end(bound: float | None) -> str:
    return "anything" if bound is None else f"{bound:g}"
