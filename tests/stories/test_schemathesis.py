"""The API as its own OpenAPI document describes it, tried by schemathesis on a running gateway by three callers."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
import pytest
import schemathesis
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import FailedHealthCheck, Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from entobot.client.device import Device
from entobot.client.local import local_http
from entobot.client.proofs import dpop_proof, pairing_proof
from entobot.core.errors import STATUS, Code
from entobot.core.permissions import Scope
from entobot.updates.signing import make_release, public_text
from tests.support.operator import Operator
from tests.support.process import ROOMY, GatewayProcess

EXAMPLES = 5
"""Of each operation and kind of data."""
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
ENDLESS = "stream_events"
UPDATES = "/api/v1/updates"
NEVER_2XX = {
    **dict.fromkeys(
        ("enrol_certificate", "renew_certificate"), "They take an API key as HTTP Basic: tests/stories/test_mqtt.py."
    ),
    "show_authority": "Boards' authority is made with MQTT or the first certificate: tests/devices/test_certificates.py.",
    "enrol": "It takes an enrolment key, which no device has: tests/stories/test_mqtt.py.",
    "change_approval_policies": "An owner who is signed in, or at the machine: tests/approvals/test_policies.py.",
    "resend_invite": "Only invites by SMS can be sent again, and no provider is set up here: tests/stories/test_sms.py.",
    **dict.fromkeys(
        ("hear_twilio", "hear_webhook", "take_twilio_receipt", "take_webhook_receipt"),
        "Only the provider signs what it sends: tests/stories/test_sms.py.",
    ),
    "transcribe_recording": "Nothing transcribes here: tests/stories/test_voice.py.",
    "get_release_content": "Only for boards in a roll-out: tests/stories/test_updates.py.",
    "show_history": "Nothing was read here: tests/stories/test_things.py.",
    "test_alert_channel": "No channel is set up here: tests/stories/test_alerts.py.",
    "speak_mcp": "It takes an API key, which no device has: tests/stories/test_mcp.py.",
    "send_code": "No mail server is set up here: tests/stories/test_notifications.py.",
    "begin_passkey_sign_in": "Passkeys need a name, and this gateway has an address.",
    **dict.fromkeys(
        ("add_passkey", "begin_passkey", "end_session", "remove_passkey", "rename_passkey", "sign_in_by_passkey"),
        "Only a browser that is signed in has these: tests/stories/test_signing_in.py.",
    ),
    **dict.fromkeys(
        (
            "begin_totp",
            "confirm_totp",
            "remove_password",
            "remove_totp",
            "renew_recovery_codes",
            "set_password",
            "sign_in_by_password",
        ),
        "These too, and only where passwords are on: tests/stories/test_passwords.py.",
    ),
}


@schemathesis.serializer("application/pkcs10")
def as_request(_: Any, value: Any) -> bytes:
    """Text as it is: no request for a certificate."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


@dataclass
class Caller:
    """Sends generated cases; remembers which operations answered 2xx."""

    name: str
    http: httpx.Client
    sign: Callable[[str, str], dict[str, str]]

    def send(self, case: Any, *, signed: bool = True) -> httpx.Response:
        kwargs = case.as_transport_kwargs(base_url=str(self.http.base_url).rstrip("/"))
        kwargs.pop("cookies", None)
        headers: dict[str, Any] = dict(kwargs.pop("headers", None) or {})
        for name in ("authorization", "dpop"):
            headers = {key: value for key, value in headers.items() if key.lower() != name}
        data: Any = kwargs.pop("data", None)
        body: dict[str, Any] = {"data" if isinstance(data, dict) else "content": data, "json": kwargs.pop("json", None)}
        request = self.http.build_request(
            kwargs["method"],
            kwargs["url"],
            params=kwargs.get("params"),
            headers=[(k.encode("latin-1", "replace"), str(v).encode("latin-1", "replace")) for k, v in headers.items()],
            **{key: value for key, value in body.items() if value is not None},
        )
        if signed:
            request.headers.update(self.sign(request.method, request.url.path))
        response = self.http.send(request, stream=case.operation.definition.raw.get("operationId") == ENDLESS)
        self.http.cookies.clear()  # a sign-in gives one; these callers show credentials of their own
        if not response.is_closed and response.status_code == 200:
            response.close()  # an event stream has no end to wait for
            cut = httpx.Response(200, headers=response.headers, content=b": cut\n\n", request=request)
            cut.elapsed = timedelta()
            return cut
        response.read()
        return response


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    roomy = {**ROOMY, "ENTOBOT_LIMITS__OPENING_PER_ADDRESS": "1000"}
    process = GatewayProcess(tmp_path_factory.mktemp("described") / "home", environment=roomy).start()
    yield Operator(process)
    process.close()


@pytest.fixture(scope="module")
def device(operator: Operator) -> Device:
    return operator.pair("Holder of everything", scopes=sorted(Scope))


@pytest.fixture(scope="module")
def schema(operator: Operator) -> Any:
    return schemathesis.openapi.from_dict(operator.gateway.http().get("/api/openapi.json").json())


@pytest.fixture(params=["anonymous", "device", "owner"])
def caller(request: pytest.FixtureRequest, operator: Operator, device: Device) -> Iterator[Caller]:
    if request.param == "owner":
        with local_http(operator.gateway.home / "gateway.sock") as http:
            yield Caller("owner", http, lambda method, path: {})
    elif request.param == "device":
        yield Caller("device", device.http, lambda method, path: signed_headers(device, method, path))
    else:
        yield Caller("anonymous", operator.gateway.http(), lambda method, path: {})


def signed_headers(device: Device, method: str, path: str) -> dict[str, str]:
    """A fresh proof, with the device's token except where the proof alone counts."""
    token = None
    if not path.endswith(("/collect", "/refresh")):
        device._refresh_when_due()
        assert device.credentials is not None
        token = device.credentials.access_token
    proof = dpop_proof(
        device.key,
        method=method,
        url=device.origin + path,
        now_ms=device.clock.now_ms(),
        entropy=device.entropy,
        access_token=token,
    )
    return {"DPoP": proof} | ({} if token is None else {"Authorization": f"DPoP {token}"})


def operations(schema: Any) -> list[Any]:
    return [result.ok() for result in schema.get_all_operations()]


@pytest.fixture(scope="module")
def generated(schema: Any) -> list[tuple[Any, GenerationMode, list[Any]]]:
    """What is sent to each operation, right and wrong: once for all callers, making it takes longer than sending it."""
    made = [
        (operation, mode, drawn(operation.as_strategy(generation_mode=mode)))
        for operation in operations(schema)
        for mode in GenerationMode
    ]
    without = {operation.label for operation, mode, cases in made if mode.is_positive and not cases}
    assert not without, "there is something right to send to everything"
    return made


def drawn(strategy: Any) -> list[Any]:
    """A fixed set of examples; none where the strategy has none: nothing is wrong for what takes any text, or nothing."""
    # Of those that have any, five are found in less than twenty tries; "filter too much" gives up after fifty, and
    # hypothesis by itself after 459.
    quiet = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
    chosen = settings(
        max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=quiet, phases=[Phase.generate]
    )
    cases: list[Any] = []

    def keep(case: Any) -> None:
        cases.append(case)

    with suppress(FailedHealthCheck, Unsatisfiable):
        seed(20261121)(chosen(given(strategy)(keep)))()
    return cases


def test_every_answer_is_as_described_whatever_is_sent(
    schema: Any, generated: list[tuple[Any, GenerationMode, list[Any]]], caller: Caller
) -> None:
    is_open = _open_operations(schema)

    def answers_as_described(case: Any) -> None:
        response = caller.send(case)
        # A body over the cap is refused too, by a status that the check does not count among the refusals.
        is_wrong = case.meta.generation.mode.is_negative and response.status_code != STATUS[Code.TOO_LARGE]
        checks = [*CHECKS, negative_data_rejection] if caller.name != "anonymous" and is_wrong else CHECKS
        case.validate_response(response, checks=checks)
        if caller.name == "anonymous" and case.operation.label not in is_open:
            assert response.status_code in (401, 404, 422), (case.operation.label, response.status_code)

    wrong: list[str] = []
    for operation, mode, cases in generated:
        # A stranger is refused before anything of it is read; that this is so for what is right is a test below.
        is_refused = caller.name == "anonymous" and operation.label not in is_open
        if is_refused and mode.is_positive:
            continue
        for case in cases[: 1 if is_refused else EXAMPLES]:
            try:
                answers_as_described(case)
            except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001  all operations are tried, then all is told
                parts = error.exceptions if isinstance(error, BaseExceptionGroup) else [error]
                wrong += [f"{operation.label} {mode}: {part} {getattr(error, '__notes__', '')}" for part in parts]
    assert not wrong, "\n\n".join(wrong)


def _open_operations(schema: Any) -> set[str]:
    return {one.label for one in operations(schema) if not one.definition.raw.get("security")}


# -- with what really exists


POLICY = 'forbid (principal, action == Action::"publish", resource) when { principal.tags.contains("quiet") };'


@dataclass
class Existing:
    """Real objects for the parameters of a described route."""

    operator: Operator
    device: Device

    def case(self, operation: Any) -> Any:
        """What makes `operation` succeed."""
        name = operation.definition.raw["operationId"]
        make = getattr(self, name, None)
        values = {} if make is None else make()
        return operation.Case(
            method=operation.method.upper(),
            **({"media_type": "application/json"} if "body" in values and "media_type" not in values else {}),
            **values,
        )

    def victim(self) -> str:
        victim = self.operator.pair("Victim", scopes=["chat"])
        assert victim.credentials is not None
        return victim.credentials.device_id

    def claimed(self) -> tuple[dict[str, Any], Device, dict[str, Any]]:
        invite, phone = self.operator.invite(scopes=["chat"]), self.operator.gateway.new_device()
        return invite, phone, self.operator.claim(phone, invite)

    def run_ag_ui(self) -> dict[str, Any]:
        message = {"id": "m1", "role": "user", "content": "hello"}
        body = {"threadId": self.operator.gateway.new_device().new_id(), "runId": "r1", "messages": [message]}
        return {"path_parameters": {"agent": "entobot"}, "body": body}

    def notification(self) -> str:
        body = {"title": "Dinner is ready"}
        return self.operator.local.request("POST", "/api/v1/notifications", json=body)["notification_ids"][0]

    def post_notification(self) -> dict[str, Any]:
        return {"body": {"title": "Dinner is ready", "priority": "high"}}

    def get_notification(self) -> dict[str, Any]:
        return {"path_parameters": {"notification_id": self.notification()}}

    read_notification = get_notification

    def list_device_push(self) -> dict[str, Any]:
        return {"path_parameters": {"device_id": self.victim()}}

    def machine(self) -> dict[str, Any]:
        body = {"device_name": "Board"}
        return self.operator.local.request("POST", "/api/v1/api-keys", json=body)

    def rotate_api_key(self) -> dict[str, Any]:
        return {"path_parameters": {"device_id": self.machine()["device_id"]}, "body": {"overlap_s": 60}}

    def list_credentials(self) -> dict[str, Any]:
        return {"path_parameters": {"device_id": self.machine()["device_id"]}}

    def revoke_credential(self) -> dict[str, Any]:
        made = self.machine()
        which = {"device_id": made["device_id"], "credential_id": "key_" + made["api_key"][8:34]}
        return {"path_parameters": which}

    def limit_credential(self) -> dict[str, Any]:
        return self.revoke_credential() | {"body": {"publish": ["telemetry/#"]}}

    check_limits = limit_credential

    def enrolment_key(self) -> dict[str, Any]:
        return self.operator.local.request("POST", "/api/v1/enrolment-keys", json={"name": "Boards", "max_uses": 9})

    def create_enrolment_key(self) -> dict[str, Any]:
        return {"body": {"name": "Boards"}}

    def get_enrolment_key(self) -> dict[str, Any]:
        return {"path_parameters": {"key_id": self.enrolment_key()["key_id"]}}

    revoke_enrolment_key = get_enrolment_key

    def memo(self) -> dict[str, Any]:
        made = self.device.request("POST", "/api/v1/memos", json={"kind": "todo", "text": "Call Bob"})
        return {"path_parameters": {"memo_id": made["memo_id"]}}

    remove_memo = memo

    def add_memo(self) -> dict[str, Any]:
        return {"body": {"kind": "note", "text": "The key is under the mat."}}

    def topic(self) -> dict[str, Any]:
        return {"channel": "ntfy", "address": f"https://push.invalid/{self.operator.gateway.new_device().new_id()}"}

    def add_place(self) -> dict[str, Any]:
        return {"body": self.topic()}

    def remove_place(self) -> dict[str, Any]:
        made = self.device.request("POST", "/api/v1/notifications/places", json=self.topic())
        return {"path_parameters": {"place_id": made["place_id"]}}

    send_code = test_place = remove_place

    def confirm_place(self) -> dict[str, Any]:
        return self.remove_place() | {"body": {"code": "123456"}}

    def use_rules(self) -> dict[str, Any]:
        rules = self.operator.local.request("GET", "/api/v1/notifications/rules")
        return {"body": rules | {"time_zone": "Europe/Berlin"}}

    def take_twilio_receipt(self) -> dict[str, Any]:
        return {"path_parameters": {"message_id": "sms_00000000000000000000000000"}}

    def thing(self) -> dict[str, Any]:
        """One that can be told to blink. Types are the owner's."""
        local = self.operator.local
        name = f"t{self.operator.gateway.new_device().new_id().lower()}"
        local.request("PUT", f"/api/v1/thing-types/{name}", json={"commands": {"blink": {"risk": "none"}}})
        device_id = local.request("POST", "/api/v1/api-keys", json={"device_name": "Board"})["device_id"]
        local.request("PUT", f"/api/v1/things/{device_id}/type", json={"type": name})
        return {"path_parameters": {"device_id": device_id}}

    show_thing = list_commands = thing

    def show_history(self) -> dict[str, Any]:
        return self.thing() | {"query": {"reading": "temperature"}}

    def set_thing_type(self) -> dict[str, Any]:
        return self.thing() | {"body": {"type": None}}

    def command_thing(self) -> dict[str, Any]:
        return self.thing() | {"body": {"name": "blink"}}

    def told_thing(self) -> dict[str, Any]:
        device_id = self.thing()["path_parameters"]["device_id"]
        at = f"/api/v1/things/{device_id}/commands"
        made = self.operator.local.request("POST", at, json={"name": "blink"})
        return {"path_parameters": {"device_id": device_id, "command_id": made["command_id"]}}

    show_command = cancel_command = told_thing

    def automation(self) -> dict[str, Any]:
        made = self.operator.local.request("POST", "/api/v1/automations", json=self.add_automation()["body"])
        return {"path_parameters": {"automation_id": made["automation_id"]}}

    def add_automation(self) -> dict[str, Any]:
        return {"body": {"name": "Tea", "when": {"at": "16:00"}, "then": [{"do": "notify"}]}}

    def change_automation(self) -> dict[str, Any]:
        return self.automation() | self.add_automation()

    show_automation = remove_automation = enable_automation = disable_automation = automation
    list_firings = try_automation = automation

    def thing_type(self) -> dict[str, Any]:
        name = f"t{self.operator.gateway.new_device().new_id().lower()}"
        self.operator.local.request("PUT", f"/api/v1/thing-types/{name}", json={})
        return {"path_parameters": {"name": name}}

    def put_thing_type(self) -> dict[str, Any]:
        return self.thing_type() | {"body": {"readings": {"temperature": {"kind": "number", "unit": "K"}}}}

    show_thing_type = remove_thing_type = thing_type

    def signed_release(self) -> tuple[str, bytes]:
        """Its type, of which there is a thing, and what the release key of all of them signed."""
        local, key = self.operator.local, Ed25519PrivateKey.from_private_bytes(b"r" * 32)
        if public_text(key) not in [one["public_key"] for one in local.request("GET", f"{UPDATES}/keys")["rows"]]:
            local.request("POST", f"{UPDATES}/keys", json={"public_key": public_text(key), "name": "Workshop"})
        device_id = self.thing()["path_parameters"]["device_id"]
        name = local.request("GET", f"/api/v1/things/{device_id}")["type"]
        said = {"type": name, "version": "1.1.0", "counter": 1, "created": "2026-11-20T09:30:00Z"}
        return name, make_release([("main.py", b"pass")], key, **said)

    def add_release(self) -> dict[str, Any]:
        return {"body": self.signed_release()[1], "media_type": "application/octet-stream"}

    def release(self) -> dict[str, Any]:
        headers = {"content-type": "application/octet-stream"}
        data = self.signed_release()[1]
        return self.operator.local.request("POST", f"{UPDATES}/releases", content=data, headers=headers)

    def remove_release(self) -> dict[str, Any]:
        return {"path_parameters": {"release_id": self.release()["release_id"]}}

    get_release_content = remove_release

    def add_release_key(self) -> dict[str, Any]:
        return {"body": {"public_key": public_text(Ed25519PrivateKey.generate()), "name": "Workshop"}}

    def remove_release_key(self) -> dict[str, Any]:
        made = self.operator.local.request("POST", f"{UPDATES}/keys", json=self.add_release_key()["body"])
        return {"path_parameters": {"public_key": made["public_key"]}}

    def start_rollout(self) -> dict[str, Any]:
        return {"body": {"type": self.release()["type"], "version": "1.1.0"}}

    def rollout(self) -> dict[str, Any]:
        made = self.operator.local.request("POST", f"{UPDATES}/rollouts", json=self.start_rollout()["body"])
        return {"path_parameters": {"rollout_id": made["rollout_id"]}}

    show_rollout = list_rollout_devices = pause_rollout = abort_rollout = rollout

    def resume_rollout(self) -> dict[str, Any]:
        made = self.rollout()
        self.operator.local.request("POST", f"{UPDATES}/rollouts/{made['path_parameters']['rollout_id']}/pause")
        return made

    def policy(self) -> dict[str, Any]:
        name = f"p{self.operator.gateway.new_device().new_id().lower()}"
        self.operator.local.request("PUT", f"/api/v1/policies/{name}", json={"text": POLICY})
        return {"path_parameters": {"name": name}}

    show_policy = remove_policy = policy

    def put_policy(self) -> dict[str, Any]:
        return {"path_parameters": {"name": "quiet"}, "body": {"text": POLICY}}

    def check_policy(self) -> dict[str, Any]:
        return {"body": {"name": "quiet", "text": POLICY}}

    def explain_policies(self) -> dict[str, Any]:
        device_id = self.machine()["device_id"]
        return {"body": {"device_id": device_id, "publish": f"devices/{device_id}/event"}}

    def question(self) -> dict[str, Any]:
        asked = self.operator.local.request("POST", "/api/v1/questions", json={"text": "When is dinner?"})
        return {"path_parameters": {"question_id": asked["question_id"]}}

    def ask_question(self) -> dict[str, Any]:
        schema = {"type": "object", "properties": {"when": {"type": "string", "format": "date"}}}
        return {"body": {"kind": "form", "text": "When?", "form_schema": schema}}

    def answer_question(self) -> dict[str, Any]:
        return self.question() | {"body": {"answer": "at seven"}}

    get_question = decline_question = cancel_question = question

    def announce_file(self) -> dict[str, Any]:
        return {"body": {"name": "dinner.txt", "size": 3}}

    def arriving(self) -> dict[str, Any]:
        file = self.device.request("POST", "/api/v1/files", json={"name": "dinner.txt", "size": 3})
        return {"path_parameters": {"file_id": file["file_id"]}}

    def put_file_part(self) -> dict[str, Any]:
        path = self.arriving()["path_parameters"] | {"number": 0}
        return {"path_parameters": path, "body": b"yes", "media_type": "application/octet-stream"}

    def finish_file(self) -> dict[str, Any]:
        values = self.arriving()
        path = f"/api/v1/files/{values['path_parameters']['file_id']}/parts/0"
        headers = signed_headers(self.device, "PUT", path) | {"Content-Type": "application/octet-stream"}
        assert self.device.http.put(path, content=b"yes", headers=headers).is_success
        return values

    def get_file_content(self) -> dict[str, Any]:
        values = self.finish_file()
        self.device.request("POST", f"/api/v1/files/{values['path_parameters']['file_id']}/finish")
        return values

    def send_file(self) -> dict[str, Any]:
        return self.get_file_content() | {"body": {"text": "For you."}}

    get_file = delete_file = arriving

    def transcribe_recording(self) -> dict[str, Any]:
        return {"body": self.arriving()["path_parameters"]}

    def get_device(self) -> dict[str, Any]:
        return {"path_parameters": {"device_id": self.victim()}}

    def rename_device(self) -> dict[str, Any]:
        return {"path_parameters": {"device_id": self.victim()}, "body": {"device_name": "Renamed"}}

    def label_device(self) -> dict[str, Any]:
        return {"path_parameters": {"device_id": self.victim()}, "body": {"tags": ["cellar"]}}

    list_connections = revoke_device = suspend_device = get_device

    def reactivate_device(self) -> dict[str, Any]:
        device_id = self.victim()
        self.operator.local.request("POST", f"/api/v1/devices/{device_id}/suspend")
        return {"path_parameters": {"device_id": device_id}}

    def add_user(self) -> dict[str, Any]:
        return {"body": {"login": "added", "name": "Added"}}

    def get_user(self) -> dict[str, Any]:
        return {"path_parameters": {"user_id": self.operator.add_user("Somebody")}}

    disable_user = enable_user = reset_factors = get_user

    def change_user(self) -> dict[str, Any]:
        return {**self.get_user(), "body": {"role": "operator"}}

    make_link = get_user

    def sign_in_by_link(self) -> dict[str, Any]:
        path = f"/api/v1/users/{self.operator.add_user('Somebody')}/sign-in-link"
        return {"body": {"link": self.operator.local.request("POST", path)["url"].rpartition("#link=")[2]}}

    def sign_in_by_passkey(self) -> dict[str, Any]:
        return {"body": {"credential": {}}}

    def add_passkey(self) -> dict[str, Any]:
        return {"body": {"name": "Laptop", "credential": {}}}

    def remove_passkey(self) -> dict[str, Any]:
        return {"path_parameters": {"passkey_id": "none"}}

    def rename_passkey(self) -> dict[str, Any]:
        return {**self.remove_passkey(), "body": {"name": "Laptop"}}

    def sign_in_by_password(self) -> dict[str, Any]:
        return {"body": {"login": "nobody", "password": "of nobody in particular"}}

    def set_password(self) -> dict[str, Any]:
        return {"body": {"password": "of nobody in particular"}}

    def confirm_totp(self) -> dict[str, Any]:
        return {"body": {"enrolment": "none", "code": "000000"}}

    def end_session(self) -> dict[str, Any]:
        return {"path_parameters": {"session_id": "ses_00000000000000000000000000"}}

    def create_api_key(self) -> dict[str, Any]:
        return {"body": {"device_name": "Board"}}

    def acknowledge_alert(self) -> dict[str, Any]:
        self.operator.execute(
            "INSERT OR REPLACE INTO alerts (alert_id, rule, subject, node, severity, state, first_at_ms, last_at_ms, count, facts)"
            " VALUES ('alr_00000000000000000000000000', 'disk_low', '', '', 'critical', 'firing', 1, 1, 1, '{}')"
        )
        return {"path_parameters": {"alert_id": "alr_00000000000000000000000000"}}

    def test_alert_channel(self) -> dict[str, Any]:
        return {"path_parameters": {"channel": "nowhere"}}

    def put_bot_settings(self) -> dict[str, Any]:
        return {"body": {}}

    def change_settings(self) -> dict[str, Any]:
        return {"body": {"version": self.operator.local.request("GET", "/api/v1/settings")["version"], "changes": {}}}

    def put_enterprise_settings(self) -> dict[str, Any]:
        return {"body": {"values": {}}}

    put_mobile_settings = put_enterprise_settings

    def put_provider(self) -> dict[str, Any]:
        return {"path_parameters": {"name": "groq"}, "body": {}}

    def test_provider(self) -> dict[str, Any]:
        self.operator.local.request("PUT", "/api/v1/settings/providers/compatible", json={"base_url": "http://[::1]:9"})
        return {"path_parameters": {"name": "compatible"}}

    def create_invite(self) -> dict[str, Any]:
        return {"body": {"kind": "qr", "scopes": ["chat"]}}

    def get_invite(self) -> dict[str, Any]:
        return {"path_parameters": {"invite_id": self.operator.invite()["invite_id"]}}

    cancel_invite = resend_invite = get_invite

    def confirm_invite(self) -> dict[str, Any]:
        invite, _, claim = self.claimed()
        body = {"claim_id": claim["claim_id"], "code": claim["confirmation_code"]}
        return {"path_parameters": {"invite_id": invite["invite_id"]}, "body": body}

    def claim_invite(self) -> dict[str, Any]:
        invite, phone = self.operator.invite(scopes=["chat"]), self.operator.gateway.new_device()
        proof = pairing_proof(
            phone.key,
            origin=phone.origin,
            secret=invite["secret"],
            invite_id=invite["invite_id"],
            now_ms=phone.clock.now_ms(),
            entropy=phone.entropy,
        )
        body = {
            "invite_id": invite["invite_id"],
            "secret": invite["secret"],
            "public_key": phone.key.jwk,
            "device_info": {"device_name": "New", "platform": "web", "app_version": "1"},
            "proof": proof,
        }
        return {"body": body}

    def list_messages(self) -> dict[str, Any]:
        created = self.device.command("conversation.create", {})
        return {"path_parameters": {"conversation_id": created["conversation_id"]}}

    def get_approval(self) -> dict[str, Any]:
        # What was generated before may have chosen another agent, which asks for nothing.
        self.operator.local.request("PUT", "/api/v1/settings/bot", json={"runner": "echo"})
        text = f"described {self.device.new_id()}"  # others may wait, which were asked for elsewhere
        self.device.command("message.send", {"content": f"!note {text}"})
        with self.device.events() as frames:
            for frame in frames:
                for one in frame.get("pending_approvals") or [frame.get("event", {}).get("data", {})]:
                    if "approval_id" in one and text in json.dumps(one):
                        return {"path_parameters": {"approval_id": one["approval_id"]}}
        raise AssertionError("nobody was asked")

    get_approval_number = get_approval

    def change_approval_policies(self) -> dict[str, Any]:
        return {"body": {"rows": None, "version": 0}}

    def request_approval(self) -> dict[str, Any]:
        return {"body": {"tool": "pay", "args": {"to": "Ann", "amount": 10}, "edits": True}}

    def get_approval_request(self) -> dict[str, Any]:
        made = self.device.request("POST", "/api/v1/approvals", json=self.request_approval()["body"])
        return {"path_parameters": {"request_id": made["request_id"]}}

    take_back_approval_request = get_approval_request

    def get_rule(self) -> dict[str, Any]:
        """The tests of rules show how one is made; here it is only looked at, and ended."""
        rule_id = f"rul_{self.device.new_id()}"
        self.operator.execute(
            "INSERT INTO approval_rules (rule_id, user_id, tool, text, conditions, risk, approval_id, made_by_user_id, "
            "created_at_ms, expires_at_ms, uses) SELECT ?, user_id, 'note', '{}', '{}', 'low', ?, user_id, 0, 1, 0 "
            "FROM users WHERE role = 'owner'",
            rule_id,
            f"apr_{self.device.new_id()}",
        )
        return {"path_parameters": {"rule_id": rule_id}}

    end_rule = get_rule

    def run_command(self) -> dict[str, Any]:
        return {"body": {"id": self.device.new_id(), "name": "conversation.create", "data": {"title": "Described"}}}


@dataclass
class Collecting:
    """Routes for a key that is no device yet, or whose token is not needed."""

    operator: Operator
    operation: Any

    def collect(self) -> httpx.Response:
        invite, phone = self.operator.invite(scopes=["chat"]), self.operator.gateway.new_device()
        claim = self.operator.claim(phone, invite)
        self.operator.confirm(invite, claim)
        return self._send(phone, {"path_parameters": {"claim_id": claim["claim_id"]}})

    def refresh(self) -> httpx.Response:
        phone = self.operator.pair("Refreshing", scopes=["chat"])
        assert phone.credentials is not None
        return self._send(
            phone, {"body": {"refresh_token": phone.credentials.refresh_token}, "media_type": "application/json"}
        )

    def _send(self, phone: Device, values: dict[str, Any]) -> httpx.Response:
        case = self.operation.Case(method="POST", **values)
        response = Caller("device", phone.http, lambda method, path: signed_headers(phone, method, path)).send(case)
        case.validate_response(response, checks=CHECKS)
        return response


def test_every_operation_succeeds_as_described_when_it_is_used_right(
    schema: Any, operator: Operator, device: Device
) -> None:
    existing = Existing(operator, device)
    holder = Caller("device", device.http, lambda method, path: signed_headers(device, method, path))
    failed: dict[str, str] = {}
    for operation in operations(schema):
        name = operation.definition.raw["operationId"]
        if name in ("collect", "refresh"):
            response = getattr(Collecting(operator, operation), name)()
        else:
            case = existing.case(operation)
            response = holder.send(case)
            case.validate_response(response, checks=CHECKS)
        if not response.is_success:
            failed[name] = f"{response.status_code} {response.text[:200]}"
    assert {name: text for name, text in failed.items() if name not in NEVER_2XX} == {}
    assert set(failed) == set(NEVER_2XX), "the reasons are up to date"


def test_no_operation_can_be_had_without_its_credentials(schema: Any, operator: Operator, device: Device) -> None:
    existing, http = Existing(operator, device), operator.gateway.http()
    stranger = Caller("anonymous", http, lambda method, path: {})
    invalid = [
        {},
        {"Authorization": "DPoP x", "DPoP": "x"},
        {"Authorization": "Bearer ent_key_00000000000000000000000000_x"},
        {"Authorization": "Basic b3duZXI6b3duZXI="},
        {"Cookie": "__Host-session=x"},
    ]
    open_ones = _open_operations(schema)
    for operation in operations(schema):
        if operation.label in open_ones or operation.definition.raw["operationId"] in ("collect", "refresh"):
            continue
        case = existing.case(operation) if operation.definition.raw["operationId"] not in NEVER_2XX else None
        for headers in invalid:
            if case is not None:
                stranger.sign = lambda method, path, headers=headers: headers
                response = stranger.send(case)
                case.validate_response(response, checks=CHECKS)
                assert response.status_code == 401, (operation.label, headers, response.text)


def test_every_path_says_which_methods_it_has(schema: Any, operator: Operator) -> None:
    http = operator.gateway.http()
    paths = schema.raw_schema["paths"]
    for plain in (path.replace("{", "").replace("}", "") for path in paths):
        # A word may stand where another route has an id: both are there then.
        items = [item for one, item in paths.items() if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", one), plain)]
        methods = {method for item in items for method in item}
        known = {method.upper() for method in methods} | {"OPTIONS"} | ({"HEAD"} if "get" in methods else set())
        for method in ("TRACE", "QUERY", "PUT", "PATCH", "DELETE", "POST"):
            answer = http.request(method, plain)
            if method not in known:
                assert answer.headers["content-type"] == "application/problem+json", (method, plain)
                if answer.status_code == 405:
                    assert set(answer.headers["allow"].split(", ")) == known
                else:
                    assert answer.status_code in (400, 404, 501), (method, plain, answer.status_code)
