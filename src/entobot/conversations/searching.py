"""Find messages by what they say, at a cost that does not grow with what a person has said.

No index is kept for it: one would be written with every message, and SQLite and PostgreSQL have none in common. A page
looks at the next SCANNED conversations, the most recently used first, and at the newest MAX_LOOKED_AT messages of each,
along the index that shows them. It may therefore be short, or empty, and still have a cursor to go on from.
"""

from dataclasses import dataclass

from sqlalchemy import bindparam, or_, select

from entobot.conversations.model import Conversation, Message, excerpt_of
from entobot.conversations.store import conversations, messages, to_conversation, to_message
from entobot.storage.database import Transaction

SCANNED = 20
MAX_LOOKED_AT = 1000
_ESCAPE = "\\"

_recent = messages.alias("recent")
_newest = (
    select(_recent.c.id, _recent.c.content)
    .where(_recent.c.conversation_id == conversations.c.conversation_id)
    .order_by(_recent.c.id.desc())
    .limit(MAX_LOOKED_AT)
    .correlate(conversations)
    .subquery("newest")
)
_HIT = (
    select(_newest.c.id)
    .where(or_(*(_newest.c.content.ilike(bindparam(name), escape=_ESCAPE) for name in ("small", "large", "begun"))))
    .order_by(_newest.c.id.desc())
    .limit(1)
    .correlate(conversations)
    .scalar_subquery()
)
_PAGE = (
    select(*conversations.c, _HIT.label("hit"))
    .where(
        conversations.c.user_id == bindparam("user"),
        (conversations.c.updated_at_ms < bindparam("at"))
        | (
            (conversations.c.updated_at_ms == bindparam("at"))
            & (conversations.c.conversation_id < bindparam("conversation"))
        ),
    )
    .order_by(conversations.c.updated_at_ms.desc(), conversations.c.conversation_id.desc())
    .limit(bindparam("count"))
)
_MESSAGE = select(messages).where(messages.c.id == bindparam("row"))


@dataclass(frozen=True, slots=True)
class Hit:
    """A conversation, and its newest message that says it; `message` is None where only the title does."""

    conversation: Conversation
    message: Message | None
    excerpt: str


def search(
    tx: Transaction, user_id: str, text: str, before: tuple[int, str]
) -> tuple[list[Hit], tuple[int, str] | None]:
    """What one page finds, and where the next begins. Case is ignored as far as `text` in small letters, capitals, or
    with capital initials goes: the stores know no more of letters beyond ASCII in common.
    """
    at, conversation_id = before
    patterns = {"small": _like(text.lower()), "large": _like(text.upper()), "begun": _like(text.title())}
    page = {"user": user_id, "at": at, "conversation": conversation_id, "count": SCANNED + 1}
    rows = tx.rows(_PAGE, patterns | page)
    hits: list[Hit] = []
    for row in rows[:SCANNED]:
        conversation = to_conversation(row)
        found = None if row["hit"] is None else tx.first(_MESSAGE, {"row": row["hit"]})
        if found is not None:
            message = to_message(found)
            hits.append(Hit(conversation, message, excerpt_of(message.content, text)))
        elif text.casefold() in conversation.title.casefold():
            hits.append(Hit(conversation, None, ""))
    last = rows[SCANNED - 1] if len(rows) > SCANNED else None
    return hits, None if last is None else (int(last["updated_at_ms"]), last["conversation_id"])


def _like(text: str) -> str:
    for special in (_ESCAPE, "%", "_"):
        text = text.replace(special, _ESCAPE + special)
    return f"%{text}%"
