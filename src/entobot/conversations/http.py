"""REST: `GET /api/v1/conversations`, `GET /api/v1/conversations/{conversation_id}/messages`."""

from collections.abc import Callable
from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from entobot.conversations.rows import conversation_row, message_row
from entobot.conversations.service import Conversations
from entobot.core.clock import Clock
from entobot.core.errors import Code
from entobot.core.principal import Principal
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
    agent: str | None = None
    last_message: LastMessage | None = None


class ConversationPage(BaseModel):
    rows: list[ConversationRow]
    next: str | None


class RunFailure(BaseModel):
    code: str
    message: str | None


class AttachedRow(BaseModel):
    file_id: str
    name: str
    media_type: str
    size: int


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
    files: list[AttachedRow] = Field(default=[], description="Read at `/api/v1/files/{file_id}/content`.")


class MessagePage(BaseModel):
    rows: list[MessageRow]
    next: str | None


class Delivery(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    text: str = Field(default="", max_length=4000, description="What it is.")


class Delivered(BaseModel):
    message_id: str
    conversation_id: str


def add_delivery(
    api: Api,
    conversations: Conversations,
    database: Database,
    clock: Clock,
    title_of: Callable[[Transaction, Principal], str],
) -> None:
    """`title_of` is what the conversation of a program is called."""

    async def send_file(caller: Caller, file_id: str, delivery: Delivery) -> object:
        """Put a whole file before the person, in the conversation of this program. They are notified."""
        now_ms = clock.now_ms()

        def unit(tx: Transaction) -> object:
            title = title_of(tx, caller)
            sent = conversations.deliver(tx, caller, title, delivery.text, [file_id], now_ms)
            return {"message_id": sent.message_id, "conversation_id": sent.conversation_id}

        return await database.write(unit, caller.user_id)

    problems = (Code.FILE_NOT_WHOLE, Code.NOT_FOUND)
    api.add("POST", "/api/v1/files/{file_id}/send", send_file, response_model=Delivered, problems=problems)


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
    api.add(
        "GET",
        "/api/v1/conversations/{conversation_id}/messages",
        list_messages,
        response_model=MessagePage,
        response_model_exclude_unset=True,
    )
