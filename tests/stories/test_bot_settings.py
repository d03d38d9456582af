"""The agent's settings are changed while the gateway runs, hold over a restart, and never beat the environment."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from entobot.client.local import LocalGateway
from entobot.core.errors import Code, Problem
from tests.stories.test_main_job import chat
from tests.support.fake_openai import KEY, FakeOpenAI, Text
from tests.support.phone import connected
from tests.support.process import GatewayProcess
from tests.support.thing import Thing

PATH = "/api/v1/settings/bot"
CLEAN = dict.fromkeys(("OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY"), "")


def local(gateway: GatewayProcess) -> LocalGateway:
    return LocalGateway(gateway.home / "gateway.sock")


async def read(gateway: GatewayProcess) -> dict[str, Any]:
    return await asyncio.to_thread(local(gateway).request, "GET", PATH)


async def change(gateway: GatewayProcess, **fields: Any) -> dict[str, Any]:
    return await asyncio.to_thread(lambda: local(gateway).request("PUT", PATH, json=fields))


async def refused(gateway: GatewayProcess, **fields: Any) -> Problem:
    with pytest.raises(Problem) as caught:
        await change(gateway, **fields)
    assert caught.value.code is Code.INVALID
    return caught.value


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Any]:
    made: list[GatewayProcess] = []

    def start(*arguments: str, file: str = "", **environment: str) -> GatewayProcess:
        home = tmp_path / "home"
        home.mkdir(mode=0o700, exist_ok=True)
        (home / "entobot.toml").write_text(file)
        (home / "entobot.toml").chmod(0o600)
        gateway = GatewayProcess(home, environment=CLEAN | environment)
        made.append(gateway)
        return gateway.start(*arguments)

    yield start
    for gateway in made:
        gateway.close()


async def test_the_model_is_changed_for_the_next_run_and_after_a_restart(make: Any) -> None:
    async with FakeOpenAI(Text(["from the model"]), Text(["again"]), Text(["after the restart"])) as server:
        gateway = await asyncio.to_thread(
            lambda: make(ENTOBOT_AGENT__BASE_URL=server.base_url, ENTOBOT_AGENT__API_KEY=KEY)
        )
        changed = await change(
            gateway, model="openai:fake-1-first", temperature=0.5, max_tokens=77, instructions="Be kind."
        )
        assert {field: changed["source"][field] for field in ("model", "runner")} == {
            "model": "stored",
            "runner": "default",
        }
        assert changed["agent"]["runner_kind"] == "llm"
        assert changed["agent"]["model"] == "openai:fake-1-first"
        (line,) = [one for one in gateway.log.read_text().splitlines() if "settings.changed" in one]
        assert "instructions" in line
        assert "Be kind." not in line
        device = await asyncio.to_thread(gateway.pair, "Phone")
        async with connected(gateway, device) as phone:
            assert await chat(phone, "one") == "from the model"
            await change(gateway, model="openai:fake-1-second", temperature=0)
            assert await chat(phone, "two") == "again"
        await asyncio.to_thread(gateway.kill)
        await asyncio.to_thread(gateway.start)
        async with connected(gateway, device) as phone:
            assert await chat(phone, "three") == "after the restart"
        asked = [(sent["model"], sent["temperature"]) for sent in server.requests]
        assert asked == [("fake-1-first", 0.5), ("fake-1-second", 0.0), ("fake-1-second", 0.0)]
        told = server.requests[-1]["messages"][0]["content"]
        assert told.endswith("Be kind.")
        assert 77 in (server.requests[-1].get("max_tokens"), server.requests[-1].get("max_completion_tokens"))


async def test_the_answer_names_every_source_and_no_secret(make: Any) -> None:
    file = '[agent]\ninstructions = "From the file."\ntemperature = 0.25\n'
    gateway = await asyncio.to_thread(
        lambda: make("--agent", "echo", file=file, ENTOBOT_AGENT__MAX_TOKENS="99", ENTOBOT_AGENT__API_KEY=KEY)
    )
    assert await read(gateway) == {
        "model": "",
        "temperature": 0.25,
        "max_tokens": 99,
        "instructions": "From the file.",
        "runner": "echo",
        "source": {
            "model": "default",
            "temperature": "file",
            "max_tokens": "environment",
            "instructions": "file",
            "runner": "command",
        },
        "agent": {"runner_kind": "echo", "model": "", "why": "agent.runner is 'echo'.", "fix": None},
    }
    changed = await change(gateway, temperature=1, instructions=None)
    assert (changed["temperature"], changed["source"]["temperature"]) == (1.0, "stored")
    back = await change(gateway, temperature=None)
    assert (back["temperature"], back["source"]["temperature"]) == (0.25, "file")


async def test_what_the_environment_sets_cannot_be_changed_and_says_where(make: Any) -> None:
    gateway = await asyncio.to_thread(lambda: make("--agent", "echo", ENTOBOT_AGENT__TEMPERATURE="0.5"))
    problem = await refused(gateway, temperature=0.7)
    assert "ENTOBOT_AGENT__TEMPERATURE" in problem.detail
    assert "entobot up" in (await refused(gateway, runner="auto")).detail
    # The whole form sent back as it was read, with one field changed, is no attempt to change the others.
    whole = {name: value for name, value in (await read(gateway)).items() if name not in ("source", "agent")}
    changed = await change(gateway, **whole | {"instructions": "Short."})
    assert (changed["instructions"], changed["temperature"]) == ("Short.", 0.5)


async def test_the_environment_beats_what_was_stored_before(make: Any) -> None:
    gateway = await asyncio.to_thread(make)
    await change(gateway, instructions="Stored.", runner="echo")
    await asyncio.to_thread(gateway.stop)
    gateway.environment["ENTOBOT_AGENT__INSTRUCTIONS"] = ""
    await asyncio.to_thread(gateway.start)
    now = await read(gateway)
    assert (now["instructions"], now["source"]["instructions"]) == ("", "environment")
    assert (now["runner"], now["source"]["runner"]) == ("echo", "stored")


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 2.1},
        {"temperature": "0.5"},
        {"temperature": True},
        {"max_tokens": 0},
        {"max_tokens": 1.5},
        {"runner": "shell"},
        {"runner": "llm"},
        {"model": "nobody:knows"},
        {"model": "x" * 201},
        {"model": "a\nb"},
        {"instructions": "x" * 16_001},
        {"api_key": "sk-secret"},
        {"base_url": "http://example.test"},
    ],
)
async def test_what_cannot_be_used_is_refused_and_changes_nothing(
    shared_gateway: GatewayProcess, fields: dict[str, Any]
) -> None:
    before = await read(shared_gateway)
    await refused(shared_gateway, **fields)
    assert await read(shared_gateway) == before


async def test_stored_settings_that_cannot_be_used_any_more_do_not_keep_it_from_starting(make: Any) -> None:
    gateway = await asyncio.to_thread(lambda: make(OPENAI_API_KEY="sk-test"))
    changed = await change(gateway, runner="llm", model="openai:some")
    assert changed["agent"]["runner_kind"] == "llm"
    await asyncio.to_thread(gateway.stop)
    gateway.environment["OPENAI_API_KEY"] = ""
    await asyncio.to_thread(gateway.start)
    now = await read(gateway)
    assert now["agent"]["runner_kind"] == "echo"
    assert now["agent"]["fix"] is not None
    assert "cannot be used" in gateway.banner
    assert (await change(gateway, runner="echo", model=None))["agent"]["fix"] is None


async def test_changes_are_audited_without_peoples_words(make: Any) -> None:
    gateway = await asyncio.to_thread(lambda: make(OPENAI_API_KEY="sk-test"))
    await change(gateway, instructions="The safe's number is 4711.", temperature=0.5)
    await change(gateway, temperature=0.5)
    record = await asyncio.to_thread(local(gateway).request, "GET", "/api/v1/audit?event=settings.changed")
    told = {row["subject"]: row["facts"] for row in record["rows"]}
    assert told == {"agent.instructions": {}, "agent.temperature": {"from": "null", "to": "0.5"}}
    assert len(record["rows"]) == 2
    assert "4711" not in str(record)
    assert "sk-test" not in str(await read(gateway))


async def test_it_needs_the_scope(shared_gateway: GatewayProcess) -> None:
    thing = await asyncio.to_thread(Thing.make, shared_gateway, "Curious")
    for method in ("GET", "PUT"):
        answer = await asyncio.to_thread(thing.request, method, PATH, json={})
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
