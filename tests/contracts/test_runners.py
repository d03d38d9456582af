"""What every runner does, whatever stands behind it: real processes and real servers on loopback."""

import asyncio
import os
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from entobot.agents.choice import Endpoint
from entobot.agents.plain_bridge import PlainBridge
from entobot.agents.remote import Remote
from entobot.agents.runner import Line, RunErrorCode, RunFailed, Runner, Speaker, TextDelta, TurnEnd, TurnRequest
from entobot.agents.runner_a2a import A2aRunner
from entobot.agents.runner_acp import AcpRunner, Backoff
from entobot.agents.runner_ag_ui import AgUiRunner
from entobot.agents.runner_echo import EchoRunner
from entobot.agents.runner_llm import build_llm
from entobot.agents.runner_webhook import MAX_REPLY_BYTES, WebhookRunner
from entobot.agents.threads import in_daemon_thread
from entobot.config import AgentSettings
from entobot.config_bridges import AcpBridge
from entobot.core.clock import SystemClock
from entobot.core.networks import Networks
from entobot.outgoing.guarded_http import GuardedHttp
from tests.support import a2a_agent, acp_agent, ag_ui_agent
from tests.support.a2a_agent import A2aAgent
from tests.support.ag_ui_agent import AgUiAgent
from tests.support.fake_openai import KEY, MODEL, FakeOpenAI, Text
from tests.support.webhook_agent import SECRET, WebhookAgent

WITHIN_S = 20
KINDS = ("a2a", "acp", "ag-ui", "echo", "openai", "webhook")


class Bench:
    """Makes a runner of each kind, with what stands behind it."""

    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self.agent = WebhookAgent()

    async def make(self, kind: str) -> Runner:
        if kind == "echo":
            return EchoRunner()
        if kind == "acp":
            command = (sys.executable, "-P", str(acp_agent.__file__))
            bridge = AcpBridge(name="helper", kind="acp", command=command)
            backoff = Backoff(first=timedelta(0))
            return AcpRunner(bridge, self._folder / "agent", os.environ, SystemClock(), backoff=backoff)
        if kind == "openai":
            server = await self._stack.enter_async_context(FakeOpenAI(Text(["hel", "lo"]), Text(["hello"])))
            endpoint = Endpoint("openai", MODEL, server.base_url, KEY)
            return PlainBridge(await in_daemon_thread(lambda: build_llm(endpoint, AgentSettings()), "loader"))
        if kind == "ag-ui":
            server = await self._stack.enter_async_context(AgUiAgent())
            runner = AgUiRunner(server.url, self.remote(ag_ui_agent.KEY, "Authorization"), sends_all=True)
            return PlainBridge(runner, runner.allow)
        if kind == "a2a":
            agent = self._stack.enter_context(A2aAgent())
            return PlainBridge(A2aRunner(agent.url, self.remote(a2a_agent.KEY, "X-API-Key")))
        await self._stack.enter_async_context(self.agent)
        return self.webhook()

    def remote(self, key: str, header: str) -> Remote:
        key_file = self._folder / "key"
        key_file.write_text(f"{key}\n")
        return Remote("helper", GuardedHttp(Networks(["127.0.0.0/8"]), ssl.create_default_context), key_file, header)

    def webhook(self, *allowed: str) -> PlainBridge:
        secret_file = self._folder / "secret"
        secret_file.write_text(SECRET)
        networks = Networks(allowed or ("127.0.0.0/8",))
        http = GuardedHttp(networks, ssl.create_default_context, max_answer_bytes=MAX_REPLY_BYTES)
        return PlainBridge(WebhookRunner("helper", self.agent.url, secret_file, http, SystemClock()))


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        yield Bench(tmp_path, stack)


def asked(run_id: str, *said: str) -> TurnRequest:
    lines = tuple(Line(Speaker.USER if n % 2 == 0 else Speaker.ASSISTANT, text) for n, text in enumerate(said))
    return TurnRequest(run_id, lines, None, (), (), "cnv_1")


async def turn(runner: Runner, request: TurnRequest) -> list[Any]:
    async with asyncio.timeout(WITHIN_S):
        return [event async for event in runner.turn(request)]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_turn_is_fragments_of_a_text_and_one_end_that_has_the_whole(bench: Bench, kind: str) -> None:
    runner = await bench.make(kind)
    *fragments, end = await turn(runner, asked("run_1", "hello"))
    assert isinstance(end, TurnEnd)
    assert end.tool_calls == ()
    assert end.text.endswith("hello")
    assert "".join(one.text for one in fragments if isinstance(one, TextDelta)) == end.text
    assert runner.name
    await runner.close()
    await runner.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_turn_that_is_given_up_does_not_spoil_the_next(bench: Bench, kind: str) -> None:
    runner = await bench.make(kind)
    async with asyncio.timeout(WITHIN_S), aclosing(cast("Any", runner.turn(asked("run_1", "hello")))) as events:
        await anext(events)
    *_, end = await turn(runner, asked("run_2", "hello"))
    assert isinstance(end, TurnEnd)
    assert end.text.endswith("hello")
    await runner.close()


# -- the webhook's own


async def test_a_webhook_is_told_the_conversation_and_can_tell_the_gateway_from_others(bench: Bench) -> None:
    runner = await bench.make("webhook")
    await turn(runner, asked("run_1", "one", "heard: one", "two"))
    (body,) = bench.agent.bodies
    assert body == {
        "type": "message",
        "run_id": "run_1",
        "conversation_id": "cnv_1",
        "messages": [
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "heard: one"},
            {"role": "user", "content": "two"},
        ],
    }
    assert bench.agent.ids == ["run_1"]


@pytest.mark.parametrize(
    ("status", "answer", "code"),
    [
        (200, b"no json", RunErrorCode.PROVIDER_ERROR),
        (200, b'{"text": 1}', RunErrorCode.PROVIDER_ERROR),
        (200, b'{"text": "' + b"x" * 300_000 + b'"}', RunErrorCode.ANSWER_TOO_LARGE),
        (302, b"SECRET", RunErrorCode.PROVIDER_REJECTED),
        (401, b"SECRET", RunErrorCode.PROVIDER_UNAUTHORIZED),
        (429, b"SECRET", RunErrorCode.PROVIDER_RATE_LIMITED),
        (500, b"SECRET", RunErrorCode.PROVIDER_ERROR),
    ],
    ids=("no-json", "no-text", "too-long", "elsewhere", "refused", "busy", "broken"),
)
async def test_what_a_webhook_answers_instead_is_a_failure_in_our_words(
    bench: Bench, status: int, answer: bytes, code: RunErrorCode
) -> None:
    runner = await bench.make("webhook")
    bench.agent.answers = [(status, answer)]
    with pytest.raises(RunFailed) as failed:
        await turn(runner, asked("run_1", "hello"))
    assert failed.value.code is code
    assert "SECRET" not in failed.value.message


async def test_a_webhook_inside_the_network_is_not_asked_unless_it_is_allowed(bench: Bench) -> None:
    await bench.make("webhook")
    inside = bench.webhook("10.0.0.0/8")
    with pytest.raises(RunFailed) as failed:
        await turn(inside, asked("run_1", "hello"))
    assert failed.value.code is RunErrorCode.PROVIDER_REJECTED
    assert bench.agent.bodies == []
    assert inside.standing().standing.value == "failed"


async def test_a_webhook_that_is_not_there_is_told_as_such(bench: Bench) -> None:
    bench.agent.url = "http://127.0.0.1:9/agent"
    absent = bench.webhook()
    with pytest.raises(RunFailed) as failed:
        await turn(absent, asked("run_1", "hello"))
    assert failed.value.code is RunErrorCode.PROVIDER_UNREACHABLE
