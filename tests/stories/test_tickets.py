"""A browser's way in: a ticket asked for over HTTP opens one WebSocket from the same origin."""

import asyncio
import json
from typing import Any

import pytest

from entobot.client.device import Device
from tests.support.phone import raw_socket
from tests.support.process import GatewayProcess
from tests.support.thing import Thing, close_code, open_with, receive, refused_with

PATH = "/api/v1/auth/ws-ticket"


def ask(device: Device, origin: str | None = None) -> dict[str, Any]:
    headers = device._headers("POST", PATH) | ({} if origin is None else {"Origin": origin})
    answer = device.http.post(PATH, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    return answer.json()


@pytest.fixture(scope="module")
def phone(shared_gateway: GatewayProcess) -> Device:
    return shared_gateway.pair("Browser")


async def test_a_ticket_opens_one_connection_and_no_second(shared_gateway: GatewayProcess, phone: Device) -> None:
    given = await asyncio.to_thread(ask, phone)
    assert set(given) == {"ticket", "expires_in"}
    assert given["expires_in"] == 30
    async with raw_socket(shared_gateway) as socket:
        ready = await open_with(socket, ticket=given["ticket"], resume=None)
        assert phone.credentials is not None
        assert ready["device_id"] == phone.credentials.device_id
        assert 200 < ready["expires_in"] <= 300
        assert (await receive(socket))["type"] == "reset"
        assert await refused_with(shared_gateway, ticket=given["ticket"]) == 4003


async def test_a_ticket_holds_for_its_origin_only(shared_gateway: GatewayProcess, phone: Device) -> None:
    origin = shared_gateway.origin
    given = (await asyncio.to_thread(ask, phone, origin))["ticket"]
    assert await refused_with(shared_gateway, ticket=given) == 4500
    assert await refused_with(shared_gateway, {"Origin": origin}, ticket=given) == 4003
    given = (await asyncio.to_thread(ask, phone))["ticket"]
    assert await refused_with(shared_gateway, {"Origin": origin}, ticket=given) == 4500
    given = (await asyncio.to_thread(ask, phone, origin))["ticket"]
    async with raw_socket(shared_gateway, origin=origin) as socket:
        await open_with(socket, ticket=given)


async def test_of_many_sockets_with_one_ticket_one_opens(shared_gateway: GatewayProcess, phone: Device) -> None:
    ticket = (await asyncio.to_thread(ask, phone))["ticket"]
    outcomes: list[object] = []

    async def attempt() -> None:
        async with raw_socket(shared_gateway) as socket:
            await receive(socket)
            await socket.send(json.dumps({"type": "auth", "ticket": ticket}))
            try:
                outcomes.append((await receive(socket))["type"])
            except Exception:  # noqa: BLE001  the close code says which
                outcomes.append(await close_code(socket))

    await asyncio.gather(*(attempt() for _ in range(8)))
    assert sorted(map(str, outcomes)) == ["4003"] * 7 + ["ready"]


@pytest.mark.parametrize(("verb", "code"), [("suspend", 4502), ("revoke", 4501)])
async def test_suspend_and_revoke_are_felt_on_a_connection_with_a_ticket(
    shared_gateway: GatewayProcess, verb: str, code: int
) -> None:
    device = await asyncio.to_thread(shared_gateway.pair, f"To {verb}")
    unused = (await asyncio.to_thread(ask, device))["ticket"]
    async with raw_socket(shared_gateway) as socket:
        await open_with(socket, ticket=(await asyncio.to_thread(ask, device))["ticket"])
        change = asyncio.to_thread(shared_gateway.ask, "devices", verb, f"To {verb}")
        _, ended = await asyncio.gather(change, close_code(socket))
        assert ended == code
    assert await refused_with(shared_gateway, ticket=unused) == code


async def test_a_ticket_is_renewed_by_the_devices_own_credentials(shared_gateway: GatewayProcess) -> None:
    thing = await asyncio.to_thread(Thing.make, shared_gateway, "Minute", "--expires-in", "50")
    ticket = (await asyncio.to_thread(thing.request, "POST", PATH)).json()["ticket"]
    async with raw_socket(shared_gateway) as socket:
        ready = await open_with(socket, ticket=ticket)
        assert ready["expires_in"] <= 50
        while (await receive(socket))["type"] != "reauth":
            pass
        await socket.send(json.dumps({"type": "auth", "api_key": thing.api_key}))
        while (frame := await receive(socket))["type"] != "reauthed":
            assert frame["type"] != "error"


async def test_the_operators_socket_and_strangers_get_no_ticket(shared_gateway: GatewayProcess) -> None:
    with shared_gateway.http() as http:
        assert (await asyncio.to_thread(http.post, PATH)).status_code == 401
