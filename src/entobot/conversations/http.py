"""REST: `GET /api/v1/conversations`, `GET /api/v1/conversations/{conversation_id}/messages`."""

from typing import Annotated

from fastapi import Query
from pydantic import BaseModel

from entobot.conversations.rows import conversation_row, message_row
from entobot.conversations.service import Conversations
from entobot.storage.database import Database, Transaction
from entobot.web.authentication import Caller
from entobot.web.routes import Api

Cursor = Annotated[str | None, Query(max_length=128)]
Limit = Annotated[int, Query(ge=1, le=100)]


class LastMessage(BaseModel):
    message_id: str
    role: str
    content: str
    created_at: str


class ConversationRow(BaseModel):
    conversation_id: str
    title: str
    created_at: str
    updated_at: str
    last_message: LastMessage | None = None


class ConversationPage(BaseModel):
    rows: list[ConversationRow]
    next: str | None


class RunFailure(BaseModel):
    code: str
    message: str | None


class MessageRow(BaseModel):
    message_id: str
    conversation_id: str
    role: str
    content: str
    seq: int
    sender_device_id: str | None
    created_at: str
    run_id: str | None
    error: RunFailure | None


class MessagePage(BaseModel):
    rows: list[MessageRow]
    next: str | None


def add_routes(api: Api, conversations: Conversations, database: Database) -> None:
    async def list_conversations(caller: Caller, cursor: Cursor = None, limit: Limit = 50) -> object:
        def unit(tx: Transaction) -> object:
            rows, following = conversations.list(tx, caller.user_id, cursor, limit)
            shown = [conversation_row(row, last) for row, last in rows]
            return {"rows": shown, "next": following}

        return await database.read(unit)

    async def list_messages(caller: Caller, conversation_id: str, before: Cursor = None, limit: Limit = 50) -> object:
        def unit(tx: Transaction) -> object:
            rows, following = conversations.history(tx, caller.user_id, conversation_id, before, limit)
            return {"rows": [message_row(row) for row in rows], "next": following}

        return await database.read(unit)

    api.add("GET", "/api/v1/conversations", list_conversations, response_model=ConversationPage)
    api.add("GET", "/api/v1/conversations/{conversation_id}/messages", list_messages, response_model=MessagePage)
