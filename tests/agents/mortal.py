"""A gateway's agents in a process of their own, which says how far it came and then waits to be killed.

`python -m tests.agents.mortal FOLDER POINT` with POINT one of `asked`, `mid-model`, `executing`, `waiting`.
"""

import asyncio
import sys
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from entobot.agents.runner import TextDelta, TurnEvent, TurnRequest
from entobot.agents.runner_echo import EchoRunner
from entobot.agents.tools import Toolbox, built_in_tools
from entobot.agents.workspace import Workspace
from entobot.core.clock import Clock
from tests.support.agency import Agency
from tests.support.time import ManualClock, SeededEntropy


class HalfRunner(EchoRunner):
    """Begins to speak and never ends."""

    async def turn(self, request: TurnRequest) -> AsyncIterator[TurnEvent]:
        yield TextDelta("half an answer")
        await asyncio.Event().wait()


def hanging_tools(clock: Clock, workspace: Workspace) -> Toolbox:
    """`note` does what it does, and never comes back."""

    tools = built_in_tools(clock, workspace)
    note = tools.find("note")
    assert note is not None
    take = note.run

    def run(args: Any) -> str:
        take(args)
        tell("executing")
        threading.Event().wait()
        return ""

    return Toolbox([replace(note, run=run)])


def tell(point: str) -> None:
    sys.stdout.write(point + "\n")
    sys.stdout.flush()


async def main(folder: Path, point: str) -> None:
    agency = Agency(
        folder,
        ManualClock(),
        SeededEntropy("mortal"),
        runner=HalfRunner() if point == "mid-model" else EchoRunner(),
        tools=hanging_tools if point == "executing" else built_in_tools,
    )
    await agency.open(works=point != "asked")
    phone = await agency.pair()
    (folder / "phone-key").write_text(phone.key.to_text())
    (folder / "phone-id").write_text(phone.principal.device_id or "")
    await agency.say("hello" if point in {"asked", "mid-model"} else "!note milk")
    if point == "mid-model":
        await agency.until_live("TEXT_MESSAGE_CONTENT")
    if point in {"executing", "waiting"}:
        approval = await agency.until("approval.requested")
        await agency.idle()
        if point == "executing":
            await agency.decide(phone, approval, "approve")
            await asyncio.Event().wait()
    tell(point)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
