"""What every way to reach people must do, on each: push, UnifiedPush, ntfy, e-mail, against real servers on loopback."""

import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from entobot.core.networks import Networks
from entobot.core.secrets import SystemEntropy
from entobot.notifications.channel import MAX_REASON_CHARACTERS, Outcome, Outlet, Parcel
from entobot.notifications.channel_email import EmailOutlet
from entobot.notifications.model import Channel, Place, Priority
from entobot.notifications.push_ntfy import NtfyOutlet
from entobot.notifications.push_webpush import WebPushOutlet
from entobot.notifications.webpush import VapidKey
from entobot.outgoing import guarded_http, mail
from entobot.outgoing.guarded_http import GuardedHttp
from entobot.outgoing.mail import Mailer, MailServer
from tests.support.push_service import PushService, Subscriber
from tests.support.smtp import MailServer as Server
from tests.support.time import ManualClock

CLOCK = ManualClock()
SECRETS = ("ada@example.org", "topic-nobody-guesses", "tk_secret")


@dataclass
class Stand:
    """An outlet before its server. `answer(status)`: what the server says next; `arrived`: how many it was sent."""

    outlet: Outlet
    place: Place
    answer: Callable[[int], None]
    arrived: Callable[[], int]
    stop: Callable[[], Awaitable[None]]
    mute: Callable[[], None]
    later: int
    refused: int
    http: PushService | None = None


def place(channel: Channel, address: str) -> Place:
    keys = Subscriber().keys()
    return Place("npl_1", "usr_1", channel, address, None, keys["p256dh"], keys["auth"], "", True, 0)


def parcel(at: Place) -> Parcel:
    return Parcel(
        "nat_1", "ntf_1", "message", Priority.HIGH, "Dinner", "Größe", "/chat/1", "https://gate.example/chat/1",
        "a" * 32, 0, 60, 1, "Kitchen", at,
    )  # fmt: skip


async def by_http(channel: Channel) -> Stand:
    server = await PushService().start()
    http = GuardedHttp(Networks(["127.0.0.0/8"]), ssl.create_default_context)
    outlet: Outlet
    if channel is Channel.NTFY:
        outlet = NtfyOutlet(http, lambda _: "tk_secret", CLOCK)
    else:
        outlet = WebPushOutlet(channel, http, VapidKey(bytes(32)), "mailto:ops@example.org", CLOCK, SystemEntropy())

    def mute() -> None:
        server.is_mute = True

    return Stand(
        outlet,
        place(channel, f"{server.origin}/topic-nobody-guesses"),
        lambda status: server.answers.append((status, {})),
        lambda: len(server.pushes),
        server.stop,
        mute,
        503,
        400,
        server,
    )


async def by_mail(folder: Path) -> Stand:
    server = await Server(folder).start()
    (folder / "password").write_text("right\n")
    at = MailServer("127.0.0.1", server.port, "starttls", "gate", folder / "password", "gate@example.org")
    outlet = EmailOutlet(Mailer(at, lambda: ssl.create_default_context(cafile=server.certificate), "gate"), CLOCK)

    def mute() -> None:
        server.is_mute = True

    return Stand(
        outlet,
        place(Channel.EMAIL, "ada@example.org"),
        server.answers.append,
        lambda: len(server.mails),
        server.stop,
        mute,
        451,
        554,
    )


@pytest.fixture(params=[Channel.PUSH, Channel.UNIFIEDPUSH, Channel.NTFY, Channel.EMAIL])
async def stand(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stand]:
    made = await (by_mail(tmp_path) if request.param is Channel.EMAIL else by_http(request.param))
    yield made
    await made.stop()


async def test_what_the_server_took_is_accepted(stand: Stand) -> None:
    answer = await stand.outlet.send(parcel(stand.place))
    assert (answer.outcome, answer.reason, stand.arrived()) == (Outcome.ACCEPTED, "", 1)


async def test_a_server_that_is_busy_is_asked_again_later(stand: Stand) -> None:
    stand.answer(stand.later)
    answer = await stand.outlet.send(parcel(stand.place))
    assert answer.outcome is Outcome.LATER
    assert str(stand.later) in answer.reason


async def test_what_a_server_refuses_is_refused_with_its_reason(stand: Stand) -> None:
    stand.answer(stand.refused)
    answer = await stand.outlet.send(parcel(stand.place))
    assert answer.outcome is Outcome.REFUSED
    assert str(stand.refused) in answer.reason


async def test_a_server_that_is_away_is_asked_again_later_and_no_secret_is_told(stand: Stand) -> None:
    await stand.stop()
    answer = await stand.outlet.send(parcel(stand.place))
    assert answer.outcome is Outcome.LATER
    assert 0 < len(answer.reason) <= MAX_REASON_CHARACTERS
    assert not any(secret in answer.reason for secret in SECRETS)


async def test_a_server_that_says_nothing_is_left(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarded_http, "TIMEOUT_S", 0.2)
    monkeypatch.setattr(mail, "TIMEOUT_S", 0.2)
    stand.mute()
    assert (await stand.outlet.send(parcel(stand.place))).outcome is Outcome.LATER


async def test_ntfy_gets_what_its_documentation_wants() -> None:
    stand = await by_http(Channel.NTFY)
    await stand.outlet.send(parcel(stand.place))
    assert stand.http is not None
    push = stand.http.pushes[0]
    said = json.loads(push.body)
    assert push.path == "/"
    assert push.headers["authorization"] == "Bearer tk_secret"
    assert (said["topic"], said["title"], said["message"], said["priority"]) == (
        "topic-nobody-guesses",
        "Dinner",
        "Größe",
        4,
    )
    assert said["click"] == "https://gate.example/chat/1"
    await stand.stop()
