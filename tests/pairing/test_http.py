"""The routes as a phone and an operator's page meet them, on the built application."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from entobot.core.access import ROUTES
from entobot.core.errors import Code, Problem
from entobot.core.permissions import DEFAULT_DEVICE_SCOPES
from entobot.core.principal import Principal
from entobot.pairing import http
from entobot.pairing.limits import MAX_FAILURES_PER_ADDRESS
from entobot.pairing.requests import ClaimRequest, CreatedInvite
from entobot.web.application import WebSettings, build_application
from entobot.web.authentication import Presented
from entobot.web.http import Check, ReadyReport
from entobot.web.idempotency import Idempotency
from entobot.web.pages import load_pages
from entobot.web.routes import Api
from tests.devices.phone import ORIGIN
from tests.pairing.gatehouse import Gatehouse, minutes
from tests.pairing.phones import NewPhone

INVITES = "/api/v1/pairing/invites"
PAIR = "/api/v1/auth/pair"
OPERATOR = {"authorization": "DPoP operator"}
CHATTER = {"authorization": "DPoP chatter"}


class TwoPeople:
    """Knows the operator and a device that may chat only."""

    def __init__(self, gate: Gatehouse, chatter: Principal) -> None:
        self._people = {"DPoP operator": gate.owner, "DPoP chatter": chatter}

    async def authenticate(self, presented: Presented) -> Principal:
        found = self._people.get(presented.authorization or "")
        if found is None:
            raise Problem(Code.UNAUTHENTICATED, "No credentials.")
        return found

    async def local_owner(self) -> Principal:
        raise AssertionError("nobody comes from the local socket")


@pytest.fixture
async def client(gate: Gatehouse) -> AsyncIterator[httpx.AsyncClient]:
    people = TwoPeople(gate, await gate.device_principal(DEFAULT_DEVICE_SCOPES))
    api = Api(people, Idempotency(gate.database, gate.clock, gate.house.entropy))
    http.add_routes(api, gate.pairing)

    async def ready() -> ReadyReport:
        return ReadyReport((Check("database", is_ok=True, detail=""),))

    app = build_application(
        api,
        settings=WebSettings(origin=ORIGIN, version="0.1.0", gateway_name="Ada's gateway"),
        pages=load_pages(),
        ready=ready,
        clock=gate.clock,
        entropy=gate.house.entropy,
    )
    transport = httpx.ASGITransport(app, client=("198.51.100.7", 50_000))
    async with httpx.AsyncClient(transport=transport, base_url=ORIGIN) as client:
        yield client


async def create(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await client.post(INVITES, json={"kind": "qr"} | body, headers=OPERATOR)
    assert answer.status_code == 201, answer.text
    return answer.json()


def claim_request(phone: NewPhone, created: dict[str, Any], now_ms: int) -> ClaimRequest:
    if created["code"] is not None:
        return phone.claim_code(created["code"], now_ms)
    secret, invite_id = created["secret"], created["invite_id"]
    return phone._request(invite_id=invite_id, secret=secret, proof=phone.claim_proof(now_ms, secret, invite_id))


async def claim(client: httpx.AsyncClient, gate: Gatehouse, phone: NewPhone, created: dict[str, Any]) -> dict[str, Any]:
    body = phone.claim_body(claim_request(phone, created, gate.now_ms))
    answer = await client.post(PAIR, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def collect(
    client: httpx.AsyncClient, gate: Gatehouse, phone: NewPhone, claim_id: str, query: str = ""
) -> httpx.Response:
    [proof] = phone.collect(claim_id, gate.now_ms).proofs
    return await client.post(f"{PAIR}/{claim_id}/collect{query}", headers={"DPoP": proof})


@pytest.mark.parametrize("kind", ["qr", "code"])
async def test_a_phone_pairs(client: httpx.AsyncClient, gate: Gatehouse, phone: NewPhone, kind: str) -> None:
    created = await create(client, kind=kind, label="kitchen")
    assert created["state"] == "open"
    assert created["scopes"] == ["approve", "chat", "notify"]
    claimed = await claim(client, gate, phone, created)
    assert claimed["status"] == "awaiting_confirmation"
    assert set(claimed) == {"claim_id", "status", "confirmation_code", "gateway_name", "expires_at"}
    pending = await collect(client, gate, phone, claimed["claim_id"])
    assert (pending.status_code, pending.json()) == (202, {"status": "awaiting_confirmation"})
    seen = (await client.get(f"{INVITES}/{created['invite_id']}", headers=OPERATOR)).json()
    assert seen["claim"]["claim_id"] == claimed["claim_id"]
    assert seen["claim"]["device_name"] == phone.name
    assert seen["claim"]["key_thumbprint"] == phone.thumbprint
    assert seen["claim"]["address"] == "198.51.100.7"
    assert claimed["confirmation_code"] not in str(seen)
    confirmed = await client.post(
        f"{INVITES}/{created['invite_id']}/confirm",
        json={"claim_id": claimed["claim_id"], "code": claimed["confirmation_code"]},
        headers=OPERATOR,
    )
    assert confirmed.status_code == 200
    collected = await collect(client, gate, phone, claimed["claim_id"], "?wait=25")
    assert collected.status_code == 200
    body = collected.json()
    assert body["device_id"] == confirmed.json()["device_id"]
    assert set(body) == {
        *("device_id", "user_id", "scopes", "access_token"),
        *("token_type", "expires_in", "refresh_token", "refresh_expires_in"),
    }
    assert (body["token_type"], body["expires_in"]) == ("DPoP", 300)
    rows = (await client.get(INVITES, headers=OPERATOR)).json()["rows"]
    assert [(row["invite_id"], row["state"], row["label"]) for row in rows] == [
        (created["invite_id"], "paired", "kitchen")
    ]


async def test_the_operators_routes_need_the_scope_to_pair(client: httpx.AsyncClient) -> None:
    invite_id = (await create(client))["invite_id"]
    guarded = [route for route in ROUTES if INVITES in route]
    assert len(guarded) == 6
    for route in guarded:
        method, path = route.replace("{invite_id}", invite_id).split()
        body: dict[str, Any] = {"json": {"kind": "qr", "claim_id": "clm_x"}} if method == "POST" else {}
        assert (await client.request(method, path, **body)).status_code == 401
        refused = await client.request(method, path, headers=CHATTER, **body)
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")


async def test_a_cancelled_invite_is_over(client: httpx.AsyncClient, gate: Gatehouse, phone: NewPhone) -> None:
    created = await create(client)
    assert (await client.delete(f"{INVITES}/{created['invite_id']}", headers=OPERATOR)).status_code == 204
    body = phone.claim_body(claim_request(phone, created, gate.now_ms))
    answer = await client.post(PAIR, json=body)
    assert (answer.status_code, answer.json()["code"]) == (403, "pairing_denied")


async def test_a_no_has_no_device(client: httpx.AsyncClient, gate: Gatehouse, phone: NewPhone) -> None:
    created = await create(client)
    claimed = await claim(client, gate, phone, created)
    answer = await client.post(
        f"{INVITES}/{created['invite_id']}/confirm",
        json={"claim_id": claimed["claim_id"], "approve": False},
        headers=OPERATOR,
    )
    assert (answer.status_code, answer.json()) == (200, {"device_id": None})
    refused = await collect(client, gate, phone, claimed["claim_id"])
    assert (refused.status_code, refused.json()["code"]) == (403, "pairing_denied")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"kind": "sms"}, "phone_number"),
        ({"kind": "qr", "phone_number": "+491700000000"}, "kind 'sms'"),
        ({"kind": "code", "allow_bearer": True}, "kind 'qr'"),
        ({"kind": "nfc"}, "kind"),
        ({"kind": "qr", "scopes": ["everything"]}, "scopes"),
        ({"kind": "qr", "scopes": []}, "scope"),
        ({"kind": "qr", "ttl_s": 86_400}, "30 to 900"),
        ({"kind": "qr", "ttl_s": "300"}, "ttl_s"),
        ({"kind": "qr", "secret": "mine"}, "secret"),
        ({"kind": "code", "confirm": "none"}, "confirm"),
        ({"kind": "qr", "confirm": "none", "scopes": ["approve"]}, "at most: chat notify"),
    ],
)
async def test_what_an_invite_cannot_be_is_refused_with_the_reason(
    client: httpx.AsyncClient, body: dict[str, Any], words: str
) -> None:
    answer = await client.post(INVITES, json=body, headers=OPERATOR)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert words in answer.json()["detail"]
    assert (await client.get(INVITES, headers=OPERATOR)).json() == {"rows": []}


async def test_only_what_came_by_sms_is_sent_again(client: httpx.AsyncClient) -> None:
    created = await create(client)
    answer = await client.post(f"{INVITES}/{created['invite_id']}/resend", headers=OPERATOR)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert "Only invites by SMS" in answer.json()["detail"]


@pytest.mark.parametrize(
    "change",
    [
        {"invite_id": None},
        {"extra": 1},
        {"proof": 5},
        {"secret": None},
        {"code": "ABCDEFGH"},
        {"public_key": {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}},
        {"public_key": {"kty": "RSA", "n": "AA", "e": "AQAB"}},
        {"device_info": {"device_name": "x", "platform": "toaster", "app_version": "1"}},
        {"device_info": {"device_name": "evil\u202ename", "platform": "ios", "app_version": "1"}},
        {"device_info": {"device_name": "", "platform": "ios", "app_version": "1"}},
    ],
)
async def test_a_claim_that_is_not_as_described_is_invalid_and_counts_for_nothing(
    client: httpx.AsyncClient, gate: Gatehouse, phone: NewPhone, change: dict[str, Any]
) -> None:
    created = await create(client)
    body = phone.claim_body(claim_request(phone, created, gate.now_ms)) | change
    body = {name: value for name, value in body.items() if value is not None}
    answer = await client.post(PAIR, json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert created["secret"] not in answer.text
    await claim(client, gate, phone, created)


async def test_a_private_key_is_refused(client: httpx.AsyncClient, gate: Gatehouse, phone: NewPhone) -> None:
    created = await create(client)
    body = phone.claim_body(claim_request(phone, created, gate.now_ms))
    body["public_key"] = phone.jwk | {"d": "A" * 43}
    answer = await client.post(PAIR, json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert "A" * 43 not in answer.text


async def test_an_open_route_takes_eight_kibibytes(client: httpx.AsyncClient) -> None:
    answer = await client.post(PAIR, content=b" " * 8193, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 1024

    answer = await client.post(PAIR, content=endless(), headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


async def test_a_blocked_address_is_refused_before_its_body_is_read_whatever_it_sends(
    client: httpx.AsyncClient, gate: Gatehouse, phone: NewPhone
) -> None:
    created = await create(client)
    good = phone.claim_body(claim_request(phone, created, gate.now_ms))
    for attempt in range(MAX_FAILURES_PER_ADDRESS):
        guess = NewPhone().claim_body(NewPhone().claim_code("ZZZZZZZZ", gate.now_ms)) | {"proof": "a.b.c"}
        headers = {"x-forwarded-for": f"203.0.113.{attempt}", "forwarded": f"for=203.0.113.{attempt}"}
        assert (await client.post(PAIR, json=guess, headers=headers)).json()["code"] == "proof_invalid"

    async def unread() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    forged = {"x-forwarded-for": "192.0.2.99", "x-real-ip": "192.0.2.99", "forwarded": "for=192.0.2.99"}
    for headers in ({}, forged):
        answer = await client.post(PAIR, content=unread(), headers={"content-type": "application/json"} | headers)
        assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
        assert answer.headers["retry-after"] == "600"
        assert (await client.post(PAIR, json=good, headers=headers)).status_code == 429
    gate.clock.advance(minutes(10))
    created = await create(client)
    await claim(client, gate, phone, created)


async def test_a_repeated_creation_answers_without_the_secret(client: httpx.AsyncClient) -> None:
    headers = OPERATOR | {"idempotency-key": "one"}
    first = await client.post(INVITES, json={"kind": "qr"}, headers=headers)
    second = await client.post(INVITES, json={"kind": "qr"}, headers=headers)
    assert (first.status_code, second.status_code) == (201, 201)
    hidden = {"secret", "url", "code", "qr_svg"}
    assert second.json() == {k: v for k, v in first.json().items() if k not in hidden} | {"secret_shown": True}
    assert len((await client.get(INVITES, headers=OPERATOR)).json()["rows"]) == 1


async def test_the_stored_answer_holds_no_secret(client: httpx.AsyncClient, gate: Gatehouse) -> None:
    headers = OPERATOR | {"idempotency-key": "one"}
    for kind in ("qr", "code"):
        headers["idempotency-key"] = kind
        created = (await client.post(INVITES, json={"kind": kind}, headers=headers)).json()
        assert (created["secret"] or created["code"]).encode() not in gate.bytes_on_disk()


async def test_getting_the_link_pairs_nobody(client: httpx.AsyncClient, gate: Gatehouse) -> None:
    created = await create(client)
    await client.get(created["url"])
    await client.get(PAIR)
    rows = (await client.get(INVITES, headers=OPERATOR)).json()["rows"]
    assert [row["state"] for row in rows] == ["open"]


@pytest.mark.parametrize("query", ["?wait=26", "?wait=-1", "?wait=x"])
async def test_a_wait_is_at_most_25_seconds(
    client: httpx.AsyncClient, gate: Gatehouse, phone: NewPhone, query: str
) -> None:
    claimed = await claim(client, gate, phone, await create(client))
    answer = await collect(client, gate, phone, claimed["claim_id"], query)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")


async def test_collecting_without_a_proof_is_told_so(
    client: httpx.AsyncClient, gate: Gatehouse, phone: NewPhone
) -> None:
    claimed = await claim(client, gate, phone, await create(client))
    answer = await client.post(f"{PAIR}/{claimed['claim_id']}/collect")
    assert (answer.status_code, answer.json()["code"]) == (401, "proof_required")


async def test_the_claim_is_described_whole(client: httpx.AsyncClient) -> None:
    described = (await client.get("/api/openapi.json")).json()
    schema = described["paths"][PAIR]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert "$ref" not in str(schema)
    assert set(schema["required"]) == {"public_key", "device_info", "proof"}


def test_created_is_a_known_shape() -> None:
    assert set(CreatedInvite.__dataclass_fields__) - {"invite"} == http.SECRET_MEMBERS
