"""Scripts, boards and clients of the first generation: docs/protocol.md §6 over real sockets."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import websockets
from websockets.asyncio.client import ClientConnection

from entobot.client.local import LocalGateway
from tests.support.phone import Frame, raw_socket
from tests.support.process import GatewayProcess
from tests.support.thing import Thing, close_code, receive


@asynccontextmanager
async def simple(gateway: GatewayProcess, **options: Any) -> AsyncGenerator[ClientConnection]:
    async with raw_socket(gateway, subprotocols=None, **options) as socket:
        assert socket.subprotocol is None
        yield socket


async def send(socket: ClientConnection, **frame: Any) -> None:
    await socket.send(json.dumps(frame))


@asynccontextmanager
async def talking(gateway: GatewayProcess, thing: Thing, name: str = "api_key") -> AsyncGenerator[ClientConnection]:
    async with simple(gateway) as socket:
        await send(socket, type="auth", **{name: thing.api_key})
        success = await receive(socket)
        assert (success["type"], success["device_id"]) == ("auth_success", thing.device_id)
        yield socket


async def conversation(socket: ClientConnection, content: str) -> Frame:
    """Say it; the answer behind the ack."""
    await send(socket, type="message", content=content)
    ack = await receive(socket)
    assert ack["type"] == "ack", ack
    return await receive(socket)


async def refused(gateway: GatewayProcess, first: str | bytes, **options: Any) -> tuple[int, str]:
    async with simple(gateway, **options) as socket:
        await socket.send(first)
        with pytest.raises(websockets.ConnectionClosed) as caught:
            await socket.recv()
        assert caught.value.rcvd is not None
        return caught.value.rcvd.code, caught.value.rcvd.reason


def conversations(thing: Thing) -> list[Frame]:
    rows = thing.request("GET", "/api/v1/conversations").json()["rows"]
    return [row for row in rows if row["title"] == thing.name]


@pytest.mark.parametrize("name", ["api_key", "jwt_token"])
async def test_a_script_is_answered_in_one_conversation_of_its_own(shared_gateway: GatewayProcess, name: str) -> None:
    thing = await asyncio.to_thread(Thing.make, shared_gateway, f"Script {name}")
    async with talking(shared_gateway, thing, name) as socket:
        assert await conversation(socket, "hello") == {"type": "message", "content": "hello"}
        await send(socket, type="ping")
        assert await receive(socket) == {"type": "pong"}
        assert await conversation(socket, "again") == {"type": "message", "content": "again"}
    async with talking(shared_gateway, thing, name) as socket:
        assert await conversation(socket, "later") == {"type": "message", "content": "later"}
    (row,) = await asyncio.to_thread(conversations, thing)
    path = f"/api/v1/conversations/{row['conversation_id']}/messages"
    messages = (await asyncio.to_thread(thing.request, "GET", path)).json()["rows"]
    told = [(message["role"], message["content"]) for message in reversed(messages)]
    assert told == [(role, text) for text in ("hello", "again", "later") for role in ("user", "assistant")]


async def test_nothing_is_sent_before_authentication_and_success_names_the_device(
    shared_gateway: GatewayProcess,
) -> None:
    thing = await asyncio.to_thread(Thing.make, shared_gateway, "Named")
    async with simple(shared_gateway) as socket:
        await send(socket, type="auth", jwt_token=thing.api_key)
        success = await receive(socket)
        assert set(success) == {"type", "device_id", "device_name", "message"}
        assert success["device_name"] == "Named"


async def test_messages_sent_in_one_go_are_stored_and_answered_in_their_order(shared_gateway: GatewayProcess) -> None:
    thing = await asyncio.to_thread(Thing.make, shared_gateway, "Hasty")
    texts = [f"line {number}" for number in range(12)]
    async with talking(shared_gateway, thing) as socket:
        for text in texts:
            await send(socket, type="message", content=text)
        frames = [await receive(socket) for _ in range(2 * len(texts))]
    assert [frame["content"] for frame in frames if frame["type"] == "message"] == texts
    assert len({frame["message_id"] for frame in frames if frame["type"] == "ack"}) == len(texts)
    assert len(await asyncio.to_thread(conversations, thing)) == 1


async def test_two_connections_of_a_device_share_the_conversation_and_the_answers(
    shared_gateway: GatewayProcess,
) -> None:
    thing = await asyncio.to_thread(Thing.make, shared_gateway, "Twice")
    async with talking(shared_gateway, thing) as first:
        await conversation(first, "make it")
        async with talking(shared_gateway, thing) as second:
            await conversation(first, "for both")
            assert await receive(second) == {"type": "message", "content": "for both"}
    assert len(await asyncio.to_thread(conversations, thing)) == 1


async def test_another_devices_talk_is_not_told(shared_gateway: GatewayProcess) -> None:
    mine, other = [await asyncio.to_thread(Thing.make, shared_gateway, name) for name in ("Mine", "Other")]
    async with talking(shared_gateway, mine) as socket, talking(shared_gateway, other) as loud:
        await conversation(loud, "not for mine")
        assert await conversation(socket, "for mine") == {"type": "message", "content": "for mine"}


@pytest.mark.parametrize(
    "first",
    [
        '{"type":"message","content":"hello"}',
        '{"type":"ping"}',
        '{"type":"auth"}',
        '{"type":"auth","api_key":""}',
        '{"type":"auth","api_key":"a","jwt_token":"a"}',
        '{"type":"auth","api_key":"a","extra":1}',
        '{"type":"auth","token":"a","proof":"b"}',
        '{"type":"auth","ticket":"a"}',
        '{"type":"nonsense"}',
        '["auth"]',
        "auth",
        b"\x00\x01",
    ],
)
async def test_another_first_frame_is_a_protocol_error(shared_gateway: GatewayProcess, first: str | bytes) -> None:
    assert (await refused(shared_gateway, first))[0] == 4503


async def test_wrong_keys_and_bound_tokens_are_refused(shared_gateway: GatewayProcess) -> None:
    device = await asyncio.to_thread(shared_gateway.pair, "Phone with a key")
    assert device.credentials is not None
    for key in ("ent_key_nonsense", "x", device.credentials.access_token, device.credentials.refresh_token):
        for name in ("jwt_token", "api_key"):
            assert (await refused(shared_gateway, json.dumps({"type": "auth", name: key})))[0] == 4500


async def test_size_and_origin_are_as_for_everybody(shared_gateway: GatewayProcess) -> None:
    thing = await asyncio.to_thread(Thing.make, shared_gateway, "Bounded")
    assert (await refused(shared_gateway, " " * 8193))[0] == 4505
    with pytest.raises(websockets.InvalidStatus) as caught:
        async with simple(shared_gateway, origin="https://evil.example"):
            raise AssertionError("it was admitted")
    assert caught.value.response.status_code == 403
    async with talking(shared_gateway, thing) as socket:
        await send(socket, type="message", content="x" * 70_000)
        assert (await receive(socket))["code"] == "too_large"
        await socket.send(" " * (256 * 1024 + 1))
        assert await close_code(socket) == 4505


async def test_an_empty_message_is_told_and_a_strange_frame_ends_it(shared_gateway: GatewayProcess) -> None:
    thing = await asyncio.to_thread(Thing.make, shared_gateway, "Clumsy")
    async with talking(shared_gateway, thing) as socket:
        await send(socket, type="message", content="  ")
        error = await receive(socket)
        assert (error["type"], error["code"], set(error)) == ("error", "invalid", {"type", "code", "message"})
        await send(socket, type="command", id="x", name="message.send", data={})
        assert await close_code(socket) == 4503


async def test_a_key_without_the_scope_to_chat_says_nothing_and_hears_nothing(shared_gateway: GatewayProcess) -> None:
    thing = await asyncio.to_thread(Thing.make, shared_gateway, "Notified", "--scopes", "notify")
    async with talking(shared_gateway, thing) as socket:
        await send(socket, type="message", content="hello")
        assert (await receive(socket))["code"] == "forbidden"


@pytest.mark.parametrize(("verb", "code"), [("suspend", 4502), ("revoke", 4501)])
async def test_suspend_and_revoke_are_felt_at_once(shared_gateway: GatewayProcess, verb: str, code: int) -> None:
    thing = await asyncio.to_thread(Thing.make, shared_gateway, f"Simple, to {verb}")
    async with talking(shared_gateway, thing) as socket:
        change = asyncio.to_thread(shared_gateway.ask, "devices", verb, thing.device_id)
        _, ended = await asyncio.gather(change, close_code(socket))
        assert ended == code
    assert (await refused(shared_gateway, json.dumps({"type": "auth", "api_key": thing.api_key})))[0] == code


async def test_a_failed_run_is_told_as_an_error(gateway: GatewayProcess) -> None:
    thing = await asyncio.to_thread(Thing.make, gateway, "Waiting")
    async with talking(gateway, thing) as socket:
        await send(socket, type="message", content="!note milk")
        assert (await receive(socket))["type"] == "ack"
        local = LocalGateway(gateway.home / "gateway.sock")
        while not (rows := (await asyncio.to_thread(local.request, "GET", "/api/v1/approvals"))["rows"]):  # noqa: ASYNC110  nothing tells this test
            await asyncio.sleep(0)  # the request is the wait
        body = {"id": "01J00000000000000000000001", "name": "run.cancel", "data": {"run_id": rows[0]["run_id"]}}
        await asyncio.to_thread(thing.request, "POST", "/api/v1/commands", json=body)
        assert await receive(socket) == {"type": "error", "message": "The answer was stopped.", "code": "cancelled"}


async def test_a_stopping_gateway_says_when_to_come_back(gateway: GatewayProcess) -> None:
    thing = await asyncio.to_thread(Thing.make, gateway, "Patient")
    async with talking(gateway, thing) as socket:
        stopping = asyncio.to_thread(gateway.stop)
        frame, _ = await asyncio.gather(receive(socket), stopping)
        assert (frame["type"], frame["code"]) == ("error", "draining")
        assert await close_code(socket) == 4000
    await asyncio.to_thread(gateway.start)
    async with talking(gateway, thing) as socket:
        assert (await conversation(socket, "back"))["content"] == "back"
