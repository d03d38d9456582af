"""Tables of conversations and messages. Messages are an append-only log keyed by row id."""

import json
from dataclasses import asdict

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    Table,
    Text,
    bindparam,
    func,
    insert,
    literal_column,
    select,
    update,
)

from entobot.conversations.model import PREVIEW_CHARACTERS, Conversation, Message, MessageRole, Preview
from entobot.files.model import Attachment
from entobot.storage.database import Row, Transaction, metadata
from entobot.storage.partial_index import partial_index

conversations = Table(
    "conversations",
    metadata,
    Column("conversation_id", Text, primary_key=True),
    Column("user_id", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("updated_at_ms", BigInteger, nullable=False),
    Column("own_of_device_id", Text, unique=True),
    Column("agent", Text),
    Index("ix_conversations_user_updated", "user_id", "updated_at_ms"),
)
messages = Table(
    "messages",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("message_id", Text, nullable=False, unique=True),
    Column("conversation_id", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("content", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("sender_device_id", Text),
    Column("run_id", Text),
    Column("error_code", Text),
    Column("error_text", Text),
    Column("is_awaiting", Integer, nullable=False),
    Column("files", Text),
    Index("ix_messages_conversation", "conversation_id", "id"),
    partial_index("ix_messages_awaiting", "conversation_id", where="is_awaiting = 1"),
    partial_index("ix_messages_answers", "user_id", "seq", where="role = 'assistant'"),
)

_INSERT_CONVERSATION = insert(conversations)
_CONVERSATION = select(conversations).where(
    conversations.c.conversation_id == bindparam("conversation"), conversations.c.user_id == bindparam("user")
)
_OWN_CONVERSATION = select(conversations).where(
    conversations.c.own_of_device_id == bindparam("device"), conversations.c.user_id == bindparam("user")
)
_GIVE = (
    update(conversations)
    .where(conversations.c.conversation_id == bindparam("conversation"))
    .values(own_of_device_id=bindparam("device"))
)
_TOUCH = (
    update(conversations)
    .where(conversations.c.conversation_id == bindparam("conversation"))
    .values(updated_at_ms=bindparam("now"))
)
_RENAME = (
    update(conversations)
    .where(conversations.c.conversation_id == bindparam("conversation"), conversations.c.user_id == bindparam("user"))
    .values(title=bindparam("new_title"))
)
_LIST = (
    select(conversations)
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
_newer = messages.alias("newer")
_LAST_ID = (
    select(func.max(_newer.c.id)).where(_newer.c.conversation_id == conversations.c.conversation_id).scalar_subquery()
)
_LIST_WITH_LAST = _LIST.with_only_columns(
    *conversations.c,
    messages.c.message_id.label("last_id"),
    messages.c.role.label("last_role"),
    func.substr(messages.c.content, 1, PREVIEW_CHARACTERS).label("last_content"),
    messages.c.created_at_ms.label("last_at_ms"),
).select_from(conversations.outerjoin(messages, messages.c.id == _LAST_ID))
_INSERT_MESSAGE = insert(messages)
_ROW_ID = select(messages.c.id).where(
    messages.c.message_id == bindparam("message"), messages.c.conversation_id == bindparam("conversation")
)
_HISTORY = (
    select(messages)
    .where(messages.c.conversation_id == bindparam("conversation"), messages.c.id < bindparam("before"))
    .order_by(messages.c.id.desc())
    .limit(bindparam("count"))
)
_AWAITING = (
    select(messages.c.conversation_id)
    .where(literal_column("is_awaiting") == literal_column("1"))
    .group_by(messages.c.conversation_id)
    .order_by(func.min(messages.c.id))
)
_NEXT_UNANSWERED = (
    select(messages)
    .where(
        messages.c.conversation_id == bindparam("conversation"),
        literal_column("is_awaiting") == literal_column("1"),
    )
    .order_by(messages.c.id)
    .limit(1)
)
_TAKE = (
    update(messages)
    .where(messages.c.message_id == bindparam("message"), messages.c.is_awaiting == 1)
    .values(is_awaiting=0, run_id=bindparam("run"))
)
_FAIL = (
    update(messages)
    .where(messages.c.message_id == bindparam("message"))
    .values(error_code=bindparam("new_code"), error_text=bindparam("new_text"))
)
_DROP_AWAITING = (
    update(messages)
    .where(messages.c.user_id == bindparam("user"), literal_column("is_awaiting") == literal_column("1"))
    .values(is_awaiting=0, error_code=bindparam("new_code"), error_text=bindparam("new_text"))
)
_UNREAD = select(func.count().label("unread")).where(
    messages.c.user_id == bindparam("user"),
    literal_column("role") == literal_column(f"'{MessageRole.ASSISTANT}'"),
    messages.c.seq > bindparam("seen"),
)

END = 2**62
"""Past every row id and every time: where a first page begins."""

_AGENT = select(conversations.c.agent).where(conversations.c.conversation_id == bindparam("conversation"))
_SENDER = select(messages.c.sender_device_id).where(messages.c.message_id == bindparam("message"))


def insert_conversation(tx: Transaction, conversation: Conversation) -> None:
    tx.add(
        _INSERT_CONVERSATION,
        {
            "conversation_id": conversation.conversation_id,
            "user_id": conversation.user_id,
            "title": conversation.title,
            "created_at_ms": conversation.created_at_ms,
            "updated_at_ms": conversation.updated_at_ms,
            "agent": conversation.agent,
        },
    )


def find_agent(tx: Transaction, conversation_id: str) -> str | None:
    row = tx.first(_AGENT, {"conversation": conversation_id})
    return None if row is None else row["agent"]


def find_own_conversation(tx: Transaction, user_id: str, device_id: str) -> Conversation | None:
    row = tx.first(_OWN_CONVERSATION, {"device": device_id, "user": user_id})
    return None if row is None else to_conversation(row)


def give_conversation(tx: Transaction, conversation_id: str, device_id: str) -> None:
    """Make it the device's own."""
    tx.run(_GIVE, {"conversation": conversation_id, "device": device_id})


def find_conversation(tx: Transaction, user_id: str, conversation_id: str) -> Conversation | None:
    row = tx.first(_CONVERSATION, {"conversation": conversation_id, "user": user_id})
    return None if row is None else to_conversation(row)


def has_conversation(tx: Transaction, user_id: str, conversation_id: str) -> bool:
    """Whether it is this user's. Conversations never change hands."""
    memory, key = tx.memory, ("conversation of", conversation_id)
    if memory is not None and memory.get(key) == user_id:
        return True
    is_there = find_conversation(tx, user_id, conversation_id) is not None
    if is_there and memory is not None:
        memory.put(key, user_id)
    return is_there


def touch_conversation(tx: Transaction, conversation_id: str, now_ms: int) -> None:
    tx.add_latest(_TOUCH, conversation_id, {"conversation": conversation_id, "now": now_ms})


def rename_conversation(tx: Transaction, user_id: str, conversation_id: str, title: str) -> bool:
    return tx.run(_RENAME, {"conversation": conversation_id, "user": user_id, "new_title": title}) == 1


def list_conversations(
    tx: Transaction, user_id: str, before: tuple[int, str] | None, count: int
) -> list[tuple[Conversation, Preview | None]]:
    at, conversation_id = before or (END, "")
    parameters = {"user": user_id, "at": at, "conversation": conversation_id, "count": count}
    return [(to_conversation(row), _preview(row)) for row in tx.rows(_LIST_WITH_LAST, parameters)]


def insert_message(tx: Transaction, message: Message, *, is_awaiting: bool) -> None:
    tx.add(
        _INSERT_MESSAGE,
        {
            "message_id": message.message_id,
            "conversation_id": message.conversation_id,
            "user_id": message.user_id,
            "role": message.role,
            "content": message.content,
            "seq": message.seq,
            "created_at_ms": message.created_at_ms,
            "sender_device_id": message.sender_device_id,
            "run_id": message.run_id,
            "is_awaiting": int(is_awaiting),
            "files": json.dumps([asdict(file) for file in message.files]) if message.files else None,
        },
    )


def find_row_id(tx: Transaction, conversation_id: str, message_id: str) -> int | None:
    row = tx.first(_ROW_ID, {"message": message_id, "conversation": conversation_id})
    return None if row is None else int(row["id"])


def history(tx: Transaction, conversation_id: str, before: int, count: int) -> list[Message]:
    """Newest first."""
    parameters = {"conversation": conversation_id, "before": before, "count": count}
    return [to_message(row) for row in tx.rows(_HISTORY, parameters)]


def conversations_awaiting(tx: Transaction) -> list[str]:
    return [row["conversation_id"] for row in tx.rows(_AWAITING)]


def find_next_unanswered(tx: Transaction, conversation_id: str) -> Message | None:
    row = tx.first(_NEXT_UNANSWERED, {"conversation": conversation_id})
    return None if row is None else to_message(row)


def find_sender(tx: Transaction, message_id: str) -> str | None:
    row = tx.first(_SENDER, {"message": message_id})
    return None if row is None else row["sender_device_id"]


def take_message(tx: Transaction, message_id: str, run_id: str) -> bool:
    return tx.run(_TAKE, {"message": message_id, "run": run_id}) == 1


def drop_awaiting(tx: Transaction, user_id: str, code: str, text: str) -> None:
    tx.run(_DROP_AWAITING, {"user": user_id, "new_code": code, "new_text": text})


def fail_message(tx: Transaction, message_id: str, code: str, text: str) -> None:
    tx.run(_FAIL, {"message": message_id, "new_code": code, "new_text": text})


def count_unread(tx: Transaction, user_id: str, seen_seq: int) -> int:
    row = tx.first(_UNREAD, {"user": user_id, "seen": seen_seq})
    return 0 if row is None else int(row["unread"])


def _preview(row: Row) -> Preview | None:
    if row["last_id"] is None:
        return None
    return Preview(row["last_id"], MessageRole(row["last_role"]), row["last_content"], int(row["last_at_ms"]))


def to_conversation(row: Row) -> Conversation:
    return Conversation(
        row["conversation_id"],
        row["user_id"],
        row["title"],
        int(row["created_at_ms"]),
        int(row["updated_at_ms"]),
        row["agent"],
    )


def to_message(row: Row) -> Message:
    return Message(
        message_id=row["message_id"],
        conversation_id=row["conversation_id"],
        user_id=row["user_id"],
        role=MessageRole(row["role"]),
        content=row["content"],
        seq=int(row["seq"]),
        created_at_ms=int(row["created_at_ms"]),
        sender_device_id=row["sender_device_id"],
        run_id=row["run_id"],
        error_code=row["error_code"],
        error_text=row["error_text"],
        files=() if row["files"] is None else tuple(Attachment(**file) for file in json.loads(row["files"])),
    )
