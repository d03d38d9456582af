"""The filter, by the real fail2ban-regex, on what a real gateway wrote."""

import asyncio
import json
import logging
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import structlog

from entobot.client.device import Credentials, Device
from entobot.client.keys import DeviceKey
from entobot.core.clock import SystemClock
from entobot.core.errors import Code, Problem
from entobot.core.secrets import SystemEntropy
from entobot.telemetry.credential_log import EVENT
from entobot.telemetry.log import bind, configure, get_logger, unbind
from tests.support.operator import Operator
from tests.support.phone import connected, raw_socket
from tests.support.process import ROOT, GatewayProcess
from tests.support.programs import UNPACKED, environment, program, run
from tests.support.thing import Thing, close_code, receive, refused_with

FOLDER = ROOT / "deploy" / "fail2ban"
FILTER = FOLDER / "filter.d" / "entobot.conf"
VICTIM = "203.0.113.7"
ATTACKER = "127.0.0.66"
FORGED = f'{{"transport": "http", "reason": "unauthenticated", "address": "{VICTIM}", "event": "credentials.refused", "level": "warning", "logger": "entobot.gateway", "at": "2026-11-21T21:00:00.000Z"}}'


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    """At the level that writes most, behind a proxy that is this machine."""
    more = {
        "ENTOBOT_LOG__LEVEL": "debug",
        "ENTOBOT_LOG__FORMAT": "json",
        "ENTOBOT_GATEWAY__TRUSTED_PROXIES": "127.0.0.1",
    }
    process = GatewayProcess(tmp_path / "home", environment=more).start()
    yield process
    process.close()


def addresses(log: Path) -> list[str]:
    """What fail2ban would count, in order."""
    found = run([program("fail2ban-regex", "fail2ban"), "--out", "ip", log, FILTER], environment())
    assert found.returncode in (0, 1), found.stdout
    return found.stdout.split()


def written(gateway: GatewayProcess) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in gateway.log.read_text().splitlines()]
    return [line for line in found if line["event"] == "credentials.refused"]


def caller(gateway: GatewayProcess, address: str, **headers: str) -> httpx.Client:
    """Somebody whom the proxy on this machine speaks for."""
    client = gateway.http()
    client.headers.update({"X-Forwarded-For": address, **headers})
    return client


async def test_it_finds_every_kind_of_guess_and_the_address_of_it(gateway: GatewayProcess, tmp_path: Path) -> None:
    program("fail2ban-regex", "fail2ban")
    await asyncio.to_thread(guesses_over_http, gateway)
    assert await refused_with(gateway, api_key="ent_key_nothing") == 4500
    async with raw_socket(gateway, subprotocols=None) as simple:
        asked = {"session_id": "inv_" + "0" * 26, "temp_token": "a" * 43}
        info = {"device_name": FORGED[:64], "platform": "iot", "app_version": "1"}
        await simple.send(json.dumps({"type": "pair", "device_info": info, **asked}))
        assert await close_code(simple) == 4500
    await late_key(gateway)
    kinds = [(line["transport"], line["reason"], line["address"]) for line in written(gateway)]
    assert kinds == [
        ("http", "unauthenticated", ATTACKER),
        ("http", "unauthenticated", "2001:db8::66"),
        ("http", "invite_not_found", ATTACKER),
        ("http", "refresh_invalid", ATTACKER),
        ("websocket", "bad_credentials", "127.0.0.1"),
        ("simple", "bad_credentials", "127.0.0.1"),
    ]
    assert addresses(gateway.log) == [address for _, _, address in kinds]
    journal = tmp_path / "journal"
    lines = [f"host entobot[42]: {line}" for line in gateway.log.read_text().splitlines()]
    journal.write_text("\n".join(lines) + "\n")
    assert addresses(journal) == [address for _, _, address in kinds], "as the journal gives it"


async def late_key(gateway: GatewayProcess) -> None:
    """A board that goes on trying with a key that has ended must not have its neighbours shut out."""
    thing = await asyncio.to_thread(Thing.make, gateway, "Board")
    ended = "UPDATE device_api_keys SET expires_at_ms = 1 WHERE device_id = ?"
    await asyncio.to_thread(Operator(gateway).execute, ended, thing.device_id)
    assert (await asyncio.to_thread(thing.request, "GET", "/api/v1/conversations")).status_code == 401
    assert await refused_with(gateway, api_key=thing.api_key) == 4500


def guesses_over_http(gateway: GatewayProcess) -> None:
    path = "/api/v1/conversations"
    assert caller(gateway, ATTACKER, Authorization="Bearer ent_key_guess").get(path).status_code == 401
    assert caller(gateway, "2001:db8::66", Authorization="DPoP eyJhbGciOiJub25lIn0.e30.").get(path).status_code == 401
    assert caller(gateway, ATTACKER).get(path).status_code == 401, "nothing was shown, nothing was guessed"
    guess(gateway, Operator(gateway).invite(), "Guess")
    device = attackers_device(gateway)
    device.credentials = Credentials("dev_1", "usr_1", [], "ent_rt_" + "a" * 43)
    with pytest.raises(Problem, match="refresh token"):
        device.refresh()


def attackers_device(gateway: GatewayProcess) -> Device:
    return Device(DeviceKey.generate(), gateway.origin, caller(gateway, ATTACKER), SystemClock(), SystemEntropy())


def guess(gateway: GatewayProcess, invite: dict[str, Any], name: str) -> None:
    """Claim an invite without its secret."""
    with pytest.raises(Problem):
        attackers_device(gateway).claim(
            secret="a" * 43, invite_id=invite["invite_id"], device_name=name, platform="web", app_version=name[:20]
        )


async def test_a_story_that_goes_well_bans_nobody(gateway: GatewayProcess) -> None:
    program("fail2ban-regex", "fail2ban")
    device = await asyncio.to_thread(gateway.pair, "Phone")
    async with connected(gateway, device) as phone:
        await phone.say("!note milk")
        asked = (await phone.until_event("approval.requested"))["data"]
        await asyncio.to_thread(device.decide, asked, "approve")
        await phone.until_event("RUN_FINISHED")
    await asyncio.to_thread(device.refresh)
    await asyncio.to_thread(what_does_not_hold_any_more, gateway)
    thing = await asyncio.to_thread(Thing.make, gateway, "Board")
    assert (await asyncio.to_thread(thing.request, "GET", "/api/v1/conversations")).status_code == 200
    async with raw_socket(gateway) as silent:
        await receive(silent)
    assert len(gateway.log.read_text().splitlines()) > 10
    assert addresses(gateway.log) == []


def what_does_not_hold_any_more(gateway: GatewayProcess) -> None:
    """Devices that were signed out or revoked go on asking for a while."""
    operator = Operator(gateway)
    renewed, revoked = operator.pair("Renewed"), operator.pair("Revoked")
    operator.change(revoked, "revoke")
    operator.execute("UPDATE devices SET epoch = epoch + 1 WHERE name = 'Renewed'")
    for device, doing in ((renewed, "request"), (revoked, "request"), (revoked, "refresh")):
        with pytest.raises(Problem) as refused:
            device.refresh() if doing == "refresh" else device.request("GET", "/api/v1/conversations")
        assert refused.value.code in (Code.UNAUTHENTICATED, Code.REFRESH_INVALID)


async def test_nobody_can_write_a_line_that_bans_somebody_else(gateway: GatewayProcess) -> None:
    program("fail2ban-regex", "fail2ban")
    await asyncio.to_thread(injections, gateway)
    for text in (FORGED, f"x\n{FORGED}\n", f'", "address": "{VICTIM}", "event": "credentials.refused", "x": "'):
        assert await refused_with(gateway, api_key=text) == 4500
        assert await refused_with(gateway, token=text, proof=text) == 4500
    log = gateway.log.read_text()
    found = addresses(gateway.log)
    assert VICTIM not in found
    assert set(found) == {"127.0.0.1", ATTACKER}
    assert [line for line in log.splitlines() if not line.startswith("{")] == [], (
        "a line is one JSON object, whatever came in"
    )


def injections(gateway: GatewayProcess) -> None:
    """Put a forged line, and pieces of one, wherever a caller can put a text."""
    texts = (FORGED, f"%0a{FORGED}%0a", f'", "address": "{VICTIM}", "event": "credentials.refused')
    for text in texts:
        for name in ("Authorization", "DPoP", "User-Agent", "traceparent", "X-Request-Id", "Origin", "Cookie", "Host", "Referer", "Idempotency-Key"):  # fmt: skip
            headers = {"Authorization": "Bearer ent_key_guess", name: text}
            caller(gateway, ATTACKER, **headers).get("/api/v1/conversations")
        caller(gateway, ATTACKER, Authorization="Bearer x").get("/api/v1/" + quote(text, safe="%"))
        caller(gateway, f"{VICTIM}, {ATTACKER}", Authorization="Bearer x").get("/api/v1/conversations")
        caller(gateway, ATTACKER).post("/api/v1/auth/pair", content=text, headers={"Content-Type": text[:40]})
        guess(gateway, Operator(gateway).invite(), text[:64])
    answer = caller(gateway, f"{FORGED}", Authorization="Bearer x").get("/api/v1/conversations")
    assert answer.status_code == 400, "an address that is none is nobody's"


@pytest.fixture
def own_log(tmp_path: Path) -> Iterator[Path]:
    """A log that a test writes with the gateway's own logging."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    with (tmp_path / "own.log").open("w") as stream:
        configure(SystemClock(), "debug", "json", stream)
        yield tmp_path / "own.log"
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def test_a_text_from_outside_that_did_get_into_a_line_bans_nobody(own_log: Path) -> None:
    """No line of today holds one; this one holds it in every place."""
    bind(request_id=FORGED, connection_id=f'1, {FORGED[1:-1]}, "x": ')
    try:
        for text in (FORGED, f"x\n{FORGED}\n", f'x", "event": "credentials.refused", "address": "{VICTIM}'):
            get_logger("gateway").warning(text, transport=text, address=text, reason=text, name=text)
        get_logger("gateway").warning(EVENT, transport="http", reason=f'x", "address": "{VICTIM}', address=ATTACKER)
    finally:
        unbind("request_id", "connection_id")
    assert VICTIM in own_log.read_text()
    assert addresses(own_log) == []


def test_fail2ban_accepts_filter_and_jail(tmp_path: Path) -> None:
    client = program("fail2ban-client", "fail2ban")
    shipped = next(folder for folder in (UNPACKED / "etc" / "fail2ban", Path("/etc/fail2ban")) if folder.is_dir())
    shutil.copytree(shipped, tmp_path / "etc")
    shutil.copy(FILTER, tmp_path / "etc" / "filter.d")
    shutil.copy(FOLDER / "jail.d" / "entobot.conf", tmp_path / "etc" / "jail.d")
    (tmp_path / "etc" / "jail.d" / "defaults-debian.conf").unlink(missing_ok=True)
    command = [client, "-c", tmp_path / "etc", "-s", tmp_path / "socket", "-p", tmp_path / "pid", "-d"]
    found = run(command, environment())
    assert found.returncode == 0, found.stdout
    assert "['add', 'entobot', 'systemd']" in found.stdout
    assert "'_SYSTEMD_UNIT=entobot.service'" in found.stdout
    assert "['set', 'entobot', 'maxretry', 8]" in found.stdout


def test_the_jail_uses_this_filter_and_the_port_of_the_gateway() -> None:
    jail = (FOLDER / "jail.d" / "entobot.conf").read_text()
    assert re.search(r"^filter\s+= entobot$", jail, re.MULTILINE)
    assert re.search(r"^port\s+= 18790$", jail, re.MULTILINE)
