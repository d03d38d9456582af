"""The tools, as an agent sees them."""

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
answer: free text, a choice among options, or a form. People are away for hours: when `ask` returns with state `open`,
go on with other work and look again with `answer_to`. Give a question a `key` of your own if you may be restarted:
asked again under the same key it is the same question, and you get the answer that came meanwhile."""
STEP_S = 20.0
"""So often a client that waits hears that the question still does."""
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
        question: Annotated[str, Field(min_length=1, max_length=4000, description="What you want to know.")],
        title: Annotated[str, Field(max_length=120, description="One line, for lists.")] = "",
        options: Annotated[list[str], Field(description="For a choice: what may be chosen. Else leave it out.")] = [],  # noqa: B006  never changed
        several: Annotated[bool, Field(description="More than one option may be chosen.")] = False,  # noqa: FBT002  a tool's parameter
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

    async def take_back(self, question_id: str) -> dict[str, Any]:
        """You do not need the answer any more: the question leaves the person's phone."""
        return _shown(await _told(self._human.take_back(question_id)))

    async def _wait(self, context: Context, row: Row, wait_s: float) -> dict[str, Any]:
        begun_s = self._clock.monotonic()
        while row["state"] == "open" and (passed_s := self._clock.monotonic() - begun_s) < wait_s:
            await context.report_progress(passed_s, wait_s, "The question waits on the person's phone.")
            row = await _told(self._human.look(row["question_id"], min(STEP_S, wait_s - passed_s)))
        return _shown(row)


async def _told(work: Awaitable[Row]) -> Row:
    """An agent reads why, and what to do."""
    try:
        return await work
    except Problem as problem:
        raise ToolError(f"{problem.code}: {problem.detail}") from None


def _shown(row: Row) -> dict[str, Any]:
    shown = {name: row[name] for name in ("question_id", "state", "expires_at")}
    return shown | ({"answer": row["answer"]} if "answer" in row else {})
