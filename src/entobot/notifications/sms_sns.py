"""SMS by Amazon SNS: `Publish` of its Query API, signed by AWS Signature Version 4.

SNS tells nobody over HTTP whether a phone got a message: deliveries stand in CloudWatch. So `accepted` is the last that
is known here.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit

from entobot.core.clock import Clock
from entobot.notifications.aws_signing import AwsKey, signed_headers
from entobot.notifications.sms import Sms, SmsNotTaken, SmsOutcomeUnknown, SmsRefused, Taken
from entobot.notifications.sms_requests import Answer, Requests, read_secret

_MESSAGE_ID = re.compile(rb"<MessageId>([0-9a-zA-Z-]{1,64})</MessageId>")
_CODE = re.compile(rb"<Code>([A-Za-z.]{1,64})</Code>")
_BUSY = frozenset({"ServiceUnavailable", "Throttled", "Throttling", "ThrottledException"})
STOPPED = frozenset({"OptedOut", "OptedOutException"})


@dataclass(frozen=True, slots=True)
class SnsAccount:
    """`sender` is the sender id that phones show, '' for none. `api` '' is the region's own address."""

    key_id: str
    secret_file: Path
    region: str
    sender: str
    api: str = ""


class SnsSms:
    """See `SmsSender`. SNS cannot tell a repeat: one request is one message."""

    name = "sns"
    knows_repeats = False
    is_real = True

    def __init__(self, account: SnsAccount, requests: Requests, clock: Clock) -> None:
        self._account = account
        self._requests = requests
        self._clock = clock
        self._url = (account.api or f"https://sns.{account.region}.amazonaws.com") + "/"

    async def send(self, sms: Sms) -> Taken:
        account = self._account
        secret = await read_secret(account.secret_file)
        body = urlencode(_form(sms, account.sender), quote_via=quote).encode()
        headers = signed_headers(
            AwsKey(account.key_id, secret, account.region, "sns"),
            host=urlsplit(self._url).netloc,
            body=body,
            now_ms=self._clock.now_ms(),
        )
        return _taken(await self._requests.post(self._url, body, headers))


def _form(sms: Sms, sender: str) -> dict[str, str]:
    attributes = {"AWS.SNS.SMS.SMSType": "Transactional"}
    if sender:
        attributes["AWS.SNS.SMS.SenderID"] = sender
    form = {"Action": "Publish", "Version": "2010-03-31", "PhoneNumber": sms.to, "Message": sms.text}
    for number, (name, value) in enumerate(attributes.items(), 1):
        entry = f"MessageAttributes.entry.{number}"
        form |= {f"{entry}.Name": name, f"{entry}.Value.DataType": "String", f"{entry}.Value.StringValue": value}
    return form


def _taken(answer: Answer) -> Taken:
    found = _MESSAGE_ID.search(answer.body)
    if answer.status == 200 and found is not None:
        return Taken(found[1].decode())
    code = _CODE.search(answer.body)
    said = "no code" if code is None else code[1].decode()
    if said in _BUSY:
        raise SmsNotTaken(f"SNS takes no more at the moment ({said})")
    if 400 <= answer.status < 500:
        raise SmsRefused(f"SNS refused it ({said})", is_stopped=said in STOPPED)
    raise SmsOutcomeUnknown(f"SNS answered {answer.status} ({said})")
