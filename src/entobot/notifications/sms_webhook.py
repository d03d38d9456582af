"""SMS by an address of one's own: each message is posted there, signed as Standard Webhooks says, and so are receipts."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

from entobot.core.clock import Clock, rfc3339
from entobot.core.errors import Code, Problem
from entobot.core.webhook_signing import NotSigned, decode_secret, signed, verify
from entobot.notifications.sms import MAX_REASON_CHARACTERS, Sms, SmsNotTaken, SmsOutcomeUnknown, SmsRefused, Taken
from entobot.notifications.sms_model import MessageState
from entobot.notifications.sms_receipts import Answer as Heard
from entobot.notifications.sms_receipts import Arrived, Receipt
from entobot.notifications.sms_requests import Requests, read_secret
from entobot.web.bodies import parse

SEND = "sms.send"
RECEIPTS = "/api/v1/sms/receipts/webhook"
_LATER = frozenset({408, 425, 429, 503})


class _Data(BaseModel):
    message_id: str = Field(min_length=1, max_length=64)
    state: Literal["delivered", "failed", "sent"]
    reason: str = Field(default="", max_length=MAX_REASON_CHARACTERS, pattern=r"^[ -~]*$")


class _Said(BaseModel):
    sender: str = Field(alias="from", pattern=r"^\+[1-9][0-9]{6,14}$")
    text: str = Field(max_length=2000)


class _Answer(BaseModel):
    data: _Said


class _Body(BaseModel):
    data: _Data


@dataclass(frozen=True, slots=True)
class WebhookAddress:
    url: str
    secret_file: Path
    receipts_origin: str


class WebhookSms:
    """See `SmsSender` and `ReceiptReader`. `webhook-id` is the message's id at each attempt, so that whoever receives
    it can tell a repeat, as that standard asks them to.
    """

    name = "webhook"
    knows_repeats = True
    is_real = True

    def __init__(self, address: WebhookAddress, requests: Requests, clock: Clock) -> None:
        self._address = address
        self._requests = requests
        self._clock = clock

    async def send(self, sms: Sms) -> Taken:
        data = {
            "message_id": sms.message_id,
            "to": sms.to,
            "text": sms.text,
            "send_until": rfc3339(sms.send_until_ms),
            "receipts_url": f"{self._address.receipts_origin}{RECEIPTS}" if self._address.receipts_origin else None,
        }
        now_ms = self._clock.now_ms()
        body = json.dumps(
            {"type": SEND, "timestamp": rfc3339(now_ms), "data": data}, ensure_ascii=False, separators=(",", ":")
        ).encode()
        secret = await self._secret()
        headers = {"content-type": "application/json"} | signed(secret, sms.message_id, now_ms // 1000, body)
        answer = await self._requests.post(self._address.url, body, headers)
        if 200 <= answer.status < 300:
            return Taken()
        if answer.status in _LATER:
            raise SmsNotTaken(f"the receiver takes no more at the moment ({answer.status})")
        if 400 <= answer.status < 500:
            raise SmsRefused(f"the receiver answered {answer.status}", is_stopped=answer.status == 410)
        raise SmsOutcomeUnknown(f"the receiver answered {answer.status}")

    async def read_receipt(self, arrived: Arrived, now_ms: int) -> Receipt:
        key = await self._signed(arrived, now_ms)
        data = _read(parse(arrived.body))
        is_failure = data.state == "failed"
        return Receipt(
            key=key,
            message_id=data.message_id,
            provider_id="",
            state=MessageState(data.state),
            reason=data.reason if is_failure else "",
        )

    async def read_answer(self, arrived: Arrived, now_ms: int) -> Heard:
        key = await self._signed(arrived, now_ms)
        try:
            said = _Answer.model_validate(parse(arrived.body)).data
        except ValidationError:
            raise Problem(Code.INVALID, "An answer has data with from, as in +14155550123, and text.") from None
        return Heard(key, said.sender, said.text)

    async def _signed(self, arrived: Arrived, now_ms: int) -> str:
        """The request's id. Raises Problem."""
        try:
            secret = await self._secret()
        except SmsNotTaken as error:
            raise Problem(Code.INTERNAL, f"The gateway cannot check this: {error}.") from None
        try:
            return verify(secret, arrived.headers, arrived.body, now_ms // 1000)
        except NotSigned as why:
            raise Problem(Code.SIGNATURE_INVALID, f"This is refused: {why}.") from None

    async def _secret(self) -> bytes:
        try:
            return decode_secret(await read_secret(self._address.secret_file))
        except ValueError as error:
            raise SmsNotTaken(f"sms.secret_file holds {error}") from None


def _read(body: Any) -> _Data:
    try:
        return _Body.model_validate(body).data
    except ValidationError:
        text = "A receipt has data with message_id and state (sent, delivered or failed), and perhaps a short reason."
        raise Problem(Code.INVALID, text) from None
