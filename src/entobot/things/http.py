"""REST of things: translate only."""

import json
from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from entobot.core.clock import Clock, rfc3339, rfc3339_or_none
from entobot.core.errors import Code
from entobot.core.principal import Principal
from entobot.storage.database import Database, Transaction
from entobot.things.model import Command, CommandState, Kind, Point, State, ThingStatus, kind_of
from entobot.things.service import MAX_PAGE, MAX_POINTS, Reach, Seen, Things
from entobot.things.types import MAX_TYPE_BYTES, TYPE_NAME, CommandSpec, ReadingSpec, ThingType
from entobot.things.waiting import Waiting
from entobot.web.authentication import Caller
from entobot.web.routes import Api

Guard = Callable[[Transaction, Principal], None]
AT = "/api/v1/things"
TYPES = "/api/v1/thing-types"
DAY_MS = 24 * 3600_000
EVENTS = 20


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ReadingRow(_Body):
    name: str
    title: str = Field(description="Of its type; may be empty.")
    kind: Kind
    value: float | bool | str
    unit: str
    at: str = Field(description="When it was read.")


class CommandOffer(_Body):
    name: str
    title: str
    description: str
    risk: Literal["none", "low", "medium", "high"]
    args: dict[str, Any] | None = Field(description="A flat JSON Schema; null: none.")


class ThingRow(_Body):
    device_id: str
    name: str
    user_id: str
    type: str | None
    type_title: str
    status: ThingStatus = Field(description="`never`: it has not spoken yet.")
    status_at: str
    heard_at: str | None
    firmware: str
    readings: list[ReadingRow]
    commands: list[CommandOffer]
    refused: int = Field(description="How often something it said did not fit.")
    refused_at: str | None
    refused_why: str


class ThingPage(_Body):
    rows: list[ThingRow]
    next: str | None


class EventRow(_Body):
    event: str
    data: dict[str, Any]
    at: str


class ThingDetail(ThingRow):
    events: list[EventRow] = Field(description="The newest, newest first.")


class PointRow(_Body):
    at: str
    count: int
    low: float | None
    mean: float | None
    high: float | None
    text: str | None


class HistoryRows(_Body):
    reading: str
    unit: str
    width_s: float = Field(description="What one point stands for; 0: each is one reading.")
    rows: list[PointRow]


class Assignment(_Body):
    type: Annotated[str, Field(pattern=TYPE_NAME)] | None = Field(description="Of which type it is; null: of none.")


class NewCommand(_Body):
    name: Annotated[str, Field(min_length=1, max_length=32)]
    args: dict[str, Any] = {}
    expires_in_s: Annotated[int, Field(ge=5, le=7 * 24 * 3600)] | None = Field(
        default=None, description="Of the type unless given."
    )
    wait_s: Annotated[float, Field(ge=0, le=30)] = Field(
        default=0, description="So long the answer waits for the command's end."
    )


class CommandRow(_Body):
    command_id: str
    device_id: str
    name: str
    args: dict[str, Any]
    by: str = Field(description="A user id.")
    via: str = Field(description="`person`, `agent`, or an automation's id.")
    state: CommandState
    made_at: str
    expires_at: str
    accepted_at: str | None
    ended_at: str | None
    result: Any
    error: str


class CommandPage(_Body):
    rows: list[CommandRow]
    next: str | None


class TypeBody(_Body):
    """As a file holds it, without its name."""

    title: str = ""
    description: str = ""
    readings: dict[str, ReadingSpec] = {}
    commands: dict[str, CommandSpec] = {}
    every_s: Annotated[int, Field(ge=1, le=7 * 24 * 3600)] | None = None


class TypeList(_Body):
    rows: list[ThingType]


class RemovedType(_Body):
    name: str


def add_routes(api: Api, things: Things, database: Database, clock: Clock, waiting: Waiting, guard: Guard) -> None:
    looking, doing = _Looking(things, database, clock, guard), _Doing(things, database, clock, guard, waiting)
    one = f"{AT}/{{device_id}}"
    gone = [Code.NOT_FOUND]
    api.add("GET", AT, looking.list_things)
    api.add("GET", one, looking.show_thing, problems=gone)
    api.add("GET", f"{one}/history", looking.show_history, problems=[*gone, Code.INVALID])
    api.add("GET", f"{one}/commands", looking.list_commands, problems=gone)
    api.add("GET", f"{one}/commands/{{command_id}}", looking.show_command, problems=gone)
    api.add("PUT", f"{one}/type", doing.set_thing_type, problems=gone)
    problems = [*gone, Code.INVALID, Code.QUOTA_EXCEEDED]
    api.add("POST", f"{one}/commands", doing.command_thing, status_code=201, problems=problems)
    api.add("DELETE", f"{one}/commands/{{command_id}}", doing.cancel_command, problems=[*gone, Code.INVALID])
    api.add("GET", TYPES, looking.list_thing_types)
    api.add("GET", f"{TYPES}/{{name}}", looking.show_thing_type, problems=gone)
    problems = [Code.INVALID, Code.QUOTA_EXCEEDED]
    api.add("PUT", f"{TYPES}/{{name}}", doing.put_thing_type, max_body_bytes=MAX_TYPE_BYTES, problems=problems)
    api.add("DELETE", f"{TYPES}/{{name}}", doing.remove_thing_type, problems=[*gone, Code.INVALID])


def reach_of(principal: Principal) -> Reach:
    return Reach.of(principal.user_id, principal.scopes)


class _Looking:
    def __init__(self, things: Things, database: Database, clock: Clock, guard: Guard) -> None:
        self._things = things
        self._database = database
        self._clock = clock
        self._guard = guard

    async def list_things(
        self,
        principal: Caller,
        cursor: Annotated[str, Query(max_length=64)] = "",
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = MAX_PAGE,
    ) -> ThingPage:
        """The caller's things, or everybody's with `devices.read` or `devices.manage`, by device id."""

        def unit(tx: Transaction) -> ThingPage:
            self._guard(tx, principal)
            rows, following = self._things.find_page(tx, reach_of(principal), cursor, limit)
            return ThingPage(rows=[ThingRow(**_thing(one)) for one in rows], next=following)

        return await self._database.read(unit)

    async def show_thing(self, device_id: str, principal: Caller) -> ThingDetail:
        """One of them, with what happened to it last."""

        def unit(tx: Transaction) -> ThingDetail:
            seen = self._seen(tx, principal, device_id)
            events = [
                EventRow(event=one.name, data=json.loads(one.data), at=rfc3339(one.at_ms))
                for one in self._things.events(tx, device_id, EVENTS)
            ]
            return ThingDetail(**_thing(seen), events=events)

        return await self._database.read(unit)

    async def show_history(
        self,
        device_id: str,
        principal: Caller,
        reading: Annotated[str, Query(min_length=1, max_length=32)],
        since: Annotated[AwareDatetime | None, Query(description="A day ago unless given.")] = None,
        until: Annotated[AwareDatetime | None, Query(description="Now unless given.")] = None,
        points: Annotated[int, Query(ge=1, le=MAX_POINTS, description="At most about so many.")] = 200,
    ) -> HistoryRows:
        """How a reading was, oldest first: least, mean and greatest of each stretch of time, or each text."""
        until_ms = self._clock.now_ms() + 1 if until is None else round(until.timestamp() * 1000)
        since_ms = until_ms - DAY_MS if since is None else round(since.timestamp() * 1000)

        def unit(tx: Transaction) -> HistoryRows:
            seen = self._seen(tx, principal, device_id)
            found = self._things.history(tx, seen, reading, since_ms, until_ms, points)
            rows = [_point(one) for one in found.points]
            return HistoryRows(reading=reading, unit=seen.unit_of(reading), width_s=found.width_ms / 1000, rows=rows)

        return await self._database.read(unit)

    async def list_commands(
        self,
        device_id: str,
        principal: Caller,
        cursor: Annotated[str | None, Query(max_length=64)] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 20,
    ) -> CommandPage:
        """What it was told to do, newest first, and what became of it."""

        def unit(tx: Transaction) -> CommandPage:
            seen = self._seen(tx, principal, device_id)
            rows, following = self._things.commands_of(tx, seen, cursor, limit)
            return CommandPage(rows=[command_row(one) for one in rows], next=following)

        return await self._database.read(unit)

    async def show_command(self, device_id: str, command_id: str, principal: Caller) -> CommandRow:
        """How one command is."""
        unit: Callable[[Transaction], Command] = lambda tx: self._things.find_command(  # noqa: E731
            tx, self._seen(tx, principal, device_id), command_id
        )
        return command_row(await self._database.read(unit))

    async def list_thing_types(self, principal: Caller) -> TypeList:
        """Every type."""

        def unit(tx: Transaction) -> TypeList:
            self._guard(tx, principal)
            return TypeList(rows=self._things.types(tx))

        return await self._database.read(unit)

    async def show_thing_type(self, name: str, principal: Caller) -> ThingType:
        """One type, as a file holds it."""

        def unit(tx: Transaction) -> ThingType:
            self._guard(tx, principal)
            return self._things.get_type(tx, name)

        return await self._database.read(unit)

    def _seen(self, tx: Transaction, principal: Principal, device_id: str) -> Seen:
        self._guard(tx, principal)
        return self._things.view(tx, reach_of(principal), device_id)


class _Doing:
    def __init__(self, things: Things, database: Database, clock: Clock, guard: Guard, waiting: Waiting) -> None:
        self._things = things
        self._database = database
        self._clock = clock
        self._guard = guard
        self._waiting = waiting

    async def set_thing_type(self, device_id: str, body: Assignment, principal: Caller) -> ThingRow:
        """Say of which type a device is. What it says from now on must fit."""
        now_ms = self._clock.now_ms()

        def unit(tx: Transaction) -> ThingRow:
            self._guard(tx, principal)
            self._things.assign(tx, principal, device_id, body.type, now_ms)
            return ThingRow(**_thing(self._things.view(tx, reach_of(principal), device_id)))

        return await self._database.write(unit)

    async def command_thing(self, device_id: str, body: NewCommand, principal: Caller) -> CommandRow:
        """Make it do something: now, or when it returns. The caller is a person, so nobody is asked."""
        now_ms = self._clock.now_ms()

        def unit(tx: Transaction) -> Command:
            self._guard(tx, principal)
            reach = reach_of(principal)
            seen = self._things.view(tx, reach, device_id)
            return self._things.command(
                tx, reach, seen, body.name, body.args, via="person", actor=principal, now_ms=now_ms,
                expires_in_s=body.expires_in_s,
            )  # fmt: skip

        made = await self._things.carry_out(unit)
        if body.wait_s:
            made = await self._waiting.until_over(made.command_id, body.wait_s)
        return command_row(made)

    async def cancel_command(self, device_id: str, command_id: str, principal: Caller) -> CommandRow:
        """Take it back. A board that has it already may carry it out nevertheless."""
        now_ms = self._clock.now_ms()

        def unit(tx: Transaction) -> Command:
            self._guard(tx, principal)
            reach = reach_of(principal)
            seen = self._things.view(tx, reach, device_id)
            return self._things.cancel(tx, reach, seen, command_id, now_ms)

        return command_row(await self._database.write(unit))

    async def put_thing_type(
        self, name: Annotated[str, Field(pattern=TYPE_NAME)], body: TypeBody, principal: Caller
    ) -> ThingType:
        """Make or replace a type. Things of it are judged by the new one from now on."""
        now_ms = self._clock.now_ms()
        made = ThingType(name=name, **{key: getattr(body, key) for key in TypeBody.model_fields})

        def unit(tx: Transaction) -> None:
            self._guard(tx, principal)
            self._things.put_type(tx, principal, made, now_ms)

        await self._database.write(unit)
        return made

    async def remove_thing_type(self, name: str, principal: Caller) -> RemovedType:
        """Refused while things are of it."""
        now_ms = self._clock.now_ms()

        def unit(tx: Transaction) -> None:
            self._guard(tx, principal)
            self._things.remove_type(tx, principal, name, now_ms)

        await self._database.write(unit)
        return RemovedType(name=name)


def _thing(seen: Seen) -> dict[str, Any]:
    one = seen.thing
    return {
        "device_id": one.device_id,
        "name": seen.name,
        "user_id": one.user_id,
        "type": one.type,
        "type_title": "" if seen.type is None else seen.type.title,
        "status": seen.status,
        "status_at": rfc3339(_since_ms(seen)),
        "heard_at": rfc3339_or_none(one.heard_ms),
        "firmware": one.firmware,
        "readings": [_reading(seen, state) for state in seen.states],
        "commands": [] if seen.type is None else [_offer(name, spec) for name, spec in seen.type.commands.items()],
        "refused": one.refused,
        "refused_at": rfc3339_or_none(one.refused_at_ms),
        "refused_why": one.refused_why,
    }


def _since_ms(seen: Seen) -> int:
    """Since when it is as it is shown, also where that is not noted yet."""
    if seen.status is seen.thing.status:
        return seen.thing.status_at_ms
    found = seen.thing.offline_at_ms if seen.status is ThingStatus.OFFLINE else seen.thing.stale_at_ms
    return found or seen.thing.status_at_ms


def _reading(seen: Seen, one: State) -> ReadingRow:
    return ReadingRow(
        name=one.name,
        title=seen.title_of(one.name),
        kind=kind_of(one.value),
        value=one.value,
        unit=seen.unit_of(one.name),
        at=rfc3339(one.at_ms),
    )


def _offer(name: str, spec: CommandSpec) -> CommandOffer:
    return CommandOffer(name=name, title=spec.title, description=spec.description, risk=spec.risk, args=spec.args)


def _point(one: Point) -> PointRow:
    return PointRow(at=rfc3339(one.at_ms), count=one.count, low=one.low, mean=one.mean, high=one.high, text=one.text)


def command_row(one: Command) -> CommandRow:
    return CommandRow(
        command_id=one.command_id,
        device_id=one.device_id,
        name=one.name,
        args=json.loads(one.args),
        by=one.user_id,
        via=one.via,
        state=one.state,
        made_at=rfc3339(one.made_at_ms),
        expires_at=rfc3339(one.expires_at_ms),
        accepted_at=rfc3339_or_none(one.accepted_at_ms),
        ended_at=rfc3339_or_none(one.ended_at_ms),
        result=None if one.result is None else json.loads(one.result),
        error=one.error,
    )
