"""Runs through a model server: real HTTP and SSE, everything else real as well."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from entobot.agents.choice import choose
from entobot.agents.runner import Runner
from entobot.agents.runner_llm import build_llm
from entobot.agents.runner_loading import LoadingRunner
from entobot.agents.service import Limits
from entobot.agents.worker import Pace
from entobot.config import AgentSettings
from tests.agents.conftest import Opener
from tests.support.agency import PATIENCE_S, Agency
from tests.support.fake_openai import KEY, MODEL, Calls, Failure, FakeOpenAI, Raw, Text

Serve = Callable[..., Awaitable[tuple[Agency, FakeOpenAI]]]
QUICK = Pace(flush_every=timedelta(0))


def llm(server: FakeOpenAI, **settings: Any) -> Runner:
    known: dict[str, Any] = {"base_url": server.base_url, "api_key": SecretStr(KEY), "model": MODEL, "runner": "llm"}
    section = AgentSettings(**known | settings)
    endpoint = choose(section, {}).endpoint
    assert endpoint is not None
    return LoadingRunner(lambda: build_llm(endpoint, section, max_retries=0), "llm")


@pytest.fixture
async def serve(open_agency: Opener) -> AsyncIterator[Serve]:
    servers: list[FakeOpenAI] = []

    async def start(*script: Any, settings: dict[str, Any] | None = None, **parts: Any) -> tuple[Agency, FakeOpenAI]:
        server = await FakeOpenAI(*script).__aenter__()
        servers.append(server)
        return await open_agency(runner=llm(server, **(settings or {})), **parts), server

    yield start
    for server in servers:
        await server.__aexit__()


async def test_a_streamed_answer_is_shown_and_stored(serve: Serve) -> None:
    agency, server = await serve(Text(["Hel", "lo ", "you"]))
    await agency.say("hi")
    await agency.until("RUN_FINISHED")
    assert await agency.answers() == ["Hello you"]
    text = "".join(event["delta"] for event in agency.live if event["type"] == "TEXT_MESSAGE_CONTENT")
    assert text == "Hello you"
    (request,) = server.requests
    assert [m["content"] for m in request["messages"] if m["role"] == "user"] == ["hi"]
    assert {tool["function"]["name"] for tool in request["tools"]} == {
        "clock",
        "files_list",
        "files_read",
        "files_write",
        "note",
    }


async def test_text_is_shown_while_the_model_still_writes(serve: Serve) -> None:
    more = asyncio.Event()
    agency, _ = await serve(Text(["first ", "second"], after=more))
    await agency.say("hi")
    assert (await agency.until_live("TEXT_MESSAGE_CONTENT"))["delta"] == "first "
    assert [event["type"] for event in await agency.events()] == ["message.created", "RUN_STARTED"]
    more.set()
    await agency.until("RUN_FINISHED")


PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(100)


def told(request: dict[str, Any]) -> Any:
    return [message["content"] for message in request["messages"] if message["role"] == "user"][-1]


@pytest.mark.parametrize("sees", [True, False], ids=["sees", "blind"])
async def test_the_model_reads_small_texts_and_sees_pictures_if_it_can(serve: Serve, *, sees: bool) -> None:
    agency, server = await serve(Text(["A1"]), Text(["A2"]))
    agency.sees = sees
    files = {"list.txt": b"milk, eggs", "cat.png": PICTURE, "long.txt": b"x" * 65 * 1024, "a.zip": b"PK\x03\x04"}
    sent = await agency.say("", files=files)
    await agency.until("RUN_FINISHED")
    content = told(server.requests[0])
    words = content[0]["text"] if sees else content
    assert "milk, eggs" in words
    assert "xxx" not in words
    assert "[File 'long.txt', text/plain, 66560 bytes; its content is not shown to you]" in words
    assert "[File 'a.zip', application/zip, 4 bytes; its content is not shown to you]" in words
    assert ("[File 'cat.png', image/png, 108 bytes; shown to you]" in words) is sees
    assert [part["image_url"]["url"][:22] for part in content[1:] if sees] == ["data:image/png;base64,"] * sees
    await agency.say("And now?", sent.conversation_id)
    await agency.until("RUN_FINISHED", 2)
    again = json.dumps(server.requests[1]["messages"])
    assert "list.txt" in again
    assert "milk" not in again, "an earlier file is named, not sent again"


async def test_the_model_is_told_the_conversation_so_far(serve: Serve) -> None:
    agency, server = await serve(Text(["A1"]), Text(["A2"]))
    sent = await agency.say("Q1")
    await agency.until("RUN_FINISHED")
    await agency.say("Q2", sent.conversation_id)
    await agency.until("RUN_FINISHED", 2)
    told = [
        (m["role"], m["content"]) for m in server.requests[1]["messages"] if m["role"] not in ("system", "developer")
    ]
    assert told == [("user", "Q1"), ("assistant", "A1"), ("user", "Q2")]


async def test_tools_run_in_one_turn_and_in_several(serve: Serve) -> None:
    agency, server = await serve(
        Calls([("c1", "files_list", "{}"), ("c2", "clock", "{}")], text="Let me look."),
        Calls([("c3", "files_read", '{"path":"hello.txt"}')]),
        Text(["It says hi."]),
    )
    agency.workspace.mkdir()
    (agency.workspace / "hello.txt").write_text("hi")
    await agency.say("what is in there?")
    await agency.until("RUN_FINISHED")
    results = [event["content"] for event in await agency.of("TOOL_CALL_RESULT")]
    assert results == ["hello.txt  2 bytes", "2026-09-21T14:13:20.000Z", "hi"]
    assert await agency.answers() == ["Let me look.", "It says hi."]
    told = {m["tool_call_id"]: m["content"] for m in server.requests[2]["messages"] if m["role"] == "tool"}
    assert told == {"c1": results[0], "c2": results[1], "c3": results[2]}


async def test_a_file_is_written_with_approval_and_exactly_as_approved(serve: Serve) -> None:
    agency, server = await serve(
        Calls([("c1", "files_write", '{"path":"a/b.txt","content":"grüß\\u0020dich"}'), ("c2", "clock", "{}")]),
        Text(["Done."]),
    )
    phone = await agency.pair()
    await agency.say("write it")
    approval = await agency.until("approval.requested")
    assert json.loads(approval["action"])["args"] == {"content": "grüß dich", "path": "a/b.txt"}
    assert (approval["title"], approval["risk"]) == ("Write a/b.txt", "medium")
    await agency.idle()
    assert not agency.workspace.joinpath("a").exists()
    await agency.decide(phone, approval, "approve")
    await agency.until("RUN_FINISHED")
    assert (agency.workspace / "a" / "b.txt").read_text() == "grüß dich"
    told = [m["content"] for m in server.requests[1]["messages"] if m["role"] == "tool"]
    assert told[0] == "Wrote 11 bytes to a/b.txt."


async def test_an_edited_write_executes_the_edit_only_and_the_model_is_told(serve: Serve) -> None:
    agency, server = await serve(Calls([("c1", "files_write", '{"path":"a.txt","content":"x"}')]), Text(["Done."]))
    phone = await agency.pair()
    await agency.say("write it")
    approval = await agency.until("approval.requested")
    action = json.loads(approval["action"])
    action["args"] = {"path": "b.txt", "content": "y"}
    await agency.decide(phone, approval, "approve", edited_action=json.dumps(action, indent=2))
    await agency.until("RUN_FINISHED")
    assert [path.name for path in agency.workspace.iterdir()] == ["b.txt"]
    (told,) = [m["content"] for m in server.requests[1]["messages"] if m["role"] == "tool"]
    assert told == (
        "[The person who approved this changed its arguments; it was carried out with "
        '{"content":"y","path":"b.txt"}]\nWrote 1 bytes to b.txt.'
    )
    (result,) = await agency.of("TOOL_CALL_RESULT")
    assert result["content"] == "Wrote 1 bytes to b.txt."


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (("c1", "rm_rf", "{}"), "There is no such tool."),
        (("c1", "files_read", '{"path":1}'), "invalid: The arguments do not fit the tool"),
        (("c1", "files_read", '{"path":'), "action_not_presentable: "),
        (("c1", "files_read", '{"path":"../x"}'), "invalid: The arguments do not fit the tool: path: "),
        (("c1", "files_write", '{"path":"a","content":"' + "x" * 70_000 + '"}'), "action_not_presentable: "),
        (("c1", "files_write", '{"path":"a","path":"b","content":""}'), "action_not_presentable: "),
    ],
)
async def test_a_call_that_cannot_be_done_is_told_to_the_model(
    serve: Serve, call: tuple[str, str, str], told: str
) -> None:
    agency, server = await serve(Calls([call]), Text(["I see."]))
    await agency.say("go")
    await agency.until("RUN_FINISHED")
    (result,) = await agency.of("TOOL_CALL_RESULT")
    assert result["content"].startswith(told)
    assert await agency.of("approval.requested") == []
    assert server.requests[1]["messages"][-1]["content"].count(told) == 1


@pytest.mark.parametrize(
    ("step", "code", "retry"),
    [
        (Failure(401), "provider_unauthorized", False),
        (Failure(404), "provider_rejected", False),
        (Failure(400), "provider_rejected", False),
        (Failure(429), "provider_rate_limited", True),
        (Failure(500), "provider_error", True),
        (Failure(503), "provider_error", True),
        (Raw(b"data: {not json\n\n"), "provider_error", True),
        (Raw(b'data: {"error":{"message":"SECRET-PROVIDER-TEXT"}}\n\n'), "provider_error", True),
        (Raw(b"SECRET-PROVIDER-TEXT"), "provider_error", True),
        (Raw(b"data: [DONE]\n\n"), "provider_error", True),
        (Text(["  "]), "empty_answer", True),
    ],
)
async def test_a_providers_failure_is_an_error_with_a_code_and_never_an_answer(
    serve: Serve, step: Any, code: str, retry: bool
) -> None:
    agency, _ = await serve(step)
    sent = await agency.say("hi")
    error = await agency.until("RUN_ERROR")
    assert (error["code"], error["retry"]) == (code, retry)
    assert await agency.answers() == []
    assert "SECRET" not in json.dumps([await agency.events(), agency.live])
    (asked,) = await agency.database.read(lambda tx: agency.conversations.transcript(tx, sent.conversation_id, 10))
    assert (asked.error_code, asked.error_text) == (code, error["message"])


async def test_an_answer_that_breaks_off_is_no_answer(serve: Serve) -> None:
    chunk: dict[str, Any] = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
    chunk["choices"] = [{"index": 0, "delta": {"role": "assistant", "content": "half of"}, "finish_reason": None}]
    agency, _ = await serve(Raw(b"data: " + json.dumps(chunk).encode() + b"\n\n"))
    await agency.say("hi")
    await agency.until("RUN_ERROR")
    assert await agency.answers() == []


async def test_a_wrong_key_is_told_as_such(serve: Serve) -> None:
    agency, server = await serve(Text(["never"]), settings={"api_key": SecretStr("sk-wrong")})
    await agency.say("hi")
    error = await agency.until("RUN_ERROR")
    assert error["code"] == "provider_unauthorized"
    assert "SECRET" not in error["message"]
    assert server.requests == []


async def test_a_server_that_is_not_there_is_told_as_such(open_agency: Opener) -> None:
    async with FakeOpenAI() as server:
        runner = llm(server)
    agency = await open_agency(runner=runner)
    await agency.say("hi")
    assert (await agency.until("RUN_ERROR"))["code"] == "provider_unreachable"


@pytest.mark.parametrize("begun", [b"", b": keep-alive\n\n"])
async def test_a_stalled_stream_ends_as_a_timeout_and_hangs_up(serve: Serve, begun: bytes) -> None:
    agency, server = await serve(
        Raw(begun, hangs=True), pace=Pace(turn_timeout=timedelta(seconds=1.5), flush_every=timedelta(0))
    )
    await agency.say("hi")
    assert (await agency.until("RUN_ERROR"))["code"] == "provider_timeout"
    await server.dropped.wait()


async def test_cancelling_hangs_up_on_the_model_and_ends_the_run(serve: Serve) -> None:
    agency, server = await serve(Text(["thinking ", "never"], after=asyncio.Event()), Text(["next"]))
    phone = await agency.pair()
    sent = await agency.say("hi")
    await agency.until_live("TEXT_MESSAGE_CONTENT")
    started = await agency.until("RUN_STARTED")
    result = await agency.command(phone.principal, "run.cancel", run_id=started["runId"])
    assert result == {"run_id": started["runId"], "state": "cancelled"}
    await server.dropped.wait()
    assert (await agency.until("RUN_FINISHED"))["outcome"] == {"type": "cancelled"}
    await agency.say("again", sent.conversation_id)
    await agency.until("RUN_FINISHED", 2)
    assert await agency.answers() == ["next"]


async def test_a_slow_conversation_does_not_delay_another(serve: Serve) -> None:
    more = asyncio.Event()
    agency, server = await serve(Text(["slow ", "one"], after=more), Text(["quick"]))
    slow = await agency.say("a")
    await server.reached.wait()
    quick = await agency.say("b")
    await agency.until("RUN_FINISHED")
    assert await agency.answers(quick.conversation_id) == ["quick"]
    assert await agency.answers(slow.conversation_id) == []
    more.set()
    await agency.until("RUN_FINISHED", 2)
    assert await agency.answers(slow.conversation_id) == ["slow one"]


async def test_a_model_that_never_stops_calling_tools_is_stopped(serve: Serve) -> None:
    agency, server = await serve(
        *[Calls([(f"c{n}", "clock", "{}")]) for n in range(5)], limits=Limits(max_iterations=3)
    )
    await agency.say("hi")
    error = await agency.until("RUN_ERROR")
    assert (error["code"], error["retry"]) == ("iteration_limit", False)
    assert len(server.requests) == 3


async def test_the_only_model_of_a_server_needs_no_name(serve: Serve) -> None:
    agency, server = await serve(Text(["hello"]), settings={"model": ""})
    await agency.say("hi")
    await agency.until("RUN_FINISHED")
    assert server.requests[0]["model"] == MODEL


async def test_settings_reach_the_model(serve: Serve) -> None:
    agency, server = await serve(
        Text(["hello"]), settings={"temperature": 0.5, "max_tokens": 77, "instructions": "Speak like a pirate."}
    )
    await agency.say("hi")
    await agency.until("RUN_FINISHED")
    (request,) = server.requests
    assert request["temperature"] == 0.5
    assert 77 in (request.get("max_tokens"), request.get("max_completion_tokens"))
    assert "Speak like a pirate." in str(request["messages"][0]["content"])


async def test_stopping_does_not_wait_for_the_model(serve: Serve) -> None:
    agency, _ = await serve(Raw(b"", hangs=True))
    await agency.say("hi")
    await agency.until("RUN_STARTED")
    async with asyncio.timeout(PATIENCE_S):
        await agency.worker.stop(timedelta(seconds=5))
    error = await agency.until("RUN_ERROR")
    assert (error["code"], error["retry"]) == ("gateway_restarted", True)
