"""Agents that speak A2A: the SDK's own server, and those that keep to nothing."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from a2a.types import AgentCard, SendMessageRequest, StreamResponse
from google.protobuf.json_format import MessageToDict, ParseDict

from entobot.agents import a2a_words
from entobot.agents.runner import Line, Speaker
from tests.agents.conftest import Opener
from tests.agents.outside import a2a, asking, standing
from tests.support.a2a_agent import KEY, A2aAgent
from tests.support.agency import Agency
from tests.support.remote import Asked, Rogue, head


@pytest.fixture
def painter() -> Any:
    with A2aAgent() as running:
        yield running


@pytest.fixture
async def helped(open_agency: Opener, tmp_path: Path, painter: A2aAgent) -> Agency:
    return await asking(open_agency, a2a(tmp_path, painter.url, KEY))


async def talk(agency: Agency, *said: str) -> list[str]:
    """Its answers, in one conversation."""
    conversation_id: str | None = None
    for number, text in enumerate(said, 1):
        conversation_id = (await agency.say(text, conversation_id)).conversation_id
        await agency.until("RUN_FINISHED", number)
    return await agency.answers()


async def test_pieces_of_an_artifact_are_its_answer_as_they_come(helped: Agency) -> None:
    assert await talk(helped, "hello there") == ["hello there"]
    said = [one for one in helped.live if one["type"] == "TEXT_MESSAGE_CONTENT"]
    assert "".join(one["delta"] for one in said) == "hello there"
    thought = [one["delta"] for one in helped.live if one["type"] == "REASONING_MESSAGE_CONTENT"]
    assert thought == ["let me see\n"]


@pytest.mark.parametrize("streams", [True, False])
async def test_whatever_way_it_answers_the_words_are_heard(open_agency: Opener, tmp_path: Path, streams: bool) -> None:
    with A2aAgent(streams=streams) as painter:
        helped = await asking(open_agency, a2a(tmp_path, painter.url, KEY))
        assert await talk(helped, "hello", "plainly", "status") == ["hello", "plain words", "all in its status"]
        assert len({context for _, _, context in painter.executor.heard}) == 1


async def test_a_conversation_is_a_context_and_another_one_another(helped: Agency, painter: A2aAgent) -> None:
    first = await helped.say("one")
    await helped.until("RUN_FINISHED")
    await helped.say("two")
    await helped.until("RUN_FINISHED", 2)
    await helped.say("three", first.conversation_id)
    await helped.until("RUN_FINISHED", 3)
    one, two, three = painter.executor.heard
    assert one[2] == three[2] != two[2]
    assert three[0] == "three", "what was said before is in its context"


async def test_what_it_asks_is_a_message_and_the_next_one_goes_to_the_same_task(
    helped: Agency, painter: A2aAgent
) -> None:
    assert await talk(helped, "ask", "red", "blue") == ["Which colour?", "red", "blue"]
    asked, answered, next_one = painter.executor.heard
    assert asked[1] == answered[1] != next_one[1]


async def test_a_sign_in_that_it_needs_is_told_in_our_words_first(helped: Agency, painter: A2aAgent) -> None:
    (told,) = await talk(helped, "sign in")
    ours, _, its = told.partition("It says:")
    assert "give nobody a password" in ours
    assert its.strip() == "See https://sign-in.example.org/"
    assert await helped.of("approval.requested") == []


async def test_an_agent_that_forgot_the_conversation_is_told_it(open_agency: Opener, tmp_path: Path) -> None:
    with A2aAgent() as before:
        helped = await asking(open_agency, a2a(tmp_path, before.url, KEY))
        first = await helped.say("ask")
        await helped.until("RUN_FINISHED")
        await helped.close()
    with A2aAgent() as after:
        helped = await asking(open_agency, a2a(tmp_path, after.url, KEY))
        await helped.say("red", first.conversation_id)
        await helped.until("RUN_FINISHED", 2)
        assert (await helped.answers())[-1] == "red"
        assert after.executor.heard[-1][0].split("\n\n") == [
            *("Earlier in this conversation:", "Person: ask", "Agent: Which colour?"),
            "Now:\nred",
        ]


@pytest.mark.parametrize(("word", "code"), [("fail", "provider_error"), ("refuse", "provider_rejected")])
async def test_a_task_that_fails_is_no_answer(helped: Agency, word: str, code: str) -> None:
    await helped.say(word)
    failed = await helped.until("RUN_ERROR")
    assert failed["code"] == code
    assert "SECRET" not in failed["message"]
    assert await helped.answers() == []


async def test_stopping_the_answer_cancels_the_task(helped: Agency, painter: A2aAgent) -> None:
    phone = await helped.pair()
    await helped.say("hang")
    run_id = (await helped.until("RUN_STARTED"))["runId"]
    await helped.until_live("REASONING_MESSAGE_CONTENT")
    await helped.command(phone.principal, "run.cancel", run_id=run_id)
    await helped.until("RUN_FINISHED")
    await helped.idle()
    await helped.worker._runner.close()
    assert painter.executor.cancelled == [painter.executor.heard[0][1]]


async def test_a_wrong_key_is_told(open_agency: Opener, tmp_path: Path, painter: A2aAgent) -> None:
    helped = await asking(open_agency, a2a(tmp_path, painter.url, "sk-wrong"))
    await helped.say("hello")
    assert (await helped.until("RUN_ERROR"))["code"] == "provider_unauthorized"
    assert standing(helped).standing.value == "failed"


# -- what goes wrong

TASK: dict[str, Any] = {"id": "task-1", "contextId": "ctx-1", "status": {"state": "TASK_STATE_WORKING"}}


def result(value: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "result": value}).encode()


def error(code: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "error": {"code": code, "message": "SECRET"}}).encode()


def stream(*values: bytes) -> bytes:
    return head() + b"".join(b"data: " + value + b"\n\n" for value in values)


def as_json(value: bytes) -> bytes:
    return head(media_type="application/json") + value


class Liar:
    """Its card, and what each method is answered."""

    def __init__(self, *, url: str = "", version: str = "1.0", streams: bool = True, **answers: Any) -> None:
        self.url, self.version, self.streams, self.answers = url, version, streams, answers
        self.base = ""

    async def __call__(self, asked: Asked) -> AsyncIterator[bytes]:
        if asked.method == "GET":
            assert asked.path == "/.well-known/agent-card.json"
            door = {
                "url": self.url or f"{self.base}/rpc",
                "protocolBinding": "JSONRPC",
                "protocolVersion": self.version,
            }
            card = {"name": "Liar", "supportedInterfaces": [door], "capabilities": {"streaming": self.streams}}
            yield self.answers.get("card") or as_json(json.dumps(card).encode())
            return
        assert asked.headers["a2a-version"] == "1.0"
        answer = self.answers.get(json.loads(asked.body)["method"], as_json(error(-32601)))
        if isinstance(answer, bytes):
            yield answer
            return
        async for piece in answer(asked):
            yield piece


async def _silent(_: Asked) -> AsyncIterator[bytes]:
    yield stream(result({"task": TASK}))
    await asyncio.Event().wait()


async def _floods(_: Asked) -> AsyncIterator[bytes]:
    yield head()
    while True:
        yield b"data: " + result({"statusUpdate": {"taskId": "task-1", "metadata": "x" * 60_000}}) + b"\n\n"


ANSWER = result({"message": {"messageId": "m", "role": "ROLE_AGENT", "parts": [{"text": "one"}]}})


def methods(asked: list[Asked]) -> list[str]:
    return [json.loads(one.body)["method"] if one.body else one.method for one in asked]


async def failing(open_agency: Opener, folder: Path, liar: Liar, **how: Any) -> tuple[dict[str, Any], list[str]]:
    """How the run failed, and what was asked."""
    async with Rogue(liar) as server:
        liar.base = server.url
        helped = await asking(open_agency, a2a(folder, server.url, KEY, **how))
        await helped.say("hello")
        failed = await helped.until("RUN_ERROR")
        assert "SECRET" not in failed["message"]
        await helped.worker._runner.close()
        return failed, methods(server.asked)


@pytest.mark.parametrize(
    ("liar", "code"),
    [
        (Liar(card=as_json(b"no json")), "provider_error"),
        (Liar(card=as_json(b'{"supportedInterfaces": 1}')), "provider_error"),
        (Liar(card=as_json(b'{"x": "' + b"x" * 600_000 + b'"}')), "answer_too_large"),
        (Liar(card=head(media_type="text/html") + b"SECRET"), "provider_error"),
        (Liar(card=head(302, location="http://127.0.0.1:9/")), "provider_rejected"),
        (Liar(url="http://127.0.0.1:9/rpc"), "provider_rejected"),
        (Liar(url="http://169.254.169.254/"), "provider_rejected"),
        (Liar(url="http://[::1"), "provider_rejected"),
        (Liar(version="0.3.0", SendStreamingMessage=stream(ANSWER)), "provider_rejected"),
        (Liar(), "provider_rejected"),
        (Liar(SendStreamingMessage=as_json(error("SECRET"))), "provider_error"),
        (Liar(SendStreamingMessage=stream(b"no json")), "provider_error"),
        (Liar(SendStreamingMessage=stream(result({}))), "provider_error"),
        (Liar(SendStreamingMessage=stream(result({"task": {"id": 1}}))), "provider_error"),
        (Liar(SendStreamingMessage=stream(result({"task": {"id": "x" * 1000}}))), "provider_error"),
        (Liar(SendStreamingMessage=stream(error(-32603))), "provider_error"),
        (Liar(SendStreamingMessage=stream()), "provider_error"),
        (Liar(SendStreamingMessage=_floods), "answer_too_large"),
        (Liar(SendStreamingMessage=head(307, location="http://127.0.0.1:9/")), "provider_rejected"),
        (Liar(SendStreamingMessage=head(media_type="text/html") + b"data: " + ANSWER + b"\n\n"), "provider_error"),
        (Liar(streams=False, SendMessage=as_json(result({"task": TASK}))), "provider_rejected"),
    ],
    ids=range(21),
)
async def test_an_agent_that_misbehaves_fails_the_run_in_our_words(
    open_agency: Opener, tmp_path: Path, liar: Liar, code: str
) -> None:
    failed, _ = await failing(open_agency, tmp_path, liar)
    assert failed["code"] == code
    assert "helper" in failed["message"]


async def test_a_task_whose_stream_breaks_off_is_asked_for(open_agency: Opener, tmp_path: Path) -> None:
    done: dict[str, Any] = {**TASK, "status": {"state": "TASK_STATE_COMPLETED"}}
    done["artifacts"] = [{"artifactId": "a", "parts": [{"text": "whole"}]}]
    part = {"taskId": "task-1", "artifact": {"artifactId": "a", "parts": [{"text": "who"}]}}
    liar = Liar(
        SendStreamingMessage=stream(result({"task": TASK}), result({"artifactUpdate": part})),
        GetTask=as_json(result(done)),
    )
    async with Rogue(liar) as server:
        liar.base = server.url
        helped = await asking(open_agency, a2a(tmp_path, server.url, KEY))
        assert await talk(helped, "hello") == ["whole"]
        assert methods(server.asked) == ["GET", "SendStreamingMessage", "GetTask"]


async def test_a_task_that_had_begun_was_begun_again_when_its_stream_ended_in_an_error(
    open_agency: Opener, tmp_path: Path
) -> None:
    async def once_then_not(asked: Asked) -> AsyncIterator[bytes]:
        sent = json.loads(asked.body)["params"]["message"]
        first = {"messageId": "m", "contextId": "ctx-1", "role": "ROLE_AGENT", "parts": [{"text": "one"}]}
        yield (
            stream(result({"message": first}))
            if "contextId" not in sent
            else stream(result({"task": TASK}), error(-32001))
        )

    liar = Liar(SendStreamingMessage=once_then_not, CancelTask=as_json(result(TASK)))
    async with Rogue(liar) as server:
        liar.base = server.url
        helped = await asking(open_agency, a2a(tmp_path, server.url, KEY))
        first = await helped.say("hello")
        await helped.until("RUN_FINISHED")
        await helped.say("and now", first.conversation_id)
        assert (await helped.until("RUN_ERROR"))["code"] == "provider_rejected"
        await helped.worker._runner.close()
        assert methods(server.asked).count("SendStreamingMessage") == 2


async def test_a_task_that_falls_silent_and_is_not_known_is_cancelled(open_agency: Opener, tmp_path: Path) -> None:
    liar = Liar(SendStreamingMessage=_silent, CancelTask=as_json(result(TASK)))
    failed, asked = await failing(open_agency, tmp_path, liar, within_s=1)
    assert (failed["code"], failed["message"]) == ("provider_rejected", "helper answered with error -32601.")
    assert asked == ["GET", "SendStreamingMessage", "GetTask", "CancelTask"]


async def test_an_address_inside_is_not_asked(open_agency: Opener, tmp_path: Path) -> None:
    failed, asked = await failing(open_agency, tmp_path, Liar(), networks=("10.0.0.0/8",))
    assert failed["code"] == "provider_rejected"
    assert asked == []


# -- words


def test_what_is_sent_and_heard_is_what_the_protocols_own_types_say() -> None:
    lines = (Line(Speaker.USER, "one"), Line(Speaker.ASSISTANT, "two"), Line(Speaker.USER, "three"))
    for kept in (a2a_words.Kept(), a2a_words.Kept("ctx-1", "task-1")):
        sent = {"message": a2a_words.message(lines, "run_1", kept)}
        assert MessageToDict(ParseDict(sent, SendMessageRequest())) == sent
    told: list[dict[str, Any]] = [
        {"task": TASK | {"artifacts": [{"artifactId": "a", "parts": [{"text": "x", "mediaType": "text/plain"}]}]}},
        {"message": {"messageId": "m", "role": "ROLE_AGENT", "parts": [{"data": {"a": 1.0}}], "contextId": "c"}},
        {"statusUpdate": {"taskId": "t", "contextId": "c", "status": {"state": "TASK_STATE_WORKING"}}},
        {"artifactUpdate": {"taskId": "t", "artifact": {"artifactId": "a"}, "append": True}},
    ]
    for one in told:
        theirs = MessageToDict(ParseDict(one, StreamResponse()))
        assert a2a_words.told_of(theirs) == a2a_words.told_of(one)
    states = StreamResponse.DESCRIPTOR.file.enum_types_by_name["TaskState"].values_by_name
    assert {str(state) for state in a2a_words.TaskState} == set(states)
    card = {"name": "x", "supportedInterfaces": [{"url": "https://x/", "protocolBinding": "JSONRPC"}]}
    ours = msgspec.convert(MessageToDict(ParseDict(card, AgentCard())), a2a_words.Card)
    assert ours.supported_interfaces[0].url == "https://x/"


def heard(*told: dict[str, Any]) -> a2a_words.Hearing:
    hearing = a2a_words.Hearing()
    for one in told:
        hearing.heard(a2a_words.told_of(one))
    return hearing


def artifact(text: str, name: str = "a", **more: Any) -> dict[str, Any]:
    return {"artifactUpdate": {"taskId": "t", "artifact": {"artifactId": name, "parts": [{"text": text}]}, **more}}


def test_two_artifacts_are_two_paragraphs_and_a_repeat_is_none() -> None:
    hearing = heard(artifact("one"), artifact("one more", "a"), artifact("two", "b"), artifact("two", "b"))
    assert hearing.text == "one more\n\ntwo"
    assert heard(artifact("one"), artifact("two", append=True)).text == "onetwo"


def test_files_and_data_are_named_and_not_fetched() -> None:
    parts = [
        {"url": "http://169.254.169.254/", "filename": "a.pdf", "mediaType": "application/pdf"},
        {"raw": "aGVsbG8="},
        {"data": {"a": 1}},
    ]
    text = heard({"message": {"parts": parts}}).text
    assert text.splitlines() == [
        "[a.pdf (application/pdf): http://169.254.169.254/]",
        "[File (of an unknown type); it is not taken over]",
        *("```json", "{", ' "a": 1', "}", "```"),
    ]
