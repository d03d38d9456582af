"""A person asks, notes and is reminded by SMS, against a provider on loopback that signs what it hands on."""

import base64
import hashlib
import hmac
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest

from tests.support.carrier import SECRETS, Carrier
from tests.support.operator import Operator
from tests.support.process import GatewayProcess, free_port

NUMBER, STRANGER = "+14155550123", "+14155550199"
PLACES = "/api/v1/notifications/places"


class Mobile:
    """Somebody with a mobile phone, and what it was sent."""

    def __init__(self, gateway: GatewayProcess, carrier: Carrier) -> None:
        self.gateway, self.carrier = gateway, carrier
        self._names = count(1)
        self._http = gateway.http()

    def write(self, text: str, *, sender: str = NUMBER, name: str = "") -> int:
        request = self.carrier.answer(
            self.gateway.origin, text, name=name or f"SM{next(self._names):032x}", sender=sender
        )
        return self._http.send(request).status_code

    def ask(self, text: str) -> str:
        before = len(self.carrier.sent)
        assert self.write(text) == 200
        return self.carrier.until(before + 1)[-1][1]

    def confirm(self, operator: Operator) -> None:
        place = operator.local.request("POST", PLACES, json={"channel": "sms", "address": "+1 415 555 0123"})
        assert place["confirmed"] is False
        sent = operator.local.request("POST", f"{PLACES}/{place['place_id']}/code")
        assert sent["state"] in ("queued", "sent")
        number, text = self.carrier.until(len(self.carrier.sent) or 1)[-1]
        code = re.match("[0-9]{6}", text)
        assert number == NUMBER
        assert code is not None
        operator.local.request("POST", f"{PLACES}/{place['place_id']}/confirm", json={"code": code[0]})


@pytest.fixture
def carrier() -> Iterator[Carrier]:
    carrier = Carrier("twilio")
    yield carrier
    carrier.stop()


@pytest.fixture
def gateway(request: pytest.FixtureRequest, tmp_path: Path, carrier: Carrier) -> Iterator[GatewayProcess]:
    secret, port = tmp_path / "secret", free_port()
    secret.write_text(SECRETS[carrier.provider])
    given = carrier.settings | {"secret_file": str(secret), "countries": "US", "commands": "true"}
    given |= getattr(request, "param", {})
    environment = {f"ENTOBOT_SMS__{name.upper()}": str(value) for name, value in given.items()}
    environment["ENTOBOT_SMS__RECEIPTS_ORIGIN"] = f"https://127.0.0.1:{port}"
    process = GatewayProcess(tmp_path / "home", port=port, environment=environment).start()
    yield process
    process.close()


@pytest.fixture
def mobile(gateway: GatewayProcess, carrier: Carrier) -> Mobile:
    return Mobile(gateway, carrier)


def test_a_person_asks_notes_and_is_reminded_by_sms(gateway: GatewayProcess, mobile: Mobile) -> None:
    operator = Operator(gateway)
    mobile.confirm(operator)
    assert "0 to approve, 0 questions" in mobile.ask("STATUS")
    assert mobile.ask("is the garage warm?") == "is the garage warm?"
    assert mobile.ask("NOTE the key is under the mat\nTODO call Bob; TODO buy milk") == "Noted.\nNoted.\nNoted."
    assert mobile.ask("todos") == "To do:\n1. call Bob\n2. buy milk"
    assert mobile.ask("DONE 1\nTODOS\nNOTES") == (
        "Done: call Bob\nTo do:\n1. buy milk\nNotes:\n1. the key is under the mat"
    )
    assert mobile.ask("REMIND soon call Bob").startswith("When?")
    assert "I will remind you at" in mobile.ask("remind me in 2 hours to call Bob")
    rows = operator.local.request("GET", "/api/v1/memos")["rows"]
    assert [(row["kind"], row["text"]) for row in rows] == [
        ("note", "the key is under the mat"), ("reminder", "call Bob"), ("todo", "buy milk"),
    ]  # fmt: skip
    due = datetime.now(UTC) + timedelta(seconds=5)
    before = len(mobile.carrier.sent)
    body = {"kind": "reminder", "text": "stand up", "due_at": due.isoformat()}
    operator.local.request("POST", "/api/v1/memos", json=body)
    assert mobile.carrier.until(before + 1)[-1] == (NUMBER, "Reminder: stand up")
    titles = [row["title"] for row in operator.local.request("GET", "/api/v1/notifications")["rows"]]
    assert "stand up" in titles, "it is told as any other news is"
    assert NUMBER[2:] not in gateway.log.read_text()


def test_what_waits_for_a_person_is_told_and_never_decided_by_sms(gateway: GatewayProcess, mobile: Mobile) -> None:
    operator = Operator(gateway)
    mobile.confirm(operator)
    assert mobile.write("!note hello") == 200
    question = {"text": "Soup or salad?", "kind": "text"}
    operator.local.request("POST", "/api/v1/questions", json=question)
    while not operator.local.request("GET", "/api/v1/approvals")["rows"]:
        assert gateway.process is not None
    said = mobile.ask("PENDING")
    assert "1. Note: hello (low risk, until" in said
    assert "Question: Soup or salad?" in said
    assert "/approvals" in said
    assert mobile.ask("YES 123456") == "Nothing is approved by SMS here. Open the app."
    approvals = operator.local.request("GET", "/api/v1/approvals")["rows"]
    assert [row["state"] for row in approvals] == ["pending"]


@pytest.mark.parametrize("gateway", [{"approvals": "true"}], indirect=True, ids=["on"])
def test_where_it_is_switched_on_a_call_of_low_risk_is_approved_by_a_code(
    gateway: GatewayProcess, mobile: Mobile
) -> None:
    operator = Operator(gateway)
    mobile.confirm(operator)
    points = operator.local.request("GET", "/api/v1/posture")["points"]
    assert any("approved by SMS" in point["what"] for point in points), points
    assert mobile.write("!note hello") == 200
    while not operator.local.request("GET", "/api/v1/approvals")["rows"]:
        assert gateway.process is not None
    found = re.search(r'note \{"text":"hello"\} \(low risk\)\. Reply YES (\d{6}) or NO \1', mobile.ask("PENDING"))
    assert found is not None
    before = len(mobile.carrier.sent)
    assert mobile.write(f"YES {found[1]}", sender=STRANGER) == 200
    assert mobile.write(f"YES {found[1]}", name="SM" + "c" * 32) == 200
    assert mobile.write(f"YES {found[1]}", name="SM" + "c" * 32) == 409, "a replay of the webhook"
    said = [text for _, text in mobile.carrier.until(before + 2)[before:]]
    assert "Approved: Note: hello" in said
    (row,) = operator.local.request("GET", "/api/v1/approvals", params={"state": "approved"})["rows"]
    assert [(vote["verified"], vote["device_id"]) for vote in row["votes"]] == [("sms", None)]
    (entry,) = operator.local.request("GET", "/api/v1/audit", params={"event": "approval.decided"})["rows"]
    assert (entry["facts"]["verified"], entry["facts"]["weak"]) == ("sms", True)
    assert "signature" not in entry["facts"]
    assert found[1] not in gateway.log.read_text()


def test_whom_nobody_confirmed_who_repeats_and_who_forges_gets_nothing(gateway: GatewayProcess, mobile: Mobile) -> None:
    operator = Operator(gateway)
    assert mobile.write("NOTE not mine", sender=NUMBER) == 200, "nobody has confirmed this number yet"
    mobile.confirm(operator)
    sent = len(mobile.carrier.sent)
    assert mobile.write("NOTE a stranger's", sender=STRANGER) == 200
    assert mobile.write("NOTE once", name="SM" + "a" * 32) == 200
    assert mobile.write("NOTE once", name="SM" + "a" * 32) == 409, "a repeat of the provider, or a replay"
    forged = mobile.carrier.answer(gateway.origin, "NOTE forged", name="SM" + "b" * 32)
    forged.headers["x-twilio-signature"] = base64.b64encode(hmac.new(b"x", b"y", hashlib.sha1).digest()).decode()
    assert gateway.http().send(forged).status_code == 400
    assert mobile.carrier.until(sent + 1)[sent:] == [(NUMBER, "Noted.")]
    assert [row["text"] for row in operator.local.request("GET", "/api/v1/memos")["rows"]] == ["once"]


@pytest.mark.parametrize("gateway", [{"answers_per_hour": 2}], indirect=True, ids=["two"])
def test_what_would_not_be_answered_is_not_done(gateway: GatewayProcess, mobile: Mobile) -> None:
    operator = Operator(gateway)
    mobile.confirm(operator)
    for number in range(4):
        assert mobile.write(f"NOTE {number}") == 200
    assert [row["text"] for row in operator.local.request("GET", "/api/v1/memos")["rows"]] == ["0", "1"]


@pytest.mark.parametrize("gateway", [{"commands": "false"}], indirect=True, ids=["off"])
def test_nothing_is_read_where_commands_are_off(gateway: GatewayProcess, mobile: Mobile) -> None:
    operator = Operator(gateway)
    mobile.confirm(operator)
    assert mobile.write("NOTE once") == 200
    assert operator.local.request("GET", "/api/v1/memos")["rows"] == []


def test_stop_ends_it_and_start_begins_it_again(gateway: GatewayProcess, mobile: Mobile) -> None:
    operator = Operator(gateway)
    mobile.confirm(operator)
    assert mobile.write("STOP") == 200
    assert mobile.write("NOTE while stopped") == 200
    assert mobile.write("START") == 200
    assert mobile.ask("NOTES") == "Notes: none."
