"""What of conversations becomes a notification, in the unit that stores it."""

from entobot.agents.model import Run
from entobot.agents.runner import RunFailed
from entobot.agents.service import OnAnswer, OnFailure
from entobot.conversations.model import Message
from entobot.notifications.model import Kind, Note
from entobot.notifications.service import Notifications
from entobot.storage.database import Transaction

PREVIEW_CHARACTERS = 300
ANSWERED = "The agent answered"
FAILED = "The agent could not answer"


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


def tell_failure(notifications: Notifications) -> OnFailure:
    """So does a run that failed: whoever put the phone away waits for an answer that does not come."""

    def failed(tx: Transaction, run: Run, failure: RunFailed, event_seq: int, now_ms: int) -> None:
        notifications.post(
            tx,
            Note(
                user_id=run.user_id,
                kind=Kind.MESSAGE,
                title=FAILED,
                body=failure.message[:PREVIEW_CHARACTERS],
                conversation_id=run.conversation_id,
                link=f"/chat/{run.conversation_id}",
                collapse_key=f"conversation:{run.conversation_id}",
                event_seq=event_seq,
            ),
            now_ms,
        )

    return failed
