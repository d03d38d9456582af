"""Use cases of conversations. Methods that take a transaction are units, or parts of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from entobot.bus.bus import Bus
from entobot.conversations import store
from entobot.conversations.model import (
    FILES_TITLE,
    MAX_PAGE,
    MAX_PAGE_BYTES,
    Conversation,
    Message,
    MessageRole,
    Preview,
    checked_content,
    checked_query,
    checked_title,
    title_from,
)
from entobot.conversations.rows import attachment_row
from entobot.conversations.searching import Hit, search
from entobot.core import topics
from entobot.core.clock import rfc3339
from entobot.core.errors import Code, Problem
from entobot.core.ids import Ids, Prefix
from entobot.core.permissions import Scope
from entobot.core.principal import Principal
from entobot.files.model import Attachment
from entobot.files.service import Files
from entobot.storage.database import Transaction
from entobot.stream.service import Stream


@dataclass(frozen=True, slots=True)
class Sent:
    message_id: str
    conversation_id: str
    seq: int


Begin = Callable[[Transaction, str, int], bool]
"""Port, filled by the composition root: begin to answer this conversation at this time, in the unit that has stored a
message there. False when that has to wait for a bell."""


CheckAgent = Callable[[Transaction, str, str], None]
"""Port, filled by the composition root: may this user give a conversation to the agent of this name? Raises
`not_found`, `forbidden`."""


def _no_agents(_tx: Transaction, _user_id: str, _agent: str) -> None:
    raise Problem(Code.NOT_FOUND, "There is no agent of that name.")


IsAnswered = Callable[[Transaction, str, str], bool]
"""Port, filled by the composition root: does an agent of this gateway take this user's messages in this conversation?"""


OnDelivered = Callable[[Transaction, Message, int], None]
"""Port, filled by the composition root: a program has put something before its person, in the unit that stores it."""


def _nobody_hears(_tx: Transaction, _message: Message, _now_ms: int) -> None:
    return None


def _always(_tx: Transaction, _user_id: str, _conversation_id: str) -> bool:
    return True


def _later(_tx: Transaction, _conversation_id: str, _now_ms: int) -> bool:
    return False


class Conversations:
    """`is_answered` says whether agents of this gateway take messages; those stored meanwhile are left to others."""

    def __init__(self, ids: Ids, stream: Stream, bus: Bus, files: Files) -> None:
        self.is_answered: IsAnswered = _always
        self.begin: Begin = _later
        self.on_delivered: OnDelivered = _nobody_hears
        self.check_agent: CheckAgent = _no_agents
        self._ids = ids
        self._stream = stream
        self._bus = bus
        self._files = files

    def create(self, tx: Transaction, user_id: str, title: str, now_ms: int, agent: str | None = None) -> Conversation:
        """Raises `invalid`; `not_found` and `forbidden` for the agent."""
        if agent is not None:
            self.check_agent(tx, user_id, agent)
        conversation_id = self._ids.new(Prefix.CONVERSATION)
        conversation = Conversation(conversation_id, user_id, checked_title(title), now_ms, now_ms, agent)
        store.insert_conversation(tx, conversation)
        return conversation

    def agent_of(self, tx: Transaction, conversation_id: str) -> str | None:
        """Who answers there; None: whoever answers conversations that name nobody."""
        return store.find_agent(tx, conversation_id)

    def sender_of(self, tx: Transaction, message_id: str) -> str | None:
        """The device that sent a message; None for the local socket, the dashboard, and the agent."""
        return store.find_sender(tx, message_id)

    def find_own(self, tx: Transaction, user_id: str, device_id: str) -> Conversation | None:
        """The one conversation that belongs to a device which knows no others."""
        return store.find_own_conversation(tx, user_id, device_id)

    def open_own(self, tx: Transaction, user_id: str, device_id: str, title: str, now_ms: int) -> Conversation:
        """The same, created with that title when it is missing."""
        own = self.find_own(tx, user_id, device_id)
        if own is None:
            own = self.create(tx, user_id, title, now_ms)
            store.give_conversation(tx, own.conversation_id, device_id)
        return own

    def rename(self, tx: Transaction, user_id: str, conversation_id: str, title: str) -> Conversation:
        """Raises `not_found`, also for another user's conversation."""
        if not store.rename_conversation(tx, user_id, conversation_id, checked_title(title)):
            raise _no_conversation()
        return self.get(tx, user_id, conversation_id)

    def get(self, tx: Transaction, user_id: str, conversation_id: str) -> Conversation:
        """Raises `not_found`, also for another user's conversation."""
        conversation = store.find_conversation(tx, user_id, conversation_id)
        if conversation is None:
            raise _no_conversation()
        return conversation

    def send_message(
        self,
        tx: Transaction,
        sender: Principal,
        conversation_id: str | None,
        content: str,
        now_ms: int,
        file_ids: Sequence[str] = (),
        agent: str | None = None,
    ) -> Sent:
        """Store what a person said, in a new conversation when none is named, and have it answered: by this agent, for
        the new conversation.

        With files the content may be empty. Raises `not_found`, `forbidden`, `invalid`, `too_large`, `file_not_whole`.
        """
        content = checked_content(content, may_be_empty=bool(file_ids))
        if conversation_id is None:
            title = title_from(content) if content.strip() else FILES_TITLE
            conversation_id = self.create(tx, sender.user_id, title, now_ms, agent).conversation_id
        elif agent is not None:
            raise Problem(Code.INVALID, "Who answers in a conversation is said when it begins. Begin a new one.")
        elif not store.has_conversation(tx, sender.user_id, conversation_id):
            raise _no_conversation()
        message_id = self._ids.new(Prefix.MESSAGE)
        files = self._files.attach(tx, sender.user_id, file_ids, message_id, conversation_id) if file_ids else []
        message = self._add(
            tx,
            user_id=sender.user_id,
            conversation_id=conversation_id,
            message_id=message_id,
            role=MessageRole.USER,
            content=content,
            now_ms=now_ms,
            sender_device_id=sender.device_id,
            files=files,
        )
        is_answered = self.is_answered(tx, sender.user_id, conversation_id)
        if is_answered and not self.begin(tx, conversation_id, now_ms):
            bell = conversation_id.encode("ascii")
            tx.after_commit(lambda: self._bus.publish(topics.WORK_MESSAGES, bell))
        return Sent(message.message_id, message.conversation_id, message.seq)

    def deliver(
        self, tx: Transaction, program: Principal, title: str, text: str, file_ids: Sequence[str], now_ms: int
    ) -> Sent:
        """Put files of a program before its person, in the one conversation that is the program's own.

        Raises `not_found`, `file_not_whole`, `invalid`, `too_large`.
        """
        for file_id in file_ids:
            self._files.loose(tx, program, file_id)
        own = program.device_id or f"local {program.user_id}"
        conversation_id = self.open_own(tx, program.user_id, own, title, now_ms).conversation_id
        message_id = self._ids.new(Prefix.MESSAGE)
        message = self._add(
            tx,
            user_id=program.user_id,
            conversation_id=conversation_id,
            message_id=message_id,
            role=MessageRole.ASSISTANT,
            content=checked_content(text, may_be_empty=bool(file_ids)),
            now_ms=now_ms,
            sender_device_id=program.device_id,
            files=self._files.attach(tx, program.user_id, file_ids, message_id, conversation_id),
        )
        self.on_delivered(tx, message, now_ms)
        return Sent(message.message_id, conversation_id, message.seq)

    def reply(
        self,
        tx: Transaction,
        *,
        user_id: str,
        conversation_id: str,
        message_id: str,
        content: str,
        run_id: str,
        now_ms: int,
    ) -> Message:
        """Store what the agent said, under the id that its deltas had."""
        return self._add(
            tx,
            user_id=user_id,
            conversation_id=conversation_id,
            message_id=message_id,
            role=MessageRole.ASSISTANT,
            content=content,
            now_ms=now_ms,
            run_id=run_id,
        )

    def _add(
        self,
        tx: Transaction,
        *,
        user_id: str,
        conversation_id: str,
        message_id: str,
        role: MessageRole,
        content: str,
        now_ms: int,
        sender_device_id: str | None = None,
        run_id: str | None = None,
        files: Sequence[Attachment] = (),
    ) -> Message:
        data: dict[str, object] = {
            "message_id": message_id,
            "conversation_id": conversation_id,
            "role": role,
            "content": content,
            "created_at": rfc3339(now_ms),
        }
        if sender_device_id is not None:
            data["sender_device_id"] = sender_device_id
        if files:
            data["files"] = [attachment_row(file) for file in files]
        seq = self._stream.append(
            tx,
            user_id,
            {"type": "message.created", "data": data},
            topic=topics.conversation(conversation_id),
            scope=Scope.CHAT,
            now_ms=now_ms,
        )
        message = Message(
            message_id=message_id,
            conversation_id=conversation_id,
            user_id=user_id,
            role=role,
            content=content,
            seq=seq,
            created_at_ms=now_ms,
            sender_device_id=sender_device_id,
            run_id=run_id,
            files=tuple(files),
        )
        is_awaiting = role is MessageRole.USER and self.is_answered(tx, user_id, conversation_id)
        store.insert_message(tx, message, is_awaiting=is_awaiting)
        store.touch_conversation(tx, conversation_id, now_ms)
        return message

    # -- what agents work on

    def awaiting(self, tx: Transaction) -> list[str]:
        """Conversations with a user message that no run has taken, the longest waiting first."""
        return store.conversations_awaiting(tx)

    def next_unanswered(self, tx: Transaction, conversation_id: str) -> Message | None:
        """The oldest user message that no run has taken."""
        return store.find_next_unanswered(tx, conversation_id)

    def take(self, tx: Transaction, message_id: str, run_id: str) -> bool:
        """Give the message to a run; False when another run has it already."""
        return store.take_message(tx, message_id, run_id)

    def drop_awaiting(self, tx: Transaction, user_id: str) -> None:
        """What this person wrote and no run has taken gets no answer."""
        store.drop_awaiting(tx, user_id, "cancelled", "The person was disabled.")

    def fail(self, tx: Transaction, message_id: str, code: str, text: str) -> None:
        """Note on a user message why it got no answer."""
        store.fail_message(tx, message_id, code, text)

    def transcript(self, tx: Transaction, conversation_id: str, limit: int) -> list[Message]:
        """The last `limit` messages, oldest first."""
        return store.history(tx, conversation_id, store.END, limit)[::-1]

    # -- what people read

    def history(
        self, tx: Transaction, user_id: str, conversation_id: str, before: str | None, limit: int
    ) -> tuple[list[Message], str | None]:
        """A page, newest first, older than the message `before`, and the `before` of the next page.

        Raises `not_found` for an unknown conversation or message, also another user's.
        """
        self.get(tx, user_id, conversation_id)
        start: int | None = store.END
        if before is not None:
            start = store.find_row_id(tx, conversation_id, before)
        if start is None:
            raise Problem(Code.NOT_FOUND, "There is no such message in this conversation.")
        limit = max(1, min(limit, MAX_PAGE))
        rows = store.history(tx, conversation_id, start, limit + 1)
        count = _fitting(rows[:limit])
        return rows[:count], rows[count - 1].message_id if len(rows) > count else None

    def list(
        self, tx: Transaction, user_id: str, cursor: str | None, limit: int
    ) -> tuple["list[tuple[Conversation, Preview | None]]", str | None]:
        """A page, the most recently used first, each with its last message, and the cursor of the next.

        Raises `invalid` for a bad cursor.
        """
        limit = max(1, min(limit, MAX_PAGE))
        rows = store.list_conversations(tx, user_id, _parse_cursor(cursor), limit + 1)
        last = rows[limit - 1][0] if len(rows) > limit else None
        return rows[:limit], None if last is None else f"{last.updated_at_ms}.{last.conversation_id}"

    def latest(self, tx: Transaction, user_id: str, count: int) -> "list[tuple[Conversation, Preview | None]]":
        """The `count` used last, as a snapshot shows them."""
        return store.list_conversations(tx, user_id, None, count)

    def search(self, tx: Transaction, user_id: str, query: str, cursor: str | None) -> tuple["list[Hit]", str | None]:
        """One's own conversations that say `query`, the most recently used first, and the cursor to go on from.

        A page may be empty and have a cursor: each looks at a bounded part. Raises `invalid`.
        """
        begin = _parse_cursor(cursor) or (store.END, "")
        hits, following = search(tx, user_id, checked_query(query), begin)
        return hits, None if following is None else f"{following[0]}.{following[1]}"

    def unread(self, tx: Transaction, user_id: str, seen_seq: int) -> int:
        """Assistant messages that stand in the stream after `seen_seq`."""
        return store.count_unread(tx, user_id, seen_seq)


def _fitting(rows: Sequence[Message]) -> int:
    """How many of the rows a page takes: at least one, and no more bytes than a frame has room for."""
    size = 0
    for count, row in enumerate(rows):
        size += len(row.content.encode("utf-8"))
        if count and size > MAX_PAGE_BYTES:
            return count
    return len(rows)


def _parse_cursor(cursor: str | None) -> tuple[int, str] | None:
    if cursor is None:
        return None
    at, separator, conversation_id = cursor.partition(".")
    if not separator or not at.isascii() or not at.isdigit() or len(at) > 18:
        raise Problem(Code.INVALID, "The cursor is not one that this gateway gave out.")
    return int(at), conversation_id


def _no_conversation() -> Problem:
    return Problem(Code.NOT_FOUND, "There is no such conversation.")
