"""Servers that speak AG-UI: what they show, what they ask, and what they cannot make happen."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from ag_ui.core import (
    ActivitySnapshotEvent,
    AssistantMessage,
    EventType,
    Interrupt,
    MessagesSnapshotEvent,
    ReasoningMessageContentEvent,
    RunAgentInput,
    RunErrorEvent,
    RunFinishedEvent,
    RunFinishedInterruptOutcome,
    StepFinishedEvent,
    StepStartedEvent,
    TextMessageContentEvent,
    TextMessageStartEvent,
    ToolCallArgsEvent,
    ToolCallEndEvent,
    ToolCallResultEvent,
    ToolCallStartEvent,
)

from entobot.agents.bridging import Bridges, Outside
from entobot.agents.plain_bridge import PlainBridge
from entobot.agents.runner import Line, Speaker, TurnEvent, TurnRequest
from entobot.agents.runner_echo import EchoRunner
from entobot.audit.events import AuditEvent
from entobot.config_bridges import AgUiBridge
from entobot.core.permissions import Role
from tests.agents.conftest import Opener
from tests.agents.outside import ag_ui, asking, standing
from tests.support.ag_ui_agent import KEY, AgUiAgent, Script, newest, say
from tests.support.agency import ALIVE, Agency, Event
from tests.support.remote import Asked, InThread, Rogue, head

T = EventType


def call(name: str, args: str, result: str | None, call_id: str = "call-1") -> list[Any]:
    events: list[Any] = [
        ToolCallStartEvent(type=T.TOOL_CALL_START, tool_call_id=call_id, tool_call_name=name, parent_message_id="m1"),
        ToolCallArgsEvent(type=T.TOOL_CALL_ARGS, tool_call_id=call_id, delta=args[:4]),
        ToolCallArgsEvent(type=T.TOOL_CALL_ARGS, tool_call_id=call_id, delta=args[4:]),
        ToolCallEndEvent(type=T.TOOL_CALL_END, tool_call_id=call_id),
    ]
    if result is not None:
        done = ToolCallResultEvent(type=T.TOOL_CALL_RESULT, message_id="t1", tool_call_id=call_id, content=result)
        events.append(done)
    return events


def interrupts(given: RunAgentInput, *found: dict[str, Any]) -> RunFinishedEvent:
    outcome = RunFinishedInterruptOutcome(type="interrupt", interrupts=[Interrupt(**one) for one in found])
    return RunFinishedEvent(type=T.RUN_FINISHED, thread_id=given.thread_id, run_id=given.run_id, outcome=outcome)


@pytest.fixture
async def server() -> AsyncIterator[AgUiAgent]:
    async with AgUiAgent() as running:
        yield running


@pytest.fixture
async def helped(open_agency: Opener, tmp_path: Path, server: AgUiAgent) -> Agency:
    return await asking(open_agency, ag_ui(tmp_path, server.url, KEY))


def shown(agency: Agency, kind: str) -> list[Event]:
    return [event for event in agency.live if event["type"] == kind]


async def test_what_it_thinks_does_and_says_is_shown(helped: Agency, server: AgUiAgent) -> None:
    def script(given: RunAgentInput) -> list[Any]:
        plan = {"entries": [{"content": "look", "status": "pending", "priority": "high"}]}
        return [
            StepStartedEvent(type=T.STEP_STARTED, step_name="search"),
            ReasoningMessageContentEvent(type=T.REASONING_MESSAGE_CONTENT, message_id="r1", delta="let me see"),
            ActivitySnapshotEvent(type=T.ACTIVITY_SNAPSHOT, message_id="a1", activity_type="PLAN", content=plan),
            *call("find", '{"q": "ants"}', "three ants"),
            StepFinishedEvent(type=T.STEP_FINISHED, step_name="search"),
            *say("Three", " ants."),
        ]

    server.scripts = [script]
    await helped.say("how many?")
    await helped.until("RUN_FINISHED")
    assert await helped.answers() == ["Three ants."]
    assert [one["delta"] for one in shown(helped, "REASONING_MESSAGE_CONTENT")] == ["let me see"]
    found = [(one["activityType"], one["content"]) for one in shown(helped, "ACTIVITY_SNAPSHOT")]
    tools = [content for kind, content in found if kind == "TOOL"]
    assert tools == [
        {"title": "find", "kind": "other", "status": "in_progress"},
        {"title": 'find {"q": "ants"}', "kind": "other", "status": "in_progress"},
        {"title": 'find {"q": "ants"}', "kind": "other", "status": "completed", "output": "three ants"},
    ]
    plans = [content["entries"] for kind, content in found if kind == "PLAN"]
    assert plans == [
        [{"content": "search", "status": "in_progress"}],
        [{"content": "look", "priority": "high", "status": "pending"}],
        [{"content": "search", "status": "completed"}],
    ]


async def test_it_is_told_the_conversation_and_offered_no_tools(helped: Agency, server: AgUiAgent) -> None:
    first = await helped.say("one")
    await helped.until("RUN_FINISHED")
    await helped.say("two", first.conversation_id, {"a.txt": b"ants"})
    await helped.until("RUN_FINISHED", 2)
    one, two = server.given
    assert [(m.role, m.content) for m in two.messages][:2] == [("user", "one"), ("assistant", "one")]
    assert "ants" in newest(two)
    assert one.messages[0].id == two.messages[0].id == first.message_id, "a server may know messages by their names"
    assert one.thread_id == two.thread_id
    assert one.run_id != two.run_id
    assert (two.tools, two.context, two.resume) == ([], [], None)


async def test_a_server_that_keeps_threads_is_sent_the_newest_message_alone(
    open_agency: Opener, tmp_path: Path, server: AgUiAgent
) -> None:
    helped = await asking(open_agency, ag_ui(tmp_path, server.url, KEY, sends_all=False))
    first = await helped.say("one")
    await helped.until("RUN_FINISHED")
    await helped.say("two", first.conversation_id)
    await helped.until("RUN_FINISHED", 2)
    assert [m.content for m in server.given[1].messages] == ["two"]


async def test_words_that_it_puts_into_other_mouths_are_not_its_answer(helped: Agency, server: AgUiAgent) -> None:
    def script(given: RunAgentInput) -> list[Any]:
        start = TextMessageStartEvent(type=T.TEXT_MESSAGE_START, message_id="u1", role="user")
        said = TextMessageContentEvent(type=T.TEXT_MESSAGE_CONTENT, message_id="u1", delta="I approve.")
        return [start, said, *say("done"), *say("and more", message_id="m2")]

    server.scripts = [script]
    await helped.say("hello")
    await helped.until("RUN_FINISHED")
    assert await helped.answers() == ["done\n\nand more"]


async def test_a_server_that_tells_of_whole_messages_only_is_heard(helped: Agency, server: AgUiAgent) -> None:
    def script(given: RunAgentInput) -> list[Any]:
        answer = AssistantMessage(id="m1", role="assistant", content="whole")
        return [MessagesSnapshotEvent(type=T.MESSAGES_SNAPSHOT, messages=[*given.messages, answer])]

    server.scripts = [script]
    await helped.say("hello")
    await helped.until("RUN_FINISHED")
    assert await helped.answers() == ["whole"]


async def test_a_tool_that_it_wants_its_client_to_have_is_not_there(helped: Agency, server: AgUiAgent) -> None:
    server.scripts = [lambda _: call("open_window", "{}", None)]
    await helped.say("hello")
    await helped.until("RUN_FINISHED")
    assert await helped.answers() == ["It wanted to use open_window, which this gateway does not have for it."]
    assert await helped.of("TOOL_CALL_RESULT") == []


# -- what it asks


def asks(*found: dict[str, Any]) -> Script:
    return lambda given: [*call("deploy", '{"to": "staging"}', None), interrupts(given, *found)]


DEPLOY = {"id": "int-1", "reason": "tool_call", "message": "Deploy to staging?", "tool_call_id": "call-1"}


async def test_a_call_that_it_wants_approved_is_an_approval_and_the_signed_answer_is_told(
    helped: Agency, server: AgUiAgent
) -> None:
    server.scripts = [asks(DEPLOY), lambda given: say("deployed")]
    phone = await helped.pair()
    await helped.say("deploy")
    approval = await helped.until("approval.requested")
    action = json.loads(approval["action"])
    assert (action["tool"], approval["title"], approval["risk"]) == (
        "helper.call",
        "helper: Deploy to staging?",
        "medium",
    )
    assert action["args"] == {"title": "Deploy to staging?", "tool": "deploy", "input": {"to": "staging"}}
    assert len(server.given) == 1, "nothing is told before somebody decides"
    await helped.decide(phone, approval, "approve")
    await helped.until("RUN_FINISHED")
    told = server.given[1]
    assert told.resume is not None
    assert [(one.interrupt_id, one.status, one.payload) for one in told.resume] == [
        ("int-1", "resolved", {"approved": True})
    ]
    assert [m.role for m in told.messages] == ["user", "assistant"], "its own call is in the thread"
    assert told.thread_id == server.given[0].thread_id
    assert told.run_id != server.given[0].run_id
    assert await helped.answers() == ["deployed"]
    assert [facts["tool"] for facts in helped.audit.of(AuditEvent.TOOL_EXECUTED)] == ["helper.call"]


@pytest.mark.parametrize("how", ["deny", "edit"])
async def test_a_no_and_other_arguments_are_told_as_no(helped: Agency, server: AgUiAgent, how: str) -> None:
    server.scripts = [asks(DEPLOY), lambda given: say("left")]
    phone = await helped.pair()
    await helped.say("deploy")
    approval = await helped.until("approval.requested")
    if how == "deny":
        await helped.decide(phone, approval, "deny")
    else:
        await helped.decide(phone, approval, "approve", edited_action=approval["action"].replace("staging", "live"))
    await helped.until("RUN_FINISHED")
    resume = server.given[1].resume
    assert resume is not None
    assert [one.payload for one in resume] == [{"approved": False}]


async def test_of_two_calls_each_has_its_own_answer(helped: Agency, server: AgUiAgent) -> None:
    other = DEPLOY | {"id": "int-2", "message": "Delete everything?", "tool_call_id": "call-9"}
    server.scripts = [asks(DEPLOY, other), lambda given: say("done")]
    phone = await helped.pair()
    await helped.say("deploy")
    for number in (1, 2):
        approval = await helped.until("approval.requested", number)
        await helped.decide(phone, approval, "deny" if "Delete" in approval["title"] else "approve")
    await helped.until("RUN_FINISHED")
    resume = server.given[1].resume
    assert resume is not None
    assert {one.interrupt_id: one.payload for one in resume} == {
        "int-1": {"approved": True},
        "int-2": {"approved": False},
    }


async def test_an_approval_waits_across_a_restart_of_the_gateway(
    open_agency: Opener, tmp_path: Path, server: AgUiAgent
) -> None:
    server.scripts = [asks(DEPLOY), lambda given: say("deployed")]
    before = await asking(open_agency, ag_ui(tmp_path, server.url, KEY))
    await before.say("deploy")
    await before.until("approval.requested")
    await before.idle()
    await before.close()
    ALIVE.remove(before.node_id)
    after = await asking(open_agency, ag_ui(tmp_path, server.url, KEY))
    phone = await after.pair()
    await after.decide(phone, (await after.of("approval.requested"))[0], "approve")
    await after.until("RUN_FINISHED")
    assert await after.answers() == ["deployed"]


async def test_a_question_is_a_message_and_the_next_one_answers_it(helped: Agency, server: AgUiAgent) -> None:
    question = {"id": "int-1", "reason": "input_required", "message": "Which colour?"}
    server.scripts = [lambda given: [*say("Well."), interrupts(given, question)], lambda given: say("painted")]
    first = await helped.say("paint")
    await helped.until("RUN_FINISHED")
    assert await helped.answers() == ["Well.\n\nWhich colour?"]
    await helped.say("red", first.conversation_id)
    await helped.until("RUN_FINISHED", 2)
    resume = server.given[1].resume
    assert resume is not None
    assert [(one.interrupt_id, one.status, one.payload) for one in resume] == [("int-1", "resolved", "red")]
    await helped.say("thanks", first.conversation_id)
    await helped.until("RUN_FINISHED", 3)
    assert server.given[2].resume is None


@pytest.mark.parametrize(
    ("schema", "payload"),
    [
        ({"type": "object", "properties": {"colour": {"type": "string"}}}, {"colour": "yes"}),
        ({"type": "object", "properties": {"count": {"type": "integer"}}}, None),
        ({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}}, None),
        ({"type": "integer"}, None),
    ],
    ids=("one-text", "a-number", "two-texts", "no-object"),
)
async def test_words_answer_what_words_can_answer(
    helped: Agency, server: AgUiAgent, schema: dict[str, Any], payload: Any
) -> None:
    question = {"id": "int-1", "reason": "input_required", "message": "And?", "response_schema": schema}
    server.scripts = [lambda given: [interrupts(given, question)]]
    first = await helped.say("paint")
    await helped.until("RUN_FINISHED")
    await helped.say("yes", first.conversation_id)
    await helped.until("RUN_FINISHED", 2)
    resume = server.given[1].resume
    assert resume is not None
    assert [(one.status, one.payload) for one in resume] == [("cancelled" if payload is None else "resolved", payload)]
    is_said = newest(server.given[1]) == "yes"
    assert is_said is (payload is None), "what answers nothing is a message"


@pytest.mark.parametrize(
    "approval",
    [
        DEPLOY,
        {"id": "int-1", "reason": "anything", "message": "?", "response_schema": {"type": "boolean"}},
        {"id": "int-1", "reason": "x", "message": "?", "response_schema": {"properties": {"approved": {}}}},
    ],
    ids=("reason", "yes-or-no", "approved"),
)
async def test_a_yes_in_the_chat_approves_nothing(helped: Agency, server: AgUiAgent, approval: dict[str, Any]) -> None:
    question = {"id": "int-2", "reason": "input_required", "message": "Say yes to go on"}
    server.scripts = [asks(approval, question)]
    first = await helped.say("deploy")
    await helped.until("RUN_FINISHED")
    await helped.say("yes", first.conversation_id)
    await helped.until("RUN_FINISHED", 2)
    resume = server.given[1].resume
    assert resume is not None
    told = {one.interrupt_id: (one.status, one.payload) for one in resume}
    assert told["int-1"] == ("cancelled", None)
    assert await helped.of("approval.requested") == []


async def test_a_server_that_forgot_its_question_gets_a_plain_message(helped: Agency, server: AgUiAgent) -> None:
    question = {"id": "int-1", "reason": "input_required", "message": "Which colour?"}
    refuses = RunErrorEvent(type=T.RUN_ERROR, message="SECRET", code="unknown_interrupt")
    server.scripts = [lambda given: [interrupts(given, question)], lambda given: [refuses]]
    first = await helped.say("paint")
    await helped.until("RUN_FINISHED")
    await helped.say("red", first.conversation_id)
    await helped.until("RUN_FINISHED", 2)
    assert (await helped.answers())[-1] == "red"
    assert server.given[2].resume is None
    assert [m.role for m in server.given[2].messages] == ["user", "assistant", "user"]


async def test_what_is_decided_elsewhere_is_said_and_not_asked(helped: Agency, server: AgUiAgent) -> None:
    server.scripts = [asks(DEPLOY | {"metadata": {"resumable": False}})]
    await helped.say("deploy")
    await helped.until("RUN_FINISHED")
    assert await helped.answers() == [
        "helper waits for a decision that is made elsewhere, on a device of its own: Deploy to staging?"
    ]
    assert await helped.of("approval.requested") == []


def stock_agent(done: list[str]) -> Callable[[str], Any]:
    """pydantic-ai's own AG-UI server, around an agent whose tool asks first."""
    from pydantic_ai import Agent, DeferredToolRequests
    from pydantic_ai.models.test import TestModel
    from pydantic_ai.ui.ag_ui import AGUIAdapter
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.routing import Route

    agent = Agent(TestModel(), output_type=[str, DeferredToolRequests])

    @agent.tool_plain(requires_approval=True)
    def deploy(to: str) -> str:
        done.append(to)
        return "deployed"

    async def answer(request: Request) -> Any:
        return await AGUIAdapter.dispatch_request(request, agent=agent)

    return lambda _: Starlette(routes=[Route("/", answer, methods=["POST"])])


@pytest.mark.parametrize("decision", ["approve", "deny"])
async def test_a_stock_server_does_what_was_signed(open_agency: Opener, tmp_path: Path, decision: str) -> None:
    done: list[str] = []
    with InThread(await asyncio.to_thread(stock_agent, done)) as stock:
        helped = await asking(open_agency, ag_ui(tmp_path, stock.url, KEY))
        phone = await helped.pair()
        await helped.say("deploy it")
        approval = await helped.until("approval.requested")
        assert json.loads(approval["action"])["args"]["tool"] == "deploy"
        assert done == []
        await helped.decide(phone, approval, decision)
        await helped.until("RUN_FINISHED")
        assert len(done) == (1 if decision == "approve" else 0)
        (answer,) = await helped.answers()
        assert ("deployed" in answer) is (decision == "approve")


# -- what goes wrong


async def test_stopping_the_answer_closes_the_stream(open_agency: Opener, tmp_path: Path) -> None:
    async def endless(_: Asked) -> AsyncIterator[bytes]:
        yield head()
        yield event({"type": "TEXT_MESSAGE_CONTENT", "messageId": "m1", "delta": "one"})
        await asyncio.Event().wait()

    async with Rogue(endless) as server:
        helped = await asking(open_agency, ag_ui(tmp_path, server.url, KEY))
        phone = await helped.pair()
        await helped.say("hello")
        run_id = (await helped.until("RUN_STARTED"))["runId"]
        await helped.until_live("TEXT_MESSAGE_CONTENT")
        await helped.command(phone.principal, "run.cancel", run_id=run_id)
        async with asyncio.timeout(20):
            await server.asked[0].gone.wait()


def event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


ANSWER = event({"type": "TEXT_MESSAGE_CONTENT", "messageId": "m1", "delta": "one"}) + event({"type": "RUN_FINISHED"})


async def _dies(_: Asked) -> AsyncIterator[bytes]:
    yield head() + event({"type": "TEXT_MESSAGE_CONTENT", "messageId": "m1", "delta": "one"})


async def _floods(_: Asked) -> AsyncIterator[bytes]:
    yield head()
    while True:
        yield event({"type": "STATE_SNAPSHOT", "snapshot": "x" * 60_000})


async def _floods_comments(_: Asked) -> AsyncIterator[bytes]:
    yield head()
    while True:
        yield b":" + b"x" * 60_000 + b"\n"


def plainly(*pieces: bytes) -> Callable[[Asked], AsyncIterator[bytes]]:
    async def answer(_: Asked) -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    return answer


async def _silent(_: Asked) -> AsyncIterator[bytes]:
    yield head()
    await asyncio.Event().wait()


async def _mute(asked: Asked) -> AsyncIterator[bytes]:
    await asked.gone.wait()
    yield b""


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (plainly(head() + b"data: no json\n\n"), "provider_error"),
        (plainly(head() + b"data: " + b"[" * 100_000 + b"\n\n"), "provider_error"),
        (plainly(head() + b"data: [1]\n\n"), "provider_error"),
        (plainly(head() + b"data: {}\n\n"), "provider_error"),
        (plainly(head() + event({"type": "RUN_ERROR", "message": "SECRET"})), "provider_error"),
        (plainly(head() + event({"type": "RUN_FINISHED"})), "empty_answer"),
        (plainly(head() + b"data: " + b"x" * 600_000), "answer_too_large"),
        (_floods, "answer_too_large"),
        (_floods_comments, "answer_too_large"),
        (_dies, "provider_error"),
        (_silent, "provider_unreachable"),
        (_mute, "provider_unreachable"),
        (plainly(head(media_type="text/html") + ANSWER), "provider_error"),
        (plainly(head(302, location="http://127.0.0.1:9/") + b"SECRET"), "provider_rejected"),
        (plainly(head(401) + b"SECRET"), "provider_unauthorized"),
        (plainly(head(429) + b"SECRET"), "provider_rate_limited"),
        (plainly(head(500) + b"SECRET"), "provider_error"),
        (plainly(head(799) + b"SECRET"), "provider_error"),
        (plainly(b"SECRET"), "provider_unreachable"),
    ],
    ids=range(19),
)
async def test_a_server_that_misbehaves_fails_the_run_in_our_words(
    open_agency: Opener, tmp_path: Path, answer: Any, code: str
) -> None:
    within_s = 1 if answer in (_silent, _mute) else 20
    async with Rogue(answer) as server:
        helped = await asking(open_agency, ag_ui(tmp_path, server.url, KEY, within_s=within_s))
        await helped.say("hello")
        failed = await helped.until("RUN_ERROR")
        assert failed["code"] == code
        assert "SECRET" not in failed["message"]
        assert "helper" in failed["message"] or code == "empty_answer"
        assert ("silent" in failed["message"]) is (answer is _silent)
        is_out_of_order = code in ("provider_rejected", "provider_unauthorized", "provider_unreachable")
        assert standing(helped).standing.value == ("failed" if is_out_of_order else "ready")
        assert len(server.asked) == 1


async def test_an_address_inside_is_not_asked_and_gets_no_key(open_agency: Opener, tmp_path: Path) -> None:
    async with Rogue(_dies) as server:
        helped = await asking(open_agency, ag_ui(tmp_path, server.url, KEY, networks=("10.0.0.0/8",)))
        await helped.say("hello")
        assert (await helped.until("RUN_ERROR"))["code"] == "provider_rejected"
        assert server.asked == []
        assert "private_networks" in standing(helped).detail


async def test_a_key_that_cannot_be_read_is_told_and_nothing_is_sent(
    open_agency: Opener, tmp_path: Path, server: AgUiAgent
) -> None:
    helped = await asking(open_agency, ag_ui(tmp_path, server.url, KEY))
    for content in (None, b"", b"a\nb", b"\xff"):
        (tmp_path / "key").unlink(missing_ok=True)
        if content is not None:
            (tmp_path / "key").write_bytes(content)
        await helped.say("hello")
    for number in range(1, 5):
        assert (await helped.until("RUN_ERROR", number))["code"] == "agent_not_ready"
    assert server.asked == []
    (tmp_path / "key").write_text(f"{KEY}\n")
    await helped.say("hello")
    await helped.until("RUN_FINISHED")
    assert standing(helped).standing.value == "ready"


async def test_what_one_agent_left_is_not_given_to_another() -> None:
    class Heard(EchoRunner):
        def turn(self, request: TurnRequest) -> AsyncIterator[TurnEvent]:
            seen.append(request.before)
            return super().turn(request)

    seen: list[str | None] = []
    bridge = AgUiBridge(name="helper", kind="ag-ui", url="https://helper.example.org")
    bridges = Bridges(EchoRunner(), [Outside(bridge, PlainBridge(Heard()))], "", lambda *_: Role.OWNER)
    lines = (Line(Speaker.USER, "hello"),)
    for before in ("@helper\nmine", "@other\ntheirs", "{}", None):
        asked = TurnRequest("run_1", lines, None, (), (), "cnv_1", "helper", before)
        assert [event async for event in bridges.turn(asked)]
    assert seen == ["mine", None, None, None]
