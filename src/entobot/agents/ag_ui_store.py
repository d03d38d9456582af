"""What clients of the AG-UI endpoint call our conversations and messages."""

from sqlalchemy import BigInteger, Column, Table, Text, bindparam, insert, select

from entobot.storage.database import Transaction, metadata

ag_ui_threads = Table(
    "ag_ui_threads",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("agent", Text, primary_key=True),
    Column("thread_id", Text, primary_key=True),
    Column("conversation_id", Text, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
)
ag_ui_messages = Table(
    "ag_ui_messages",
    metadata,
    Column("conversation_id", Text, primary_key=True),
    Column("client_message_id", Text, primary_key=True),
    Column("message_id", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
)

_THREAD = select(ag_ui_threads.c.conversation_id).where(
    ag_ui_threads.c.user_id == bindparam("user"),
    ag_ui_threads.c.agent == bindparam("agent_name"),
    ag_ui_threads.c.thread_id == bindparam("thread"),
)
_INSERT_THREAD = insert(ag_ui_threads)
_MESSAGE = select(ag_ui_messages.c.message_id, ag_ui_messages.c.seq).where(
    ag_ui_messages.c.conversation_id == bindparam("conversation"),
    ag_ui_messages.c.client_message_id == bindparam("client_message"),
)
_INSERT_MESSAGE = insert(ag_ui_messages)


def find_conversation(tx: Transaction, user_id: str, agent: str, thread_id: str) -> str | None:
    row = tx.first(_THREAD, {"user": user_id, "agent_name": agent, "thread": thread_id})
    return None if row is None else str(row["conversation_id"])


def keep_conversation(
    tx: Transaction, user_id: str, agent: str, thread_id: str, conversation_id: str, now_ms: int
) -> None:
    tx.run(
        _INSERT_THREAD,
        {
            "user_id": user_id,
            "agent": agent,
            "thread_id": thread_id,
            "conversation_id": conversation_id,
            "created_at_ms": now_ms,
        },
    )


def find_message(tx: Transaction, conversation_id: str, client_message_id: str) -> tuple[str, int] | None:
    """Our id and place of a message that the client has sent before."""
    row = tx.first(_MESSAGE, {"conversation": conversation_id, "client_message": client_message_id})
    return None if row is None else (str(row["message_id"]), int(row["seq"]))


def keep_message(
    tx: Transaction, conversation_id: str, client_message_id: str, message_id: str, seq: int, now_ms: int
) -> None:
    tx.run(
        _INSERT_MESSAGE,
        {
            "conversation_id": conversation_id,
            "client_message_id": client_message_id,
            "message_id": message_id,
            "seq": seq,
            "created_at_ms": now_ms,
        },
    )
