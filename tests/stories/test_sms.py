"""Invites by SMS, from the operator's line to the phone that chats, against a provider on loopback."""

import asyncio
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from entobot.client.device import Device
from entobot.core.errors import Code, Problem
from tests.browser.terminal import Terminal
from tests.support.carrier import ACCOUNT, SECRETS, Carrier, code_of, link_of
from tests.support.operator import INVITES, Operator
from tests.support.phone import connected
from tests.support.postgres import PostgresServer
from tests.support.process import ROOT, GatewayProcess, free_port

ON_EVERY_STORE = True

NUMBER = "+14155550123"


@pytest.fixture
def carrier(request: pytest.FixtureRequest) -> Iterator[Carrier]:
    carrier = Carrier(getattr(request, "param", "twilio"))
    yield carrier
    carrier.stop()


@pytest.fixture
def gateway(
    request: pytest.FixtureRequest, tmp_path: Path, store_kind: str, carrier: Carrier
) -> Iterator[GatewayProcess]:
    secret, port = tmp_path / "secret", free_port()
    secret.write_text(SECRETS[carrier.provider])
    given = carrier.settings | {"secret_file": str(secret), "countries": "US", "resend_after": 2}
    environment = {f"ENTOBOT_SMS__{name.upper()}": str(value) for name, value in given.items()}
    environment["ENTOBOT_SMS__RECEIPTS_ORIGIN"] = f"https://127.0.0.1:{port}"
    if store_kind == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres")
        environment["ENTOBOT_STORAGE__URL"] = server.url(server.furnished_database())
    process = GatewayProcess(tmp_path / "home", port=port, environment=environment).start()
    yield process
    process.close()


def open_link(gateway: GatewayProcess, text: str, name: str) -> tuple[Device, dict[str, Any]]:
    """What the page does that the link opens: a key of its own, and the claim."""
    invite_id, secret = link_of(text)
    device = gateway.new_device()
    claim = device.claim(secret=secret, invite_id=invite_id, device_name=name, platform="ios", app_version="1")
    return device, claim


def sms_of(operator: Operator, invite_id: str) -> dict[str, Any]:
    return operator.local.request("GET", f"{INVITES}/{invite_id}")["sms"]


def until_state(operator: Operator, invite_id: str, state: str) -> dict[str, Any]:
    """Asks as the dashboard does; the test's own time is the deadline."""
    while (sms := sms_of(operator, invite_id))["state"] != state:
        assert sms["state"] in ("queued", "sending", "accepted"), sms
    return sms


def deliver(gateway: GatewayProcess, request: httpx.Request) -> httpx.Response:
    return gateway.http().send(request)


async def test_an_operator_invites_by_sms_and_the_phone_chats(gateway: GatewayProcess, carrier: Carrier) -> None:
    operator = Operator(gateway)
    done = await asyncio.to_thread(gateway.cli, "pair", "--sms", NUMBER, "--label", "Ada")
    assert done.returncode == 0, done.stderr
    assert "An SMS goes to +1 ••••••••23 by twilio" in done.stdout
    ((number, text),) = await asyncio.to_thread(carrier.until, 1)
    assert number == NUMBER
    assert text.splitlines()[-1].startswith("@127.0.0.1 #")
    invite_id, secret = link_of(text)
    assert secret not in done.stdout + done.stderr

    await asyncio.to_thread(until_state, operator, invite_id, "accepted")
    for state in ("sent", "delivered"):
        answer = await asyncio.to_thread(deliver, gateway, carrier.receipt(carrier.callbacks[0], state))
        assert (answer.status_code, answer.text) == (204, "")
    assert (await asyncio.to_thread(sms_of, operator, invite_id))["state"] == "delivered"
    assert "delivered" in (await asyncio.to_thread(gateway.cli, "pair", "list")).stdout

    device, claim = await asyncio.to_thread(open_link, gateway, text, "Ada's phone")
    row = await asyncio.to_thread(operator.local.request, "GET", f"{INVITES}/{invite_id}")
    assert row["claim"]["confirmation_code"] == claim["confirmation_code"]  # what both look at
    confirmed = await asyncio.to_thread(gateway.cli, "pair", "confirm", invite_id, "--approve")
    assert confirmed.returncode == 0, confirmed.stderr
    assert await asyncio.to_thread(device.collect, claim["claim_id"])
    async with connected(gateway, device) as phone:
        await phone.say("hello there")
        await phone.until_event("RUN_FINISHED")
        assert phone.events("message.created")[-1]["data"]["content"] == "hello there"
    for written in (gateway.log.read_text(), gateway.banner):
        assert NUMBER[2:] not in written
        assert secret not in written


def test_the_terminal_follows_the_message_shows_the_digits_and_asks(gateway: GatewayProcess, carrier: Carrier) -> None:
    terminal = Terminal(gateway.environment, "pair", "--sms", NUMBER)
    try:
        ((_, text),) = carrier.until(1)
        terminal.wait_for("Waiting for the phone … 1[45]:[0-9]{2} · SMS accepted")
        gateway.http().send(carrier.receipt(carrier.callbacks[0], "delivered"))
        terminal.wait_for("· SMS delivered")
        device, claim = open_link(gateway, text, "Ada's phone")
        terminal.wait_for(r"Ada's phone \(ios, 127\.0\.0\.1\) wants in")
        terminal.wait_for(f"Its screen shows {claim['confirmation_code']}. Ask the person")
        terminal.wait_for("Let it in\\?")
        terminal.type("y")
        while not device.collect(claim["claim_id"]):
            pass
        terminal.wait_for("Paired: Ada's phone")
        assert terminal.wait() == 0
    finally:
        terminal.close()


async def test_the_code_opens_it_where_the_link_does_not(gateway: GatewayProcess, carrier: Carrier) -> None:
    operator = Operator(gateway)
    made = await asyncio.to_thread(operator.invite, kind="sms", phone_number=NUMBER)
    assert (made["secret"], made["url"], made["code"], made["qr_svg"]) == (None, None, None, None)
    ((_, text),) = await asyncio.to_thread(carrier.until, 1)
    device = gateway.new_device()
    claim = await asyncio.to_thread(
        device.claim, secret=code_of(text), invite_id=None, device_name="App", platform="ios", app_version="1"
    )
    answer = {"claim_id": claim["claim_id"], "approve": True}
    await asyncio.to_thread(operator.local.request, "POST", f"{INVITES}/{made['invite_id']}/confirm", json=answer)
    assert await asyncio.to_thread(device.collect, claim["claim_id"])


async def test_whoever_reads_the_sms_of_another_gains_nothing(gateway: GatewayProcess, carrier: Carrier) -> None:
    operator = Operator(gateway)
    made = await asyncio.to_thread(operator.invite, kind="sms", phone_number=NUMBER)
    ((_, text),) = await asyncio.to_thread(carrier.until, 1)
    thief, stolen = await asyncio.to_thread(open_link, gateway, text, "Ada's phone")  # it says what it likes
    with pytest.raises(Problem) as refusal:
        await asyncio.to_thread(open_link, gateway, text, "Ada's phone")
    assert refusal.value.code is Code.INVITE_USED
    assert await asyncio.to_thread(thief.collect, stolen["claim_id"], 0) is False
    row = await asyncio.to_thread(operator.local.request, "GET", f"{INVITES}/{made['invite_id']}")
    assert (row["is_contested"], row["claim"]["confirmation_code"]) == (True, stolen["confirmation_code"])
    denied = {"claim_id": stolen["claim_id"], "approve": False}
    await asyncio.to_thread(operator.local.request, "POST", f"{INVITES}/{made['invite_id']}/confirm", json=denied)
    with pytest.raises(Problem) as refusal:
        await asyncio.to_thread(thief.collect, stolen["claim_id"])
    assert refusal.value.code is Code.PAIRING_DENIED
    assert await asyncio.to_thread(gateway.ask, "devices", "list") == []


async def test_a_gateway_killed_while_it_sends_says_that_nobody_knows_until_the_receipt(
    gateway: GatewayProcess, carrier: Carrier
) -> None:
    operator = Operator(gateway)
    taken, go_on = carrier.hold()
    made = await asyncio.to_thread(operator.invite, kind="sms", phone_number=NUMBER)
    await asyncio.to_thread(taken.wait)  # the provider has it, and its answer is on the way
    await asyncio.to_thread(gateway.kill)
    go_on.set()
    await asyncio.to_thread(gateway.start)
    sms = await asyncio.to_thread(_until_unknown, operator, made["invite_id"])
    assert sms["reason"] == "the gateway ended while it was being sent"
    assert len(carrier.sent) == 1  # not sent again: Twilio cannot tell a repeat
    answer = await asyncio.to_thread(deliver, gateway, carrier.receipt(carrier.callbacks[0], "delivered"))
    assert answer.status_code == 204
    assert (await asyncio.to_thread(sms_of, operator, made["invite_id"]))["state"] == "delivered"


def _until_unknown(operator: Operator, invite_id: str) -> dict[str, Any]:
    while (sms := sms_of(operator, invite_id))["state"] == "sending":
        pass
    assert sms["state"] == "unknown", sms
    return sms


def test_forged_and_replayed_receipts_change_nothing_and_are_told(gateway: GatewayProcess, carrier: Carrier) -> None:
    operator = Operator(gateway)
    made = operator.invite(kind="sms", phone_number=NUMBER)
    carrier.until(1)
    until_state(operator, made["invite_id"], "accepted")
    url = carrier.callbacks[0]
    form = {"AccountSid": ACCOUNT, "MessageSid": carrier.ids[0], "MessageStatus": "delivered"}
    right = carrier.signed_form(url, form)
    unsigned = httpx.Request(
        "POST", url, content=right.content, headers={"content-type": right.headers["content-type"]}
    )
    altered = httpx.Request(
        "POST", url, content=right.content.replace(b"delivered", b"readddddd"), headers=right.headers
    )
    elsewhere = url.rpartition("/")[0] + "/sms_00000000000000000000000000"
    moved = httpx.Request("POST", elsewhere, content=right.content, headers=right.headers)
    for forged in (unsigned, altered, moved, carrier.signed_form(url, form, token="guessed")):
        answer = deliver(gateway, forged)
        assert (answer.status_code, answer.json()["code"]) == (400, "signature_invalid")
    others = carrier.signed_form(url, form | {"AccountSid": "AC" + "f" * 32})
    assert deliver(gateway, others).json()["code"] == "invalid"
    unknown = carrier.signed_form(elsewhere, form)
    assert deliver(gateway, unknown).json()["code"] == "not_found"
    another = carrier.signed_form(url, form | {"MessageSid": "SM" + "0" * 32})
    assert deliver(gateway, another).json()["code"] == "not_found"
    large = carrier.signed_form(url, form | {"To": "9" * 9000})
    assert deliver(gateway, large).json()["code"] == "too_large"
    assert sms_of(operator, made["invite_id"])["state"] == "accepted"

    assert deliver(gateway, right).status_code == 204
    replayed = deliver(gateway, right)
    assert (replayed.status_code, replayed.json()["code"]) == (409, "receipt_repeated")
    later = carrier.signed_form(url, form | {"MessageStatus": "sent"})
    assert deliver(gateway, later).status_code == 204  # it comes late, and takes nothing back
    assert sms_of(operator, made["invite_id"])["state"] == "delivered"
    told = operator.local.request("GET", "/api/v1/audit?event=sms.receipt_refused")["rows"]
    codes = sorted(row["facts"]["code"] for row in told)  # of one network, one entry for each reason in ten minutes
    assert codes == ["invalid", "not_found", "receipt_repeated", "signature_invalid"]
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(gateway.home / "gateway.sock"))) as local:
        counted = local.get("http://gateway/metrics")
    assert 'entobot_sms_receipts_total{outcome="repeated"} 1' in counted.text
    assert 'entobot_sms_receipts_total{outcome="refused"} 7' in counted.text


@pytest.mark.parametrize("carrier", ["webhook"], indirect=True)
def test_a_webhook_sends_and_its_receipts_are_signed_and_fresh(gateway: GatewayProcess, carrier: Carrier) -> None:
    operator = Operator(gateway)
    made = operator.invite(kind="sms", phone_number=NUMBER)
    ((_, text),) = carrier.until(1)
    assert link_of(text)[0] == made["invite_id"]
    until_state(operator, made["invite_id"], "accepted")
    url, name = carrier.callbacks[0], carrier.ids[0]
    now_s = _now_s()
    old = carrier.receipt(url, "delivered", message_id=name, at_s=now_s - 400)
    assert deliver(gateway, old).json()["code"] == "signature_invalid"
    right = carrier.receipt(url, "delivered", message_id=name, at_s=now_s)
    assert deliver(gateway, right).status_code == 204
    assert deliver(gateway, right).json()["code"] == "receipt_repeated"
    odd = carrier.receipt(url, "read", message_id=name, at_s=now_s)
    assert deliver(gateway, odd).json()["code"] == "invalid"
    assert sms_of(operator, made["invite_id"])["state"] == "delivered"


@pytest.mark.parametrize("carrier", ["twilio", "webhook"], indirect=True)
def test_whoever_says_stop_gets_nothing_more_until_they_say_start(gateway: GatewayProcess, carrier: Carrier) -> None:
    operator, origin, now_s = Operator(gateway), gateway.origin, _now_s()
    operator.invite(kind="sms", phone_number=NUMBER)
    carrier.until(1)
    stop = carrier.answer(origin, " stop\n", name="in-1", at_s=now_s)
    assert deliver(gateway, stop).status_code in (200, 204)
    with pytest.raises(Problem) as refusal:
        operator.invite(kind="sms", phone_number=NUMBER)
    assert refusal.value.code is Code.NUMBER_REFUSED
    assert "START" in refusal.value.detail

    forged = carrier.answer(origin, "START", name="in-2", at_s=now_s)
    forged = httpx.Request("POST", forged.url, content=forged.content + b"&x=1", headers=_unsized(forged))
    assert deliver(gateway, forged).json()["code"] == "signature_invalid"
    approve = carrier.answer(origin, "APPROVE", name="in-3", at_s=now_s)
    assert deliver(gateway, approve).status_code in (200, 204)  # nobody reads it
    with pytest.raises(Problem):
        operator.invite(kind="sms", phone_number=NUMBER)

    start = carrier.answer(origin, "Start", name="in-4", at_s=now_s)
    assert deliver(gateway, start).status_code in (200, 204)
    operator.invite(kind="sms", phone_number=NUMBER)
    carrier.until(2)
    replayed = deliver(gateway, stop)
    assert (replayed.status_code, replayed.json()["code"]) == (409, "receipt_repeated")
    operator.invite(kind="sms", phone_number=NUMBER)
    events = [row["event"] for row in operator.local.request("GET", "/api/v1/audit?event=sms.")["rows"]]
    assert (events.count("sms.started"), events.count("sms.stopped")) == (1, 1)


def _unsized(request: httpx.Request) -> dict[str, str]:
    return {name: value for name, value in request.headers.items() if name not in ("content-length", "host")}


@pytest.mark.parametrize("carrier", ["sns"], indirect=True)
def test_sns_sends_and_says_no_more_than_that_it_was_taken(gateway: GatewayProcess, carrier: Carrier) -> None:
    operator = Operator(gateway)
    made = operator.invite(kind="sms", phone_number=NUMBER)
    carrier.until(1)
    assert until_state(operator, made["invite_id"], "accepted")["provider"] == "sns"
    assert carrier.faults == []
    answer = gateway.http().post("/api/v1/sms/receipts/webhook", content=json.dumps({}), headers=_JSON)
    assert answer.json()["code"] == "not_found"


def test_resend_makes_the_first_link_void(gateway: GatewayProcess, carrier: Carrier) -> None:
    operator = Operator(gateway)
    made = operator.invite(kind="sms", phone_number=NUMBER)
    carrier.until(1)
    until_state(operator, made["invite_id"], "accepted")
    resend = f"{INVITES}/{made['invite_id']}/resend"
    while not was_sent_again(operator, resend):
        pass
    (_, first), (_, second) = carrier.until(2)
    with pytest.raises(Problem) as refusal:
        open_link(gateway, first, "Old")
    assert refusal.value.code is Code.INVITE_NOT_FOUND
    assert open_link(gateway, second, "New")[1]["status"] == "awaiting_confirmation"


def was_sent_again(operator: Operator, resend: str) -> bool:
    try:
        operator.local.request("POST", resend)
    except Problem:  # too soon
        return False
    return True


PAGE = ROOT / "docs" / "how-to" / "invite-by-sms.md"


def block(name: str) -> str:
    """A block of the page, as people copy it."""
    found = re.search(rf"<!-- test: {name} -->\n```\w+\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert found, name
    return found[1]


def test_the_page_is_right_about_trying_it_without_a_provider(tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path / "home")
    gateway.home.mkdir(mode=0o700)
    settings = gateway.home / "entobot.toml"
    settings.write_text(block("sms-settings"))
    settings.chmod(0o600)
    gateway.start()
    try:
        program, *arguments = shlex.split(block("sms-console"))
        assert program == "entobot"
        done = gateway.cli(*arguments)
        assert done.returncode == 0, done.stderr
        assert "Nothing was sent to +1 ••••••••23: sms.provider is 'console', for development." in done.stdout
        (url,) = re.findall(r"https://\S+#v=1\S+", done.stdout)
        device, claim = open_link(gateway, url, "Ada's phone")
        (invite,) = gateway.ask("pair", "list")
        assert invite["sms"]["state"] in ("not_sent", "cancelled")  # the claim may be faster than the queue
        assert gateway.cli("pair", "confirm", invite["invite_id"], "--approve").returncode == 0
        assert device.collect(claim["claim_id"])
    finally:
        gateway.close()


_JSON = {"content-type": "application/json"}


def _now_s() -> int:
    import time

    return int(time.time())


def test_a_number_is_told_only_once_its_person_has_typed_the_code_that_was_sent_there(
    gateway: GatewayProcess, carrier: Carrier
) -> None:
    made = gateway.ask("notifications", "add", "sms", NUMBER)
    assert (made["confirmed"], made["code"]["state"]) == (False, "queued")
    refused = gateway.cli("notifications", "test", made["place_id"])
    assert "Confirm this address first" in refused.stderr
    ((to, text),) = carrier.until(1)
    assert to == NUMBER
    code = re.match(r"\d{6}", text)
    assert code is not None
    wrong = gateway.cli("notifications", "confirm", made["place_id"], "000000" if code[0] != "000000" else "111111")
    assert "not the code" in wrong.stderr
    assert gateway.ask("notifications", "confirm", made["place_id"], code[0])["confirmed"] is True
    done = gateway.ask("notifications", "test", made["place_id"])
    assert done["state"] == "sent", "it waits for the provider, whose answer is still to come"
    to, text = carrier.until(2)[1]
    assert (to, "This is a test" in text or "New" in text) == (NUMBER, True)
    (row,) = gateway.ask("notifications", "places")
    assert (row["channel"], row["confirmed"]) == ("sms", True)
    listed = [row for row in gateway.ask("notifications", "channels") if row["channel"] == "sms"]
    assert (listed[0]["service"], listed[0]["places"]) == (carrier.provider, 1)
    for wrong_number in ("+1415", "+442079460000", "+14155550123456"):
        refused = gateway.cli("notifications", "add", "sms", wrong_number)
        assert "number_refused" in refused.stderr, wrong_number
    gateway.ask("notifications", "remove", made["place_id"])
    assert gateway.ask("notifications", "places") == []
