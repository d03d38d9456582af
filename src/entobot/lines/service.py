"""Do what a person asks for by SMS, in the unit that notes that the message was heard.

The number says who it is, and numbers can be forged: nothing here shows anything to anybody but whoever has the phone,
and nothing risky is done. What the agent is asked for is approved in the app as ever; where the settings say so, a call
of low risk also by a code that went to that number.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, tzinfo
from functools import partial

from entobot.accounts.service import Accounts
from entobot.approvals.code_model import Offer, Writer
from entobot.approvals.codes import Codes
from entobot.approvals.model import Decision
from entobot.approvals.service import Approvals, View
from entobot.conversations.model import Message
from entobot.conversations.service import Conversations
from entobot.core.clock import to_ms
from entobot.core.errors import Problem
from entobot.core.permissions import Scope, narrow
from entobot.core.principal import Principal
from entobot.lines import wording
from entobot.lines.model import MAX_COMMANDS, Command, Word, commands_of, when
from entobot.memos.model import Kind, Memo
from entobot.memos.service import Memos
from entobot.notifications.places import Places
from entobot.notifications.sms_model import KEEP_NUMBERS, Purpose
from entobot.notifications.sms_outbox import Outbox, Posting
from entobot.questions.service import Questions
from entobot.storage.database import Database, Transaction

TITLE = "By SMS"
SHOWN = 5
"""Approvals and questions in one answer."""
CODED = 2
"""Approvals with a code in one answer: more would not fit."""
ADDRESS = "sms"
"""Where it comes from, as the audit log has it."""

_KEPT = {Word.NOTE: Kind.NOTE, Word.TODO: Kind.TODO}
_LISTED = {Word.NOTES: Kind.NOTE, Word.REMINDERS: Kind.REMINDER, Word.TODOS: Kind.TODO}

ZoneOf = Callable[[str], Awaitable[tzinfo | None]]


@dataclass(frozen=True, slots=True)
class Parts:
    """`origin` is where the app is, `describe` says who answers in a few words. `codes` None: nothing is decided here."""

    database: Database
    accounts: Accounts
    places: Places
    outbox: Outbox
    memos: Memos
    conversations: Conversations
    approvals: Approvals
    questions: Questions
    zone_of: ZoneOf
    origin: str
    describe: Callable[[], str]
    codes: Codes | None = None


@dataclass(frozen=True, slots=True)
class _Caller:
    writer: Writer
    zone: tzinfo

    @property
    def principal(self) -> Principal:
        return self.writer.principal


class Lines:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._doers: dict[Word, Callable[[Transaction, _Caller, str, int], str]] = {
            Word.ASK: self._ask,
            Word.DONE: self._finish,
            Word.HELP: self._help,
            Word.NO: partial(self._decide, Decision.DENY),
            Word.PENDING: self._pending,
            Word.REMIND: self._remind,
            Word.STATUS: self._status,
            Word.YES: partial(self._decide, Decision.APPROVE),
        }

    async def prepare(self, e164: str, text: str) -> Callable[[Transaction, str, int], None]:
        """What is to be done in the unit that notes that this message was heard, `(tx, key of the message, now)`."""
        at = self._parts
        name = await at.database.read(lambda tx: self._zone_name(tx, e164))
        zone = (await at.zone_of(name)) or UTC if name else UTC
        return lambda tx, key, now_ms: self._do(tx, e164, text, zone, key, now_ms)

    def _zone_name(self, tx: Transaction, e164: str) -> str:
        user_id = self._parts.places.owner_of(tx, e164)
        return "" if user_id is None else self._parts.places.zone_name(tx, user_id)

    def _do(self, tx: Transaction, e164: str, text: str, zone: tzinfo, key: str, now_ms: int) -> None:
        """Nothing for a number that nobody confirmed, and where no more may be sent: what is not answered is not done."""
        at = self._parts
        place = at.places.confirmed_at(tx, e164)
        user = None if place is None else at.accounts.find(tx, place.user_id)
        if (
            place is None
            or user is None
            or Scope.CHAT not in user.scopes
            or not at.outbox.may_answer(tx, e164, user.user_id, now_ms)
        ):
            return
        principal = Principal(user.user_id, narrow({Scope.CHAT}, user.scopes), is_by_sms=True, address=ADDRESS)
        caller = _Caller(Writer(principal, place.place_id, e164, key), zone)
        said = self._all(tx, caller, commands_of(text), now_ms)
        if said:
            self._say(
                tx, e164, user.user_id, f"answer {key}", wording.cut("\n".join(said), wording.MAX_CHARACTERS), now_ms
            )

    def _all(self, tx: Transaction, caller: _Caller, commands: Sequence[Command], now_ms: int) -> list[str]:
        said: list[str] = []
        for command in commands[:MAX_COMMANDS]:
            try:
                said.append(self._one(tx, caller, command, now_ms))
            except Problem as problem:
                said.append(problem.detail)
        if len(commands) > MAX_COMMANDS:
            said.append(f"Only the first {MAX_COMMANDS} were done.")
        return [one for one in said if one]

    def _one(self, tx: Transaction, caller: _Caller, command: Command, now_ms: int) -> str:
        if command.word in _LISTED:
            return self._memos(tx, caller, _LISTED[command.word], now_ms)
        if command.word in _KEPT:
            self._parts.memos.add(tx, caller.principal.user_id, _KEPT[command.word], command.rest, now_ms)
            return "Noted."
        return self._doers[command.word](tx, caller, command.rest, now_ms)

    def _say(self, tx: Transaction, e164: str, user_id: str, subject: str, text: str, now_ms: int) -> None:
        posting = Posting(
            Purpose.ANSWER, subject, user_id, self._parts.outbox.known_number(e164), text, now_ms + to_ms(KEEP_NUMBERS)
        )
        self._parts.outbox.post(tx, posting, now_ms)  # a refusal is audited there; there is nobody else to tell

    # -- what may be asked for

    def _help(self, tx: Transaction, caller: _Caller, rest: str, now_ms: int) -> str:
        del tx, caller, rest, now_ms
        return wording.HELP if self._parts.codes is None else f"{wording.CODES_HELP} {wording.HELP}"

    def _decide(self, decision: Decision, tx: Transaction, caller: _Caller, code: str, now_ms: int) -> str:
        if self._parts.codes is None:
            return wording.NOT_BY_SMS
        done = self._parts.codes.answer(tx, caller.writer, decision, code, now_ms)
        if isinstance(done, Problem):
            return done.detail
        return f"{'Approved' if decision is Decision.APPROVE else 'Denied'}: {done.approval.title}"

    def _ask(self, tx: Transaction, caller: _Caller, rest: str, now_ms: int) -> str:
        """The answer comes when there is one."""
        conversations, user_id = self._parts.conversations, caller.principal.user_id
        if not rest:
            return wording.HELP
        own = conversations.open_own(tx, user_id, _own(user_id), TITLE, now_ms)
        if not conversations.is_answered(tx, user_id, own.conversation_id):
            return wording.NOBODY_ANSWERS
        conversations.send_message(tx, caller.principal, own.conversation_id, rest, now_ms)
        return ""

    def _memos(self, tx: Transaction, caller: _Caller, kind: Kind, now_ms: int) -> str:
        found = self._parts.memos.of_kind(tx, caller.principal.user_id, kind)
        texts = [
            one.text if one.due_at_ms is None else f"{wording.at_time(one.due_at_ms, caller.zone, now_ms)} {one.text}"
            for one in found
        ]
        title = {Kind.NOTE: "Notes", Kind.REMINDER: "Reminders", Kind.TODO: "To do"}[kind]
        return wording.numbered(title, texts, f"{title}: none.")

    def _finish(self, tx: Transaction, caller: _Caller, rest: str, now_ms: int) -> str:
        del now_ms
        found = self._parts.memos.of_kind(tx, caller.principal.user_id, Kind.TODO)
        index = int(rest) if rest.isascii() and rest.isdigit() and len(rest) < 5 else 0
        if not 1 <= index <= len(found):
            return "Which one? TODOS shows their numbers, as in: DONE 1."
        one = found[index - 1]
        self._parts.memos.remove(tx, caller.principal.user_id, one.memo_id)
        return f"Done: {one.text}"

    def _remind(self, tx: Transaction, caller: _Caller, rest: str, now_ms: int) -> str:
        found = when(rest, caller.zone, now_ms)
        if found is None:
            return wording.UNKNOWN_TIME
        at_ms, text = found
        self._parts.memos.add(tx, caller.principal.user_id, Kind.REMINDER, text, now_ms, at_ms)
        return f"I will remind you at {wording.at_time(at_ms, caller.zone, now_ms)} ({caller.zone}): {text}"

    def _status(self, tx: Transaction, caller: _Caller, rest: str, now_ms: int) -> str:
        del rest, now_ms
        at, user_id = self._parts, caller.principal.user_id
        approvals, questions = self._waiting(tx, caller)
        reminders = len(at.memos.of_kind(tx, user_id, Kind.REMINDER))
        todos = len(at.memos.of_kind(tx, user_id, Kind.TODO))
        return (
            f"{at.describe()} Waiting for you: {len(approvals)} to approve, {len(questions)} questions. "
            f"{reminders} reminders, {todos} to do."
        )

    def _pending(self, tx: Transaction, caller: _Caller, rest: str, now_ms: int) -> str:
        del rest
        approvals, questions = self._waiting(tx, caller)
        texts: list[str] = []
        coded = 0
        for view in approvals[:SHOWN]:
            offer = self._offer(tx, caller, view, now_ms) if coded < CODED else None
            coded += offer is not None
            until = wording.at_time(view.approval.expires_at_ms, caller.zone, now_ms)
            known = f"{view.approval.title} ({view.approval.risk} risk, until {until})"
            texts.append(known if offer is None else offer.text(now_ms))
        texts += [f"Question: {title}" for title in questions[:SHOWN]]
        more = f"\nIn the app: {self._parts.origin}/approvals" if approvals else ""
        return wording.numbered("Waiting for you", texts, "Nothing waits for you.") + more

    def _offer(self, tx: Transaction, caller: _Caller, view: View, now_ms: int) -> Offer | None:
        codes, by = self._parts.codes, caller.writer
        if codes is None:
            return None
        return codes.offer(tx, by.principal.user_id, by.place_id, view.approval.approval_id, now_ms)

    def _waiting(self, tx: Transaction, caller: _Caller) -> tuple[list[View], list[str]]:
        at = self._parts
        approvals = at.approvals.pending(tx, caller.principal.user_id, 50)
        questions, _ = at.questions.list(tx, caller.principal, only_open=True)
        return approvals, [one.title or one.text for one in questions]

    # -- what comes later

    def answered(self, tx: Transaction, message: Message, now_ms: int) -> None:
        """The agent's answer in the conversation that is led by SMS goes there too."""
        own = self._parts.conversations.find_own(tx, message.user_id, _own(message.user_id))
        if own is None or own.conversation_id != message.conversation_id:
            return
        e164 = self._parts.places.number_of(tx, message.user_id)
        if e164 is not None:
            link = f"{self._parts.origin}/chat/{message.conversation_id}"
            text = wording.cut(message.content, wording.MAX_CHARACTERS, link)
            self._say(tx, e164, message.user_id, message.message_id, text, now_ms)

    def reminded(self, tx: Transaction, memo: Memo, now_ms: int) -> None:
        """Who has a number is told there, whatever their rules say of other news: they asked for it."""
        e164 = self._parts.places.number_of(tx, memo.user_id)
        if e164 is not None:
            text = wording.cut(f"Reminder: {memo.text}", wording.MAX_CHARACTERS)
            self._say(tx, e164, memo.user_id, memo.memo_id, text, now_ms)


def _own(user_id: str) -> str:
    """Stands for a device in the conversation that is a person's by SMS."""
    return f"sms {user_id}"
