"""`entobot chat`: talk to the agent from the terminal, over the public protocol."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from entobot.client.console import AsJson, hint, place, printable, say, told
from entobot.core.errors import Problem

if TYPE_CHECKING:
    from entobot.client import Approval, Client, Item, Message, State

PATIENCE_S = 15.0
"""How long the gateway may be away before the terminal gives up; looked at this often."""


@told
def chat(
    context: typer.Context,
    message: Annotated[list[str] | None, typer.Argument(help="Send this, print the answer, end.")] = None,
    conversation: Annotated[str | None, typer.Option(help="Go on in this conversation.")] = None,
    agent: Annotated[str | None, typer.Option(help="Begin a conversation with this agent (agent.bridges).")] = None,
    as_json: AsJson = False,
) -> None:
    """Talk to the agent. Without a message: a dialogue; an empty line or Ctrl-D ends it."""
    text = " ".join(message) if message else None
    raise typer.Exit(asyncio.run(_chat(place(context).home, text, conversation, agent, as_json=as_json)))


async def _chat(home: Path, text: str | None, conversation: str | None, agent: str | None, *, as_json: bool) -> int:
    from entobot.client.terminal import terminal_client

    async with terminal_client(home, _tell) as client:
        talk = Talk(client, conversation, agent, as_json=as_json)
        if text is not None:
            return await talk.say(text)
        while (line := await asyncio.to_thread(_ask)) is not None:
            await talk.say(line)
    return 0


def _tell(state: "State") -> None:
    if state.name == "WAITING":
        hint("The gateway does not answer; trying again …")


def _ask() -> str | None:
    try:
        line = input("you> ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    except EOFError:
        return None
    return line if line.strip() else None


class Talk:
    """One conversation. Nothing is missed between two messages, or while the gateway restarts."""

    def __init__(
        self, client: "Client", conversation_id: str | None, agent: str | None = None, *, as_json: bool
    ) -> None:
        self._client = client
        self._conversation_id = conversation_id
        self._agent = agent
        self._as_json = as_json
        self._shown = 0

    async def say(self, text: str) -> int:
        """Send, print the answer as it comes; the exit code: 0 answered, 1 failed."""
        from entobot.client import Event

        sent = await self._client.send_message(text, self._conversation_id, agent=self._agent)
        self._conversation_id, self._agent = sent["conversation_id"], None
        items = self._client.events()
        while True:
            item = await self._next(items)
            if isinstance(item, Event) and self._is_ours(item, sent["seq"]):
                code = await self._handle(item)
                if code is not None:
                    self._client.acknowledge()
                    return code

    async def _next(self, items: "AsyncIterator[Item]") -> "Item":
        from entobot.client import State
        from entobot.client.local import GatewayNotRunning

        while True:
            try:
                return await asyncio.wait_for(anext(items), PATIENCE_S)
            except TimeoutError:
                if self._client.state is not State.READY:
                    raise GatewayNotRunning("The gateway went away before the answer was complete.") from None

    def _is_ours(self, item: "Item", sent_at: int) -> bool:
        from entobot.client import Event

        if not isinstance(item, Event):
            return False
        is_topic = item.topic in (f"conversation:{self._conversation_id}", "approvals")
        return is_topic and (item.seq is None or item.seq > sent_at)

    async def _handle(self, event: "Item") -> int | None:
        from entobot import client as told

        match event:
            case told.Event(body=told.TextStart()):
                self._shown = 0
            case told.Event(body=told.TextContent(delta=delta)) if not self._as_json:
                sys.stdout.write(_text(delta))
                sys.stdout.flush()
                self._shown += len(delta)
            case told.Event(body=told.MessageCreated(data=message)) if message.role == "assistant":
                self._show_whole(message)
            case told.Event(body=told.ApprovalRequested(data=approval)):
                await self._decide(approval)
            case told.Event(body=told.RunError(message=text, code=code)):
                hint(f"{text} [{code}]")
                return 1
            case told.Event(body=told.RunFinished()):
                return 0
            case _:
                pass
        return None

    def _show_whole(self, message: "Message") -> None:
        if self._as_json:
            import msgspec

            say(json.dumps(msgspec.to_builtins(message), ensure_ascii=False))
        else:
            say(_text(message.content[self._shown :]))
        self._shown = 0

    async def _decide(self, approval: "Approval") -> None:
        from entobot.client import read_action, shown

        hint(f"\nThe agent asks: {printable(approval.title)}\n{shown(read_action(approval))}")
        number = await self._tell_number(approval)
        if approval.needs_verification or not approval.may_decide:
            hint(
                "It is decided in the phone app or in the dashboard: this terminal has no passkey, or it is for others."
            )
            return
        if not sys.stdin.isatty() or self._as_json:
            hint(f"Decide with: entobot approvals decide {approval.approval_id} approve|deny")
            return
        is_approved = await asyncio.to_thread(typer.confirm, "Approve exactly this?", default=False)
        await self._client.decide(
            approval, "approve" if is_approved else "deny", number=number if is_approved else None
        )

    async def _tell_number(self, approval: "Approval") -> str | None:
        """The digits that whoever approves has to type, told here because it was asked from here."""
        if not approval.needs_number:
            return None
        try:
            told = await self._client.command("approval.number", {"approval_id": approval.approval_id})
        except Problem:
            return None  # asked from another device, which shows them
        hint(f"Whoever approves types the digits {told['number']}.")
        return told["number"]


def _text(text: str) -> str:
    """An answer as text for a terminal: newlines and tabs stay, what would steer the terminal is shown."""
    return "".join(c if c in "\n\t" else printable(c) for c in text)
