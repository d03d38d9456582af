"""An agent with one entry in its settings tells and asks a person: the real client library, over standard input."""

import asyncio
import base64
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from entobot.core.errors import Problem
from entobot.mcp.courier import MAX_CONTENT_BYTES
from tests.support.phone import connected
from tests.support.process import GENEROUS_S, ROOMY, GatewayProcess
from tests.support.thing import Thing


@pytest.fixture
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    process = GatewayProcess(tmp_path_factory.mktemp("mcp") / "home", environment=ROOMY)
    yield process.start()
    process.close()


@asynccontextmanager
async def agent(gateway: GatewayProcess, **environment: str) -> AsyncGenerator[Client]:
    server = StdioServerParameters(
        command=sys.executable, args=["-m", "entobot", "mcp"], env=dict(gateway.environment) | environment
    )
    async with Client(server, read_timeout_seconds=2 * GENEROUS_S) as client:
        yield client


async def call(client: Client, name: str, /, **arguments: Any) -> dict[str, Any]:
    done = await client.call_tool(name, arguments)
    assert not done.is_error, done.content
    assert done.structured_content is not None
    return done.structured_content


async def test_an_agent_tells_and_asks_and_the_answer_comes_from_the_phone(gateway: GatewayProcess) -> None:
    device = await asyncio.to_thread(gateway.pair, "Phone")
    async with agent(gateway) as client, connected(gateway, device) as phone:
        tools = {tool.name for tool in (await client.list_tools()).tools}
        assert tools == {"answer_to", "ask", "decision_on", "notify", "request_approval", "send_file", "take_back"}
        assert "person" in (client.instructions or "")
        await call(client, "notify", title="The build is green", priority="high")
        assert (await phone.until_event("notification.created"))["data"]["title"] == "The build is green"
        asking = asyncio.create_task(call(client, "ask", question="Deploy?", options=["now", "later"]))
        asked = (await phone.until_event("question.asked"))["data"]
        await phone.command("question.answer", {"question_id": asked["question_id"], "answer": "later"})
        answered = await asking
        assert (answered["state"], answered["answer"]) == ("answered", "later")


async def test_an_agent_elsewhere_gives_its_person_a_file(gateway: GatewayProcess, tmp_path: Path) -> None:
    device = await asyncio.to_thread(gateway.pair, "Phone")
    maker = await asyncio.to_thread(Thing.make, gateway, "Reporter", "--scopes", "notify")
    report = tmp_path / "report.txt"
    content = b"all green\n" * 60_000
    report.write_bytes(content)
    trust = {"ENTOBOT_URL": gateway.address, "ENTOBOT_TOKEN": maker.api_key}
    authority = {"ENTOBOT_AUTHORITY": str(gateway.home / "tls" / "ca.crt")}
    async with agent(gateway, **trust, **authority) as client, connected(gateway, device) as phone:
        sent = await call(client, "send_file", path=str(report), text="Tonight's build")
        told = (await phone.until_event("message.created"))["data"]
        assert (told["role"], told["content"], told["message_id"]) == (
            "assistant",
            "Tonight's build",
            sent["message_id"],
        )
        (file,) = told["files"]
        assert (file["name"], file["media_type"], file["size"]) == ("report.txt", "text/plain", 600_000)
        news = (await asyncio.to_thread(device.request, "GET", "/api/v1/notifications"))["rows"]
        assert [row["conversation_id"] for row in news] == [sent["conversation_id"]], "told where no phone is looking"
        path = f"/api/v1/files/{file['file_id']}/content"
        read = await asyncio.to_thread(device.http.get, path, headers=device._headers("GET", path))
        assert read.content == content
        titles = [row["title"] for row in (await phone.command("conversation.list", {}))["data"]["rows"]]
        assert titles == ["Reporter"]
        again = await call(client, "send_file", path=str(report))
        assert again["conversation_id"] == sent["conversation_id"], "its own conversation, each time"
        missing = await client.call_tool("send_file", {"path": str(tmp_path / "none")})
        assert missing.is_error
        assert "No such file" in str(missing.content)
        foreign = await asyncio.to_thread(maker.request, "GET", "/api/v1/files")
        assert foreign.json()["code"] == "forbidden"


async def test_an_agent_that_dies_gets_its_answer_when_it_comes_back(gateway: GatewayProcess) -> None:
    device = await asyncio.to_thread(gateway.pair, "Phone")
    question = {"question": "Which port?", "form": {"type": "object", "properties": {"port": {"type": "integer"}}}}
    async with agent(gateway) as client:
        waiting = await call(client, "ask", **question, key="port-1", wait_s=0)
        assert waiting["state"] == "open"
    await asyncio.to_thread(gateway.kill)
    await asyncio.to_thread(gateway.start)
    async with connected(gateway, device) as phone:
        await phone.command("question.answer", {"question_id": waiting["question_id"], "answer": {"port": 8080}})
    async with agent(gateway) as client:
        again = await call(client, "ask", **question, key="port-1")
        assert (again["question_id"], again["answer"]) == (waiting["question_id"], {"port": 8080})
        assert (await call(client, "answer_to", question_id=waiting["question_id"]))["state"] == "answered"


async def test_a_gateway_that_restarts_while_an_agent_waits_is_waited_for(gateway: GatewayProcess) -> None:
    device = await asyncio.to_thread(gateway.pair, "Phone")
    async with agent(gateway) as client:
        async with connected(gateway, device) as phone:  # before it is asked: what came earlier is not replayed
            asking = asyncio.create_task(call(client, "ask", question="Still there?"))
            asked = (await phone.until_event("question.asked"))["data"]
        await asyncio.to_thread(gateway.kill)
        await asyncio.to_thread(gateway.start)
        async with connected(gateway, device) as phone:
            await phone.command("question.answer", {"question_id": asked["question_id"], "answer": "yes"})
        assert (await asking)["answer"] == "yes"


async def test_what_an_agent_may_do_is_signed_on_the_phone_and_waits_for_an_agent_that_died(
    gateway: GatewayProcess,
) -> None:
    device = await asyncio.to_thread(gateway.pair, "Phone")
    wish = {"tool": "deploy", "args": {"to": "production"}, "title": "Deploy 1.2", "key": "deploy-1"}
    async with agent(gateway) as client:
        waiting = await call(client, "request_approval", **wish, wait_s=0)
        assert waiting["state"] == "pending"
        assert "args" not in waiting, "nothing that reads like leave"
    await asyncio.to_thread(gateway.kill)
    await asyncio.to_thread(gateway.start)
    async with connected(gateway, device):
        row = (await asyncio.to_thread(device.command, "approval.list", {}))["rows"][0]
        assert (row["run_id"], row["title"]) == (waiting["request_id"], "An agent on the gateway's machine: Deploy 1.2")
        await asyncio.to_thread(device.decide, row, "approve")
    async with agent(gateway) as client, connected(gateway, device) as phone:
        again = await call(client, "request_approval", **wish)
        assert (again["request_id"], again["state"], again["args"]) == (
            waiting["request_id"],
            "approved",
            {"to": "production"},
        )
        assert "taken_at" in await call(client, "decision_on", request_id=again["request_id"])
        asking = asyncio.create_task(call(client, "request_approval", tool="pay", args={}))
        asked = (await phone.until_event("approval.requested"))["data"]
        await asyncio.to_thread(device.decide, asked, "deny", "too much")
        assert (await asking)["reason"] == "too much"
        high = await call(client, "request_approval", tool="wipe", args={}, risk="high")
        assert high["number"] in high["say"], "who shows the digits has them at once"
        taken = await call(client, "take_back", request_id=high["request_id"])
        assert taken["state"] == "cancelled"


async def test_a_token_asks_for_leave_and_can_neither_give_it_nor_see_what_others_ask(gateway: GatewayProcess) -> None:
    thing = await asyncio.to_thread(Thing.make, gateway, "Agent", "--scopes", "notify")
    other = await asyncio.to_thread(Thing.make, gateway, "Other", "--scopes", "notify")
    at = "/api/v1/approvals"
    asked = (await asyncio.to_thread(thing.request, "POST", at, json={"tool": "pay", "args": {}})).json()
    decision = {"approval_id": asked["approval_id"], "decision": "approve", "action_sha256": "x", "signature": "x.y.z"}
    command = {"id": "01J00000000000000000000000", "name": "approval.decide", "data": decision}
    refused = await asyncio.to_thread(thing.request, "POST", "/api/v1/commands", json=command)
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    one = f"/api/v1/approval-requests/{asked['request_id']}"
    for method in ("GET", "DELETE"):
        assert (await asyncio.to_thread(other.request, method, one)).status_code == 404
    for path in (at, f"{at}/{asked['approval_id']}"):
        assert (await asyncio.to_thread(thing.request, "GET", path)).status_code == 403
    assert (await asyncio.to_thread(thing.request, "GET", one)).json()["state"] == "pending"


async def test_from_elsewhere_a_token_is_needed_and_holds_no_more_than_it_says(gateway: GatewayProcess) -> None:
    thing = await asyncio.to_thread(Thing.make, gateway, "Agent", "--scopes", "notify")
    there = {"ENTOBOT_URL": gateway.origin, "ENTOBOT_AUTHORITY": str(gateway.home / "tls" / "ca.crt")}
    async with agent(gateway, **there, ENTOBOT_TOKEN=thing.api_key) as client:
        row = await call(client, "ask", question="Ready?", wait_s=0)
        assert (await call(client, "take_back", question_id=row["question_id"]))["state"] == "cancelled"
        refused = await client.call_tool("ask", {"question": "Ready?", "to": "somebody"})
        assert refused.is_error
        assert "forbidden" in str(refused.content)
        for wrong in ({"question": ""}, {"question": "?", "options": ["a", "a"]}, {"question": "?", "form": {}}):
            assert (await client.call_tool("ask", wrong)).is_error, wrong
    chatter = await asyncio.to_thread(Thing.make, gateway, "Chatter")
    async with agent(gateway, **there, ENTOBOT_TOKEN=chatter.api_key) as client:
        assert (await client.call_tool("notify", {"title": "Hello"})).is_error
    without = await asyncio.to_thread(gateway.cli, "mcp", "--url", gateway.origin)
    assert (without.returncode, "ENTOBOT_TOKEN" in without.stderr) == (2, True)


@asynccontextmanager
async def over_http(gateway: GatewayProcess, token: str, origin: str | None = None) -> AsyncGenerator[Client]:
    """One `url` and one header in an agent's settings."""
    headers = {"Authorization": f"Bearer {token}"} | ({} if origin is None else {"Origin": origin})
    async with (
        httpx2.AsyncClient(headers=headers, verify=gateway.trust(), timeout=GENEROUS_S) as http,
        Client(
            streamable_http_client(f"{gateway.origin}/mcp", http_client=http), read_timeout_seconds=2 * GENEROUS_S
        ) as client,
    ):
        yield client


async def test_over_http_an_agent_has_the_same_tools_with_nothing_but_a_token(gateway: GatewayProcess) -> None:
    thing = await asyncio.to_thread(Thing.make, gateway, "Agent", "--scopes", "notify")
    other = await asyncio.to_thread(Thing.make, gateway, "Other", "--scopes", "notify")
    device = await asyncio.to_thread(gateway.pair, "Phone")
    heard: list[str | None] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        heard.append(message)

    async with (
        over_http(gateway, thing.api_key) as client,
        over_http(gateway, other.api_key, gateway.origin) as neighbour,
        connected(gateway, device) as phone,
    ):
        assert len((await client.list_tools()).tools) == 7
        waiting = asyncio.create_task(client.call_tool("ask", {"question": "Deploy?"}, progress_callback=hear))
        asked = (await phone.until_event("question.asked"))["data"]
        assert asked["asked_by_device_id"] == thing.device_id
        await phone.command("question.answer", {"question_id": asked["question_id"], "answer": "tonight"})
        answered = (await waiting).structured_content
        assert answered is not None
        assert (answered["answer"], heard[0]) == ("tonight", "The question waits on the person's phone.")
        asking = asyncio.create_task(call(client, "request_approval", tool="deploy", args={"to": "x"}))
        approval = (await phone.until_event("approval.requested"))["data"]
        assert approval["title"] == "Agent: deploy"
        not_theirs = await neighbour.call_tool("decision_on", {"request_id": approval["run_id"]})
        assert "not_found" in str(not_theirs.content)
        await asyncio.to_thread(device.decide, approval, "approve")
        assert (await asking)["args"] == {"to": "x"}
        left = asyncio.create_task(client.call_tool("ask", {"question": "Still there?"}))
        await phone.until_event("question.asked")
        assert await asyncio.to_thread(gateway.stop) == 0, "nobody who waits holds up the end"
        assert "draining" in str((await left).content)


async def test_over_http_a_file_comes_as_its_content(gateway: GatewayProcess) -> None:
    thing = await asyncio.to_thread(Thing.make, gateway, "Agent", "--scopes", "notify")
    device = await asyncio.to_thread(gateway.pair, "Phone")
    content = bytes(range(256)) * (MAX_CONTENT_BYTES // 256)
    async with over_http(gateway, thing.api_key) as client, connected(gateway, device) as phone:
        whole = base64.b64encode(content).decode()
        sent = await call(client, "send_file", name="all.bin", content=whole, text="As much as goes")
        told = (await phone.until_event("message.created"))["data"]
        assert (told["content"], told["conversation_id"]) == ("As much as goes", sent["conversation_id"])
        (file,) = told["files"]
        assert (file["name"], file["size"]) == ("all.bin", MAX_CONTENT_BYTES)
        path = f"/api/v1/files/{file['file_id']}/content"
        read = await asyncio.to_thread(device.http.get, path, headers=device._headers("GET", path))
        assert read.content == content
        for name, given, why in (
            ("a", whole + "AAAA", "at most"),
            ("a", "aGVsbG8", "base64"),
            ("a", "aGVs\nbG8=", "base64"),
            ("a", "ümlaut==", "base64"),
            ("a", "", "invalid"),
        ):
            refused = await client.call_tool("send_file", {"name": name, "content": given})
            assert refused.is_error, given[:20]
            assert why in str(refused.content)
        by_path = await client.call_tool("send_file", {"path": "/etc/passwd"})
        assert by_path.is_error
    assert len((await asyncio.to_thread(device.request, "GET", "/api/v1/files"))["rows"]) == 1


async def test_the_door_of_mcp_is_open_for_tokens_alone(gateway: GatewayProcess) -> None:
    thing = await asyncio.to_thread(Thing.make, gateway, "Agent", "--scopes", "notify")
    chatter = await asyncio.to_thread(Thing.make, gateway, "Chatter")
    device = await asyncio.to_thread(gateway.pair, "Phone")
    hello = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    http = gateway.http()

    def post(headers: dict[str, str], body: Any = hello) -> httpx.Response:
        return http.post("/mcp", json=body, headers=headers)

    def attempt() -> None:
        assert post({}).status_code == 401
        assert post({"Authorization": "Bearer ent_key_nobodys"}).status_code == 401
        assert post(chatter.headers).status_code == 403
        for origin in ("https://evil.example", "null"):
            assert post(thing.headers | {"Origin": origin}).status_code == 403, "a page of another site"
        with pytest.raises(Problem, match="API key"):
            device.request("POST", "/mcp", json=hello)
        for body in ([], [hello], {}, hello | {"jsonrpc": "1.0"}, hello | {"method": 1}):
            assert post(thing.headers, body).status_code == 422
        assert post(thing.headers, hello | {"params": {"x": "x" * 1_100_000}}).status_code == 413
        for method in ("GET", "DELETE"):
            assert http.request(method, "/mcp", headers=thing.headers).status_code == 405, "there are no sessions"

    await asyncio.to_thread(attempt)
    answered = await asyncio.to_thread(post, thing.headers)
    assert "request_approval" in answered.text
