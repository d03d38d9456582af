"""What a provider tells later: that the network has a message, that the phone has it, that it failed; and what people
answer, of which STOP and START are heard.

Anybody can call these addresses. Nothing is looked up before the signature is known to be right; what is refused is
counted, and told to the audit log once in ten minutes for a network and reason.
"""

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from entobot.audit.events import AuditEvent, Outcome
from entobot.audit.service import Audit, Fact
from entobot.core.clock import Clock, to_ms
from entobot.core.errors import Code, Problem
from entobot.notifications import sms_store as store
from entobot.notifications.sms_model import RECEIPTS_WITHIN, Message, MessageState
from entobot.notifications.sms_outbox import Outbox, call_off_number
from entobot.notifications.sms_sending import Sending
from entobot.signin.refusals import Refusals, Refused
from entobot.storage.database import Database, Transaction
from entobot.telemetry.meters import Meters
from entobot.telemetry.metrics import Metric


@dataclass(frozen=True, slots=True)
class Arrived:
    """A request as it came in: `target` is path and query, `headers` have lower-case names."""

    target: str
    headers: Mapping[str, str]
    body: bytes
    message_id: str = ""


@dataclass(frozen=True, slots=True)
class Receipt:
    """`key` is the same for a repeat of the same receipt. `state` None: it says nothing that is not known."""

    key: str
    message_id: str
    provider_id: str
    state: MessageState | None
    reason: str = ""
    is_stopped: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """An SMS that somebody sent here. `key` is the same for a repeat; `sender` is E.164. `is_answered`: the carrier has
    answered it itself.
    """

    key: str
    sender: str = field(repr=False)
    text: str = field(repr=False)
    is_answered: bool = False


STOP_WORDS = frozenset({"STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT", "REVOKE", "OPTOUT"})
START_WORDS = frozenset({"START", "UNSTOP", "YES"})
"""The carriers' own: a message that is one of them and nothing else."""


Hear = Callable[[str, str], Awaitable[Callable[[Transaction, str, int], None]]]
"""Port: read what a number, E.164, has written, and say what to do in the unit that notes that it was heard: `(tx, key
of the message, now)`. Runs before the unit, and reads only."""


class ReceiptReader(Protocol):
    """An adapter that can tell its provider's requests from others."""

    async def read_receipt(self, arrived: Arrived, now_ms: int) -> Receipt:
        """Raises Problem: `signature_invalid` for what is not the provider's, `invalid` for what makes no sense."""
        ...

    async def read_answer(self, arrived: Arrived, now_ms: int) -> Answer:
        """As above."""
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    database: Database
    clock: Clock
    audit: Audit
    meters: Meters
    sending: Sending
    outbox: Outbox
    readers: Mapping[str, ReceiptReader] = field(default_factory=dict[str, ReceiptReader])


class Receipts:
    def __init__(self, parts: Parts) -> None:
        self._database, self._clock, self._audit = parts.database, parts.clock, parts.audit
        self._sending, self._outbox, self._readers = parts.sending, parts.outbox, parts.readers
        self.hear_text: Hear | None = None
        self._refusals = Refusals()
        self._counted = {
            one: parts.meters.counter(Metric.SMS_RECEIPTS, outcome=one) for one in ("refused", "repeated", "taken")
        }

    async def take(self, provider: str, arrived: Arrived, address: str) -> None:
        """Move the message that a receipt is about. Raises Problem: `not_found`, `signature_invalid`, `invalid`,
        `receipt_repeated` (taken before, or replayed: nothing has changed).
        """
        await self._counting(self._take(provider, arrived), address)

    async def hear(self, provider: str, arrived: Arrived, address: str) -> None:
        """Honour STOP and START; all else is for `hear_text`, where commands are switched on. Raises as `take`."""
        await self._counting(self._hear(provider, arrived), address)

    async def _counting(self, work: Coroutine[Any, Any, None], address: str) -> None:
        try:
            await work
        except Problem as problem:
            is_repeat = problem.code is Code.RECEIPT_REPEATED
            self._counted["repeated" if is_repeat else "refused"].add()
            await self._note(address, problem.code)
            raise
        self._counted["taken"].add()

    def _reader(self, provider: str) -> ReceiptReader:
        reader = self._readers.get(provider)
        if reader is None:
            raise Problem(Code.NOT_FOUND, "This gateway expects nothing of this provider.")
        return reader

    async def _hear(self, provider: str, arrived: Arrived) -> None:
        answer = await self._reader(provider).read_answer(arrived, self._clock.now_ms())
        word, now_ms = answer.text.strip().upper(), self._clock.now_ms()
        is_for_carrier = answer.is_answered or word in STOP_WORDS | START_WORDS
        do = None if self.hear_text is None or is_for_carrier else await self.hear_text(answer.sender, answer.text)

        def unit(tx: Transaction) -> Problem | None:
            if not store.spend_receipt(tx, f"{provider} from a phone {answer.key}", now_ms):
                return Problem(Code.RECEIPT_REPEATED, "This message was heard before. Nothing has changed.")
            mark = self._outbox.mark(answer.sender)
            event = None
            if word in STOP_WORDS and store.stop(tx, mark, now_ms):
                call_off_number(tx, mark, "its number said STOP", now_ms)
                event = AuditEvent.SMS_STOPPED
            if word in START_WORDS and store.start(tx, mark):
                event = AuditEvent.SMS_STARTED
            if event is not None:
                self._audit.record(tx, event, now_ms=now_ms, personal={"phone_number": answer.sender})
            if do is not None:
                do(tx, answer.key, now_ms)
            return None

        problem = await self._database.write(unit)
        if problem is not None:
            raise problem

    async def _take(self, provider: str, arrived: Arrived) -> None:
        receipt = await self._reader(provider).read_receipt(arrived, self._clock.now_ms())
        now_ms = self._clock.now_ms()

        def unit(tx: Transaction) -> Problem | None:
            message = store.find_message(tx, receipt.message_id)
            if message is None or message.provider != provider or _is_other(message, receipt):
                return Problem(Code.NOT_FOUND, "There is no such message.")
            if now_ms > message.made_at_ms + to_ms(RECEIPTS_WITHIN):
                return Problem(Code.NOT_FOUND, "This message is too old for receipts.")
            if not store.spend_receipt(tx, f"{provider} {receipt.key}", now_ms):
                return Problem(Code.RECEIPT_REPEATED, "This receipt was taken before. Nothing has changed.")
            self._apply(tx, message, receipt, now_ms)
            return None

        problem = await self._database.write(unit)
        if problem is not None:
            raise problem

    def _apply(self, tx: Transaction, message: Message, receipt: Receipt, now_ms: int) -> None:
        if receipt.is_stopped and (mark := store.mark_of(tx, message.message_id)) and store.stop(tx, mark, now_ms):
            self._audit.record(tx, AuditEvent.SMS_STOPPED, now_ms=now_ms, subject=message.message_id)
        after = (
            None if receipt.state is None else message.told(receipt.state, receipt.reason, receipt.provider_id, now_ms)
        )
        if after is not None and store.move(tx, message, after):
            self._sending.tell(tx, after, now_ms)

    async def settle(self) -> None:
        """Tell of refusals that were only counted. For a periodic sweep."""
        due = self._refusals.take_due(self._clock.now_ms())
        if due:
            await self._write(due)

    async def _note(self, address: str, code: Code) -> None:
        noted = self._refusals.note("", address, code, self._clock.now_ms())
        if noted is not None:
            await self._write([noted])

    async def _write(self, refused: list[Refused]) -> None:
        now_ms = self._clock.now_ms()

        def unit(tx: Transaction) -> None:
            for one in refused:
                facts: dict[str, Fact] = {"code": one.reason, "count": one.count}
                self._audit.record(
                    tx,
                    AuditEvent.SMS_RECEIPT_REFUSED,
                    now_ms=now_ms,
                    outcome=Outcome.DENIED,
                    facts=facts,
                    personal={"network": one.network},
                )

        await self._database.write(unit)


def _is_other(message: Message, receipt: Receipt) -> bool:
    """A receipt of the provider's own account, but of another message."""
    return bool(message.provider_id and receipt.provider_id and message.provider_id != receipt.provider_id)
