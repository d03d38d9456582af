"""`entobot chat`: talk to the agent from the terminal, over the public protocol."""

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from entobot.client.console import AsJson, hint, place, printable, say, told

if TYPE_CHECKING:
    from entobot.client.device import Device


@told
def chat(
    context: typer.Context,
    message: Annotated[list[str] | None, typer.Argument(help="Send this, print the answer, end.")] = None,
    conversation: Annotated[str | None, typer.Option(help="Go on in this conversation.")] = None,
    as_json: AsJson = False,
) -> None:
    """Talk to the agent. Without a message: a dialogue; an empty line or Ctrl-D ends it."""
    from entobot.client.terminal import terminal_device

    with terminal_device(place(context).home) as device:
        talk = Talk(device, conversation, as_json=as_json)
        if message:
            raise typer.Exit(talk.say(" ".join(message)))
        while (line := _ask()) is not None:
            talk.say(line)


def _ask() -> str | None:
    try:
        line = input("you> ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    except EOFError:
        return None
    return line if line.strip() else None


class Talk:
    """One conversation. Keeps the stream position between messages, so that no answer is missed."""

    def __init__(self, device: "Device", conversation_id: str | None, *, as_json: bool) -> None:
        self._device = device
        self._conversation_id = conversation_id
        self._as_json = as_json
        self._shown = 0

    def say(self, text: str) -> int:
        """Send, print the answer as it comes; the exit code: 0 answered, 1 failed."""
        with self._device.events() as frames:
            opened = next(frames)
            data: dict[str, Any] = {"content": text}
            if self._conversation_id is not None:
                data["conversation_id"] = self._conversation_id
            sent = self._device.command("message.send", data)
            self._conversation_id = sent["conversation_id"]
            for frame in frames:
                if frame["type"] == "event" and self._is_ours(frame, opened["seq"]):
                    code = self._handle(frame["event"])
                    if code is not None:
                        return code
        hint("The gateway ended the stream before the answer was complete.")
        return 1

    def _is_ours(self, frame: dict[str, Any], opened_at: int) -> bool:
        topics = (f"conversation:{self._conversation_id}", "approvals")
        return frame["topic"] in topics and frame.get("seq", opened_at + 1) > opened_at

    def _handle(self, event: dict[str, Any]) -> int | None:
        kind, data = event["type"], event.get("data", {})
        if kind == "TEXT_MESSAGE_START":
            self._shown = 0
        elif kind == "TEXT_MESSAGE_CONTENT" and not self._as_json:
            sys.stdout.write(_text(event["delta"]))
            sys.stdout.flush()
            self._shown += len(event["delta"])
        elif kind == "message.created" and data["role"] == "assistant":
            self._show_whole(data)
        elif kind == "approval.requested":
            self._decide(data)
        elif kind == "RUN_ERROR":
            hint(f"{event['message']} [{event.get('code', '')}]")
            return 1
        return 0 if kind == "RUN_FINISHED" else None

    def _show_whole(self, data: dict[str, Any]) -> None:
        if self._as_json:
            say(json.dumps(data, ensure_ascii=False))
        else:
            say(_text(data["content"][self._shown :]))
        self._shown = 0

    def _decide(self, approval: dict[str, Any]) -> None:
        action = json.loads(approval["action"])
        hint(f"\nThe agent asks: {printable(approval['title'])}\n{json.dumps(action['args'], indent=2)}")
        if not sys.stdin.isatty() or self._as_json:
            hint(f"Decide with: entobot approvals decide {approval['approval_id']} approve|deny")
            return
        decision = "approve" if typer.confirm("Approve exactly this?", default=False) else "deny"
        self._device.decide(approval, decision)


def _text(text: str) -> str:
    """An answer as text for a terminal: newlines and tabs stay, what would steer the terminal is shown."""
    return "".join(c if c in "\n\t" else printable(c) for c in text)
