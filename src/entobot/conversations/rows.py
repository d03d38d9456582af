"""The wire shapes of conversations and messages, shared by REST, commands and snapshots."""

from entobot.conversations.model import Conversation, Message, Preview
from entobot.conversations.searching import Hit
from entobot.core.clock import rfc3339
from entobot.files.model import Attachment


def conversation_row(conversation: Conversation, last: Preview | None = None) -> dict[str, object]:
    row: dict[str, object] = {
        "conversation_id": conversation.conversation_id,
        "title": conversation.title,
        "created_at": rfc3339(conversation.created_at_ms),
        "updated_at": rfc3339(conversation.updated_at_ms),
    }
    if conversation.agent is not None:
        row["agent"] = conversation.agent
    if last is not None:
        row["last_message"] = {
            "message_id": last.message_id,
            "role": last.role,
            "content": last.content,
            "created_at": rfc3339(last.created_at_ms),
        }
    return row


def hit_row(hit: Hit) -> dict[str, object]:
    row = conversation_row(hit.conversation)
    if hit.message is not None:
        row["hit"] = {
            "message_id": hit.message.message_id,
            "role": hit.message.role,
            "excerpt": hit.excerpt,
            "created_at": rfc3339(hit.message.created_at_ms),
        }
    return row


def message_row(message: Message) -> dict[str, object]:
    error = None if message.error_code is None else {"code": message.error_code, "message": message.error_text}
    row: dict[str, object] = {
        "message_id": message.message_id,
        "conversation_id": message.conversation_id,
        "role": message.role,
        "content": message.content,
        "seq": message.seq,
        "sender_device_id": message.sender_device_id,
        "created_at": rfc3339(message.created_at_ms),
        "run_id": message.run_id,
        "error": error,
    }
    return row | {"files": [attachment_row(file) for file in message.files]} if message.files else row


def attachment_row(file: Attachment) -> dict[str, object]:
    return {"file_id": file.file_id, "name": file.name, "media_type": file.media_type, "size": file.size}
