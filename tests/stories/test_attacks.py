"""What somebody with a stolen thing, a foreign page or a device of their own tries over the wire, and gets."""

import asyncio
import copy
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

from entobot.client.device import Device
from entobot.client.keys import DeviceKey
from entobot.client.local import local_http
from entobot.client.proofs import decision_signature, dpop_proof
from entobot.core.access import COMMANDS, ROUTES
from entobot.core.errors import Code, Problem
from entobot.core.permissions import Scope
from entobot.core.secrets import sha256_b64u
from tests.support.operator import INVITES, TOLD, TRACES, Operator
from tests.support.phone import Phone, authenticate, connected, raw_socket
from tests.support.process import GENEROUS_S, ROOMY, GatewayProcess

ALL_SCOPES = sorted(Scope)
OWN_TRACES = TRACES | {"devices", "stream_cursors"}
"""And what a device moves by being there: when it was seen, what it has seen."""


@pytest.fixture(scope="module")
def roomy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    process = GatewayProcess(tmp_path_factory.mktemp("attacked") / "home", environment=ROOMY).start()
    yield process
    process.close()


@pytest.fixture(scope="module")
def operator(roomy: GatewayProcess) -> Operator:
    return Operator(roomy)


def proof_for(device: Device, method: str, url: str, **more: Any) -> str:
    assert device.credentials is not None
    token = device.credentials.access_token
    options: dict[str, Any] = {"access_token": token, "now_ms": device.clock.now_ms(), "entropy": device.entropy} | more
    return dpop_proof(device.key, method=method, url=url, **options)


def shown_to(device: Device, method: str, path: str, proof: str | None = None, **headers: str) -> httpx.Response:
    """A request with the device's token and exactly these headers."""
    assert device.credentials is not None
    given = {"Authorization": f"DPoP {device.credentials.access_token}"}
    if proof is not None:
        given["DPoP"] = proof
    return device.http.request(method, path, headers=given | headers)


def code_of(response: httpx.Response) -> str:
    assert response.headers["content-type"] == "application/problem+json", response.text
    return response.json()["code"]


def refused_with(code: Code) -> Any:
    return pytest.raises(Problem, match=f"^{code}: ")


# -- stolen things


async def test_a_stolen_access_token_without_its_key_opens_nothing(roomy: GatewayProcess, operator: Operator) -> None:
    victim = operator.pair("Victim", scopes=["chat"])
    thief = copy.copy(victim)
    thief.key = DeviceKey.generate()
    for method, path in (("GET", "/api/v1/conversations"), ("POST", "/api/v1/commands")):
        assert code_of(shown_to(thief, method, path, proof_for(thief, method, thief.origin + path))) == "proof_invalid"
        assert code_of(shown_to(thief, method, path)) == "proof_required"
    async with raw_socket(roomy) as socket:
        await authenticate(socket, thief)
        assert await Phone(thief, socket).closed() == 4500
    assert victim.credentials is not None
    about = {"event": "auth.refused", "subject": victim.credentials.device_id}
    told = operator.local.pages("/api/v1/audit", **about)
    assert {row["facts"]["reason"] for row in told} == {"wrong_key", "no_proof"}
    assert len(told) == 2, "once for each kind of alert, however often it is tried"
    assert victim.request("GET", "/api/v1/conversations") == {"rows": [], "next": None}


async def test_a_bound_token_is_never_taken_as_a_bearer_token(roomy: GatewayProcess, operator: Operator) -> None:
    device = operator.pair(scopes=["chat"])
    assert device.credentials is not None
    token = device.credentials.access_token
    path = "/api/v1/conversations"
    bare = device.http.get(path, headers={"Authorization": f"Bearer {token}"})
    assert (bare.status_code, code_of(bare)) == (401, "proof_required")
    proof = proof_for(device, "GET", device.origin + path)
    assert (
        code_of(device.http.get(path, headers={"Authorization": f"Bearer {token}", "DPoP": proof})) == "proof_required"
    )
    assert device.http.get(path, params={"access_token": token}).status_code == 401
    for frame, code in (({"api_key": token}, 4500), ({"ticket": token}, 4003)):
        async with raw_socket(roomy) as socket:
            await socket.recv()
            await socket.send(json.dumps({"type": "auth", **frame}))
            assert await Phone(device, socket).closed() == code
    async with raw_socket(roomy) as socket:
        await socket.recv()
        await socket.send(json.dumps({"type": "auth", "token": token}))
        assert await Phone(device, socket).closed() == 4503


def test_a_proof_seen_once_is_worth_nothing_even_after_a_restart(gateway: GatewayProcess) -> None:
    device = Operator(gateway).pair(scopes=["chat"])
    path = "/api/v1/conversations"
    overheard = proof_for(device, "GET", device.origin + path)
    assert shown_to(device, "GET", path, overheard).status_code == 200
    assert code_of(shown_to(device, "GET", path, overheard)) == "proof_invalid"
    gateway.kill()
    gateway.start()
    assert code_of(shown_to(device, "GET", path, overheard)) == "proof_invalid"
    assert shown_to(device, "GET", path, proof_for(device, "GET", device.origin + path)).status_code == 200


async def test_a_proof_overheard_on_one_connection_opens_no_other(roomy: GatewayProcess, operator: Operator) -> None:
    device = operator.pair(scopes=["chat"])
    async with raw_socket(roomy) as first, raw_socket(roomy) as second:
        hello = json.loads(await first.recv())
        await second.recv()
        assert device.credentials is not None
        frame = {
            "type": "auth",
            "token": device.credentials.access_token,
            "proof": proof_for(device, "GET", f"{device.origin}/ws", nonce=hello["nonce"]),
        }
        await second.send(json.dumps(frame))
        assert await Phone(device, second).closed() == 4500


@pytest.mark.parametrize(
    ("htm", "htu"),
    [
        ("POST", "{origin}/api/v1/conversations"),
        ("get", "{origin}/api/v1/conversations"),
        ("GET", "{origin}/api/v1/devices"),
        ("GET", "{origin}/api/v1/conversations/"),
        ("GET", "{origin}/API/v1/conversations"),
        ("GET", "https://evil.example/api/v1/conversations"),
        ("GET", "http://{host}/api/v1/conversations"),
        ("GET", "https://user@{host}/api/v1/conversations"),
        ("GET", "{origin}@evil.example/api/v1/conversations"),
    ],
)
def test_a_proof_made_for_something_else_does_not_open_this(operator: Operator, htm: str, htu: str) -> None:
    device = paired_once(operator)
    url = htu.format(origin=device.origin, host=device.origin.removeprefix("https://"))
    path = "/api/v1/conversations"
    for host in (device.origin.removeprefix("https://"), "evil.example"):
        assert code_of(shown_to(device, "GET", path, proof_for(device, htm, url), Host=host)) == "proof_invalid"


_PAIRED: dict[str, Device] = {}


def paired_once(operator: Operator) -> Device:
    """One device for attacks that change nothing."""
    key = str(operator.gateway.home)
    if key not in _PAIRED:
        _PAIRED[key] = operator.pair("Any", scopes=["chat"])
    return _PAIRED[key]


def test_a_poisoned_host_header_is_neither_believed_nor_repeated(roomy: GatewayProcess, operator: Operator) -> None:
    http, evil = roomy.http(), "evil.example"
    poison = {
        "Host": evil,
        "X-Forwarded-Host": evil,
        "Forwarded": f"host={evil};proto=http",
        "X-Original-URL": "/admin",
    }
    for path in (
        "/",
        "/pair",
        "/api/health",
        "/api/openapi.json",
        "/api/certificate",
        "/api/nothing",
        "//evil.example/",
    ):
        answer = http.get(path, headers=poison)
        assert evil not in answer.text.replace("//evil.example/", "") + repr(answer.headers)
    with local_http(roomy.home / "gateway.sock") as local:
        made = local.post(INVITES, json={"kind": "qr"}, headers=poison).json()
    assert made["url"].startswith(f"{roomy.origin}/pair#")
    operator.local.request("DELETE", f"{INVITES}/{made['invite_id']}")


# -- limits


def test_guessing_codes_is_stopped_whatever_the_headers_say_and_stays_stopped_after_a_restart(
    gateway: GatewayProcess,
) -> None:
    operator = Operator(gateway)
    operator.invite(kind="code")

    def guess(number: int) -> str:
        disguise = {
            "X-Forwarded-For": f"203.0.113.{number}",
            "X-Real-IP": f"203.0.113.{number}",
            "Forwarded": f"for=203.0.113.{number}",
            "User-Agent": f"phone {number}",
            "Host": f"h{number}.example",
        }
        stranger = gateway.new_device()
        stranger.http.headers.update(disguise)
        try:
            stranger.claim(secret=f"0000{number:04d}", invite_id=None, device_name="x", platform="web", app_version="1")
        except Problem as problem:
            return problem.code
        return "in"

    answers = [guess(number) for number in range(14)]
    assert set(answers[:10]) <= {Code.INVITE_NOT_FOUND, Code.INVITE_BURNED}
    assert answers[10:] == [Code.RATE_LIMITED] * 4
    gateway.kill()
    gateway.start()
    assert guess(99) == Code.RATE_LIMITED


def test_many_requests_are_slowed_down_whatever_address_they_claim_to_come_from(tmp_path: Path) -> None:
    few = {"ENTOBOT_LIMITS__REQUESTS_PER_SECOND": "1", "ENTOBOT_LIMITS__REQUESTS_BURST": "100"}
    gateway = GatewayProcess(tmp_path / "home", environment=few).start()
    try:
        http = gateway.http()
        names = [{"X-Forwarded-For": f"198.51.100.{n}", "X-Real-IP": f"10.0.0.{n}"} for n in range(250)]
        statuses = [http.get("/api/health", headers=headers) for headers in names]
    finally:
        gateway.close()
    refused = [answer for answer in statuses if answer.status_code == 429]
    assert len(refused) > 50
    assert code_of(refused[0]) == "rate_limited"
    assert int(refused[0].headers["retry-after"]) >= 1


# -- foreign pages


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "",
        "*",
        "{origin}.evil.example",
        "https://evil.example#{origin}",
        "http://{host}",
        "{origin}/",
        "{upper}",
        "{origin}, https://evil.example",
    ],
)
async def test_a_foreign_page_cannot_open_a_socket(roomy: GatewayProcess, origin: str) -> None:
    text = origin.format(
        origin=roomy.origin, host=roomy.origin.removeprefix("https://"), upper=roomy.origin.replace("https", "HTTPS")
    )
    with pytest.raises(websockets.InvalidStatus) as refusal:
        async with raw_socket(roomy, additional_headers={"Origin": text}):
            pass
    assert refusal.value.response.status_code == 403
    assert b'"forbidden"' in refusal.value.response.body


async def test_two_origins_on_one_upgrade_are_refused_and_the_own_one_is_taken(roomy: GatewayProcess) -> None:
    headers = [("Origin", roomy.origin), ("Origin", "https://evil.example")]
    with pytest.raises(websockets.InvalidStatus) as refusal:
        async with raw_socket(roomy, additional_headers=headers):
            pass
    assert refusal.value.response.status_code == 403
    async with raw_socket(roomy, additional_headers={"Origin": roomy.origin}) as socket:
        assert json.loads(await socket.recv())["type"] == "hello"


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"},
    ],
)
def test_a_foreign_page_cannot_write(roomy: GatewayProcess, operator: Operator, headers: dict[str, str]) -> None:
    before = operator.state()
    http = roomy.http()
    for route in ROUTES:
        method, path = route.split()
        if method != "GET":
            answer = http.request(method, path.replace("{", "").replace("}", ""), json={}, headers=headers)
            assert (answer.status_code, code_of(answer)) == (403, "forbidden"), route
    with local_http(roomy.home / "gateway.sock") as local:  # a page cannot reach it, but the rule is the same
        assert local.post(INVITES, json={"kind": "qr"}, headers=headers).status_code == 403
    assert operator.state() == before


def test_no_link_changes_anything_by_being_fetched(roomy: GatewayProcess, operator: Operator) -> None:
    device = operator.pair("Fetched", scopes=["chat"])
    invite = operator.invite()
    waiting = operator.invite()
    claim = operator.claim(roomy.new_device(), waiting)
    conversation = device.command("conversation.create", {})
    assert device.credentials is not None
    names = {
        "agent": "entobot",
        "automation_id": "aut_00000000000000000000000000",
        "approval_id": "apr_00000000000000000000000000",
        "claim_id": claim["claim_id"],
        "conversation_id": conversation["conversation_id"],
        "device_id": device.credentials.device_id,
        "invite_id": waiting["invite_id"],
        "key_id": "enk_00000000000000000000000000",
        "memo_id": "mem_00000000000000000000000000",
        "message_id": "sms_00000000000000000000000000",
        "alert_id": "alr_00000000000000000000000000",
        "channel": "nobodys",
        "command_id": "cmd_00000000000000000000000000",
        "credential_id": "key_00000000000000000000000000",
        "name": "openai",
        "file_id": "fil_00000000000000000000000000",
        "number": "0",
        "notification_id": "ntf_00000000000000000000000000",
        "passkey_id": "nobodys",
        "place_id": "npl_00000000000000000000000000",
        "public_key": "A" * 43,
        "question_id": "qst_00000000000000000000000000",
        "release_id": "rel_00000000000000000000000000",
        "request_id": "req_00000000000000000000000000",
        "rollout_id": "rlo_00000000000000000000000000",
        "rule_id": "rul_00000000000000000000000000",
        "session_id": "ses_00000000000000000000000000",
        "user_id": device.credentials.user_id,
    }
    endless = {"/api/v1/events"}
    told = {"/api/v1/audit/checkpoint", "/api/v1/audit/export"}  # a signature of what is there; that it was taken away
    paths = {route.split()[1].format(**names) for route in ROUTES} - endless - told
    paths |= {f"/pair?i={invite['invite_id']}&s={invite['secret']}", "/?approve=1", f"{INVITES}?_method=DELETE"}
    before = operator.state()
    http = roomy.http()
    with local_http(roomy.home / "gateway.sock") as local:
        for path in sorted(paths):
            for client in (http, local):
                for method in ("GET", "HEAD", "OPTIONS"):
                    override = {"X-HTTP-Method-Override": "DELETE", "X-Method-Override": "DELETE"}
                    assert client.request(method, path, headers=override).status_code != 500
    after = operator.state()
    assert after == before
    for one in (invite, waiting):
        operator.local.request("DELETE", f"{INVITES}/{one['invite_id']}")


# -- other people's things


async def test_another_users_things_do_not_exist(roomy: GatewayProcess, operator: Operator) -> None:
    mine = operator.pair("Mine", scopes=["chat", "approve"])
    other = operator.pair("Other", user_id=operator.add_user("other"), scopes=["chat", "approve"])
    async with connected(roomy, mine) as phone:
        sent = await phone.say("!note secret of mine")
        asked = (await phone.until_event("approval.requested"))["data"]
        started = phone.events("RUN_STARTED")[-1]
    invite = operator.invite()
    assert mine.credentials is not None
    device, conversation = mine.credentials.device_id, sent["conversation_id"]
    run_id = started["runId"]
    before = operator.state(without=OWN_TRACES | TOLD), operator.told()
    for method, path, body in (
        ("GET", f"/api/v1/conversations/{conversation}/messages", None),
        ("GET", f"/api/v1/approvals/{asked['approval_id']}", None),
        ("GET", f"/api/v1/devices/{device}", None),
        ("PATCH", f"/api/v1/devices/{device}", {"device_name": "stolen"}),
        ("DELETE", f"/api/v1/devices/{device}", None),
    ):
        with refused_with(Code.NOT_FOUND):
            other.request(method, path, **({} if body is None else {"json": body}))
    with refused_with(Code.FORBIDDEN):
        other.request("GET", f"{INVITES}/{invite['invite_id']}")
    for name, data in (
        ("conversation.history", {"conversation_id": conversation}),
        ("conversation.rename", {"conversation_id": conversation, "title": "stolen"}),
        ("message.send", {"conversation_id": conversation, "content": "as you"}),
        ("run.cancel", {"run_id": run_id}),
        ("device.rename", {"device_id": device, "device_name": "stolen"}),
    ):
        with refused_with(Code.NOT_FOUND):
            other.command(name, data)
    with refused_with(Code.NOT_FOUND):
        other.decide(asked, "approve")
    assert other.command("approval.list", {"state": "all"})["rows"] == []
    assert other.command("conversation.list", {})["rows"] == []
    assert [row["device_name"] for row in other.request("GET", "/api/v1/devices")["rows"]] == ["Other"]
    assert (operator.state(without=OWN_TRACES | TOLD), operator.told()) == before
    mine.decide(asked, "deny")
    operator.local.request("DELETE", f"{INVITES}/{invite['invite_id']}")


async def test_nobody_can_act_as_another_by_naming_them(operator: Operator) -> None:
    device = paired_once(operator)
    for name, data in (
        ("message.send", {"content": "hi", "user_id": "usr_x"}),
        ("message.send", {"content": "hi", "sender_device_id": "dev_x"}),
        ("message.send", {"content": "hi", "role": "assistant"}),
        ("conversation.create", {"user_id": "usr_x"}),
        ("events.ack", {"seq": 0, "device_id": "dev_x"}),
    ):
        with refused_with(Code.INVALID):
            device.command(name, data)


# -- scopes


def test_an_inviter_cannot_give_what_it_does_not_hold(operator: Operator) -> None:
    desk = operator.pair("Desk", scopes=["chat", "pair"])
    before = operator.state(without=OWN_TRACES)
    for scopes in (["approve"], ["chat", "devices.manage"], ["audit"], ALL_SCOPES):
        with refused_with(Code.FORBIDDEN):
            desk.request("POST", INVITES, json={"kind": "qr", "scopes": scopes})
    with refused_with(Code.FORBIDDEN):
        desk.request("POST", INVITES, json={"kind": "qr", "scopes": ["chat"], "user_id": operator.add_user("someone")})
    after = operator.state(without=OWN_TRACES | {"users", "stream_heads"})
    assert {name: before[name] for name in after} == after


def test_a_narrow_device_cannot_confirm_a_wide_invite(operator: Operator) -> None:
    desk = operator.pair("Narrow desk", scopes=["chat", "pair"])
    wide = operator.invite(scopes=["chat", "devices.manage"])
    phone = operator.gateway.new_device()
    claim = operator.claim(phone, wide)
    answer = {"claim_id": claim["claim_id"], "code": claim["confirmation_code"]}
    with pytest.raises(Problem) as refusal:
        desk.request("POST", f"{INVITES}/{wide['invite_id']}/confirm", json=answer)
    assert refusal.value.code in (Code.FORBIDDEN, Code.INVITE_NOT_FOUND)
    assert phone.collect(claim["claim_id"], wait_s=0) is False


def test_a_device_collects_no_more_than_its_user_may_by_then(operator: Operator) -> None:
    user_id = operator.add_user("deposed", role="owner")
    invite = operator.invite(scopes=["chat", "audit"], user_id=user_id)
    phone = operator.gateway.new_device()
    claim = operator.claim(phone, invite)
    operator.confirm(invite, claim)
    operator.execute("UPDATE users SET role = 'member' WHERE user_id = ?", user_id)
    with pytest.raises(Problem) as refusal:
        phone.collect(claim["claim_id"])
    assert refusal.value.code is Code.PAIRING_DENIED
    assert phone.credentials is None


def test_a_scope_that_a_device_does_not_hold_closes_every_route_and_command_that_needs_it(operator: Operator) -> None:
    notified, chatty = (operator.pair(scope.title(), scopes=[scope]) for scope in ("notify", "chat"))
    before = operator.state(without=OWN_TRACES)
    for route, access in ROUTES.items():
        if isinstance(access, Scope):
            device = chatty if access is Scope.NOTIFY else notified
            method, path = route.split()
            path = path.replace("{", "").replace("}", "")
            answer = shown_to(device, method, path, proof_for(device, method, device.origin + path))
            assert (answer.status_code, code_of(answer)) == (403, "forbidden"), route
    for name, access in COMMANDS.items():
        if isinstance(access, Scope):
            with refused_with(Code.FORBIDDEN):
                (chatty if access is Scope.NOTIFY else notified).command(name, {})
    assert operator.state(without=OWN_TRACES) == before


async def test_a_device_without_approve_sees_no_approval_anywhere(roomy: GatewayProcess, operator: Operator) -> None:
    user_id = operator.add_user("two devices")
    chatty = operator.pair("Chatty", user_id=user_id, scopes=["chat"])
    judge = operator.pair("Judge", user_id=user_id, scopes=["chat", "approve"])
    frames: list[dict[str, Any]] = []
    listening = threading.Event()

    def listen() -> None:
        with chatty.events() as events:
            for frame in events:
                frames.append(frame)
                listening.set()
                if frame.get("event", {}).get("type") == "RUN_FINISHED":
                    return

    sse = asyncio.create_task(asyncio.to_thread(listen))
    await asyncio.to_thread(listening.wait, GENEROUS_S)
    async with connected(roomy, chatty) as one, connected(roomy, judge) as two:
        start = one.frames[0]
        await one.say("!note unseen")
        asked = (await two.until_event("approval.requested"))["data"]
        listed = chatty.request("POST", "/api/v1/commands", json={"id": chatty.new_id(), "name": "conversation.list"})
        for path in ("/api/v1/approvals", f"/api/v1/approvals/{asked['approval_id']}"):
            with refused_with(Code.FORBIDDEN):
                chatty.request("GET", path)
        with refused_with(Code.FORBIDDEN):
            chatty.decide(asked, "approve")
        async with connected(roomy, chatty) as late:
            snapshot = await late.until(lambda frame: frame["type"] == "snapshot")
        async with connected(roomy, chatty, {"stream": start["stream"], "after": 0}) as resumed:
            await resumed.until(lambda frame: frame["type"] == "resume_done")
        await asyncio.to_thread(judge.decide, asked, "deny")
        await one.until_event("RUN_FINISHED")
    await asyncio.wait_for(sse, GENEROUS_S)
    assert snapshot["pending_approvals"] == []
    seen = json.dumps([one.frames, late.frames, resumed.frames, frames, listed])
    assert asked["approval_id"] not in seen.replace('"not noted', "")
    assert "approval." not in seen


# -- approvals


async def test_no_forged_replayed_or_altered_decision_executes_anything(
    roomy: GatewayProcess, operator: Operator
) -> None:
    user_id = operator.add_user("asked")
    device = operator.pair("Signer", user_id=user_id, scopes=["chat", "approve"])
    second = operator.pair("Second", user_id=user_id, scopes=["chat", "approve"])
    thief = copy.copy(device)
    thief.key = DeviceKey.generate()
    async with connected(roomy, device) as phone:
        await phone.say("!note first")
        first = (await phone.until_event("approval.requested"))["data"]
        await asyncio.to_thread(device.decide, first, "deny")
        await phone.until_event("RUN_FINISHED")
        await phone.say("!note transfer 10")
        asked = (await phone.until_event("approval.requested"))["data"]

        def signed(key: DeviceKey = device.key, **changed: Any) -> str:
            values: dict[str, Any] = {
                "origin": device.origin,
                "approval_id": asked["approval_id"],
                "decision": "approve",
                "action": asked["action"],
                "now_ms": device.clock.now_ms(),
                "entropy": device.entropy,
            }
            return decision_signature(key, **(values | changed))

        def decide(signature: str, **changed: Any) -> Code | None:
            data = {
                "approval_id": asked["approval_id"],
                "decision": "approve",
                "action_sha256": asked["action_sha256"],
                "signature": signature,
            }
            try:
                device.command("approval.decide", data | changed)
            except Problem as problem:
                return problem.code
            return None

        other = asked["action"].replace("transfer 10", "transfer 99")
        head, _, tail = signed().partition(".")
        unsigned = "eyJhbGciOiJub25lIiwidHlwIjoiZW50b2JvdC1hcHByb3ZhbCtqd3QifQ." + tail.split(".", maxsplit=1)[0] + "."
        forged = {
            "another device's key": decide(signed(second.key)),
            "a thief's key": decide(signed(thief.key)),
            "no signature": decide(unsigned),
            "an empty one": decide(""),
            "a cut one": decide(signed()[:-8]),
            "a changed one": decide(head + "." + tail[:-6] + "AAAAAA"),
            "a signed denial": decide(signed(decision="deny")),
            "another origin": decide(signed(origin="https://evil.example")),
            "another approval": decide(signed(approval_id=first["approval_id"], action=first["action"])),
            "another action": decide(signed(action=other)),
            "an edit that is not signed": decide(signed(), edited_action=other),
            "another text shown": decide(signed(action=other), action_sha256=sha256_b64u(other)),
            "a reason that is not signed": decide(signed(), reason="because"),
            "from the future": decide(signed(now_ms=device.clock.now_ms() + 600_000)),
            "from before it was asked": decide(signed(now_ms=device.clock.now_ms() - 600_000)),
        }
        assert set(forged.values()) <= {Code.SIGNATURE_INVALID, Code.HASH_MISMATCH}, forged
        with refused_with(Code.FORBIDDEN):
            operator.local.request(
                "POST",
                "/api/v1/commands",
                json={"id": device.new_id(), "name": "approval.decide", "data": {**_decision(asked, signed())}},
            )
        pending = device.command("approval.list", {})["rows"]
        assert [row["approval_id"] for row in pending] == [asked["approval_id"]]
        used = signed()
        assert decide(used) is None
        await phone.until_event("RUN_FINISHED")
        assert decide(used) == Code.APPROVAL_ALREADY_DECIDED
        with refused_with(Code.APPROVAL_ALREADY_DECIDED):
            await asyncio.to_thread(second.decide, asked, "deny")
    executed = operator.query(
        "SELECT count(*) FROM tool_calls WHERE tool_call_id IN (SELECT tool_call_id FROM approvals WHERE approval_id = ?)",
        asked["approval_id"],
    )
    assert executed == [(1,)]
    notes = (roomy.home / "workspace").rglob("*")
    assert sum(path.read_text().count("transfer 10") for path in notes if path.is_file()) <= 1


def _decision(asked: dict[str, Any], signature: str) -> dict[str, Any]:
    return {
        "approval_id": asked["approval_id"],
        "decision": "approve",
        "action_sha256": asked["action_sha256"],
        "signature": signature,
    }


# -- revoking


async def test_nothing_that_a_device_sends_happens_after_its_revocation(
    roomy: GatewayProcess, operator: Operator
) -> None:
    user_id = operator.add_user("flooded")
    device = operator.pair("Flooder", user_id=user_id, scopes=["chat"])
    assert device.credentials is not None
    conversation = device.command("conversation.create", {})["conversation_id"]

    async def flood(phone: Phone, begun: asyncio.Event) -> int:
        """Keeps 64 commands under way until the gateway hangs up."""
        for number in range(20_000):
            data = {"conversation_id": conversation, "content": f"message {number}"}
            try:
                await phone.send({"type": "command", "id": device.new_id(), "name": "message.send", "data": data})
                if number >= 64:
                    begun.set()
                    await phone.until(lambda frame: frame["type"] in ("result", "error"))
            except websockets.ConnectionClosed:
                break
        return await phone.closed()

    async with connected(roomy, device) as one, connected(roomy, device) as two, connected(roomy, device) as three:
        phones, begun = (one, two, three), asyncio.Event()
        flooding = [asyncio.create_task(flood(phone, begun)) for phone in phones]
        await asyncio.wait_for(begun.wait(), GENEROUS_S)
        await asyncio.to_thread(operator.change, device, "revoke")
        assert await asyncio.wait_for(asyncio.gather(*flooding), GENEROUS_S) == [4501] * 3
    rows = operator.query("SELECT seq, event FROM stream_events WHERE user_id = ? ORDER BY seq", user_id)
    events = [(seq, json.loads(event)) for seq, event in rows]
    revoked = [
        seq for seq, event in events if event["type"] == "device.changed" and event["data"]["change"] == "revoked"
    ]
    sent = [
        seq for seq, event in events if event.get("data", {}).get("sender_device_id") == device.credentials.device_id
    ]
    assert len(revoked) == 1
    assert sent
    assert max(sent) < revoked[0]


async def test_a_revocation_between_authentication_and_joining_is_not_missed(
    roomy: GatewayProcess, operator: Operator
) -> None:
    user_id = operator.add_user("hurried")
    devices = [operator.pair(f"Hurry {n}", user_id=user_id, scopes=["chat"]) for n in range(6)]

    async def race(device: Device) -> int:
        async with raw_socket(roomy) as socket:
            opening = asyncio.create_task(authenticate(socket, device))
            revoking = asyncio.to_thread(operator.change, device, "revoke")
            await asyncio.gather(opening, revoking)
            return await Phone(device, socket).closed()

    for device in devices:
        assert await race(device) in (4500, 4501)


@pytest.mark.parametrize("change", ["suspend", "revoke"])
async def test_an_open_event_stream_ends_when_its_device_may_not_listen_any_more(
    operator: Operator, change: str
) -> None:
    device = operator.pair("Listener", scopes=["chat"])
    opened = threading.Event()

    def listen() -> int:
        with device.events() as events:
            count = 0
            for _ in events:
                count += 1
                opened.set()
            return count

    listening = asyncio.create_task(asyncio.to_thread(listen))
    await asyncio.to_thread(opened.wait, GENEROUS_S)
    await asyncio.to_thread(operator.change, device, change)
    # The stream's own silence would be broken by a comment each 15 s for ever: only the change can end it.
    assert await asyncio.wait_for(listening, GENEROUS_S) > 0
    with pytest.raises(Problem) as refusal:
        await asyncio.to_thread(device.command, "conversation.list", {})
    assert refusal.value.code in (Code.DEVICE_SUSPENDED, Code.UNAUTHENTICATED)


# -- secrets at rest


async def test_no_secret_is_in_the_log_the_data_folder_or_the_audit_list(gateway: GatewayProcess) -> None:
    await asyncio.to_thread(gateway.stop)
    gateway.environment["ENTOBOT_LOG__LEVEL"] = "debug"
    await asyncio.to_thread(gateway.start)
    operator = Operator(gateway)
    invite, code, unused = operator.invite(), operator.invite(kind="code"), operator.invite(label="left open")
    secrets = [invite["secret"], invite["url"].partition("#")[2], code["code"], unused["secret"]]
    phone, typed = gateway.new_device(), gateway.new_device()
    # Answers that are kept for a repeat with the same Idempotency-Key are kept without their secrets.
    repeated = {"Idempotency-Key": "one"}
    key = operator.local.request("POST", "/api/v1/api-keys", json={"device_name": "Board"}, headers=repeated)
    kept = operator.local.request("POST", INVITES, json={"kind": "qr"}, headers=repeated)
    secrets += [key["api_key"], kept["secret"]]
    digits: list[str] = []
    for device, one in ((phone, invite), (typed, code)):
        claim = operator.claim(device, one)
        digits.append(claim["confirmation_code"])
        operator.confirm(one, claim)
        assert device.collect(claim["claim_id"])
        assert device.credentials is not None
        secrets += [device.credentials.access_token, device.credentials.refresh_token, device.key.to_text()]
    phone.refresh()
    assert phone.credentials is not None
    secrets += [phone.credentials.access_token, phone.credentials.refresh_token]
    with pytest.raises(Problem):
        gateway.new_device().claim(
            secret=unused["secret"][:-1] + "x",
            invite_id=unused["invite_id"],
            device_name="x",
            platform="web",
            app_version="1",
        )
    proof = proof_for(phone, "GET", f"{phone.origin}/api/v1/devices")
    for _ in range(2):
        shown_to(phone, "GET", "/api/v1/devices", proof)
    async with raw_socket(gateway) as socket:
        secrets.append((await authenticate(socket, phone))["nonce"])
        await Phone(phone, socket).until(lambda frame: frame["type"] == "ready")
    thief = copy.copy(phone)
    thief.key = DeviceKey.generate()
    shown_to(thief, "GET", "/api/v1/devices", proof_for(thief, "GET", f"{phone.origin}/api/v1/devices"))
    operator.change(phone, "revoke")
    listed = json.dumps(operator.local.pages("/api/v1/audit", limit=100)) + json.dumps(operator.local.pages(INVITES))
    places = {"audit and invites": listed.encode(), "log": gateway.log.read_bytes()}

    def read_all() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in gateway.home.rglob("*") if path.is_file()}

    places |= await asyncio.to_thread(read_all)
    assert {"entobot.db", "entobot.db-wal"} <= {name.rpartition("/")[2] for name in places}
    for name, content in places.items():
        for secret in [*secrets, proof]:
            assert secret.encode() not in content, f"a secret stands in {name}"
        for number in digits:
            pattern = rb"(?<![0-9A-Za-z_.:-])" + number.encode() + rb"(?![0-9A-Za-z_.:-])"
            if name.endswith(("audit and invites", "log")):
                assert re.search(pattern, content) is None, f"a confirmation code stands in {name}"
    assert places["log"]


def test_everything_in_the_data_folder_is_private_while_it_runs(roomy: GatewayProcess, operator: Operator) -> None:
    operator.pair("Writes", scopes=["chat"])
    assert roomy.home.stat().st_mode & 0o777 == 0o700
    found: set[str] = set()
    for path in roomy.home.rglob("*"):
        found.add(path.name)
        allowed = 0o700 if path.is_dir() else 0o600
        assert path.lstat().st_mode & 0o777 == allowed, path
    assert {"entobot.db", "entobot.db-wal", "entobot.db-shm", "gateway.sock", "server.key", "signing.json"} <= found
