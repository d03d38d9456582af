"""A board of the first generation pairs over a plain WebSocket: docs/protocol.md §8, real sockets, a real operator."""

import asyncio
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import websockets

from tests.stories.test_simple_protocol import conversation, send, simple
from tests.support.operator import INVITES, Operator
from tests.support.process import GENEROUS_S, ROOT, GatewayProcess
from tests.support.thing import close_code, receive

INFO = {"device_name": "Board", "platform": "iot", "app_version": "0.9"}


def pair_frame(invite: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "type": "pair",
        "session_id": invite["invite_id"],
        "temp_token": invite["secret"],
        "device_info": INFO,
    } | changes


def look(operator: Operator, invite: dict[str, Any]) -> dict[str, Any]:
    return operator.local.request("GET", f"{INVITES}/{invite['invite_id']}")


async def test_a_board_pairs_chats_comes_back_and_is_cut_off(shared_gateway: GatewayProcess) -> None:
    operator = Operator(shared_gateway)
    invite = await asyncio.to_thread(shared_gateway.ask, "pair", "--allow-bearer")
    assert invite["allow_bearer"] is True
    async with simple(shared_gateway) as socket:
        await send(socket, **pair_frame(invite))
        pending = await receive(socket)
        assert set(pending) == {"type", "confirmation_code"}
        await send(socket, type="ping")
        assert await receive(socket) == {"type": "pong"}
        claim = (await asyncio.to_thread(look, operator, invite))["claim"]
        assert (claim["credential"], claim["key_thumbprint"], claim["device_name"]) == ("api_key", None, "Board")
        confirmed = await asyncio.to_thread(
            shared_gateway.cli, "pair", "confirm", invite["invite_id"], pending["confirmation_code"]
        )
        assert confirmed.returncode == 0, confirmed.stderr
        success = await receive(socket)
        assert set(success) == {"type", "device_id", "device_name", "message", "jwt_token"}
        assert await conversation(socket, "first words") == {"type": "message", "content": "first words"}
    async with simple(shared_gateway) as socket:
        await send(socket, type="auth", jwt_token=success["jwt_token"])
        again = await receive(socket)
        assert (again["device_id"], "jwt_token" in again) == (success["device_id"], False)
        assert await conversation(socket, "back") == {"type": "message", "content": "back"}
        row = await asyncio.to_thread(shared_gateway.ask, "devices", "show", success["device_id"])
        assert (row["credential"], row["scopes"]) == ("api_key", ["chat"])
        change = asyncio.to_thread(shared_gateway.ask, "devices", "revoke", success["device_id"])
        _, ended = await asyncio.gather(change, close_code(socket))
        assert ended == 4501
    told = await asyncio.to_thread(operator.local.pages, "/api/v1/audit", event="device.paired")
    assert told[0]["facts"]["credential"] == "api_key"
    assert success["jwt_token"] not in shared_gateway.log.read_text()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"temp_token": "w" * 43}, 4500),
        ({"session_id": "inv_01ARZ3NDEKTSV4RRFFQ69G5FAV"}, 4500),
        ({"device_info": {"device_name": ""}}, 4500),
        ({"device_info": INFO | {"platform": "toaster"}}, 4500),
        ({"device_info": {}}, 4503),
        ({"device_info": INFO | {"extra": 1}}, 4503),
        ({"extra": 1}, 4503),
        ({"session_id": 7}, 4503),
        ({"temp_token": "x" * 200}, 4503),
    ],
)
async def test_a_bad_claim_is_told_and_ends_the_connection(
    shared_gateway: GatewayProcess, changes: dict[str, Any], code: int
) -> None:
    operator = Operator(shared_gateway)
    invite = await asyncio.to_thread(operator.invite, allow_bearer=True)
    async with simple(shared_gateway) as socket:
        await send(socket, **pair_frame(invite, **changes))
        if code == 4500:
            error = await receive(socket)
            assert (error["type"], set(error)) == ("error", {"type", "code", "message"})
        assert await close_code(socket) == code
    await asyncio.to_thread(operator.local.request, "DELETE", f"{INVITES}/{invite['invite_id']}")


async def test_an_invite_without_the_flag_and_a_message_before_the_end_are_refused(
    shared_gateway: GatewayProcess,
) -> None:
    operator = Operator(shared_gateway)
    plain = await asyncio.to_thread(operator.invite)
    async with simple(shared_gateway) as socket:
        await send(socket, **pair_frame(plain))
        assert (await receive(socket))["code"] == "forbidden"
        assert await close_code(socket) == 4500
    weak = await asyncio.to_thread(operator.invite, allow_bearer=True)
    async with simple(shared_gateway) as socket:
        await send(socket, **pair_frame(weak))
        assert (await receive(socket))["type"] == "pairing_pending"
        await send(socket, type="message", content="too early")
        assert await close_code(socket) == 4503
    while (await asyncio.to_thread(look, operator, weak))["state"] == "claimed":  # noqa: ASYNC110  nothing tells this test
        await asyncio.sleep(0)  # the request is the wait
    row = await asyncio.to_thread(look, operator, weak)
    assert row["state"] == "cancelled", "nobody is left who could collect"
    async with simple(shared_gateway) as socket:
        await send(socket, **pair_frame(weak))
        assert (await receive(socket))["code"] == "pairing_denied"


async def test_of_many_boards_at_once_one_gets_in(shared_gateway: GatewayProcess) -> None:
    operator = Operator(shared_gateway)
    invite = await asyncio.to_thread(operator.invite, allow_bearer=True)

    async def board() -> dict[str, Any]:
        async with simple(shared_gateway) as socket:
            await send(socket, **pair_frame(invite))
            answer = await receive(socket)
            if answer["type"] == "pairing_pending":
                claim = (await asyncio.to_thread(look, operator, invite))["claim"]
                answered = {"claim_id": claim["claim_id"], "confirmation_code": answer["confirmation_code"]}
                await asyncio.to_thread(operator.confirm, invite, answered)
                answer = await receive(socket)
            return answer

    answers = await asyncio.gather(*(board() for _ in range(8)))
    assert [answer["type"] for answer in answers].count("auth_success") == 1
    assert [answer.get("code") for answer in answers].count("invite_used") == 7


async def test_the_operators_no_is_told(shared_gateway: GatewayProcess) -> None:
    operator = Operator(shared_gateway)
    invite = await asyncio.to_thread(operator.invite, allow_bearer=True)
    async with simple(shared_gateway) as socket:
        await send(socket, **pair_frame(invite))
        await receive(socket)
        claim = (await asyncio.to_thread(look, operator, invite))["claim"]
        body = {"claim_id": claim["claim_id"], "approve": False}
        path = f"{INVITES}/{invite['invite_id']}/confirm"
        await asyncio.to_thread(operator.local.request, "POST", path, json=body)
        assert (await receive(socket))["code"] == "pairing_denied"
        with pytest.raises(websockets.ConnectionClosed) as end:
            await socket.recv()
        assert end.value.rcvd is not None
        assert end.value.rcvd.code == 4500


async def test_the_board_of_the_documentation_works_as_it_stands(
    shared_gateway: GatewayProcess, tmp_path: Path
) -> None:
    page = (ROOT / "docs" / "how-to" / "pair-a-board.md").read_text()
    found = re.search(r"<!-- test: board -->\n```python\n(.*?)```", page, re.DOTALL)
    assert found is not None
    program = tmp_path / "board.py"
    program.write_text(found[1])
    invite = await asyncio.to_thread(shared_gateway.ask, "pair", "--allow-bearer")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(program), f"wss://127.0.0.1:{shared_gateway.port}/ws"),
        *(str(shared_gateway.home / "tls" / "ca.crt"), "hello from a board"),
        *(invite["invite_id"], invite["secret"]),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=tmp_path,
    )
    assert process.stdout is not None
    async with asyncio.timeout(GENEROUS_S):
        line = (await process.stdout.readline()).decode()
        digits = line.removeprefix("digits: ").strip()
        done = await asyncio.to_thread(shared_gateway.cli, "pair", "confirm", invite["invite_id"], digits)
        assert done.returncode == 0, (line, done.stderr)
        rest = (await process.stdout.read()).decode()
        assert await process.wait() == 0, rest
    assert "answer: hello from a board" in rest
    assert (tmp_path / "board.key").stat().st_mode & 0o777 == 0o600
