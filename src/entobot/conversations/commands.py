"""Device commands: `message.send`, `conversation.create|rename|list|history`."""

from typing import Annotated

from msgspec import Meta, Struct

from entobot.conversations.rows import conversation_row, message_row
from entobot.conversations.service import Conversations
from entobot.core.principal import Principal
from entobot.gateway.commands import Command
from entobot.storage.database import Transaction

Id = Annotated[str, Meta(max_length=64)]
Limit = Annotated[int, Meta(ge=1, le=100)]


class SendMessage(Struct, forbid_unknown_fields=True):
    content: str
    conversation_id: Id | None = None


class CreateConversation(Struct, forbid_unknown_fields=True):
    title: Annotated[str, Meta(max_length=500)] | None = None


class RenameConversation(Struct, forbid_unknown_fields=True):
    conversation_id: Id
    title: Annotated[str, Meta(max_length=500)]


class ListConversations(Struct, forbid_unknown_fields=True):
    cursor: Annotated[str, Meta(max_length=128)] | None = None
    limit: Limit = 50


class History(Struct, forbid_unknown_fields=True):
    conversation_id: Id
    before: Id | None = None
    limit: Limit = 50


def commands(conversations: Conversations) -> list[Command]:
    def send(tx: Transaction, caller: Principal, data: SendMessage, now_ms: int) -> object:
        sent = conversations.send_message(tx, caller, data.conversation_id, data.content, now_ms)
        return {"message_id": sent.message_id, "conversation_id": sent.conversation_id, "seq": sent.seq}

    def create(tx: Transaction, caller: Principal, data: CreateConversation, now_ms: int) -> object:
        return conversation_row(conversations.create(tx, caller.user_id, data.title or "New conversation", now_ms))

    def rename(tx: Transaction, caller: Principal, data: RenameConversation, now_ms: int) -> object:
        return conversation_row(conversations.rename(tx, caller.user_id, data.conversation_id, data.title))

    def list_(tx: Transaction, caller: Principal, data: ListConversations, now_ms: int) -> object:
        rows, cursor = conversations.list(tx, caller.user_id, data.cursor, data.limit)
        shown = [conversation_row(row, last) for row, last in rows]
        return {"rows": shown, "next": cursor}

    def history(tx: Transaction, caller: Principal, data: History, now_ms: int) -> object:
        rows, before = conversations.history(tx, caller.user_id, data.conversation_id, data.before, data.limit)
        return {"rows": [message_row(row) for row in rows], "next": before}

    return [
        Command("conversation.create", CreateConversation, create),
        Command("conversation.history", History, history, writes=False),
        Command("conversation.list", ListConversations, list_, writes=False),
        Command("conversation.rename", RenameConversation, rename),
        Command("message.send", SendMessage, send, begets=lambda sent: sent["message_id"]),
    ]
