"""What is at stake decides how it is approved: digits, passkeys, several people; rules that end with their person."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
import rfc8785

from entobot.client.device import Device
from entobot.client.proofs import decision_signature
from entobot.core.errors import Code, Problem
from entobot.core.secrets import b64u, sha256
from tests.stories.test_signing_in import code_of, signed_in
from tests.support.authenticator import Authenticator
from tests.support.browser import Browser
from tests.support.operator import Operator
from tests.support.phone import Phone, connected
from tests.support.process import ROOMY, GatewayProcess

POLICIES = [
    {"tool": "note", "args": {"text": {"begins": "pay "}}, "risk": "high"},
    {
        "tool": "note",
        "args": {"text": {"begins": "hire "}},
        "deciders": ["requester", "role:admin"],
        "two_person": True,
    },
]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    own = {"ENTOBOT_APPROVALS__POLICIES": json.dumps(POLICIES)}
    process = GatewayProcess(tmp_path_factory.mktemp("approvals") / "home", environment=ROOMY | own, host="127.0.0.1")
    process.origin = process.environment["ENTOBOT_GATEWAY__PUBLIC_URL"] = f"https://localhost:{process.port}"
    yield process.start()
    process.close()


@pytest.fixture
def operator(gateway: GatewayProcess) -> Operator:
    return Operator(gateway)


class Deciding:
    """A phone with a key, and with a passkey in its authenticator."""

    def __init__(self, device: Device, name: bytes) -> None:
        self.device = device
        self.authenticator = Authenticator(device.origin, credential_id=name)

    def register(self) -> None:
        options = self.device.request("POST", "/api/v1/me/passkey-options")["public_key"]
        body = {"name": "This phone", "credential": self.authenticator.create(options)}
        self.device.request("POST", "/api/v1/me/passkeys", json=body)

    def sign(self, asked: dict[str, Any], number: str | None, **changes: Any) -> str:
        values: dict[str, Any] = {
            "origin": self.device.origin,
            "approval_id": asked["approval_id"],
            "decision": "approve",
            "action": asked["action"],
            "now_ms": self.device.clock.now_ms(),
            "entropy": self.device.entropy,
            "number": number,
        }
        return decision_signature(self.device.key, **(values | changes))

    def show(self, text: str, **changes: Any) -> dict[str, Any]:
        """The passkey's answer for a signed text."""
        values = {"challenge": b64u(sha256(text.encode())), "rpId": "localhost"}
        return self.authenticator.get(values | changes)

    def decide(self, asked: dict[str, Any], signature: str, **more: Any) -> dict[str, Any] | Code:
        data = {
            "approval_id": asked["approval_id"],
            "decision": "approve",
            "action_sha256": asked["action_sha256"],
            "signature": signature,
        }
        try:
            return self.device.command("approval.decide", data | more)
        except Problem as problem:
            return problem.code


async def ask(phone: Phone, text: str) -> dict[str, Any]:
    await phone.say(f"!note {text}")
    return (await phone.until_event("approval.requested"))["data"]


async def test_a_payment_takes_the_phones_own_passkey_and_the_digits_of_the_asking_side(
    gateway: GatewayProcess, operator: Operator
) -> None:
    user_id = operator.add_user("Payer")
    terminal = operator.pair("Terminal", user_id=user_id)
    deciding = Deciding(operator.pair("Phone", user_id=user_id), b"payer")
    device = deciding.device
    thief = Deciding(operator.pair("Thief", user_id=operator.add_user("Thief")), b"thief")
    await asyncio.to_thread(thief.register)
    async with connected(gateway, terminal) as phone:
        other, asked = await ask(phone, "pay Ann 10"), await ask(phone, "pay Bob 10")
        assert (asked["risk"], asked["needs_verification"], asked["needs_number"]) == ("high", True, True)
        path = f"/api/v1/approvals/{asked['approval_id']}/number"
        assert code_of(device.request, "GET", path) is Code.FORBIDDEN
        number = (await asyncio.to_thread(terminal.request, "GET", path))["number"]

        def attempt() -> None:
            plain = deciding.sign(asked, number)
            assert deciding.decide(asked, plain, number=number) is Code.USER_VERIFICATION_REQUIRED
            assert (
                deciding.decide(asked, plain, number=number, assertion=deciding.show(plain)) is Code.SIGNATURE_INVALID
            )
            deciding.register()
            second = Deciding(device, b"another")
            assert code_of(second.register) is Code.FORBIDDEN, "nobody puts another one in its place"
            for other_text in (deciding.sign(other, number), deciding.sign(asked, number), "x"):
                shown = deciding.show(other_text)
                assert deciding.decide(asked, plain, number=number, assertion=shown) is Code.SIGNATURE_INVALID
            deciding.authenticator.is_verified = False
            forged: list[dict[str, Any]] = [deciding.show(plain), thief.show(plain), {}, {"id": "x"}]
            deciding.authenticator.is_verified = True
            forged.append(deciding.show(plain, rpId="evil.example"))
            deciding.authenticator.origin = "https://evil.example"
            forged.append(deciding.show(plain))
            deciding.authenticator.origin = device.origin
            for assertion in forged:
                assert deciding.decide(asked, plain, number=number, assertion=assertion) is Code.SIGNATURE_INVALID
            unnumbered = deciding.sign(asked, None)
            shown = deciding.show(unnumbered)
            assert deciding.decide(asked, unnumbered, assertion=shown) is Code.NUMBER_REQUIRED
            assert device.command("approval.list", {})["rows"][0]["votes"] == []

        await asyncio.to_thread(attempt)
        good = deciding.sign(asked, number)
        shown = deciding.show(good)
        decided = await asyncio.to_thread(lambda: deciding.decide(asked, good, number=number, assertion=shown))
        assert isinstance(decided, dict)
        assert [(vote["verified"], vote["address"]) for vote in decided["votes"]] == [("passkey", "127.0.0.1")]
        await phone.until_event("RUN_FINISHED")
        again = await asyncio.to_thread(lambda: deciding.decide(asked, good, number=number, assertion=shown))
        assert again is Code.APPROVAL_ALREADY_DECIDED
        replayed = await asyncio.to_thread(lambda: deciding.decide(other, good, number=number, assertion=shown))
        assert replayed is Code.SIGNATURE_INVALID
        row = await asyncio.to_thread(device.request, "GET", f"/api/v1/approvals/{asked['approval_id']}")
        assert row["delivered_at"]
        assert row["consumed_at"]
        edited = other["action"].replace("Ann 10", "Ann 9")
        path = f"/api/v1/approvals/{other['approval_id']}/number"
        number = (await asyncio.to_thread(terminal.request, "GET", path))["number"]

        def edit() -> None:
            check = {"approval_id": other["approval_id"], "edited_action": edited}
            assert device.command("approval.check_edit", check)["risk"] == "high"
            unedited, signature = deciding.sign(other, number), deciding.sign(other, number, edited_action=edited)
            more: dict[str, Any] = {"number": number, "edited_action": edited}
            for text, of in ((unedited, unedited), (signature, unedited)):
                refused = deciding.decide(other, text, assertion=deciding.show(of), **more)
                assert refused is Code.SIGNATURE_INVALID, "the passkey stands for the edited bytes, or for nothing"
            taken = deciding.decide(other, signature, assertion=deciding.show(signature), **more)
            assert isinstance(taken, dict)
            assert taken["edited_action"] == edited

        await asyncio.to_thread(edit)
        await phone.until_event("RUN_FINISHED")
        notes = await asyncio.to_thread((gateway.home / "workspace" / "notes.txt").read_text)
        assert "pay Ann 9\n" in notes
        assert "pay Ann 10" not in notes
    browser = Browser(gateway)
    browser.authenticator = deciding.authenticator
    assert code_of(browser.sign_in) is Code.UNAUTHENTICATED, "what a device has for itself signs nobody in"


async def test_a_person_decides_in_the_dashboard_with_their_passkey(
    gateway: GatewayProcess, operator: Operator
) -> None:
    browser = await asyncio.to_thread(signed_in, gateway, operator)
    user_id = browser.request("GET", "/api/v1/me")["user_id"]
    device = operator.pair("Phone", user_id=user_id)

    def decide(asked: dict[str, Any], number: str, **changes: Any) -> dict[str, Any]:
        payload = {
            "aud": gateway.origin,
            "approval_id": asked["approval_id"],
            "decision": "approve",
            "action_sha256": asked["action_sha256"],
            "edited_sha256": None,
            "reason": None,
            "iat": device.clock.now_ms() // 1000,
            "jti": "j",
            "number": number,
        }
        text = rfc8785.dumps(payload | changes.pop("payload", {})).decode()
        shown = browser.authenticator.get({"challenge": b64u(sha256(text.encode())), "rpId": "localhost"})
        data: dict[str, Any] = {"approval_id": asked["approval_id"], "decision": "approve", "signature": text}
        data |= {"action_sha256": asked["action_sha256"], "number": number, "assertion": shown}
        left_out = changes.pop("without", "")
        body = {
            "id": device.new_id(),
            "name": "approval.decide",
            "data": {k: v for k, v in data.items() if k != left_out},
        }
        return browser.request("POST", "/api/v1/commands", json=body)["data"]

    async with connected(gateway, device) as phone:
        asked = await ask(phone, "pay Cy 5")

        def attempt() -> None:
            number = browser.request("GET", f"/api/v1/approvals/{asked['approval_id']}/number")["number"]
            assert code_of(decide, asked, number, without="assertion") is Code.USER_VERIFICATION_REQUIRED
            operator.execute(
                "UPDATE approvals SET created_at_ms = created_at_ms - 3600000"
            )  # so that only the passkey is old
            old = {"iat": device.clock.now_ms() // 1000 - 301}
            assert code_of(decide, asked, number, payload=old) is Code.SIGNATURE_INVALID
            assert code_of(decide, asked, number, payload={"decision": "deny"}) is Code.SIGNATURE_INVALID
            row = decide(asked, number)
            assert (row["state"], row["votes"][0]["device_id"], row["votes"][0]["verified"]) == (
                "approved",
                None,
                "passkey",
            )

        await asyncio.to_thread(attempt)
        await phone.until_event("RUN_FINISHED")


async def test_two_people_have_to_agree(gateway: GatewayProcess, operator: Operator) -> None:
    user_id = operator.add_user("Chief")
    mine = operator.pair("Mine", user_id=user_id)
    boss = operator.pair("Boss's phone", user_id=operator.add_user("Boss", "admin"))
    async with connected(gateway, mine) as phone, connected(gateway, boss) as other:
        asked = await ask(phone, "hire Dee")
        seen = (await other.until_event("approval.requested"))["data"]
        assert (seen["for_user_id"], seen["for_name"], seen["two_person"]) == (user_id, "Chief", True)
        assert (await asyncio.to_thread(mine.decide, asked, "approve"))["state"] == "pending"
        vote = (await other.until_event("approval.voted"))["data"]["vote"]
        assert (vote["name"], vote["decision"]) == ("Chief", "approve")
        assert (await asyncio.to_thread(boss.decide, seen, "approve"))["state"] == "approved"
        await phone.until_event("RUN_FINISHED")
    shown = await asyncio.to_thread(gateway.cli, "approvals", "show", asked["approval_id"])
    assert shown.returncode != 0, "the owner at the socket was not asked, and sees nothing of it"


async def test_a_rule_lets_calls_through_until_its_person_is_disabled(
    gateway: GatewayProcess, operator: Operator
) -> None:
    user_id = operator.add_user("Ruler")
    device = operator.pair("Ruler's phone", user_id=user_id)
    async with connected(gateway, device) as phone:
        asked = await ask(phone, "buy milk")
        wish = {
            "approval_id": asked["approval_id"],
            "args": {"text": {"begins": "buy "}},
            "ends_in_s": 3600,
            "tool": "note",
        }
        rule = rfc8785.dumps(wish).decode()
        deciding = Deciding(device, b"ruler")
        signature = deciding.sign(asked, None, rule=rule)
        made = await asyncio.to_thread(lambda: deciding.decide(asked, signature, rule=rule))
        assert isinstance(made, dict)
        await phone.until_event("RUN_FINISHED")
        await phone.say("!note buy eggs")
        allowed = (await phone.until_event("approval.allowed"))["data"]
        await phone.until_event("RUN_FINISHED")
    rows = await asyncio.to_thread(gateway.ask, "approvals", "rules", "list", "--all")
    assert [(row["rule_id"], row["uses"]) for row in rows] == [(allowed["rule_id"], 1)]
    login = next(row["login"] for row in gateway.ask("users", "list") if row["user_id"] == user_id)
    await asyncio.to_thread(gateway.cli, "users", "disable", login)
    rows = await asyncio.to_thread(gateway.ask, "approvals", "rules", "list", "--all")
    assert [(row["state"], row["ended_because"]) for row in rows] == [("ended", "person_left")]
    events = [
        row["event"] for row in await asyncio.to_thread(gateway.ask, "audit", "list", "--event", "approval_rule.")
    ]
    assert sorted(events) == ["approval_rule.ended", "approval_rule.made", "approval_rule.used"]
