"""What a rule says, as a file or a request holds it. Nothing of it is executed: it is a table of names and limits."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import tzinfo
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from entobot.automations.model import MAX_ACTIONS, STATUS, Condition
from entobot.automations.times import CLOCK, Hours, Schedule, clock_time
from entobot.core.names import is_showable
from entobot.core.permissions import Scope

MAX_BODY_BYTES = 32 * 1024
MAX_ARGS_BYTES = 4 * 1024
DEFAULT_PAUSE_S = 60


def _shown(text: str) -> str:
    if text and not is_showable(text):
        raise ValueError("has characters that cannot be shown")
    return text


def _lines(text: str) -> str:
    for line in text.split("\n"):
        if line.strip() and not is_showable(line.replace("\t", " ")):
            raise ValueError("has characters that cannot be shown")
    return text


def _fits(args: dict[str, Any]) -> dict[str, Any]:
    if len(json.dumps(args)) > MAX_ARGS_BYTES:
        raise ValueError(f"has more than {MAX_ARGS_BYTES} bytes")
    return args


Shown = Annotated[str, AfterValidator(_shown)]
ThingName = Annotated[Shown, Field(min_length=1, max_length=100, description="A thing's id, or its name.")]
Zone = Annotated[str, Field(max_length=64, description="A time zone by its name, as in Europe/Berlin.")]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
ClockTime = Annotated[str, Field(pattern=CLOCK, description="hh:mm.")]
Number = Annotated[float, Field(allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RuleWhen(_Part):
    """A reading (`reading` with `above`, `below`, `equals` or `differs`) or `status` of a thing or of all of a type; or
    a time: `at`, or `every_minutes`.
    """

    thing: ThingName | None = None
    type: Annotated[str, Field(min_length=1, max_length=32, description="All things of this type.")] | None = None
    reading: Annotated[str, Field(pattern="^[a-z][a-z0-9_]{0,31}$")] | None = None
    above: Number | None = None
    below: Number | None = None
    equals: Number | bool | Annotated[Shown, Field(max_length=256)] | None = None
    differs: Number | bool | Annotated[Shown, Field(max_length=256)] | None = None
    back: Annotated[
        Number | None, Field(description="It is over there, and may come again. Without it where it no longer holds.")
    ] = None
    for_minutes: Annotated[float, Field(ge=0, le=7 * 24 * 60, description="So long it must hold.")] = 0
    status: Literal["online", "stale", "offline"] | None = None
    at: ClockTime | None = None
    days: Annotated[tuple[Day, ...], Field(max_length=7, description="None: every day.")] = ()
    every_minutes: Annotated[int | None, Field(ge=1, le=24 * 60)] = None
    zone: Zone = "UTC"
    grace_minutes: Annotated[
        int, Field(ge=0, le=24 * 60, description="A time that passed while nothing ran is caught up within so long.")
    ] = 15

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        kinds = [self.reading is not None, self.status is not None, self.at is not None, self.every_minutes is not None]
        if sum(kinds) != 1:
            raise ValueError("needs one of reading, status, at and every_minutes")
        if self.is_time:
            self._check_time()
        elif (self.thing is None) == (self.type is None):
            raise ValueError("needs a thing or a type")
        compared = [one for one in (self.above, self.below, self.equals, self.differs) if one is not None]
        if len(compared) != (1 if self.reading is not None else 0):
            raise ValueError("a reading is compared by one of above, below, equals and differs, and nothing else is")
        if self.days and self.at is None:
            raise ValueError("only at has days")
        self._check_back()
        return self

    def _check_time(self) -> None:
        if self.thing is not None or self.type is not None or self.for_minutes:
            raise ValueError("a time has no thing, no type and no for_minutes")

    def _check_back(self) -> None:
        if self.back is None:
            return
        if self.above is not None and self.back <= self.above:
            return
        if self.below is not None and self.back >= self.below:
            return
        raise ValueError("back is for above, and not greater, or for below, and not less")

    @property
    def is_time(self) -> bool:
        return self.reading is None and self.status is None

    @property
    def looked_at(self) -> str:
        """The name of the reading, or what stands for the status."""
        return self.reading or STATUS

    @property
    def condition(self) -> Condition:
        for_ms = round(self.for_minutes * 60_000)
        if self.status is not None:
            return Condition(equals=self.status, for_ms=for_ms)
        return Condition(self.above, self.below, self.equals, self.differs, self.back, for_ms)

    def schedule(self, zone: tzinfo) -> Schedule:
        return Schedule(None if self.at is None else clock_time(self.at), self.days, self.every_minutes, zone)


class RuleHours(_Part):
    """Hours outside which nothing fires. What holds when they begin fires then."""

    after: ClockTime
    before: ClockTime
    days: Annotated[tuple[Day, ...], Field(max_length=7, description="On which they begin. None: every day.")] = ()
    zone: Zone = "UTC"

    @model_validator(mode="after")
    def _has_width(self) -> Self:
        if self.after == self.before:
            raise ValueError("after and before are the same")
        return self

    def hours(self, zone: tzinfo) -> Hours:
        return Hours(clock_time(self.after), clock_time(self.before), self.days, zone)


class RuleThen(_Part):
    """`notify` (title, text, to, priority), `command` (thing, command, args), or `ask` the agent (text, conversation)."""

    do: Literal["notify", "command", "ask"]
    title: Annotated[Shown, Field(max_length=100)] = ""
    text: Annotated[str, AfterValidator(_lines), Field(max_length=1800)] = ""
    to: Annotated[str, Field(max_length=64, description="`me`, a role, or a user id.")] = "me"
    priority: Literal["low", "normal", "high"] = "normal"
    thing: ThingName | None = None
    command: Annotated[str, Field(pattern="^[a-z][a-z0-9_]{0,31}$")] | None = None
    args: Annotated[dict[str, Any], AfterValidator(_fits)] = {}
    conversation: Annotated[
        str | None, Field(max_length=64, description="A conversation's id. Without it one that is the rule's own.")
    ] = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        fields = type(self).model_fields
        set_here = {name for name in fields if name != "do" and getattr(self, name) != fields[name].default}
        allowed = {
            "notify": {"title", "text", "to", "priority"},
            "command": {"thing", "command", "args"},
            "ask": {"text", "conversation"},
        }[self.do]
        if set_here - allowed:
            raise ValueError(f"{self.do} has no {', '.join(sorted(set_here - allowed))}")
        if self.do == "command" and (self.thing is None or self.command is None):
            raise ValueError("a command needs thing and command")
        if self.do == "ask" and not self.text.strip():
            raise ValueError("ask needs a text")
        return self


class RuleBody(_Part):
    """A rule, as people write it."""

    name: Annotated[Shown, Field(min_length=1, max_length=64)]
    when: RuleWhen
    only: RuleHours | None = None
    then: Annotated[tuple[RuleThen, ...], Field(min_length=1, max_length=MAX_ACTIONS)]
    pause_s: Annotated[
        int, Field(ge=10, le=7 * 24 * 3600, description="So long it does not fire again, whatever happens.")
    ] = DEFAULT_PAUSE_S

    @property
    def zones(self) -> frozenset[str]:
        return frozenset({self.when.zone} | ({self.only.zone} if self.only else set()))

    @property
    def commands(self) -> bool:
        return any(one.do == "command" for one in self.then)

    def to_json(self) -> str:
        return self.model_dump_json(exclude_defaults=True)


def body_of(body: Mapping[str, Any]) -> RuleBody:
    """Raises pydantic's ValidationError."""
    return RuleBody.model_validate(body)


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of a person. `scopes` are those with which it was made: it never does more, and less where the person may
    less. `device_id` or `type` is what it looks at.
    """

    automation_id: str
    user_id: str
    body: RuleBody
    is_on: bool
    why_off: str
    scopes: frozenset[Scope]
    made_by_device_id: str | None
    made_at_ms: int
    changed_at_ms: int
    device_id: str | None = None
    type: str | None = None
    next_at_ms: int | None = None
    fired_at_ms: int | None = None
    fired: int = 0

    @property
    def pause_ms(self) -> int:
        return self.body.pause_s * 1000
