"""What a client of the AG-UI endpoint may say: a name for the conversation, and the newest message. Pure.

History, tool results, state, tools, context and answers to interrupts are a client's word about things that the gateway
knows better, so none of them is taken.
"""

from dataclasses import dataclass

import msgspec
from msgspec import Struct, field

from entobot.core.errors import Code, Problem
from entobot.core.unreadable import UNREADABLE

MAX_BODY_BYTES = 1024 * 1024
MAX_NAME_CHARACTERS = 128
MAX_MESSAGES = 10_000


class _Part(Struct):
    type: str = ""
    text: str = ""


class _Message(Struct):
    id: str = ""
    role: str = ""
    content: str | list[_Part] | dict[str, object] | None = None


class _Input(Struct):
    threadId: str  # noqa: N815  AG-UI's name
    runId: str  # noqa: N815  AG-UI's name
    messages: list[_Message] = field(default_factory=list[_Message])
    resume: list[dict[str, object]] | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """`message_id` is the client's name for the message, by which a repeat is known."""

    thread_id: str
    run_id: str
    message_id: str
    content: str


def parse(body: bytes) -> Wanted:
    """Raises `invalid`, and `forbidden` for an answer to an interrupt."""
    try:
        given = msgspec.json.decode(body, type=_Input)
    except UNREADABLE as error:
        raise Problem(Code.INVALID, f"The body is no RunAgentInput of AG-UI: {str(error)[:200]}") from None
    if given.resume:
        raise Problem(
            Code.FORBIDDEN,
            "Interrupts are approvals: a paired device decides them and signs it. Send the same messages without "
            "'resume' to go on listening.",
        )
    if len(given.messages) > MAX_MESSAGES:
        raise Problem(Code.INVALID, f"There are more than {MAX_MESSAGES} messages.")
    newest = next((one for one in reversed(given.messages) if one.role == "user"), None)
    if newest is None:
        raise Problem(Code.INVALID, "There is no message of the role 'user'.")
    return Wanted(
        _name("threadId", given.threadId),
        _name("runId", given.runId),
        _name("the id of the newest message", newest.id),
        _text(newest.content),
    )


def _name(what: str, text: str) -> str:
    if not text or len(text) > MAX_NAME_CHARACTERS or not text.isprintable():
        raise Problem(Code.INVALID, f"{what} has 1 to {MAX_NAME_CHARACTERS} visible characters.")
    return text


def _text(content: "str | list[_Part] | dict[str, object] | None") -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(part.type == "text" for part in content):
        return "\n".join(part.text for part in content)
    raise Problem(Code.INVALID, "The newest message holds something else than text. Send files by /api/v1/files.")
