"""Somebody guesses passwords: the people who look after the gateway hear of it, take it up, and hear that it is over."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from entobot.core.errors import Problem
from tests.support.browser import Browser
from tests.support.operator import Operator
from tests.support.phone import connected
from tests.support.process import GENEROUS_S, ROOMY, GatewayProcess
from tests.support.receivers import HttpReceiver
from tests.support.smtp import MailServer

SECRET = bytes(range(32))


@pytest.fixture
async def mail(tmp_path: Path) -> AsyncIterator[MailServer]:
    server = await MailServer(tmp_path).start()
    yield server
    await server.stop()


@pytest.fixture
async def receiver() -> AsyncIterator[HttpReceiver]:
    server = await HttpReceiver().start()
    yield server
    await server.stop()


@pytest.fixture
def gateway(tmp_path: Path, mail: MailServer, receiver: HttpReceiver) -> Any:
    (tmp_path / "secret").write_text("whsec_" + base64.b64encode(SECRET).decode())
    (tmp_path / "password").write_text("right\n")
    channels = [
        {
            "name": "post", "kind": "email", "host": "127.0.0.1", "port": mail.port, "authority": str(mail.certificate),
            "user": "gate", "password_file": str(tmp_path / "password"), "sender": "gate@example.org",
            "to": ["ops@example.org"],
        },
        {
            "name": "hook", "kind": "webhook", "url": f"http://127.0.0.1:{receiver.port}/in",
            "secret_file": str(tmp_path / "secret"),
        },
    ]  # fmt: skip
    rules = [{"id": "sign_ins_refused", "threshold": 3, "window": 600}, {"id": "loop_late", "enabled": False}]
    environment = {
        **ROOMY,
        "ENTOBOT_SIGNIN__PASSWORDS": "true",
        "ENTOBOT_ALERTS__EVERY": "0.2",
        "ENTOBOT_ALERTS__VERIFY_EVERY": "1",
        "ENTOBOT_ALERTS__CHANNELS": json.dumps(channels),
        "ENTOBOT_ALERTS__RULES": json.dumps(rules),
    }
    process = GatewayProcess(tmp_path / "home", environment=environment, host="127.0.0.1")
    process.origin = process.environment["ENTOBOT_GATEWAY__PUBLIC_URL"] = f"https://localhost:{process.port}"
    yield process
    process.close()


def guess(gateway: GatewayProcess) -> None:
    """At three people: what is tried with one account makes one entry in ten minutes."""
    for login in ("ann", "bob", "cyd"):
        Operator(gateway).local.request("POST", "/api/v1/users", json={"login": login, "name": login.title()})
        with pytest.raises(Problem):
            Browser(gateway).use_password(login, "seven herons under a bridge")


async def until(receiver: HttpReceiver, count: int) -> None:
    async with receiver.arrived:
        await receiver.arrived.wait_for(lambda: len(receiver.bodies) >= count)


def verified(receiver: HttpReceiver, place: int) -> dict[str, Any]:
    """The event, where the signature is good."""
    headers, body = receiver.headers[place], receiver.bodies[place]
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.{body}".encode()
    wanted = base64.b64encode(hmac.new(SECRET, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{wanted}"
    return json.loads(body)


def all_sent(rows: list[dict[str, Any]]) -> bool:
    """Of the refused sign-ins: whoever was sent something has it before the gateway has noted that."""
    messages = [one for row in rows if row["rule"] == "sign_ins_refused" for one in row["messages"]]
    return len(messages) == 4 and all(one["state"] == "sent" for one in messages)


async def soon(
    gateway: GatewayProcess, holds: Callable[[list[dict[str, Any]]], bool], state: str = "open"
) -> list[dict[str, Any]]:
    """The alerts, when they are so."""
    operator, path = Operator(gateway), f"/api/v1/alerts?state={state}"
    async with asyncio.timeout(2 * GENEROUS_S):
        while True:
            rows = (await asyncio.to_thread(operator.local.request, "GET", path))["rows"]
            if holds(rows):
                return rows
            await asyncio.sleep(0.1)


async def test_guessed_passwords_are_told_by_mail_and_webhook_taken_up_and_over(
    gateway: GatewayProcess, mail: MailServer, receiver: HttpReceiver
) -> None:
    await asyncio.to_thread(gateway.start)
    device = await asyncio.to_thread(gateway.pair, "Phone")
    async with connected(gateway, device) as phone, asyncio.timeout(4 * GENEROUS_S):
        await asyncio.to_thread(guess, gateway)
        noticed = (await phone.until_event("alert.changed"))["data"]
        while noticed["rule"] != "sign_ins_refused":
            noticed = (await phone.until_event("alert.changed"))["data"]
        assert noticed["state"] == "firing"
        (letter,) = await mail.until(1)
        assert letter["subject"].endswith("warning: Many sign-ins are refused")
        assert letter["to"] == "ops@example.org"
        assert noticed["alert_id"] in letter.get_content()
        assert mail.was_encrypted == [True]
        assert mail.logins == [("gate", "right")]
        await until(receiver, 1)
        event = verified(receiver, 0)
        assert event["type"] == "alert.fired"
        assert event["data"]["alert"]["alert_id"] == noticed["alert_id"]
        assert event["data"]["alert"]["facts"]["in_window"] == 3

        acked = await asyncio.to_thread(gateway.ask, "alerts", "ack", "sign_ins_refused")
        assert acked["state"] == "acknowledged"
        Operator(gateway).execute("UPDATE alert_hits SET at_ms = at_ms - 3600000")
        await mail.until(2)
        assert "over: Many sign-ins are refused" in mail.mails[1]["subject"]
        await until(receiver, 2)
        assert verified(receiver, 1)["type"] == "alert.cleared"
    rows = await soon(gateway, all_sent, state="cleared")
    (row,) = [one for one in rows if one["rule"] == "sign_ins_refused"]
    assert row["acknowledged_by"] is not None
    assert {(one["channel"], one["kind"], one["state"]) for one in row["messages"]} == {
        (channel, kind, "sent") for channel in ("post", "hook") for kind in ("fired", "cleared")
    }
    told = [entry["event"] for entry in await asyncio.to_thread(gateway.ask, "audit", "list", "--event", "alert.")]
    assert {"alert.fired", "alert.acknowledged", "alert.cleared"} <= set(told)
    raw = (await asyncio.to_thread(gateway.cli, "metrics", "--raw")).stdout
    for channel in ("hook", "post"):
        assert f'entobot_alert_messages_total{{channel="{channel}",outcome="sent"}} 2.0' in raw


async def test_what_was_fired_when_the_gateway_was_killed_is_sent_by_the_next_start(
    gateway: GatewayProcess, mail: MailServer, receiver: HttpReceiver
) -> None:
    await mail.stop()
    receiver.answers = [503] * 1000
    await asyncio.to_thread(gateway.start)
    await asyncio.to_thread(guess, gateway)
    await soon(gateway, lambda rows: any(one["rule"] == "sign_ins_refused" for one in rows))
    await asyncio.to_thread(gateway.kill)
    receiver.answers = []
    await mail.start()
    Operator(gateway).execute("UPDATE alert_messages SET due_at_ms = 0")
    await asyncio.to_thread(gateway.start)
    async with asyncio.timeout(2 * GENEROUS_S):
        await mail.until(1)
        await until(receiver, 1)
    assert verified(receiver, 0)["data"]["alert"]["rule"] == "sign_ins_refused"


async def test_an_altered_log_is_told(gateway: GatewayProcess, receiver: HttpReceiver) -> None:
    await asyncio.to_thread(gateway.start)
    await asyncio.to_thread(gateway.kill)  # its next look at the whole log would come in a day
    Operator(gateway).execute("UPDATE audit_log SET facts = '{}' WHERE seq = 1")
    await asyncio.to_thread(gateway.start)
    async with asyncio.timeout(2 * GENEROUS_S):
        await until(receiver, 1)
    alert = verified(receiver, 0)["data"]["alert"]
    assert (alert["rule"], alert["severity"], alert["facts"]) == (
        "audit_chain_broken", "critical", {"defect": "edited", "seq": 1},
    )  # fmt: skip


async def test_a_channel_is_tried_and_says_why_it_does_not_work(
    gateway: GatewayProcess, mail: MailServer, receiver: HttpReceiver
) -> None:
    await asyncio.to_thread(gateway.start)
    done = await asyncio.to_thread(gateway.cli, "alerts", "test", "post")
    assert (done.returncode, done.stdout) == (0, "Sent to post.\n")
    assert "test of the channel post" in mail.mails[0]["subject"]
    receiver.answers = [302]
    done = await asyncio.to_thread(gateway.cli, "alerts", "test", "hook")
    assert (done.returncode, done.stdout) == (1, "Not sent to hook: the receiver answered 302.\n")
    rows = {row["name"]: row for row in await asyncio.to_thread(gateway.ask, "alerts", "channels")}
    assert (rows["post"]["state"], rows["hook"]["state"]) == ("ok", "failing")
    assert rows["hook"]["last"]["reason"] == "the receiver answered 302"
    shown = json.dumps(rows)
    assert "ops@example.org" not in shown
    assert "whsec" not in shown
    done = await asyncio.to_thread(gateway.cli, "alerts", "test", "nothing")
    assert done.returncode == 5
