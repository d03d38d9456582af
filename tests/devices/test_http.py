"""The REST routes and the command about devices."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
import msgspec
import pytest

from entobot.core.clock import rfc3339
from entobot.core.errors import Code, Problem
from entobot.core.permissions import DEFAULT_DEVICE_SCOPES, Scope
from entobot.devices.commands import RenameDevice, commands
from entobot.devices.directory import ConnectionView
from entobot.devices.http import add_routes
from entobot.gateway.commands import command_table
from entobot.web.application import WebSettings, build_application
from entobot.web.http import ReadyReport
from entobot.web.idempotency import Idempotency
from entobot.web.pages import Pages, load_pages
from entobot.web.routes import Api
from tests.devices.conftest import House
from tests.devices.phone import ORIGIN, Phone

LIST = "/api/v1/devices"


@pytest.fixture(scope="module")
def pages() -> Pages:
    return load_pages()


async def ready() -> ReadyReport:
    return ReadyReport(())


@pytest.fixture
async def client(house: House, pages: Pages) -> AsyncIterator[httpx.AsyncClient]:
    api = Api(house.devices, Idempotency(house.database, house.clock, house.entropy))
    add_routes(api, house.devices)
    settings = WebSettings(origin=ORIGIN, version="0", gateway_name="Test")
    app = build_application(api, settings=settings, pages=pages, ready=ready, clock=house.clock, entropy=house.entropy)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="https://evil-host.test") as client:
        yield client


async def call(
    client: httpx.AsyncClient, house: House, phone: Phone, method: str, path: str, body: Any = None
) -> httpx.Response:
    shown = phone.ask(path.partition("?")[0], house.now_ms, method)
    headers = {"Authorization": shown.authorization or "", "DPoP": shown.proofs[0]}
    return await client.request(method, path, headers=headers, json=body)


async def test_the_list_and_its_alias_show_the_callers_devices(house: House, client: httpx.AsyncClient) -> None:
    phone, device_id = await house.pair("Ada's phone")

    async def find_online(which: Sequence[str]) -> frozenset[str]:
        return frozenset(which) & {device_id}

    house.devices.directory.find_online = find_online
    for path in (LIST, "/api/v1/auth/devices", LIST + "?status=active&limit=1"):
        answer = await call(client, house, phone, "GET", path)
        assert answer.status_code == 200
        assert answer.json() == {
            "next": None,
            "total": 1,
            "rows": [
                {
                    "device_id": device_id,
                    "user_id": (await house.owner()).user_id,
                    "user_name": "owner",
                    "device_name": "Ada's phone",
                    "platform": "ios",
                    "app_version": "1.0",
                    "os_version": "26.1",
                    "status": "active",
                    "scopes": sorted(DEFAULT_DEVICE_SCOPES),
                    "key_thumbprint": phone.key.thumbprint(),
                    "created_at": "2026-09-21T14:13:20.000Z",
                    "last_seen_at": "2026-09-21T14:13:20.000Z",
                    "is_online": True,
                    "credential": "device_key",
                    "device_type": "",
                    "tags": [],
                }
            ],
        }


async def test_without_credentials_only_the_public_keys_are_shown(house: House, client: httpx.AsyncClient) -> None:
    _, device_id = await house.pair()
    one = f"{LIST}/{device_id}"
    for method, path in (
        ("GET", LIST),
        ("GET", "/api/v1/auth/devices"),
        ("GET", one),
        ("PATCH", one),
        ("DELETE", one),
        ("POST", one + "/suspend"),
        ("POST", one + "/reactivate"),
    ):
        assert (await client.request(method, path)).status_code == 401, (method, path)
    answer = await client.get("/.well-known/jwks.json")
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "public, max-age=3600"
    assert {name for key in answer.json()["keys"] for name in key} == {"kty", "crv", "x", "y", "kid", "use", "alg"}


async def test_a_device_is_shown_renamed_and_unpaired(house: House, client: httpx.AsyncClient) -> None:
    phone, device_id = await house.pair()
    one = f"{LIST}/{device_id}"
    assert (await call(client, house, phone, "GET", one)).json()["device_id"] == device_id
    renamed = await call(client, house, phone, "PATCH", one, {"device_name": "Kitchen"})
    assert (renamed.status_code, renamed.json()["device_name"]) == (200, "Kitchen")
    for body in ({"device_name": "a\nb"}, {"device_name": 7}, {"device_name": "x", "status": "revoked"}, {}):
        assert (await call(client, house, phone, "PATCH", one, body)).status_code == 422
    gone = await call(client, house, phone, "DELETE", one)
    assert (gone.status_code, gone.json()["status"]) == (200, "revoked")
    assert (await call(client, house, phone, "GET", one)).status_code == 401


async def test_labels_are_words_and_what_is_left_out_stays(house: House, client: httpx.AsyncClient) -> None:
    manager, device_id = await house.pair("Manager", scopes=DEFAULT_DEVICE_SCOPES | {Scope.DEVICES_MANAGE})
    labels = f"{LIST}/{device_id}/labels"

    async def put(body: dict[str, Any]) -> tuple[int, str, list[str]]:
        answer = await call(client, house, manager, "PUT", labels, body)
        said = answer.json() if answer.status_code == 200 else (await call(client, house, manager, "GET", LIST)).json()
        row = said if answer.status_code == 200 else said["rows"][0]
        return answer.status_code, row["device_type"], row["tags"]

    assert await put({"device_type": "Thermometer", "tags": ["wet", "Cellar"]}) == (
        200,
        "thermometer",
        ["cellar", "wet"],
    )
    assert await put({"tags": ["cellar"]}) == (200, "thermometer", ["cellar"])
    assert await put({"device_type": ""}) == (200, "", ["cellar"])
    for body in ({"device_type": "a b"}, {"tags": ["ä"]}, {"tags": ["x"] * 17}, {"tags": "wet"}, {"device_name": "x"}):
        assert (await put(body)) == (422, "", ["cellar"]), body


async def test_suspending_needs_the_scope_to_manage_devices(house: House, client: httpx.AsyncClient) -> None:
    phone, device_id = await house.pair()
    manager, _ = await house.pair("Manager", scopes=DEFAULT_DEVICE_SCOPES | {Scope.DEVICES_MANAGE})
    suspend, reactivate = f"{LIST}/{device_id}/suspend", f"{LIST}/{device_id}/reactivate"
    assert (await call(client, house, phone, "POST", suspend)).status_code == 403
    assert (await call(client, house, manager, "POST", suspend)).json()["status"] == "suspended"
    refused = await call(client, house, phone, "GET", LIST)
    assert (refused.status_code, refused.json()["code"]) == (403, "device_suspended")
    assert (await call(client, house, manager, "POST", reactivate)).json()["status"] == "active"


async def test_a_refresh_answers_as_collect_does_and_is_not_kept(house: House, client: httpx.AsyncClient) -> None:
    phone, device_id = await house.pair()
    before = phone.refresh_token
    shown = phone.ask_refresh(house.now_ms)
    answer = await client.post(shown.path, json={"refresh_token": before}, headers={"DPoP": shown.proofs[0]})
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    body = answer.json()
    assert set(body) == {
        "device_id",
        "user_id",
        "scopes",
        "access_token",
        "token_type",
        "expires_in",
        "refresh_token",
        "refresh_expires_in",
    }
    assert (body["device_id"], body["token_type"], body["expires_in"]) == (device_id, "DPoP", 300)
    assert body["refresh_token"] != before
    assert body["scopes"] == sorted(DEFAULT_DEVICE_SCOPES)
    bare = await client.post(shown.path, json={"refresh_token": before})
    assert (bare.status_code, bare.json()["code"]) == (401, "proof_required")


async def test_the_host_header_proves_nothing(house: House, client: httpx.AsyncClient) -> None:
    phone, _ = await house.pair()
    shown = phone.ask(LIST, house.now_ms)
    headers = {"Authorization": shown.authorization or "", "DPoP": shown.proofs[0]}
    assert str(client.base_url) != ORIGIN
    assert (await client.get(LIST, headers=headers)).status_code == 200
    spoofed = phone.claims(LIST, house.now_ms, htu=f"{client.base_url}{LIST[1:]}")
    proof = phone.sign({"typ": "dpop+jwt", "jwk": phone.jwk}, spoofed)
    answer = await client.get(LIST, headers={"Authorization": shown.authorization or "", "DPoP": proof})
    assert answer.json()["code"] == "proof_invalid"


# -- command


async def test_a_device_renames_itself_by_command(house: House) -> None:
    phone, device_id = await house.pair()
    _, sibling = await house.pair("Sibling")
    principal = await house.devices.authenticate(phone.ask(LIST, house.now_ms))
    command = command_table(commands(house.devices))["device.rename"]
    command.check(principal)

    async def run(data: RenameDevice) -> object:
        return await house.database.write(lambda tx: command.run(tx, principal, data, house.now_ms))

    assert await run(RenameDevice("Hall")) == {"device_id": device_id, "device_name": "Hall"}
    assert await run(RenameDevice("Porch", device_id)) == {"device_id": device_id, "device_name": "Porch"}
    with pytest.raises(Problem) as caught:
        await run(RenameDevice("Stolen", sibling))
    assert caught.value.code is Code.FORBIDDEN


async def test_the_local_owner_must_say_which_device_to_rename(house: House) -> None:
    owner = await house.devices.local_owner()
    command = commands(house.devices)[0]
    with pytest.raises(Problem) as caught:
        await house.database.write(lambda tx: command.run(tx, owner, RenameDevice("Hall"), house.now_ms))
    assert caught.value.code is Code.INVALID


def test_the_command_refuses_unknown_fields() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"device_name":"x","user_id":"usr_1"}', type=RenameDevice)


async def test_a_device_shows_how_it_is_connected(house: House, client: httpx.AsyncClient) -> None:
    phone, device_id = await house.pair("Ada's phone")

    async def find_connections(which: str) -> list[ConnectionView]:
        assert which == device_id
        return [ConnectionView("websocket", "192.0.2.7", house.now_ms), ConnectionView(place="other:1")]

    house.devices.directory.find_connections = find_connections
    answer = await call(client, house, phone, "GET", f"/api/v1/devices/{device_id}/connections")
    assert answer.json() == {
        "rows": [
            {"transport": "websocket", "address": "192.0.2.7", "since": rfc3339(house.now_ms), "node": None},
            {"transport": "", "address": "", "since": None, "node": "other:1"},
        ]
    }
    unknown = f"/api/v1/devices/dev_{'0' * 26}/connections"
    assert (await call(client, house, phone, "GET", unknown)).status_code == 404
