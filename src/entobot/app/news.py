"""What of conversations becomes a notification, in the unit that stores it."""

from entobot.agents.service import OnAnswer
from entobot.conversations.model import Message
from entobot.notifications.model import Kind, Note
from entobot.notifications.service import Notifications
from entobot.storage.database import Transaction

PREVIEW_CHARACTERS = 300
ANSWERED = "The agent answered"


def tell_answer(notifications: Notifications) -> OnAnswer:
    """An answer is shown by an event of its own: it is news only where no device acknowledges that."""

    def answered(tx: Transaction, message: Message, now_ms: int) -> None:
        notifications.post(
            tx,
            Note(
                user_id=message.user_id,
                kind=Kind.MESSAGE,
                title=ANSWERED,
                body=message.content[:PREVIEW_CHARACTERS],
                conversation_id=message.conversation_id,
                link=f"/chat/{message.conversation_id}",
                collapse_key=f"conversation:{message.conversation_id}",
                event_seq=message.seq,
            ),
            now_ms,
        )

    return answered
