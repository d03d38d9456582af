"""Agents that are servers answer on a phone: another gateway by AG-UI, and one by A2A."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import a2a_agent
from tests.support.a2a_agent import A2aAgent
from tests.support.operator import Operator
from tests.support.phone import Phone, connected
from tests.support.process import GatewayProcess


@pytest.fixture(scope="module")
def painter() -> Iterator[A2aAgent]:
    with A2aAgent() as running:
        yield running


@pytest.fixture(scope="module")
def near(
    tmp_path_factory: pytest.TempPathFactory, shared_gateway: GatewayProcess, painter: A2aAgent
) -> Iterator[GatewayProcess]:
    """A gateway whose agents are the shared gateway's, and the painter."""
    folder = tmp_path_factory.mktemp("near")
    key = shared_gateway.ask("devices", "add-key", "near", "--scopes", "chat")["api_key"]
    bridges = [
        {
            "name": "far",
            "kind": "ag-ui",
            "url": f"{shared_gateway.address}/api/v1/agents/entobot/ag-ui",
            "sends": "message",
            "key_file": put(folder / "far.key", key),
            "ca_file": str(shared_gateway.home / "tls" / "ca.crt"),
            "private_networks": ["127.0.0.0/8"],
        },
        {
            "name": "painter",
            "kind": "a2a",
            "url": painter.url,
            "key_file": put(folder / "painter.key", a2a_agent.KEY),
            "key_header": "X-API-Key",
            "private_networks": ["127.0.0.0/8"],
        },
        {"name": "absent", "kind": "ag-ui", "url": "http://10.1.2.3/"},
    ]
    process = GatewayProcess(folder / "home", environment={"ENTOBOT_AGENT__BRIDGES": json.dumps(bridges)}).start()
    yield process
    process.close()


def put(file: Path, content: str) -> str:
    file.write_text(content)
    return str(file)


async def answer(phone: Phone) -> str:
    def is_answer(frame: dict[str, Any]) -> bool:
        event = frame.get("event", {})
        return event.get("type") == "message.created" and event["data"]["role"] == "assistant"

    return (await phone.until(is_answer))["event"]["data"]["content"]


async def test_a_gateway_behind_a_gateway_answers_and_remembers(
    near: GatewayProcess, shared_gateway: GatewayProcess
) -> None:
    device = await asyncio.to_thread(near.pair)
    async with connected(near, device) as phone:
        sent = await phone.say("hello out there", agent="far")
        assert await answer(phone) == "hello out there"
        pieces = [one["delta"] for one in phone.events("TEXT_MESSAGE_CONTENT")]
        assert "".join(pieces) in ("", "hello out there"), "what was shown live is what was said"
        await phone.say("once more", conversation_id=sent["conversation_id"])
        assert await answer(phone) == "once more"
    rows = Operator(shared_gateway).query(
        "SELECT conversation_id, count(*) FROM messages WHERE content = 'hello out there' OR content = 'once more' "
        "GROUP BY conversation_id"
    )
    assert [count for _, count in rows] == [4], "one conversation there, too"


async def test_what_the_far_gateway_asks_is_decided_on_its_own_phones(
    near: GatewayProcess, shared_gateway: GatewayProcess
) -> None:
    device = await asyncio.to_thread(near.pair)
    async with connected(near, device) as phone:
        await phone.say("!note ants", agent="far")
        told = await answer(phone)
    assert told == "far waits for a decision that is made elsewhere, on a device of its own: Note: ants"
    assert Operator(near).query("SELECT * FROM approvals") == []
    assert Operator(shared_gateway).query("SELECT state FROM approvals WHERE title = 'Note: ants'") == [("pending",)]


async def test_an_agent_by_a2a_asks_in_the_chat_and_goes_on_with_the_answer(
    near: GatewayProcess, painter: A2aAgent
) -> None:
    device = await asyncio.to_thread(near.pair)
    async with connected(near, device) as phone:
        sent = await phone.say("ask", agent="painter")
        assert await answer(phone) == "Which colour?"
        await phone.say("red", conversation_id=sent["conversation_id"])
        assert await answer(phone) == "red"
    asked, answered = painter.executor.heard[-2:]
    assert asked[1:] == answered[1:]


async def test_how_they_are_is_shown(near: GatewayProcess) -> None:
    device = await asyncio.to_thread(near.pair)
    async with connected(near, device) as phone:
        await phone.say("hello", agent="absent")
        failed = await phone.until_event("RUN_ERROR")
    assert failed["code"] == "provider_rejected"
    listed = await asyncio.to_thread(Operator(near).local.request, "GET", "/api/v1/agents")
    rows = {row["name"]: row for row in listed["rows"]}
    assert {name: row["kind"] for name, row in rows.items()} == {"far": "ag-ui", "painter": "a2a", "absent": "ag-ui"}
    assert rows["absent"]["state"] == "failed"
    assert "private_networks" in rows["absent"]["detail"]
