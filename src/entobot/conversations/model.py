"""Conversations and messages. Pure."""

import unicodedata
from dataclasses import dataclass
from enum import StrEnum

from entobot.core.errors import Code, Problem
from entobot.files.model import Attachment

MAX_CONTENT_BYTES = 64 * 1024
"""Of one message, in UTF-8: a long paste fits, and a frame with it stays under the 256 KiB cap."""
MAX_TITLE_CHARACTERS = 120
TITLE_FROM_MESSAGE_CHARACTERS = 60
FILES_TITLE = "Files"
"""Of a conversation that began with files and no word."""
MAX_PAGE = 100
PREVIEW_CHARACTERS = 200
MIN_QUERY_CHARACTERS = 2
MAX_QUERY_CHARACTERS = 100
EXCERPT_CHARACTERS = 160
MAX_PAGE_BYTES = 96 * 1024
"""Of text in one page of messages: with escapes doubled it still fits into a frame."""


class MessageRole(StrEnum):
    ASSISTANT = "assistant"
    USER = "user"


@dataclass(frozen=True, slots=True)
class Conversation:
    conversation_id: str
    user_id: str
    title: str
    created_at_ms: int
    updated_at_ms: int
    agent: str | None = None
    """Who answers here; None: whoever answers conversations that name nobody."""


@dataclass(frozen=True, slots=True)
class Message:
    """One stored message. `seq` is its place in the owner's stream.

    `run_id` is the run that takes or wrote it. `error_code` and `error_text` say why a user message got no answer.
    """

    message_id: str
    conversation_id: str
    user_id: str
    role: MessageRole
    content: str
    seq: int
    created_at_ms: int
    sender_device_id: str | None = None
    run_id: str | None = None
    error_code: str | None = None
    error_text: str | None = None
    files: tuple[Attachment, ...] = ()


@dataclass(frozen=True, slots=True)
class Preview:
    """The last message of a conversation, cut to PREVIEW_CHARACTERS."""

    message_id: str
    role: MessageRole
    content: str
    created_at_ms: int


def checked_content(content: str, *, may_be_empty: bool = False) -> str:
    """The content as it will be stored. Raises `invalid` when blank, `too_large` above MAX_CONTENT_BYTES."""
    try:
        size = len(content.encode("utf-8"))
    except UnicodeEncodeError:
        raise Problem(Code.INVALID, "The message is not valid Unicode text.") from None
    if size > MAX_CONTENT_BYTES:
        raise Problem(Code.TOO_LARGE, f"A message may have {MAX_CONTENT_BYTES} bytes; this one has {size}.")
    if not content.strip() and not may_be_empty:
        raise Problem(Code.INVALID, "The message is empty.")
    if "\x00" in content:
        raise Problem(Code.INVALID, "The message holds a NUL character.")
    return content


def checked_title(title: str) -> str:
    """A one-line title. Raises `invalid` when nothing readable is left or it is too long."""
    line = " ".join("".join(" " if unicodedata.category(c).startswith("C") else c for c in title).split())
    if not line:
        raise Problem(Code.INVALID, "The title is empty.")
    if len(line) > MAX_TITLE_CHARACTERS:
        raise Problem(Code.INVALID, f"A title may have {MAX_TITLE_CHARACTERS} characters.")
    return line


def title_from(content: str) -> str:
    """What a conversation is called until somebody renames it."""
    first_line = checked_title(content.strip()[: 4 * TITLE_FROM_MESSAGE_CHARACTERS][:MAX_TITLE_CHARACTERS])
    if len(first_line) <= TITLE_FROM_MESSAGE_CHARACTERS:
        return first_line
    return first_line[: TITLE_FROM_MESSAGE_CHARACTERS - 1].rstrip() + "…"


def checked_query(query: str) -> str:
    """What is looked for, without the space around it. Raises `invalid`."""
    text = query.strip()
    if not MIN_QUERY_CHARACTERS <= len(text) <= MAX_QUERY_CHARACTERS or "\x00" in text:
        raise Problem(
            Code.INVALID, f"Look for {MIN_QUERY_CHARACTERS} to {MAX_QUERY_CHARACTERS} characters, as they stand."
        )
    return text


def excerpt_of(content: str, text: str) -> str:
    """The part of `content` around `text`, in one line of about EXCERPT_CHARACTERS."""
    at = max(0, content.lower().find(text.lower()))
    start = max(0, at - (EXCERPT_CHARACTERS - len(text)) // 3)
    end = start + EXCERPT_CHARACTERS
    line = " ".join(content[start:end].split())
    return f"{'…' if start else ''}{line}{'…' if end < len(content) else ''}"
