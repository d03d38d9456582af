"""The tools, as an agent sees them."""

import asyncio
from collections.abc import Awaitable
from typing import Annotated, Any, Literal

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import Field

from entobot import __version__
from entobot.core.clock import Clock
from entobot.core.errors import Problem
from entobot.mcp.human import Human, Row

INSTRUCTIONS = """\
Reach the person you work for on their phone. `notify` tells them something. `ask` puts a question and waits for the
answer: free text, a choice among options, or a form. `request_approval` asks for leave before you do what cannot be
undone; do it only when `state` is `approved`, once, and with exactly the `args` that come back. People are away for
hours: when `ask` returns with state `open`, or `request_approval` with `pending`, go on with other work and look again
with `answer_to` or `decision_on`. Give a `key` of your own if you may be restarted: asked again under the same key it is
the same question, and you get the answer that came meanwhile."""
DIGITS = "Show the person these digits; they are asked for them on the phone: {number}. Then look with decision_on."
STEP_S = 20.0
"""So often a client that waits hears that the question still does."""
TURN_S = 1.0
USUAL_WAIT_S = 300
MAX_WAIT_S = 24 * 3600

Wait = Annotated[
    float, Field(ge=0, le=MAX_WAIT_S, description="Seconds to wait for the answer before you look again yourself.")
]


def build(human: Human, clock: Clock) -> MCPServer:
    """A server that any transport can run."""
    server = MCPServer("entobot", title="Entobot", instructions=INSTRUCTIONS, version=__version__)
    tools = _Tools(human, clock)
    quiet, asking = ToolAnnotations(read_only_hint=True), ToolAnnotations(destructive_hint=False, open_world_hint=True)
    server.tool(annotations=asking)(tools.notify)
    server.tool(annotations=asking)(tools.ask)
    server.tool(annotations=quiet)(tools.answer_to)
    server.tool(annotations=asking)(tools.take_back)
    server.tool(annotations=asking)(tools.request_approval)
    server.tool(annotations=quiet)(tools.decision_on)
    return server


class _Tools:
    def __init__(self, human: Human, clock: Clock) -> None:
        self._human = human
        self._clock = clock

    async def notify(
        self,
        title: Annotated[str, Field(min_length=1, max_length=120, description="One line.")],
        body: Annotated[str, Field(max_length=2000)] = "",
        priority: Annotated[
            Literal["low", "normal", "high", "critical"],
            Field(description="`low` waits for the daily digest; `critical` breaks quiet hours."),
        ] = "normal",
        link: Annotated[str, Field(max_length=1024, description="An https URL that it is about.")] = "",
        collapse_key: Annotated[
            str, Field(max_length=128, description="A later one with the same key replaces it.")
        ] = "",
    ) -> dict[str, Any]:
        """Tell the person something. Returns at once; nobody waits for you."""
        note = {"title": title, "body": body, "priority": priority, "link": link, "collapse_key": collapse_key}
        return await _told(self._human.notify({name: value for name, value in note.items() if value}))

    async def ask(
        self,
        context: Context,
        *,
        question: Annotated[str, Field(min_length=1, max_length=4000, description="What you want to know.")],
        title: Annotated[str, Field(max_length=120, description="One line, for lists.")] = "",
        options: Annotated[
            tuple[str, ...], Field(description="For a choice: what may be chosen. Else leave it out.")
        ] = (),
        several: Annotated[bool, Field(description="More than one option may be chosen.")] = False,
        form: Annotated[
            dict[str, Any] | None,
            Field(description="For a form: a flat JSON Schema object of strings, numbers, booleans and enums."),
        ] = None,
        to: Annotated[str | None, Field(description="Another person's login, if you may ask them.")] = None,
        key: Annotated[str | None, Field(pattern=r"^[\x21-\x7e]{1,128}$", description="Your own name for it.")] = None,
        expires_in_s: Annotated[int, Field(ge=60, le=30 * 24 * 3600)] = 24 * 3600,
        wait_s: Wait = USUAL_WAIT_S,
    ) -> dict[str, Any]:
        """Ask the person, and wait. `state` is `answered` (see `answer`), `declined`, `expired`, `cancelled`, or `open`."""
        kind = "form" if form is not None else "choice" if options else "text"
        asked: Row = {"kind": kind, "text": question, "title": title, "expires_in_s": expires_in_s}
        asked |= {name: value for name, value in (("key", key), ("to", to)) if value is not None}
        asked |= {"options": options, "several": several} if kind == "choice" else {}
        asked |= {} if form is None else {"form_schema": form}
        row = await _told(self._human.ask(asked))
        return await self._wait(context, row, wait_s)

    async def answer_to(self, context: Context, question_id: str, wait_s: Wait = USUAL_WAIT_S) -> dict[str, Any]:
        """What became of a question that was still open."""
        row = await _told(self._human.look(question_id, 0))
        return await self._wait(context, row, wait_s)

    async def take_back(self, question_id: str = "", request_id: str = "") -> dict[str, Any]:
        """You do not need the answer, or the decision, any more: it leaves the person's phone. Name one of the two."""
        if request_id:
            return _decision(await _told(self._human.take_back_request(request_id)))
        return _shown(await _told(self._human.take_back(question_id)))

    async def request_approval(
        self,
        context: Context,
        *,
        tool: Annotated[
            str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,100}$", description="What you want to do, by the name of a tool.")
        ],
        args: Annotated[dict[str, Any], Field(description="With what, whole: the person signs exactly this.")],
        title: Annotated[str, Field(max_length=120, description="One line for people.")] = "",
        risk: Annotated[
            Literal["low", "medium", "high"],
            Field(description="`high` for what cannot be undone: it takes a passkey, and digits that you show."),
        ] = "medium",
        edits: Annotated[bool, Field(description="You carry out other `args` than yours, if these come back.")] = False,
        key: Annotated[str | None, Field(pattern=r"^[\x21-\x7e]{1,128}$", description="Your own name for it.")] = None,
        expires_in_s: Annotated[int, Field(ge=60, le=30 * 24 * 3600)] = 24 * 3600,
        wait_s: Wait = USUAL_WAIT_S,
    ) -> dict[str, Any]:
        """Ask for leave, and wait. `state` is `approved` (do it with `args`), `denied` (see `reason`), `expired`, `cancelled`,
        or `pending`. Anything but `approved` means: do not do it.
        """
        wish: Row = {"tool": tool, "args": args, "title": title, "risk": risk, "edits": edits}
        wish |= {"expires_in_s": expires_in_s} | ({} if key is None else {"key": key})
        row = await _told(self._human.request(wish))
        # Digits are for the person, so whoever shows them gets them at once.
        return await self._decide(context, row, 0 if row["number"] else wait_s)

    async def decision_on(self, context: Context, request_id: str, wait_s: Wait = USUAL_WAIT_S) -> dict[str, Any]:
        """What became of a request for approval that was still pending."""
        row = await _told(self._human.look_at_request(request_id, 0))
        return await self._decide(context, row, wait_s)

    async def _decide(self, context: Context, row: Row, wait_s: float) -> dict[str, Any]:
        begun_s = self._clock.monotonic()
        while row["state"] == "pending" and (passed_s := self._clock.monotonic() - begun_s) < wait_s:
            digits = "" if row["number"] is None else f" The digits: {row['number']}."
            await context.report_progress(passed_s, wait_s, f"It waits for approval on the person's phone.{digits}")
            row = await self._step(self._human.look_at_request(row["request_id"], min(STEP_S, wait_s - passed_s)))
        return _decision(row)

    async def _wait(self, context: Context, row: Row, wait_s: float) -> dict[str, Any]:
        begun_s = self._clock.monotonic()
        while row["state"] == "open" and (passed_s := self._clock.monotonic() - begun_s) < wait_s:
            await context.report_progress(passed_s, wait_s, "The question waits on the person's phone.")
            row = await self._step(self._human.look(row["question_id"], min(STEP_S, wait_s - passed_s)))
        return _shown(row)

    async def _step(self, work: Awaitable[Row]) -> Row:
        """One look. Where two wait for the same thing, each ends the other's look: they take turns, slowly."""
        begun_s = self._clock.monotonic()
        row = await _told(work)
        if row["state"] in ("open", "pending") and self._clock.monotonic() - begun_s < TURN_S:
            await asyncio.sleep(TURN_S)
        return row


async def _told(work: Awaitable[Row]) -> Row:
    """An agent reads why, and what to do."""
    try:
        return await work
    except Problem as problem:
        raise ToolError(f"{problem.code}: {problem.detail}") from None


def _shown(row: Row) -> dict[str, Any]:
    shown = {name: row[name] for name in ("question_id", "state", "expires_at")}
    return shown | ({"answer": row["answer"]} if "answer" in row else {})


def _decision(row: Row) -> dict[str, Any]:
    """`taken_at` is there where its end was told before: it may have been done already."""
    names = ["request_id", "state", "expires_at", "reason", "number", "taken_at"]
    names += ["args", "edited"] if row["state"] == "approved" else []
    shown = {name: row[name] for name in names if row[name] is not None}
    return shown | ({"say": DIGITS.format(number=row["number"])} if row["number"] is not None else {})
