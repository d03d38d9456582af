"""Providers of SMS on loopback: Twilio's and SNS's HTTP APIs, and a webhook. They check what they are sent as the real
ones do, with code that the gateway does not use for it, and sign their receipts.
"""

import base64
import hashlib
import hmac
import json
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

ACCOUNT, TOKEN = "AC" + "0123456789abcdef" * 2, "twilio-token-of-a-test"
KEY_ID, AWS_SECRET, REGION = "AKIAEXAMPLEOFATEST", "aws/secret+of/a/test", "eu-central-1"
WEBHOOK_SECRET = bytes(range(32))
SENDER = "+14155550100"
SECRETS = {
    "sns": AWS_SECRET,
    "twilio": TOKEN,
    "webhook": f"whsec_{base64.b64encode(WEBHOOK_SECRET).decode()}",
}


class Carrier:
    """One provider. `script` says what comes next: `ok` (when it is empty), `busy`, `error`, `garbage`, `hang up` after
    the message was taken, `redirect`, `refuse`, `stop` (the number's owner said STOP).
    """

    def __init__(self, provider: str) -> None:
        self.provider = provider
        self.sent: list[tuple[str, str]] = []
        self.ids: list[str] = []
        """What the sender calls its messages, where it says so; else what the provider answered."""
        self.callbacks: list[str] = []
        self.faults: list[str] = []
        self.script: list[str] = []
        self.arrived = threading.Condition()
        self._holding: tuple[threading.Event, threading.Event] | None = None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def settings(self) -> dict[str, Any]:
        """Of `[sms]`, apart from the file with the secret."""
        common = {"provider": self.provider, "countries": ["US"], "url": self.url}
        if self.provider == "twilio":
            return common | {"account": ACCOUNT, "sender": SENDER}
        return common | ({"account": KEY_ID, "region": REGION} if self.provider == "sns" else {})

    def hold(self) -> tuple[threading.Event, threading.Event]:
        """The next answers wait for the second event; the first says that a message has come."""
        self._holding = (threading.Event(), threading.Event())
        return self._holding

    def stop(self) -> None:
        if self._holding is not None:
            self._holding[1].set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def until(self, count: int, within_s: float = 60.0) -> list[tuple[str, str]]:
        """Blocks."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.sent) >= count, within_s), (self.sent, self.faults)
        return self.sent

    # -- what the provider checks

    def check(self, path: str, headers: dict[str, str], body: bytes) -> tuple[str, str] | None:
        """Number and text of a request that is right."""
        found = {"sns": self._sns, "twilio": self._twilio, "webhook": self._webhook}[self.provider](path, headers, body)
        if found is None:
            self.faults.append(f"{path} {headers} {body!r}")
        return found

    def _twilio(self, path: str, headers: dict[str, str], body: bytes) -> tuple[str, str] | None:
        form = _form(body)
        longest_s = 900 if "/pair" in form.get("Body", "") else 36_000  # an invite's link, and what Twilio takes at all
        wanted = "Basic " + base64.b64encode(f"{ACCOUNT}:{TOKEN}".encode()).decode()
        is_right = (
            path == f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json"
            and headers.get("authorization") == wanted
            and form.get("From") == SENDER
            and 1 <= int(form.get("ValidityPeriod", "0")) <= longest_s
        )
        self.callbacks.append(form.get("StatusCallback", ""))
        return (form["To"], form["Body"]) if is_right else None

    def _sns(self, path: str, headers: dict[str, str], body: bytes) -> tuple[str, str] | None:
        form = _form(body)
        _, _, given = headers.get("authorization", "").partition("Signature=")
        signed = {name: headers[name] for name in ("content-type", "host", "x-amz-date")}
        request = AWSRequest(method="POST", url=f"http://{headers['host']}{path}", data=body, headers=signed)
        request.context["timestamp"] = headers["x-amz-date"]
        auth = SigV4Auth(Credentials(KEY_ID, AWS_SECRET), "sns", REGION)
        wanted = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
        is_right = (
            wanted == given
            and f"Credential={KEY_ID}/{headers['x-amz-date'][:8]}/{REGION}/sns/" in headers["authorization"]
            and (form.get("Action"), form.get("Version")) == ("Publish", "2010-03-31")
            and form.get("MessageAttributes.entry.1.Name") == "AWS.SNS.SMS.SMSType"
        )
        return (form["PhoneNumber"], form["Message"]) if is_right else None

    def _webhook(self, _path: str, headers: dict[str, str], body: bytes) -> tuple[str, str] | None:
        name, at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
        if headers.get("webhook-signature") != f"v1,{_webhook_digest(name, at, body)}":
            return None
        data = json.loads(body)["data"]
        self.callbacks.append(data["receipts_url"] or "")
        if name in self.ids:
            return "", ""  # a repeat: known by its id, and not sent again
        self.ids.append(name)
        return data["to"], data["text"]

    def take(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes] | None:
        """Status and body of the answer; None: none comes."""
        found = self.check(path, headers, body)
        if found is None:
            return 403, b"{}"
        act = self.script.pop(0) if self.script else "ok"
        if act in ("ok", "hang up", "garbage", "error") and found[0]:
            with self.arrived:
                self.sent.append(found)
                self.arrived.notify_all()
        return {
            "busy": (429, self._error("Throttling", 20429)),
            "error": (500, self._error("InternalError", 20500)),
            "garbage": (200, b"\xff" * 70_000),
            "hang up": None,
            "ok": (0, b""),
            "redirect": (307, b""),
            "refuse": (400, self._error("InvalidParameter", 21211)),
            "stop": (410 if self.provider == "webhook" else 400, self._error("OptedOut", 21610)),
        }[act]

    def _error(self, word: str, number: int) -> bytes:
        if self.provider == "sns":
            return f"<ErrorResponse><Error><Code>{word}</Code><Message>+14155550123</Message></Error></ErrorResponse>".encode()
        return json.dumps({"code": number, "message": "The number +14155550123 is not right"}).encode()

    def wait(self) -> None:
        holding, self._holding = self._holding, None
        if holding is not None:
            holding[0].set()
            holding[1].wait(60.0)

    def answer_ok(self) -> tuple[int, bytes]:
        sid = f"SM{len(self.sent):032x}"
        if self.provider == "webhook":
            return 202, b"{}"
        self.ids.append(sid)
        if self.provider == "twilio":
            return 201, json.dumps({"sid": sid, "status": "queued"}).encode()
        return (
            200,
            f"<PublishResponse><PublishResult><MessageId>{sid}</MessageId></PublishResult></PublishResponse>".encode(),
        )

    # -- receipts

    def receipt(self, url: str, state: str, *, message_id: str = "", **changes: Any) -> httpx.Request:
        """A signed receipt to the address that the gateway gave."""
        if self.provider == "twilio":
            form = {"AccountSid": ACCOUNT, "MessageSid": self.ids[-1], "MessageStatus": state, "To": "+1"} | changes
            return self.signed_form(url, form)
        body = json.dumps({"type": "sms.receipt", "data": {"message_id": message_id, "state": state}}).encode()
        name, at = changes.get("name", f"receipt {state}"), str(changes["at_s"])
        headers = {
            "webhook-id": name,
            "webhook-timestamp": at,
            "webhook-signature": f"v1,{_webhook_digest(name, at, body)}",
        }
        return httpx.Request("POST", url, content=body, headers=headers | {"content-type": "application/json"})

    def answer(
        self, origin: str, text: str, *, name: str, at_s: int = 0, sender: str = "+14155550123"
    ) -> httpx.Request:
        """What somebody sent by SMS, handed on. `name` is the provider's id of it."""
        url = f"{origin}/api/v1/sms/answers/{self.provider}"
        if self.provider == "twilio":
            return self.signed_form(url, {"AccountSid": ACCOUNT, "MessageSid": name, "From": sender, "Body": text})
        body = json.dumps({"type": "sms.received", "data": {"from": sender, "text": text}}).encode()
        signed = {"webhook-id": name, "webhook-timestamp": str(at_s)}
        signed["webhook-signature"] = f"v1,{_webhook_digest(name, str(at_s), body)}"
        return httpx.Request("POST", url, content=body, headers=signed | {"content-type": "application/json"})

    @staticmethod
    def signed_form(url: str, form: dict[str, str], token: str = TOKEN) -> httpx.Request:
        text = url + "".join(f"{name}{form[name]}" for name in sorted(form))
        digest = base64.b64encode(hmac.new(token.encode(), text.encode(), hashlib.sha1).digest()).decode()
        headers = {"content-type": "application/x-www-form-urlencoded", "x-twilio-signature": digest}
        return httpx.Request("POST", url, content=urlencode(form).encode(), headers=headers)


def link_of(text: str) -> tuple[str, str]:
    """Invite and secret of the link in a text."""
    (url,) = [line for line in text.splitlines() if line.startswith("https://")]
    parts = parse_qs(urlsplit(url).fragment)
    return parts["i"][0], parts["s"][0]


def code_of(text: str) -> str:
    """The code in its last line."""
    return text.rpartition("#")[2]


def _webhook_digest(name: str, at: str, body: bytes) -> str:
    return base64.b64encode(hmac.new(WEBHOOK_SECRET, f"{name}.{at}.".encode() + body, hashlib.sha256).digest()).decode()


def _form(body: bytes) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(body.decode(), strict_parsing=True).items()}


def _handler(carrier: Carrier) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = carrier.take(self.path, headers, body)
            if answer is None:
                self.close_connection = True
                return
            if answer[0] == 0:
                answer = carrier.answer_ok()
                carrier.wait()
            status, said = answer
            self.send_response(status)
            if status == 307:
                self.send_header("location", f"{carrier.url}/elsewhere")
            self.send_header("content-length", str(len(said)))
            with suppress(OSError):  # whoever asked may be gone
                self.end_headers()
                self.wfile.write(said)

        def log_message(self, format: str, *args: Any) -> None: ...  # noqa: A002  the library's name

    return Handler
