"""Device commands: `message.send`, `conversation.create|rename|list|history|search`."""

from typing import Annotated

from msgspec import Meta, Struct

from entobot.conversations.model import MAX_QUERY_CHARACTERS, MIN_QUERY_CHARACTERS
from entobot.conversations.rows import conversation_row, hit_row, message_row
from entobot.conversations.service import Conversations
from entobot.core.principal import Principal
from entobot.files.model import MAX_PER_MESSAGE
from entobot.gateway.commands import Command
from entobot.storage.database import Transaction

Id = Annotated[str, Meta(max_length=64)]
Limit = Annotated[int, Meta(ge=1, le=100)]


class SendMessage(Struct, forbid_unknown_fields=True):
    content: str
    conversation_id: Id | None = None
    files: Annotated[list[Id], Meta(max_length=MAX_PER_MESSAGE)] = []
    agent: Id | None = None


class CreateConversation(Struct, forbid_unknown_fields=True):
    title: Annotated[str, Meta(max_length=500)] | None = None
    agent: Id | None = None


class RenameConversation(Struct, forbid_unknown_fields=True):
    conversation_id: Id
    title: Annotated[str, Meta(max_length=500)]


class ListConversations(Struct, forbid_unknown_fields=True):
    cursor: Annotated[str, Meta(max_length=128)] | None = None
    limit: Limit = 50


class Search(Struct, forbid_unknown_fields=True):
    query: Annotated[str, Meta(min_length=MIN_QUERY_CHARACTERS, max_length=MAX_QUERY_CHARACTERS)]
    cursor: Annotated[str, Meta(max_length=128)] | None = None


class History(Struct, forbid_unknown_fields=True):
    conversation_id: Id
    before: Id | None = None
    limit: Limit = 50


def commands(conversations: Conversations) -> list[Command]:
    def send(tx: Transaction, caller: Principal, data: SendMessage, now_ms: int) -> object:
        sent = conversations.send_message(
            tx, caller, data.conversation_id, data.content, now_ms, data.files, data.agent
        )
        return {"message_id": sent.message_id, "conversation_id": sent.conversation_id, "seq": sent.seq}

    def create(tx: Transaction, caller: Principal, data: CreateConversation, now_ms: int) -> object:
        title = data.title or "New conversation"
        return conversation_row(conversations.create(tx, caller.user_id, title, now_ms, data.agent))

    def rename(tx: Transaction, caller: Principal, data: RenameConversation, now_ms: int) -> object:
        return conversation_row(conversations.rename(tx, caller.user_id, data.conversation_id, data.title))

    def list_(tx: Transaction, caller: Principal, data: ListConversations, now_ms: int) -> object:
        rows, cursor = conversations.list(tx, caller.user_id, data.cursor, data.limit)
        shown = [conversation_row(row, last) for row, last in rows]
        return {"rows": shown, "next": cursor}

    def history(tx: Transaction, caller: Principal, data: History, now_ms: int) -> object:
        rows, before = conversations.history(tx, caller.user_id, data.conversation_id, data.before, data.limit)
        return {"rows": [message_row(row) for row in rows], "next": before}

    def search(tx: Transaction, caller: Principal, data: Search, now_ms: int) -> object:
        hits, cursor = conversations.search(tx, caller.user_id, data.query, data.cursor)
        return {"rows": [hit_row(hit) for hit in hits], "next": cursor}

    return [
        Command("conversation.create", CreateConversation, create),
        Command("conversation.history", History, history, writes=False),
        Command("conversation.list", ListConversations, list_, writes=False),
        Command("conversation.rename", RenameConversation, rename),
        Command("conversation.search", Search, search, writes=False),
        Command("message.send", SendMessage, send, begets=lambda sent: sent["message_id"]),
    ]
