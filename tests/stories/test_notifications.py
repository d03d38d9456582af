"""A phone sleeps: it is pushed, then mailed, and what was read is told to nobody any more. Real processes, real servers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from entobot.client.device import Device
from entobot.core.errors import Code, Problem
from tests.support.nodes import Pair
from tests.support.operator import Operator
from tests.support.phone import connected
from tests.support.postgres import PostgresServer
from tests.support.process import GENEROUS_S, ROOMY, GatewayProcess
from tests.support.push_service import Push, PushService, Subscriber
from tests.support.smtp import MailServer

AT = "/api/v1/notifications"
Rows = list[dict[str, Any]]


@pytest.fixture
async def service() -> AsyncIterator[PushService]:
    server = await PushService().start()
    yield server
    await server.stop()


@pytest.fixture
async def mail(tmp_path: Path) -> AsyncIterator[MailServer]:
    server = await MailServer(tmp_path).start()
    yield server
    await server.stop()


@pytest.fixture
def gateway(tmp_path: Path, mail: MailServer) -> Iterator[GatewayProcess]:
    (tmp_path / "password").write_text("right\n")
    environment = {
        **ROOMY,
        "ENTOBOT_NOTIFICATIONS__PRIVATE_NETWORKS": "127.0.0.0/8",
        "ENTOBOT_NOTIFICATIONS__CONTACT": "mailto:ops@example.org",
        "ENTOBOT_NOTIFICATIONS__SMTP_HOST": "127.0.0.1",
        "ENTOBOT_NOTIFICATIONS__SMTP_PORT": str(mail.port),
        "ENTOBOT_NOTIFICATIONS__SMTP_USER": "gate",
        "ENTOBOT_NOTIFICATIONS__SMTP_PASSWORD_FILE": str(tmp_path / "password"),
        "ENTOBOT_NOTIFICATIONS__SMTP_SENDER": "gate@example.org",
        "ENTOBOT_NOTIFICATIONS__SMTP_AUTHORITY": str(mail.certificate),
    }
    process = GatewayProcess(tmp_path / "home", environment=environment)
    yield process
    process.close()


def ask(gateway: GatewayProcess, method: str, path: str, **more: Any) -> dict[str, Any]:
    return Operator(gateway).local.request(method, path, **more)


async def subscribe(device: Device, service: PushService, path: str = "/one") -> Subscriber:
    browser = Subscriber()
    wanted = {"endpoint": service.origin + path, "expirationTime": None, "keys": browser.keys()}
    await asyncio.to_thread(device.command, "push.subscribe", wanted)
    return browser


async def soon(gateway: GatewayProcess, holds: Callable[[Rows], bool]) -> Rows:
    """The owner's notifications, when they are so."""

    async def look() -> Rows:
        return (await asyncio.to_thread(ask, gateway, "GET", AT))["rows"]

    return await until(look, holds)


async def until(look: Callable[[], Awaitable[Rows]], holds: Callable[[Rows], bool]) -> Rows:
    async with asyncio.timeout(3 * GENEROUS_S):
        while True:
            rows = await look()
            if holds(rows):
                return rows
            await asyncio.sleep(0.1)


def tried(row: dict[str, Any]) -> list[tuple[str, str]]:
    return [(one["channel"], one["state"]) for one in row["attempts"]]


def is_tried(channel: str, state: str) -> Callable[[Rows], bool]:
    return lambda rows: any((channel, state) in tried(row) for row in rows)


async def pushed(service: PushService, count: int) -> list[Push]:
    async with asyncio.timeout(3 * GENEROUS_S):
        return await service.until(count)


async def test_an_answer_that_nobody_saw_wakes_the_phone_and_says_nothing_of_what_it_says(
    gateway: GatewayProcess, service: PushService
) -> None:
    await asyncio.to_thread(gateway.start)
    device = await asyncio.to_thread(gateway.pair, "Phone")
    browser = await subscribe(device, service)
    await asyncio.to_thread(device.command, "message.send", {"content": "hello"})
    push = (await pushed(service, 1))[0]
    said = browser.open(push.body)
    assert said["notification"]["title"] == "New message"
    assert said["notification"]["body"] == ""
    assert said["entobot"]["path"].startswith("/chat/cnv_")
    assert said["notification"]["navigate"] == gateway.origin + said["entobot"]["path"]
    claims = push.claims()
    assert (claims["aud"], claims["sub"]) == (service.origin, "mailto:ops@example.org")
    places = await asyncio.to_thread(ask, gateway, "GET", f"{AT}/places")
    assert claims["k"] == places["push_key"]
    rows = await soon(gateway, is_tried("push", "accepted"))
    assert tried(rows[0]) == [("live", "failed"), ("push", "accepted")]
    seen = {"notification_id": rows[0]["notification_id"], "channel": "push"}
    assert (await asyncio.to_thread(device.command, "notification.read", seen)) == {"read": 1}
    rows = await soon(gateway, is_tried("push", "read"))
    assert rows[0]["state"] == "read"


async def test_an_answer_that_a_phone_shows_is_pushed_to_nobody(gateway: GatewayProcess, service: PushService) -> None:
    await asyncio.to_thread(gateway.start)
    device = await asyncio.to_thread(gateway.pair, "Phone")
    await subscribe(device, service)
    async with connected(gateway, device) as phone, asyncio.timeout(4 * GENEROUS_S):
        await phone.say("hello")
        await phone.until_event("RUN_FINISHED")
        await phone.send({"type": "ack", "seq": phone.seen})
        marker = await asyncio.to_thread(ask, gateway, "POST", AT, json={"title": "After it"})
        created = (await phone.until_event("notification.created"))["data"]
        assert created["notification_id"] == marker["notification_ids"][0]
        await phone.send({"type": "ack", "seq": phone.seen})
        rows = await soon(gateway, is_tried("live", "delivered"))
    assert [row["title"] for row in rows] == ["After it"], "the answer was seen, so it is no news"
    assert service.pushes == []


async def test_a_question_is_pushed_and_settled_by_its_answer(gateway: GatewayProcess, service: PushService) -> None:
    await asyncio.to_thread(gateway.start)
    device = await asyncio.to_thread(gateway.pair, "Phone")
    browser = await subscribe(device, service)
    await asyncio.to_thread(device.command, "message.send", {"content": "!note buy milk"})
    push = (await pushed(service, 1))[0]
    said = browser.open(push.body)
    assert (said["notification"]["title"], push.headers["urgency"]) == ("Approval needed", "high")
    approval_id = said["entobot"]["path"].removeprefix("/approvals/")
    rows = await asyncio.to_thread(device.command, "approval.list", {})
    assert [row["approval_id"] for row in rows["rows"]] == [approval_id]
    await asyncio.to_thread(device.command, "run.cancel", {"run_id": rows["rows"][0]["run_id"]})
    await soon(gateway, lambda found: any(row["kind"] == "approval" and row["state"] == "done" for row in found))


async def test_a_sleeping_phone_then_a_mail_then_it_is_read(
    gateway: GatewayProcess, service: PushService, mail: MailServer
) -> None:
    await asyncio.to_thread(gateway.start)
    device = await asyncio.to_thread(gateway.pair, "Phone")
    await subscribe(device, service)
    place = await asyncio.to_thread(
        ask, gateway, "POST", f"{AT}/places", json={"channel": "email", "address": "ada@example.org"}
    )
    at = f"{AT}/places/{place['place_id']}"
    assert (await asyncio.to_thread(ask, gateway, "POST", f"{at}/code"))["state"] == "sent"
    async with asyncio.timeout(2 * GENEROUS_S):
        text = (await mail.until(1))[0].get_content()
    code = next(word for word in text.split() if word.isdigit() and len(word) == 6)
    with pytest.raises(Problem) as refused:
        await asyncio.to_thread(ask, gateway, "POST", f"{at}/confirm", json={"code": "0000000"})
    assert refused.value.code is Code.INVALID
    assert (await asyncio.to_thread(ask, gateway, "POST", f"{at}/confirm", json={"code": code}))["confirmed"]
    rules = await asyncio.to_thread(ask, gateway, "GET", f"{AT}/rules")
    rules["steps"] = [
        {"channel": "push", "after_s": 0, "from": "normal"},
        {"channel": "email", "after_s": 1, "from": "high"},
    ]
    await asyncio.to_thread(ask, gateway, "PUT", f"{AT}/rules", json=rules)
    await asyncio.to_thread(ask, gateway, "POST", AT, json={"title": "Door is open", "priority": "high"})
    await pushed(service, 1)
    async with asyncio.timeout(2 * GENEROUS_S):
        sent = (await mail.until(2))[1]
    assert "New notification" in sent["Subject"]
    assert "Door" not in sent["Subject"] + sent.get_content(), "content stays here by default"
    rows = await soon(gateway, is_tried("email", "accepted"))
    assert tried(rows[0]) == [("live", "failed"), ("push", "accepted"), ("email", "accepted")]
    assert (await asyncio.to_thread(ask, gateway, "POST", f"{AT}/{rows[0]['notification_id']}/read")) == {"read": 1}
    done = await asyncio.to_thread(ask, gateway, "POST", f"{at}/test")
    assert done == {"state": "accepted", "reason": ""}
    states = {
        row["channel"]: row["state"] for row in (await asyncio.to_thread(ask, gateway, "GET", f"{AT}/channels"))["rows"]
    }
    assert states == {"email": "ok", "ntfy": "unused", "push": "ok", "sms": "off", "unifiedpush": "unused"}


async def test_killed_between_the_commit_and_the_answer_it_is_pushed_after_the_restart(
    gateway: GatewayProcess, service: PushService
) -> None:
    await asyncio.to_thread(gateway.start)
    device = await asyncio.to_thread(gateway.pair, "Phone")
    browser = await subscribe(device, service)
    service.is_mute = True
    await asyncio.to_thread(ask, gateway, "POST", AT, json={"title": "Door is open"})
    await pushed(service, 1)
    await asyncio.to_thread(gateway.kill)
    service.is_mute = False
    await asyncio.to_thread(gateway.start)
    first, second = await pushed(service, 2)
    assert first.headers["topic"] == second.headers["topic"], "the service replaces what it still holds"
    assert browser.open(first.body)["notification"]["tag"] == browser.open(second.body)["notification"]["tag"]
    await soon(gateway, is_tried("push", "accepted"))


async def test_a_subscription_that_is_gone_ends_and_one_that_is_busy_is_tried_again(
    gateway: GatewayProcess, service: PushService
) -> None:
    await asyncio.to_thread(gateway.start)
    device = await asyncio.to_thread(gateway.pair, "Phone")
    await subscribe(device, service)
    service.answers = [(503, {"retry-after": "1"}), (410, {})]
    await asyncio.to_thread(ask, gateway, "POST", AT, json={"title": "One"})
    rows = await soon(gateway, is_tried("push", "failed"))
    assert "gone (410)" in rows[0]["attempts"][1]["reason"]
    assert rows[0]["attempts"][1]["tries"] == 2
    assert (await asyncio.to_thread(device.request, "GET", f"{AT}/places"))["rows"] == []


@pytest.mark.parametrize("change", ["revoke", "suspend"])
async def test_a_device_that_is_cut_off_is_pushed_nothing(
    gateway: GatewayProcess, service: PushService, change: str
) -> None:
    await asyncio.to_thread(gateway.start)
    device = await asyncio.to_thread(gateway.pair, "Phone")
    await subscribe(device, service)
    operator = Operator(gateway)
    await asyncio.to_thread(operator.change, device, change)
    assert (await asyncio.to_thread(ask, gateway, "GET", f"{AT}/places"))["rows"] == []
    await asyncio.to_thread(ask, gateway, "POST", AT, json={"title": "Secret"})
    await soon(gateway, is_tried("live", "failed"))
    assert service.pushes == []


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://10.0.0.1/x",
        "https://[::1]/x",
        "https://169.254.169.254/latest",
        "ftp://push.example/",
        "https://a@push.example/",
        "nothing",
    ],
)
async def test_no_subscription_leads_inside(gateway: GatewayProcess, endpoint: str) -> None:
    gateway.environment.pop("ENTOBOT_NOTIFICATIONS__PRIVATE_NETWORKS")
    await asyncio.to_thread(gateway.start)
    device = await asyncio.to_thread(gateway.pair, "Phone")
    with pytest.raises(Problem) as refused:
        await asyncio.to_thread(device.command, "push.subscribe", {"endpoint": endpoint, "keys": Subscriber().keys()})
    assert refused.value.code is Code.ADDRESS_REFUSED
    entries = await asyncio.to_thread(
        ask, gateway, "GET", "/api/v1/audit", params={"event": "notification.place_refused"}
    )
    assert len(entries["rows"]) == 1
    assert "169.254" not in str(entries["rows"][0]["facts"])


async def test_of_two_nodes_one_pushes(tmp_path: Path, postgres: PostgresServer, service: PushService) -> None:
    settings = {**ROOMY, "ENTOBOT_NOTIFICATIONS__PRIVATE_NETWORKS": "127.0.0.0/8"}
    pair = Pair(tmp_path, postgres, settings=settings)
    try:
        await asyncio.to_thread(pair.start)
        device = await asyncio.to_thread(pair.a.pair, "Phone")
        await subscribe(device, service)
        keys = [(await asyncio.to_thread(ask, node, "GET", f"{AT}/places"))["push_key"] for node in (pair.a, pair.b)]
        assert keys[0] == keys[1]
        for number in range(6):
            node = pair.a if number % 2 else pair.b
            await asyncio.to_thread(ask, node, "POST", AT, json={"title": f"Number {number}"})
        await soon(pair.b, lambda rows: sum(("push", "accepted") in tried(row) for row in rows) == 6)
        assert len(service.pushes) == 6
    finally:
        await asyncio.to_thread(pair.close)
