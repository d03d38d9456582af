"""An agent on the ACP library, run as a process of its own: it does what it is told in a word, and asks like a real one."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any, Literal, cast

from acp import PROTOCOL_VERSION, Agent, InitializeResponse, NewSessionResponse, PromptResponse, run_agent
from acp.exceptions import RequestError
from acp.helpers import (
    plan_entry,
    start_tool_call,
    text_block,
    tool_diff_content,
    update_agent_message,
    update_agent_thought,
    update_plan,
    update_tool_call,
)
from acp.schema import Implementation, PermissionOption, ToolCallUpdate

Options = tuple[tuple[str, Literal["allow_once", "allow_always", "reject_once"]], ...]

ONCE: Options = (("yes", "allow_once"), ("always", "allow_always"), ("no", "reject_once"))
ALWAYS_ONLY: Options = (("always", "allow_always"), ("no", "reject_once"))


class Helper:
    def __init__(self) -> None:
        self._sessions = 0
        self._stopped: dict[str, asyncio.Event] = {}

    def on_connect(self, conn: Any) -> None:
        self._client = conn

    async def initialize(self, protocol_version: int, client_capabilities: Any = None, **_: Any) -> InitializeResponse:
        self._capabilities = client_capabilities
        info = Implementation(name="helper", title="Helper", version="1")
        return InitializeResponse(protocol_version=PROTOCOL_VERSION, agent_info=info)

    async def new_session(self, cwd: str, **_: Any) -> NewSessionResponse:
        self._sessions += 1
        self._cwd = cwd
        return NewSessionResponse(session_id=f"session {self._sessions}")

    async def cancel(self, session_id: str, **_: Any) -> None:
        self._stopped.setdefault(session_id, asyncio.Event()).set()

    async def prompt(self, prompt: list[Any], session_id: str, **_: Any) -> PromptResponse:
        word, *rest = prompt[-1].text.split(maxsplit=1)
        does = getattr(self, f"_{word}", None)
        if does is None:
            await self._say(session_id, "heard: " + " | ".join(block.text for block in prompt))
            return PromptResponse(stop_reason="end_turn")
        return PromptResponse(stop_reason=await does(session_id, *rest) or "end_turn")

    async def _say(self, session_id: str, text: str) -> None:
        await self._client.session_update(session_id, update_agent_message(text_block(text)))

    async def _show(self, session_id: str) -> None:
        tell = self._client.session_update
        await tell(session_id, update_agent_thought(text_block("let me ")))
        await tell(session_id, update_agent_thought(text_block("see")))
        await tell(session_id, update_plan([plan_entry("look", status="in_progress"), plan_entry("tell")]))
        await tell(session_id, start_tool_call("t1", "Read a.txt", kind="read", status="in_progress"))
        await tell(session_id, update_tool_call("t1", status="completed"))
        await self._say(session_id, "done")

    async def _work(self, session_id: str) -> str:
        """Think, plan, change a file, fail at something, and go on until it is stopped."""
        tell = self._client.session_update
        await tell(session_id, update_agent_thought(text_block("The oven first.\n<b>Then</b> the cake.")))
        plan = [
            plan_entry("heat the oven", status="completed"),
            plan_entry("bake", status="in_progress"),
            plan_entry("eat"),
        ]
        await tell(session_id, update_plan(plan))
        before = "".join(f"step {number}\n" for number in range(20))
        after = before.replace("step 9", "step nine")
        diff = tool_diff_content("/home/ada/cake.txt", after, before)
        await tell(session_id, start_tool_call("t1", "Edit cake.txt", kind="edit", status="completed", content=[diff]))
        await tell(session_id, start_tool_call("t2", "Taste", kind="other", status="failed"))
        await tell(session_id, update_agent_thought(text_block("Still hot")))
        await self._stopped.setdefault(session_id, asyncio.Event()).wait()
        return "cancelled"

    async def _ask(self, session_id: str, options: Options, **call: Any) -> str:
        said = await self._client.request_permission(
            session_id=session_id,
            tool_call=ToolCallUpdate(tool_call_id="t1", **call),
            options=[PermissionOption(option_id=id_, name=id_, kind=kind) for id_, kind in options],
        )
        return str(getattr(said.outcome, "option_id", said.outcome.outcome))

    async def _edit(self, session_id: str, text: str) -> None:
        file = Path(self._cwd) / "a.txt"
        before = file.read_text() if file.exists() else None
        diff = tool_diff_content(str(file), text, before)
        await self._client.session_update(
            session_id, start_tool_call("t1", "Edit a.txt", kind="edit", status="pending", content=[diff])
        )
        said = await self._ask(session_id, ONCE, raw_input={"text": text})
        if said == "yes":
            file.write_text(text)
        await self._say(session_id, f"answered: {said}")

    async def _twice(self, session_id: str) -> None:
        first = self._ask(session_id, ONCE, title="Push", kind="execute", raw_input={"command": "git push"})
        second = self._ask(session_id, ONCE, title="Push", kind="execute", raw_input={"command": "git push --force"})
        await self._say(session_id, f"answered: {await asyncio.gather(first, second)}")

    async def _forever(self, session_id: str) -> None:
        said = await self._ask(session_id, ALWAYS_ONLY, title="Everything", kind="execute")
        await self._say(session_id, f"answered: {said}")

    async def _reach(self, session_id: str) -> None:
        """Ask the client for a file and for a terminal."""
        found: list[str] = []
        for method, asked in (
            ("read_text_file", {"path": "/etc/hostname"}),
            ("write_text_file", {"path": f"{self._cwd}/x", "content": "x"}),
            ("create_terminal", {"command": "true"}),
        ):
            try:
                await getattr(self._client, method)(session_id=session_id, **asked)
                found.append("given")
            except RequestError as error:
                found.append(str(error.code))
        offered = self._capabilities
        found.append(str([offered.fs.read_text_file, offered.fs.write_text_file, offered.terminal]))
        await self._say(session_id, " ".join(found))

    async def _where(self, session_id: str) -> None:
        seen = {"cwd": str(Path.cwd()), "asked": self._cwd, "variables": sorted(os.environ)}
        await self._say(session_id, json.dumps(seen))

    async def _wait(self, session_id: str) -> str:
        await self._say(session_id, "waiting")
        await self._stopped.setdefault(session_id, asyncio.Event()).wait()
        return "cancelled"

    async def _refuse(self, _session_id: str) -> str:
        return "refusal"

    async def _quiet(self, session_id: str) -> None:
        await self._client.session_update(session_id, start_tool_call("t1", "Look", kind="read"))

    async def _die(self, session_id: str) -> None:
        await self._say(session_id, "I am")
        os.write(2, b"out of memory\n")
        os._exit(3)


if __name__ == "__main__":
    asyncio.run(run_agent(cast("Agent", Helper())))
