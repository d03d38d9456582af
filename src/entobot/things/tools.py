"""Tools of the built-in agent: what is there, how it is, how it was, and what it shall do."""

import json
from datetime import timedelta
from typing import Annotated, Any

from pydantic import Field

from entobot.agents.tools import Arguments, ToolFailed, ToolSpec
from entobot.approvals.model import Risk
from entobot.core.clock import Clock, rfc3339, to_ms
from entobot.storage.database import Database, Transaction
from entobot.things.model import Command, CommandState
from entobot.things.service import Seen, Things, shown
from entobot.things.waiting import Waiting

COMMAND = "things.command"
WAIT_S = 10.0
MAX_HISTORY = 60
Thing = Annotated[str, Field(min_length=1, max_length=100, description="The thing's name or id.")]


class ListArguments(Arguments):
    pass


class ReadArguments(Arguments):
    thing: Thing


class HistoryArguments(Arguments):
    thing: Thing
    reading: Annotated[str, Field(min_length=1, max_length=32, description="As things.read names it.")]
    hours: Annotated[float, Field(gt=0, le=24 * 366, description="How far back.")] = 24


class CommandArguments(Arguments):
    thing: Thing
    command: Annotated[str, Field(min_length=1, max_length=32, description="As things.list names it.")]
    args: dict[str, Any] = Field(default_factory=dict[str, Any], description="The command's own arguments.")


def thing_tools(things: Things, database: Database, clock: Clock, waiting: Waiting) -> list[ToolSpec]:
    tools = _Tools(things, database, clock, waiting)
    return [
        ToolSpec(
            "things.list",
            "List the boards and devices of this person: their readings now, whether each is online, and their commands.",
            ListArguments,
            act=tools.list_things,
        ),
        ToolSpec("things.read", "Read one thing: each reading, and when it was.", ReadArguments, act=tools.read),
        ToolSpec(
            "things.history",
            "How a reading of a thing was: least, mean and greatest over time.",
            HistoryArguments,
            act=tools.history,
        ),
        ToolSpec(
            COMMAND,
            "Make a thing do something. Commands with a risk are put to a person first.",
            CommandArguments,
            act=tools.command,
            needs_approval=True,
            risk=Risk.HIGH,  # of arguments that a person changed: nothing is known of them when they are judged
            weigh=tools.weigh,
            settle=tools.settle,
            title=lambda args: f"{args.thing}: {args.command}",
        ),
    ]


class _Tools:
    def __init__(self, things: Things, database: Database, clock: Clock, waiting: Waiting) -> None:
        self._things = things
        self._database = database
        self._clock = clock
        self._waiting = waiting

    async def list_things(self, _: ListArguments, user_id: str) -> str:
        def unit(tx: Transaction) -> tuple[list[Seen], str | None]:
            return self._things.find_page(tx, self._things.reach_of(tx, user_id))

        found, more = await self._database.read(unit)
        lines = [self._line(seen) for seen in found]
        if more is not None:
            lines.append(f"There are more than these {len(lines)}. Read others by their names.")
        return "\n".join(lines) or "There are no things."

    async def read(self, args: ReadArguments, user_id: str) -> str:
        seen = await self._database.read(lambda tx: self._seen(tx, user_id, args.thing))
        now_ms = self._clock.now_ms()
        lines = [self._line(seen)]
        for one in seen.states:
            value = shown(one.value, seen.unit_of(one.name))
            lines.append(f"{one.name}: {value}, read {rfc3339(one.at_ms)}, {_ago(now_ms - one.at_ms)} ago")
        return "\n".join(lines)

    async def history(self, args: HistoryArguments, user_id: str) -> str:
        now_ms = self._clock.now_ms()
        since_ms = now_ms - to_ms(timedelta(hours=args.hours))

        def unit(tx: Transaction) -> tuple[Seen, list[str]]:
            seen = self._seen(tx, user_id, args.thing)
            found = self._things.history(tx, seen, args.reading, since_ms, now_ms + 1, MAX_HISTORY)
            lines = [
                f"{rfc3339(one.at_ms)} {one.text}"
                if one.text is not None
                else f"{rfc3339(one.at_ms)} {one.low:.6g} {one.mean:.6g} {one.high:.6g}"
                for one in found.points
            ]
            return seen, lines

        seen, lines = await self._database.read(unit)
        if not lines:
            return f"Nothing was read in the last {args.hours:g} hours."
        unit_text = seen.unit_of(args.reading)
        head = f"{args.reading} of {seen.name}{f' in {unit_text}' if unit_text else ''}: from, least, mean, greatest"
        return "\n".join([head, *lines])

    async def command(self, args: CommandArguments, user_id: str) -> str:
        """What became of it within ten seconds. Raises Problem, with nothing done."""
        now_ms = self._clock.now_ms()

        def unit(tx: Transaction) -> tuple[Seen, Command]:
            seen = self._seen(tx, user_id, args.thing)
            reach = self._things.reach_of(tx, user_id)
            made = self._things.command(
                tx, reach, seen, args.command, args.args, via="agent", actor=None, now_ms=now_ms
            )
            return seen, made

        seen, made = await self._things.carry_out(unit)
        ended = await self._waiting.until_over(made.command_id, WAIT_S)
        if ended.state is CommandState.FAILED:
            raise ToolFailed(f"{seen.name} could not do it: {ended.error or 'it gives no reason'}")
        if ended.state is CommandState.DONE:
            return f"Done.{f' Result: {ended.result}' if ended.result else ''}"
        if ended.state is CommandState.ACCEPTED:
            return f"{seen.name} is at it and has not finished yet. Command {made.command_id}."
        return (
            f"Sent. {seen.name} is {seen.status} and has not answered yet; it gets the command when it is there, until "
            f"{rfc3339(made.expires_at_ms)}. Command {made.command_id}."
        )

    def weigh(self, tx: Transaction, args: CommandArguments, user_id: str) -> Risk | None:
        """What the type says is at stake; None: nobody need be asked. Raises Problem for what cannot be done."""
        seen = self._seen(tx, user_id, args.thing)
        return self._things.risk_of(seen, args.command, args.args)

    def settle(self, tx: Transaction, args: CommandArguments, user_id: str) -> dict[str, Any]:
        """The thing by its id: until a person has decided, its name may be another one's."""
        return {**args.model_dump(), "thing": self._seen(tx, user_id, args.thing).thing.device_id}

    def _seen(self, tx: Transaction, user_id: str, name: str) -> Seen:
        return self._things.named(tx, self._things.reach_of(tx, user_id), name)

    def _line(self, seen: Seen) -> str:
        readings = ", ".join(f"{one.name} {shown(one.value, seen.unit_of(one.name))}" for one in seen.states)
        parts = [f"{seen.name} ({seen.thing.device_id}), {seen.status}", readings or "no readings yet"]
        if seen.type is not None and seen.type.commands:
            parts.append("commands: " + "; ".join(_told(seen, name) for name in seen.type.commands))
        return " · ".join(parts)


def _told(seen: Seen, name: str) -> str:
    assert seen.type is not None
    spec = seen.type.commands[name]
    args = json.dumps(spec.args["properties"], ensure_ascii=False) if spec.args else "no arguments"
    about = spec.description or spec.title
    return f"{name}{f' ({about})' if about else ''}, {args}"


def _ago(span_ms: int) -> str:
    seconds = max(0, span_ms // 1000)
    for size, word in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds // size} {word}"
    return f"{seconds} seconds"
