"""Invites by SMS: what is written in them, how they are sent again, what is known of their way.

An SMS is read by whoever holds the phone, its card or its network. So it is an invitation and nothing more: who claims
with it still needs the operator's yes.
"""

import asyncio
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from entobot.core.clock import to_ms
from entobot.core.errors import Code, Problem
from entobot.core.principal import Principal
from entobot.core.secrets import Entropy, random_code, random_secret
from entobot.notifications.sms_model import Limits, Message, MessageState, Purpose
from entobot.notifications.sms_numbers import Number, parse_number
from entobot.notifications.sms_outbox import Outbox, Posting, Spent, call_off
from entobot.notifications.sms_text import is_gsm7
from entobot.pairing.keys import PairingKeys
from entobot.pairing.model import CODE_LENGTH, SMS_TTL, Invite, Kind, State
from entobot.storage.database import Transaction

MAX_NAME_CHARACTERS = 40
NOBODY = "Entobot"
REPLACED = "it was sent again"


@dataclass(frozen=True, slots=True)
class Secrets:
    """What opens one invite: the link's secret, and a code for an app in which the link does not open."""

    secret: str = field(repr=False)
    code: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Delivery:
    """What is known of an invite's last message. `resend_from_ms` is when it may be sent again, None: not any more."""

    message: Message
    is_real: bool
    sends: int
    resend_from_ms: int | None


@dataclass(frozen=True, slots=True)
class SmsWay:
    """What there is to know before somebody invites by SMS. Costs are millionths of `limits.currency`."""

    provider: str
    is_real: bool
    countries: tuple[str, ...]
    limits: Limits
    spent: Spent


class Texting:
    """`outbox` is None where no SMS is sent."""

    def __init__(self, outbox: Outbox | None, keys: PairingKeys, entropy: Entropy) -> None:
        self._outbox = outbox
        self._keys = keys
        self._entropy = entropy

    @property
    def is_real(self) -> bool:
        """False where what is asked for is not sent."""
        return self._outbox is not None and self._outbox.is_real

    async def number(self, text: str | None) -> Number:
        """Raises Problem: `sms_unavailable`, `number_refused`, `invalid` (none given)."""
        outbox = self.outbox()
        if not text:
            raise Problem(Code.INVALID, "Name the phone_number, as in +14155550123.")
        return await asyncio.to_thread(parse_number, text, outbox.countries)

    def refuse(self, tx: Transaction, principal: Principal, problem: Problem, now_ms: int) -> Problem:
        return self.outbox().refuse(tx, principal.user_id, "number", problem, now_ms)

    def way(self, tx: Transaction, now_ms: int) -> SmsWay | None:
        """None where no SMS is sent."""
        box = self._outbox
        return box and SmsWay(box.provider, box.is_real, box.countries, box.limits, box.spent(tx, now_ms))

    def outbox(self) -> Outbox:
        if self._outbox is None:
            raise Problem(
                Code.SMS_UNAVAILABLE,
                "This gateway sends no SMS. Set one up with [sms] in its settings, or invite by kind 'qr' or 'code'.",
            )
        return self._outbox

    def fresh(self) -> Secrets:
        return Secrets(random_secret(self._entropy), random_code(self._entropy, CODE_LENGTH))

    def marks(self, secrets: Secrets) -> tuple[str, str]:
        """The secret's digest and the code's mark, which are stored."""
        return self._keys.digest_of_secret(secrets.secret), self._keys.mark_of_code(secrets.code)

    def post(
        self, tx: Transaction, invite: Invite, number: Number, text: str, by: str, now_ms: int
    ) -> Message | Problem:
        """Store what is to be sent, with the invite. A refusal is returned: its audit entry stays."""
        posting = Posting(Purpose.INVITE, invite.invite_id, by, number, text, invite.deadline_ms)
        return self.outbox().post(tx, posting, now_ms)

    def resend(self, tx: Transaction, invite: Invite, secrets: Secrets, now_ms: int) -> tuple[Invite, Number] | Problem:
        """The invite with a new secret and new time; the old secret opens nothing any more."""
        if invite.kind is not Kind.SMS:
            raise Problem(Code.INVALID, "Only invites by SMS can be sent again. Make a new one.")
        if invite.state is not State.OPEN:
            return invite.refusal()
        outbox = self.outbox()
        last = outbox.latest(tx, invite.invite_id)
        number = None if last is None else outbox.number_of(tx, last)
        if number is None:
            raise Problem(Code.INVALID, "The number is not kept any more. Make a new invite.")
        assert invite.sent_at_ms is not None
        wait_ms = invite.sent_at_ms + to_ms(outbox.resend_after) - now_ms
        if wait_ms > 0:
            raise Problem(
                Code.RATE_LIMITED,
                "It was sent a moment ago, and SMS may take a minute. Wait before it is sent again.",
                retry_after_s=-(-wait_ms // 1000),
            )
        call_off(tx, invite.invite_id, REPLACED, now_ms)
        digest, mark = self.marks(secrets)
        return invite.resent(digest, mark, now_ms + to_ms(SMS_TTL), now_ms), number

    def delivery(self, tx: Transaction, invite: Invite) -> Delivery | None:
        """What is known of its SMS; None for other invites, and once it is forgotten."""
        outbox = self._outbox
        if invite.kind is not Kind.SMS or outbox is None:
            return None
        message = outbox.latest(tx, invite.invite_id)
        if message is None:
            return None
        may_resend = invite.state is State.OPEN and invite.sent_at_ms is not None
        from_ms = invite.sent_at_ms + to_ms(outbox.resend_after) if may_resend and invite.sent_at_ms else None
        return Delivery(message, message.state is not MessageState.NOT_SENT and outbox.is_real, invite.sends, from_ms)


def invite_text(gateway_name: str, origin: str, url: str, code: str) -> str:
    """What the SMS says. Nothing that an operator typed but the gateway's name: nobody's words go to strangers by it.

    The last line is an origin-bound code (WICG): phones offer it on this origin only, for an app in which the link does
    not open. The short alphabet is kept, since every other letter doubles the price.
    """
    name = " ".join(gateway_name.split())[:MAX_NAME_CHARACTERS]
    host = urlsplit(origin).hostname or ""
    return (
        f"{name if name and is_gsm7(name) else NOBODY}: pair this phone. Open within {SMS_TTL.seconds // 60} minutes:\n"
        f"{url}\n"
        f"Not expected? Ignore it.\n\n"
        f"@{host} #{code}"
    )
