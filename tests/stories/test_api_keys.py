"""A script with an API key: over HTTP and over the live connection, and cut off like any device."""

import asyncio
import json

import pytest

from tests.support.phone import raw_socket
from tests.support.process import GatewayProcess
from tests.support.thing import Thing, close_code, open_with, opened, receive, refused_with

NEXT_ID = "01J0000000000000000000000"


async def test_a_script_lists_and_chats_over_http_and_websocket(shared_gateway: GatewayProcess) -> None:
    thing = await asyncio.to_thread(Thing.make, shared_gateway, "Script")
    rows = (await asyncio.to_thread(thing.request, "GET", "/api/v1/devices")).json()["rows"]
    (row,) = [row for row in rows if row["device_id"] == thing.device_id]
    assert (row["device_name"], row["platform"], row["scopes"], row["key_thumbprint"]) == (
        "Script",
        "iot",
        ["chat"],
        None,
    )
    body = {"id": NEXT_ID + "1", "name": "message.send", "data": {"content": "over http"}}
    sent = await asyncio.to_thread(thing.request, "POST", "/api/v1/commands", json=body)
    assert sent.status_code == 200, sent.text
    async with raw_socket(shared_gateway) as socket:
        ready = await open_with(socket, api_key=thing.api_key)
        assert (ready["device_id"], ready["scopes"]) == (thing.device_id, ["chat"])
        command = {"type": "command", "id": NEXT_ID + "2", "name": "message.send", "data": {"content": "hello"}}
        await socket.send(json.dumps(command))
        while (frame := await receive(socket)).get("event", {}).get("type") != "RUN_FINISHED":
            assert frame["type"] != "error", frame


async def test_what_a_key_may_not_do_is_refused(shared_gateway: GatewayProcess) -> None:
    thing = await asyncio.to_thread(Thing.make, shared_gateway, "Limited")
    for method, path in (
        ("GET", "/api/v1/approvals"),
        ("GET", "/api/v1/audit"),
        ("POST", "/api/v1/api-keys"),
        ("POST", "/api/v1/pairing/invites"),
        ("POST", f"/api/v1/devices/{thing.device_id}/suspend"),
    ):
        answer = await asyncio.to_thread(thing.request, method, path, json={})
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), path


async def test_the_same_idempotency_key_does_not_show_a_key_twice(shared_gateway: GatewayProcess) -> None:
    maker = await asyncio.to_thread(Thing.make, shared_gateway, "Maker", "--scopes", "chat,devices.manage")
    maker.headers["Idempotency-Key"] = "once"
    body = {"device_name": "Board", "scopes": ["chat"], "expires_in_s": 3600}
    first = await asyncio.to_thread(maker.request, "POST", "/api/v1/api-keys", json=body)
    again = await asyncio.to_thread(maker.request, "POST", "/api/v1/api-keys", json=body)
    assert (first.status_code, again.status_code) == (201, 201)
    made = first.json()
    assert set(made) == {"device_id", "api_key", "scopes", "expires_at", "topics"}
    assert first.headers["Cache-Control"] == "no-store"
    assert again.json() == {name: made[name] for name in ("device_id", "scopes", "expires_at", "topics")} | {
        "secret_shown": True
    }


@pytest.mark.parametrize(("verb", "code", "refusal"), [("suspend", 4502, 403), ("revoke", 4501, 401)])
async def test_suspend_and_revoke_are_felt_on_an_open_connection(
    shared_gateway: GatewayProcess, verb: str, code: int, refusal: int
) -> None:
    thing = await asyncio.to_thread(Thing.make, shared_gateway, f"To {verb}")
    async with opened(shared_gateway, api_key=thing.api_key) as socket:
        change = asyncio.to_thread(shared_gateway.ask, "devices", verb, thing.device_id)
        _, ended = await asyncio.gather(change, close_code(socket))
        assert ended == code
    assert await refused_with(shared_gateway, api_key=thing.api_key) == code
    assert (await asyncio.to_thread(thing.request, "GET", "/api/v1/devices")).status_code == refusal
    if verb == "suspend":
        await asyncio.to_thread(shared_gateway.ask, "devices", "reactivate", thing.device_id)
        async with opened(shared_gateway, api_key=thing.api_key):
            pass


async def test_a_connection_ends_when_its_key_does(shared_gateway: GatewayProcess) -> None:
    thing = await asyncio.to_thread(Thing.make, shared_gateway, "Short", "--expires-in", "3")
    async with opened(shared_gateway, api_key=thing.api_key) as socket:
        asked = 0
        while True:
            try:
                frame = await receive(socket)
            except Exception:  # noqa: BLE001  the close is read below
                break
            if frame["type"] == "reauth":
                asked += 1
                await socket.send(json.dumps({"type": "auth", "api_key": thing.api_key}))
        assert await close_code(socket) == 4003
        assert asked == 1, "a key that has nothing longer to offer is asked for once"
    assert await refused_with(shared_gateway, api_key=thing.api_key) == 4500


async def test_a_wrong_key_is_refused_for_good_and_no_key_is_logged(shared_gateway: GatewayProcess) -> None:
    thing = await asyncio.to_thread(Thing.make, shared_gateway, "Secretive")
    assert await refused_with(shared_gateway, api_key=thing.api_key[:-1]) == 4500
    assert await refused_with(shared_gateway, token=thing.api_key, proof="x") == 4500
    assert await refused_with(shared_gateway, api_key=thing.api_key, token="x", proof="y") == 4503
    shown = await asyncio.to_thread(shared_gateway.cli, "devices", "list", "--json")
    record = await asyncio.to_thread(shared_gateway.cli, "audit", "list", "--json")
    for text in (shown.stdout, record.stdout, await asyncio.to_thread(shared_gateway.log.read_text)):
        assert thing.api_key[35:78] not in text


async def test_a_token_bound_to_a_key_is_no_api_key(shared_gateway: GatewayProcess) -> None:
    device = await asyncio.to_thread(shared_gateway.pair, "Bound")
    assert device.credentials is not None
    assert await refused_with(shared_gateway, api_key=device.credentials.access_token) == 4500
    with shared_gateway.http() as http:
        headers = {"Authorization": f"Bearer {device.credentials.access_token}"}
        answer = await asyncio.to_thread(http.get, "/api/v1/devices", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "proof_required")
