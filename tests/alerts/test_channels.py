"""What arrives at a real mail server and a real HTTP receiver, and what cannot be made to."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from entobot.alerts.channel import ChannelFailed, Notice
from entobot.alerts.channel_email import compose
from entobot.alerts.model import Alert, MessageKind, MessageState, State
from entobot.alerts.service import new_message
from entobot.alerts.wording import single
from entobot.app.alerting import channel_of
from entobot.config_alerts import AlertChannel
from entobot.core.alert_rules import RuleId, Severity
from entobot.core.errors import StartupRefused
from entobot.core.ids import RandomIds
from entobot.outgoing import mail
from tests.support.receivers import HttpReceiver, make_certificate
from tests.support.served import Served
from tests.support.smtp import MailServer
from tests.support.time import ManualClock, SeededEntropy

CLOCK = ManualClock()
NOTICE = Notice(
    "alm_1", MessageKind.FIRED, CLOCK.now_ms(), "[Kitchen] critical: Größe", ("Line", "", "."), {"alert": {"n": 1}}
)
SECRET = bytes(range(32))


@pytest.fixture(autouse=True)
def _nothing_blocks(loop_guard: object) -> None:  # pyright: ignore[reportUnusedFunction]  taken by pytest
    """Files, names and TLS stay off the event loop."""


@pytest.fixture
async def server(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[MailServer]:
    server = await (await asyncio.to_thread(MailServer, tmp_path, **getattr(request, "param", {}))).start()
    yield server
    await server.stop()


def email(server: MailServer, **given: Any) -> AlertChannel:
    values = {
        "name": "post", "kind": "email", "host": "127.0.0.1", "port": server.port, "sender": "gate@example.org",
        "to": ["ops@example.org", "boss@example.org"], "authority": server.certificate,
    }  # fmt: skip
    return AlertChannel.model_validate(values | given)


async def send(settings: AlertChannel, notice: Notice = NOTICE) -> None:
    channel = await asyncio.to_thread(channel_of, settings, CLOCK)
    await channel.send(notice)


async def test_mail_arrives_encrypted_with_what_a_person_needs(server: MailServer, tmp_path: Path) -> None:
    password = tmp_path / "password"
    await asyncio.to_thread(password.write_text, "right\n")
    await send(email(server, user="gate", password_file=password))
    (mail,) = server.mails
    assert (mail["subject"], mail["from"]) == ("[Kitchen] critical: Größe", "gate@example.org")
    assert mail["message-id"] == "<alm_1@example.org>"
    assert mail["auto-submitted"] == "auto-generated"
    assert mail.get_content().replace("\r\n", "\n") == "Line\n\n.\n"
    assert server.recipients == [["ops@example.org", "boss@example.org"]]
    assert (server.was_encrypted, server.logins) == ([True], [("gate", "right")])


@pytest.mark.parametrize("server", [{"is_sealed": True}], indirect=True)
async def test_mail_arrives_over_tls_from_the_beginning(server: MailServer) -> None:
    await send(email(server, security="tls"))
    assert server.was_encrypted == [True]


@pytest.mark.parametrize("server", [{"has_starttls": False}], indirect=True)
async def test_nothing_is_sent_in_the_clear_where_starttls_is_missing(server: MailServer, tmp_path: Path) -> None:
    password = tmp_path / "password"
    await asyncio.to_thread(password.write_text, "right")
    with pytest.raises(ChannelFailed):
        await send(email(server, user="gate", password_file=password))
    assert (server.mails, server.logins) == ([], [])


@pytest.mark.parametrize("server", [{"is_sealed": True}, {"is_sealed": False}], indirect=True)
async def test_a_server_that_cannot_prove_its_name_gets_nothing(server: MailServer, tmp_path: Path) -> None:
    other = tmp_path / "other"
    await asyncio.to_thread(other.mkdir)
    certificate, _ = await asyncio.to_thread(make_certificate, other)
    security = "tls" if server._is_sealed else "starttls"
    for given_ in ({"authority": certificate}, {"host": "localhost"}):
        with pytest.raises(ChannelFailed, match="certificate or TLS"):
            await send(email(server, security=security, **given_))
    assert server.mails == []


async def test_the_reason_says_what_the_server_said_and_no_secret(server: MailServer, tmp_path: Path) -> None:
    password = tmp_path / "password"
    await asyncio.to_thread(password.write_text, "hunter2")
    with pytest.raises(ChannelFailed, match=r"^the server answered 535$"):
        await send(email(server, user="gate", password_file=password))
    server.answers = [452]
    with pytest.raises(ChannelFailed, match=r"^the server answered 452$"):
        await send(email(server))
    server.refuses = {"boss@example.org"}
    with pytest.raises(ChannelFailed, match=r"^the server refused 1 of the addresses \(550\)$"):
        await send(email(server))


async def test_a_server_that_says_nothing_is_left_in_time(server: MailServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.is_mute = True
    monkeypatch.setattr(mail, "TIMEOUT_S", 0.2)
    with pytest.raises(ChannelFailed, match="did not take it within"):
        await send(email(server))


@pytest.mark.parametrize("security", ["none", "starttls"])
async def test_a_server_whose_reply_has_no_end_is_left_before_it_fills_the_memory(security: str) -> None:
    taken = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal taken
        del reader
        try:
            while taken < 100 * 1024 * 1024:
                writer.write(b"220-" + b"x" * 8000 + b"\r\n")
                await writer.drain()
                taken += 8006
        except OSError:
            return

    async with Served(talk) as server:
        endless = {"kind": "email", "name": "post", "host": "127.0.0.1", "port": server.port, "security": security}
        with pytest.raises(ChannelFailed, match="cannot be used"):
            await send(AlertChannel.model_validate(endless | {"sender": "gate@example.org", "to": ["ops@example.org"]}))
    assert taken < 20 * 1024 * 1024, "what the buffers of both sides hold"


@given(st.text(max_size=200), st.text(max_size=60))
def test_no_text_becomes_a_header_of_its_own(text: str, subject: str) -> None:
    alert = Alert(
        "alr_1", RuleId.DEVICE_PAIRED, subject, text, Severity.INFO, State.FIRING, 1, 1, 1, {"subject": subject + text}
    )
    message = new_message(RandomIds(CLOCK, SeededEntropy()), "alr_1", "post", MessageKind.FIRED, CLOCK.now_ms())
    notice = single(message, alert, f"{text}\r\nBcc: evil@example.org", "https://gate.example")
    made = compose(notice, "gate@example.org", ("ops@example.org",))
    head = bytes(made).partition(b"\r\n\r\n")[0].decode("ascii")
    names = [line.partition(":")[0] for line in head.split("\r\n") if not line.startswith((" ", "\t"))]
    assert sorted(names) == sorted(
        [
            "Subject", "From", "To", "Date", "Message-ID", "Auto-Submitted", "Content-Type", "MIME-Version",
            "Content-Transfer-Encoding",
        ]
    )  # fmt: skip
    assert made["to"] == "ops@example.org"


def test_a_header_that_would_end_its_line_is_refused() -> None:
    with pytest.raises(ValueError, match=r"linefeed|carriage"):
        compose(replace(NOTICE, headline="x\r\nBcc: evil@example.org"), "gate@example.org", ("ops@example.org",))


@pytest.mark.parametrize(
    "address",
    ["", "ops", "@example.org", "ops@", "ops@example.org\nBcc: x@y", "a b@example.org", "<ops@example.org>",
     "Ops <ops@example.org>", "ops@example.org,x@example.org", "öps@example.org"],
)  # fmt: skip
def test_what_is_no_address_is_refused_by_the_settings(address: str) -> None:
    with pytest.raises(ValidationError):
        AlertChannel(name="post", kind="email", host="mail.example", sender="gate@example.org", to=(address,))


@pytest.mark.parametrize(
    "given_",
    [
        {"kind": "webhook", "url": "http://hooks.example.org/x", "secret_file": "/x"},
        {"kind": "webhook", "url": "https://user:password@hooks.example.org/x", "secret_file": "/x"},
        {"kind": "webhook", "url": "https://hooks.example.org/x"},
        {"kind": "webhook", "url": "file:///etc/passwd", "secret_file": "/x"},
        {
            "kind": "email",
            "host": "mail.example.org",
            "sender": "a@example.org",
            "to": "b@example.org",
            "security": "none",
        },
        {"kind": "email", "host": "mail.example.org", "sender": "a@example.org", "to": "b@example.org", "user": "a"},
        {"kind": "email", "host": "mail.example.org", "sender": "a@example.org"},
    ],
)
def test_settings_that_are_not_safe_or_not_whole_are_refused(given_: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        AlertChannel.model_validate({"name": "there"} | given_)


# -- webhooks


@pytest.fixture
async def receiver() -> AsyncIterator[HttpReceiver]:
    receiver = await HttpReceiver().start()
    yield receiver
    await receiver.stop()


async def hook(receiver: HttpReceiver, tmp_path: Path, secret: str | None = None) -> AlertChannel:
    file = tmp_path / "secret"
    await asyncio.to_thread(file.write_text, secret or "whsec_" + base64.b64encode(SECRET).decode())
    url = f"http://127.0.0.1:{receiver.port}/in"
    return AlertChannel(name="hook", kind="webhook", url=url, secret_file=file)


async def test_a_webhook_is_signed_as_standard_webhooks_says(receiver: HttpReceiver, tmp_path: Path) -> None:
    await send(await hook(receiver, tmp_path))
    headers, body = receiver.headers[0], receiver.bodies[0]
    assert (headers["webhook-id"], headers["webhook-timestamp"]) == ("alm_1", str(CLOCK.now_ms() // 1000))
    wanted = hmac.new(SECRET, f"alm_1.{CLOCK.now_ms() // 1000}.{body}".encode(), hashlib.sha256).digest()
    assert headers["webhook-signature"] == "v1," + base64.b64encode(wanted).decode()
    assert json.loads(body) == {
        "type": "alert.fired",
        "timestamp": "2026-09-21T14:13:20.000Z",
        "data": {"alert": {"n": 1}},
    }


@pytest.mark.parametrize("status", [302, 307, 400, 410, 503])
async def test_only_2xx_is_a_receipt_and_no_redirect_is_followed(
    receiver: HttpReceiver, tmp_path: Path, status: int
) -> None:
    receiver.answers = [status]
    with pytest.raises(ChannelFailed, match=f"answered {status}"):
        await send(await hook(receiver, tmp_path))
    assert receiver.bodies == []


@pytest.mark.parametrize("secret", ["whsec_", "whsec_AAAA", "whsec_ö", "not base64 at all"])
async def test_a_secret_that_is_none_sends_nothing(receiver: HttpReceiver, tmp_path: Path, secret: str) -> None:
    with pytest.raises(ChannelFailed, match="holds no secret"):
        await send(await hook(receiver, tmp_path, secret))
    assert receiver.headers == []


async def test_a_receiver_that_is_away_is_a_reason(receiver: HttpReceiver, tmp_path: Path) -> None:
    settings = await hook(receiver, tmp_path)
    await receiver.stop()
    with pytest.raises(ChannelFailed, match="cannot be reached"):
        await send(settings)


def test_a_file_that_is_missing_refuses_the_start(tmp_path: Path) -> None:
    settings = AlertChannel(name="hook", kind="webhook", url="https://x.example/", secret_file=tmp_path / "nothing")
    with pytest.raises(StartupRefused, match="is no file"):
        channel_of(settings, CLOCK)


def test_states_of_messages_are_words_of_the_documentation() -> None:
    assert {str(one) for one in MessageState} == {"failed", "folded", "queued", "sent"}
