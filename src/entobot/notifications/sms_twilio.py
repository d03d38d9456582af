"""SMS by Twilio: its REST API, and its status callbacks."""

import base64
import hashlib
import hmac
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from entobot.core.clock import Clock
from entobot.core.errors import Code, Problem
from entobot.core.secrets import same
from entobot.notifications.sms import Sms, SmsNotTaken, SmsOutcomeUnknown, SmsRefused, Taken
from entobot.notifications.sms_model import MessageState
from entobot.notifications.sms_receipts import Answer as Heard
from entobot.notifications.sms_receipts import Arrived, Receipt
from entobot.notifications.sms_requests import Answer, Requests, read_secret

HOST = "https://api.twilio.com"
RECEIPTS = "/api/v1/sms/receipts/twilio/"
MAX_FIELDS = 64
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
MAX_VALIDITY_S = 36_000
STOPPED = 21610
"""Its code for a number whose owner said STOP."""
TOO_MANY = 429
REASONS = {
    20003: "Twilio does not take the account or its token",
    20404: "Twilio knows no such account",
    21211: "Twilio knows no such number",
    21408: "the Twilio account may not write to this country",
    21608: "a Twilio trial account writes to verified numbers only",
    STOPPED: "the number's owner said STOP",
    21612: "Twilio cannot send from this sender to this number",
    21614: "this is no mobile number",
    30003: "the phone cannot be reached",
    30004: "the network blocked it",
    30005: "the network knows no such phone",
    30006: "this is a landline, or a network that cannot be reached",
    30007: "the network filtered it as spam",
    30008: "the network gave no reason",
    30034: "the sender is not registered (A2P 10DLC)",
}
_STATES = {
    "delivered": MessageState.DELIVERED,
    "failed": MessageState.FAILED,
    "read": MessageState.DELIVERED,
    "sent": MessageState.SENT,
    "undelivered": MessageState.FAILED,
}


@dataclass(frozen=True, slots=True)
class TwilioAccount:
    """`receipts_origin` is where Twilio reaches this gateway, '' where it does not. `sender` is a number or `MG…`."""

    account: str
    token_file: Path
    sender: str
    receipts_origin: str
    api: str = HOST


class TwilioSms:
    """See `SmsSender` and `ReceiptReader`. Twilio cannot tell a repeat: one request is one message."""

    name = "twilio"
    knows_repeats = False
    is_real = True

    def __init__(self, account: TwilioAccount, requests: Requests, clock: Clock) -> None:
        self._account = account
        self._requests = requests
        self._clock = clock

    async def send(self, sms: Sms) -> Taken:
        account = self._account
        token = await read_secret(account.token_file)
        left_s = (sms.send_until_ms - self._clock.now_ms()) // 1000
        form = {
            "To": sms.to,
            "Body": sms.text,
            "ValidityPeriod": str(min(MAX_VALIDITY_S, max(1, left_s))),  # late, the link is of no use
            "MessagingServiceSid" if account.sender.startswith("MG") else "From": account.sender,
        }
        if account.receipts_origin:
            form["StatusCallback"] = f"{account.receipts_origin}{RECEIPTS}{sms.message_id}"
        basic = base64.b64encode(f"{account.account}:{token}".encode()).decode()
        answer = await self._requests.post(
            f"{account.api}/2010-04-01/Accounts/{quote(account.account)}/Messages.json",
            urlencode(form).encode(),
            {"authorization": f"Basic {basic}", "content-type": "application/x-www-form-urlencoded"},
        )
        return _taken(answer)

    async def read_receipt(self, arrived: Arrived, now_ms: int) -> Receipt:  # noqa: ARG002  it bears no time
        """As Twilio signs: HMAC-SHA1 by the account's token over the URL and the sorted parameters. It bears no time,
        so that a replay is found by what it says: each state is told once.
        """
        fields = await self._signed(arrived)
        status, code = fields.get("MessageStatus", ""), _number(fields.get("ErrorCode", ""))
        state = _STATES.get(status)
        return Receipt(
            key=f"{fields['MessageSid']} {status}",
            message_id=arrived.message_id,
            provider_id=fields["MessageSid"],
            state=state,
            reason=_reason(code) if state is MessageState.FAILED else "",
            is_stopped=code == STOPPED,
        )

    async def read_answer(self, arrived: Arrived, now_ms: int) -> Heard:  # noqa: ARG002  it bears no time
        """`OptOutType` is Twilio's word for what its own list of words made of the text."""
        fields = await self._signed(arrived)
        if not _E164.fullmatch(sender := fields.get("From", "")):
            raise Problem(Code.INVALID, "This comes from no telephone number.")
        opted = fields.get("OptOutType", "")
        return Heard(fields["MessageSid"], sender, opted or fields.get("Body", ""), is_answered=bool(opted))

    async def _signed(self, arrived: Arrived) -> dict[str, str]:
        if not self._account.receipts_origin:
            raise Problem(Code.NOT_FOUND, "This gateway expects no receipts of this provider.")
        fields = _fields(arrived.body)
        try:
            token = await read_secret(self._account.token_file)
        except SmsNotTaken as error:
            raise Problem(Code.INTERNAL, f"The gateway cannot check this: {error}.") from None
        given = arrived.headers.get("x-twilio-signature", "")
        urls = _urls(self._account.receipts_origin, arrived.target)
        if not any(same(given, signature(token, url, fields)) for url in urls):
            raise Problem(Code.SIGNATURE_INVALID, "This is not signed by the Twilio account of this gateway.")
        if fields.get("AccountSid") != self._account.account or not fields.get("MessageSid"):
            raise Problem(Code.INVALID, "This is not of the Twilio account of this gateway.")
        return fields


def signature(token: str, url: str, fields: dict[str, str]) -> str:
    """The `X-Twilio-Signature` of a form."""
    text = url + "".join(name + fields[name] for name in sorted(fields))
    return base64.b64encode(hmac.new(token.encode(), text.encode(), hashlib.sha1).digest()).decode()


def _urls(origin: str, target: str) -> list[str]:
    """Twilio signs some ports and leaves out others; the URL is the configured one, never that of the Host header."""
    parts = urlsplit(origin)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return [f"{parts.scheme}://{host}:{port}{target}", f"{parts.scheme}://{host}{target}"]


def _fields(body: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, strict_parsing=bool(body), max_num_fields=MAX_FIELDS
        )
    except ValueError:  # also: not ASCII, and bytes that are not UTF-8 stay as replacement characters
        raise Problem(Code.INVALID, "The body is no form.") from None
    found = dict(pairs)
    if len(found) != len(pairs) or any("\0" in value for value in found.values()):
        raise Problem(Code.INVALID, "The form names a field twice, or holds a NUL.")
    return found


def _taken(answer: Answer) -> Taken:
    said = _json(answer.body)
    if answer.status == 201 and isinstance(sid := said.get("sid"), str) and sid:
        return Taken(sid[:64])
    code = _number(said.get("code"))
    if answer.status == TOO_MANY:
        raise SmsNotTaken("Twilio takes no more at the moment (429)")
    if 400 <= answer.status < 500:
        raise SmsRefused(_reason(code or answer.status), is_stopped=code == STOPPED)
    raise SmsOutcomeUnknown(f"Twilio answered {answer.status}")


def _reason(code: int) -> str:
    """Our own words: Twilio's name the number."""
    return f"{REASONS.get(code, 'Twilio refused it')} (Twilio {code})"


def _json(body: bytes) -> dict[str, Any]:
    try:
        said = json.loads(body)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}  # pyright: ignore[reportUnknownVariableType]  JSON has no static type


def _number(value: object) -> int:
    text = str(value)
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else 0
