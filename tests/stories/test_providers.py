"""Keys of model providers go in over the API, are used by the next run, and never come out."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from entobot.client.local import LocalGateway
from entobot.core.errors import Code, Problem
from tests.stories.test_main_job import chat
from tests.support.fake_openai import KEY, MODEL, Failure, FakeOpenAI, Text
from tests.support.phone import connected
from tests.support.process import GatewayProcess

PATH = "/api/v1/settings/providers"
CLEAN = dict.fromkeys(("OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY"), "")


class Desk:
    def __init__(self, gateway: GatewayProcess) -> None:
        self.gateway = gateway
        self.local = LocalGateway(gateway.home / "gateway.sock")

    async def request(self, method: str, path: str, **body: Any) -> dict[str, Any]:
        return await asyncio.to_thread(lambda: self.local.request(method, path, json=body or None))

    async def put(self, name: str, **body: Any) -> dict[str, Any]:
        return await self.request("PUT", f"{PATH}/{name}", **body)

    async def refused(self, name: str, **body: Any) -> str:
        with pytest.raises(Problem) as caught:
            await self.put(name, **body)
        assert caught.value.code is Code.INVALID
        return caught.value.detail

    async def test(self, name: str) -> dict[str, Any]:
        return await self.request("POST", f"{PATH}/{name}/test")

    async def providers(self) -> dict[str, dict[str, Any]]:
        return {row["name"]: row for row in (await self.request("GET", PATH))["rows"]}

    def everything_kept(self) -> bytes:
        files = [path for path in self.gateway.home.rglob("*") if path.is_file()]
        return b"".join(path.read_bytes() for path in files) + self.gateway.log.read_bytes()


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Any]:
    made: list[GatewayProcess] = []

    async def start(**environment: str) -> Desk:
        gateway = GatewayProcess(tmp_path / "home", environment=CLEAN | environment)
        made.append(gateway)
        return Desk(await asyncio.to_thread(gateway.start))

    yield start
    for gateway in made:
        gateway.close()


async def test_a_server_and_its_key_are_set_tried_used_and_kept_sealed(make: Any) -> None:
    async with FakeOpenAI(Text(["ok"]), Text(["from the server"]), Text(["after the restart"])) as server:
        desk = await make()
        row = await desk.put("compatible", base_url=server.base_url, api_key=KEY)
        assert (row["has_key"], row["key_source"], row["base_url"]) == (True, "stored", server.base_url)
        assert row["is_active"]
        tried = await desk.test("compatible")
        assert (tried["ok"], tried["model"], tried["problem"]) == (True, MODEL, "")
        device = await asyncio.to_thread(desk.gateway.pair)
        async with connected(desk.gateway, device) as phone:
            assert await chat(phone, "one") == "from the server"
        await asyncio.to_thread(desk.gateway.kill)
        await asyncio.to_thread(desk.gateway.start)
        async with connected(desk.gateway, device) as phone:
            assert await chat(phone, "two") == "after the restart"
        row = (await desk.providers())["compatible"]
        assert row["last_test"]["ok"]
        answers = [await desk.providers(), await desk.request("GET", "/api/v1/settings")]
        answers.append(await desk.request("GET", "/api/v1/audit?limit=100"))
        history = (await desk.request("GET", "/api/v1/settings/history"))["rows"]
        assert [(one["key"], one["to"]) for one in history] == [
            ("providers.compatible.api_key", "(set)"),
            ("agent.base_url", server.base_url),
        ]
        assert KEY.encode() not in desk.everything_kept() + json.dumps([answers, history]).encode()


async def test_a_key_is_not_sent_to_another_address(make: Any) -> None:
    async with FakeOpenAI() as first, FakeOpenAI() as second:
        desk = await make(OPENAI_API_KEY="sk-of-openai")
        await desk.put("compatible", base_url=first.base_url, api_key=KEY)
        moved = await desk.put("compatible", base_url=second.base_url)
        assert (moved["has_key"], moved["key_source"]) == (False, "none")
        tried = await desk.test("compatible")
        assert tried["code"] in ("provider_unauthorized", "provider_unreachable")
        assert second.requests == []
        back = await desk.put("compatible", base_url=None)
        assert back["base_url"] is None
        assert not (await desk.providers())["compatible"]["last_test"]["ok"]


@pytest.mark.parametrize(
    ("step", "code"),
    [
        (Failure(401), "provider_unauthorized"),
        (Failure(402), "provider_out_of_credit"),
        (Failure(404), "provider_rejected"),
        (Failure(429), "provider_rate_limited"),
        (Failure(500), "provider_error"),
    ],
)
async def test_a_try_that_fails_says_what_to_do_and_nothing_of_the_provider(
    make: Any, step: Failure, code: str
) -> None:
    async with FakeOpenAI(step) as server:
        desk = await make()
        await desk.put("compatible", base_url=server.base_url, api_key=KEY)
        tried = await desk.test("compatible")
        assert tried["code"].startswith(code)
        assert not tried["ok"]
        assert tried["fix"]
        assert "SECRET" not in json.dumps(tried) + json.dumps(await desk.providers())


async def test_a_bad_key_and_nobody_there_are_told_apart(make: Any) -> None:
    desk = await make()
    async with FakeOpenAI() as server:
        await desk.put("compatible", base_url=server.base_url, api_key="sk-wrong")
        assert (await desk.test("compatible"))["code"] == "provider_unauthorized"
        url = server.base_url
    assert url
    assert (await desk.test("compatible"))["code"] == "provider_unreachable"


async def test_what_the_environment_gives_is_pinned_and_what_is_wrong_is_refused(make: Any) -> None:
    desk = await make(OPENAI_API_KEY="sk-of-openai")
    assert (await desk.providers())["openai"]["key_source"] == "environment"
    assert "OPENAI_API_KEY" in await desk.refused("openai", api_key="sk-other")
    assert "compatible" in await desk.refused("openai", base_url="http://127.0.0.1/v1")
    for url in ("http://169.254.169.254/v1", "http://[fe80::1]/v1", "http://2852039166/v1"):
        assert "link-local or metadata" in await desk.refused("compatible", base_url=url)
    assert "secret" not in await desk.refused("compatible", base_url="http://u:secret@host/v1")
    assert "sk-very" not in await desk.refused("anthropic", api_key="sk-very secret")
    with pytest.raises(Problem) as caught:
        await desk.put("nobody", api_key="x")
    assert caught.value.code is Code.NOT_FOUND
    row = await desk.put("anthropic", api_key="sk-of-anthropic")
    assert (row["key_source"], row["is_active"]) == ("stored", False)
    bot = await desk.request("PUT", "/api/v1/settings/bot", model="anthropic:claude-sonnet-5-5", runner="llm")
    assert bot["agent"]["model"] == "anthropic:claude-sonnet-5-5"
    assert "runner is 'llm'" in await desk.refused("anthropic", api_key=None)
    await asyncio.to_thread(desk.gateway.stop)
    await asyncio.to_thread(desk.gateway.start)
    assert (await desk.providers())["anthropic"]["is_active"]
    assert b"sk-of-anthropic" not in desk.everything_kept()
