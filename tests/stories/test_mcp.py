"""An agent with one entry in its settings tells and asks a person: the real client library, over standard input."""

import asyncio
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters

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


async def call(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    done = await client.call_tool(tool, arguments)
    assert not done.is_error, done.content
    assert done.structured_content is not None
    return done.structured_content


async def test_an_agent_tells_and_asks_and_the_answer_comes_from_the_phone(gateway: GatewayProcess) -> None:
    device = await asyncio.to_thread(gateway.pair, "Phone")
    async with agent(gateway) as client, connected(gateway, device) as phone:
        tools = {tool.name for tool in (await client.list_tools()).tools}
        assert tools == {"answer_to", "ask", "notify", "take_back"}
        assert "person" in (client.instructions or "")
        await call(client, "notify", title="The build is green", priority="high")
        assert (await phone.until_event("notification.created"))["data"]["title"] == "The build is green"
        asking = asyncio.create_task(call(client, "ask", question="Deploy?", options=["now", "later"]))
        asked = (await phone.until_event("question.asked"))["data"]
        await phone.command("question.answer", {"question_id": asked["question_id"], "answer": "later"})
        answered = await asking
        assert (answered["state"], answered["answer"]) == ("answered", "later")


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
        asking = asyncio.create_task(call(client, "ask", question="Still there?"))
        async with connected(gateway, device) as phone:
            asked = (await phone.until_event("question.asked"))["data"]
        await asyncio.to_thread(gateway.kill)
        await asyncio.to_thread(gateway.start)
        async with connected(gateway, device) as phone:
            await phone.command("question.answer", {"question_id": asked["question_id"], "answer": "yes"})
        assert (await asking)["answer"] == "yes"


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
