"""Agents that speak ACP, as processes of their own: what they show, what they ask leave for, and how they end."""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from entobot.agents.acp_life import Patience
from entobot.agents.acp_words import leave_tools
from entobot.agents.bridging import Bridges, Outside, Standing
from entobot.agents.runner_acp import AcpRunner, Backoff
from entobot.agents.runner_echo import EchoRunner
from entobot.agents.tools import built_in_tools
from entobot.approvals.model import Risk
from entobot.audit.events import AuditEvent
from entobot.config_bridges import AcpBridge
from entobot.core.clock import SystemClock
from entobot.core.errors import Problem
from entobot.core.permissions import DEFAULT_DEVICE_SCOPES, Role
from entobot.core.principal import Principal
from tests.agents.conftest import Opener
from tests.support import acp_agent, acp_rogue
from tests.support.agency import Agency, Event
from tests.support.time import ManualClock

WITHIN = 20

Put = Callable[..., Awaitable[Agency]]


def command(module: Any, *words: str) -> tuple[str, ...]:
    return (sys.executable, "-P", str(module.__file__), *words)


@pytest.fixture
async def put(open_agency: Opener, tmp_path: Path) -> AsyncIterator[Put]:
    """Opens an agency whose answers come from this command."""
    opened: list[Bridges] = []

    async def start(*words: str, patience: Patience | None = None, **parts: Any) -> Agency:
        bridge = AcpBridge(name="helper", kind="acp", command=words)
        environment = {**os.environ, "SECRET_KEY": "sk-1"}
        runner = AcpRunner(
            bridge,
            tmp_path / "agents" / "helper",
            environment,
            SystemClock(),
            backoff=Backoff(first=timedelta(0)),
            patience=patience,
        )
        bridges = Bridges(EchoRunner(), [Outside(bridge, runner)], "helper", lambda *_: Role.OWNER)
        opened.append(bridges)
        return await open_agency(
            runner=bridges,
            waiting=bridges,
            agent="helper",
            tools=lambda clock, workspace: built_in_tools(clock, workspace).plus(leave_tools("helper")),
            **parts,
        )

    yield start
    for bridges in opened:
        await bridges.close()


@pytest.fixture
async def helped(put: Put) -> Agency:
    return await put(*command(acp_agent))


def runner_of(agency: Agency) -> AcpRunner:
    runner = agency.worker._runner
    assert isinstance(runner, Bridges)
    found = runner.outside["helper"].runner
    assert isinstance(found, AcpRunner)
    return found


def shown(agency: Agency, kind: str) -> list[Event]:
    return [event for event in agency.live if event["type"] == kind]


async def test_what_the_agent_thinks_plans_does_and_says_is_shown(helped: Agency) -> None:
    await helped.say("show")
    await helped.until("RUN_FINISHED")
    assert await helped.answers() == ["done"]
    thought = [event["delta"] for event in shown(helped, "REASONING_MESSAGE_CONTENT")]
    assert "".join(thought) == "let me see"
    plan, *tools = shown(helped, "ACTIVITY_SNAPSHOT")
    assert plan["activityType"] == "PLAN"
    assert [entry["content"] for entry in plan["content"]["entries"]] == ["look", "tell"]
    assert [tool["content"]["status"] for tool in tools] == ["in_progress", "completed"]
    assert tools[0]["messageId"] == tools[1]["messageId"] != plan["messageId"]
    assert tools[1]["content"]["title"] == "Read a.txt"


async def test_a_conversation_is_a_session_and_another_one_another(helped: Agency) -> None:
    first = await helped.say("one")
    await helped.until("RUN_FINISHED")
    await helped.say("two", first.conversation_id)
    await helped.until("RUN_FINISHED", 2)
    await helped.say("three")
    await helped.until("RUN_FINISHED", 3)
    assert await helped.answers() == ["heard: one", "heard: two", "heard: three"]


async def test_after_a_restart_of_the_agent_it_is_told_what_was_said_before(helped: Agency) -> None:
    first = await helped.say("one")
    await helped.until("RUN_FINISHED")
    await helped.say("die", first.conversation_id)
    failed = await helped.until("RUN_ERROR")
    assert failed["code"] == "provider_error"
    await helped.say("two", first.conversation_id)
    await helped.until("RUN_FINISHED", 2)
    assert (await helped.answers())[-1] == (
        "heard: Earlier in this conversation:\n\nPerson: one\n\nAgent: heard: one\n\nPerson: die\n\nNow: | two"
    )


async def test_it_works_in_its_own_folder_with_few_variables(helped: Agency, tmp_path: Path) -> None:
    await helped.say("where")
    await helped.until("RUN_FINISHED")
    seen = json.loads((await helped.answers())[0])
    folder = tmp_path / "agents" / "helper"
    assert seen["cwd"] == seen["asked"] == str(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert "PATH" in seen["variables"]
    assert "SECRET_KEY" not in seen["variables"]


async def test_files_and_terminals_are_neither_offered_nor_given(helped: Agency) -> None:
    await helped.say("reach")
    await helped.until("RUN_FINISHED")
    assert await helped.answers() == ["-32601 -32601 -32601 [False, False, False]"]


async def test_what_a_person_approves_is_done_once_and_noted(helped: Agency, tmp_path: Path) -> None:
    phone = await helped.pair()
    await helped.say("edit fresh")
    approval = await helped.until("approval.requested")
    action = json.loads(approval["action"])
    assert action["tool"] == "helper.edit"
    file = tmp_path / "agents" / "helper" / "a.txt"
    assert action["args"] == {
        "title": "Edit a.txt",
        "input": {"text": "fresh"},
        "changes": [{"path": str(file), "after": "fresh"}],
    }
    assert approval["risk"] == "medium"
    await helped.decide(phone, approval, "approve")
    await helped.until("RUN_FINISHED")
    assert await helped.answers() == ["answered: yes"]
    assert file.read_text() == "fresh"
    assert [facts["tool"] for facts in helped.audit.of(AuditEvent.TOOL_EXECUTED)] == ["helper.edit"]


async def test_what_a_person_denies_is_not_done(helped: Agency, tmp_path: Path) -> None:
    phone = await helped.pair()
    await helped.say("edit fresh")
    await helped.decide(phone, await helped.until("approval.requested"), "deny")
    await helped.until("RUN_FINISHED")
    assert await helped.answers() == ["answered: no"]
    assert not (tmp_path / "agents" / "helper" / "a.txt").exists()


async def test_what_a_person_edits_is_refused_since_the_agent_cannot_be_told(helped: Agency) -> None:
    phone = await helped.pair()
    await helped.say("edit fresh")
    approval = await helped.until("approval.requested")
    edited = approval["action"].replace("fresh", "other")
    await helped.decide(phone, approval, "approve", edited_action=edited)
    await helped.until("RUN_FINISHED")
    assert await helped.answers() == ["answered: no"]
    result = (await helped.of("TOOL_CALL_RESULT"))[0]
    assert result["state"] == "failed"


async def test_two_questions_are_two_approvals_though_they_name_one_call(helped: Agency) -> None:
    phone = await helped.pair()
    await helped.say("twice")
    for number in (1, 2):
        approval = await helped.until("approval.requested", number)
        wanted = json.loads(approval["action"])["args"]["input"]["command"]
        await helped.decide(phone, approval, "deny" if "--force" in wanted else "approve")
    await helped.until("RUN_FINISHED")
    assert await helped.answers() == ["answered: ['yes', 'no']"]


async def test_always_is_never_said_to_an_agent_and_nobody_is_asked_for_it(helped: Agency) -> None:
    await helped.say("forever")
    await helped.until("RUN_FINISHED")
    assert await helped.answers() == ["answered: no"]
    assert await helped.of("approval.requested") == []


async def test_nobody_answering_in_time_is_a_no(helped: Agency, clock: ManualClock) -> None:
    await helped.say("edit fresh")
    await helped.until("approval.requested")
    clock.advance(25 * 3600)
    await helped.worker.sweep()
    await helped.until("RUN_FINISHED")
    assert await helped.answers() == ["answered: no"]


async def test_stopping_the_answer_stops_the_agent(helped: Agency) -> None:
    phone = await helped.pair()
    sent = await helped.say("wait")
    run_id = (await helped.until("RUN_STARTED"))["runId"]
    await helped.until_live("TEXT_MESSAGE_CONTENT")
    await helped.command(phone.principal, "run.cancel", run_id=run_id)
    await helped.say("and now", sent.conversation_id)
    await helped.until("message.created", 3)
    assert (await helped.answers())[-1].endswith("and now")


async def test_stopping_while_leave_is_asked_says_no_to_the_agent(helped: Agency) -> None:
    phone = await helped.pair()
    await helped.say("edit fresh")
    approval = await helped.until("approval.requested")
    await helped.idle()
    run_id = json.loads(approval["action"])["run_id"]
    assert runner_of(helped).runs() == {run_id}
    await helped.command(phone.principal, "run.cancel", run_id=run_id)
    await helped.until("approval.decided")
    await helped.idle()
    assert runner_of(helped).runs() == set()
    with pytest.raises(Problem):
        await helped.decide(phone, approval, "approve")


async def test_an_agent_that_ends_while_it_waits_ends_the_run_and_what_it_asked(helped: Agency) -> None:
    await helped.say("edit fresh")
    await helped.until("approval.requested")
    await helped.idle()
    life = runner_of(helped)._life
    assert life is not None
    os.kill(life._process.pid, 9)
    failed = await helped.until("RUN_ERROR")
    assert failed["code"] == "agent_not_ready"
    assert (await helped.until("approval.decided"))["decision"] == "cancelled"


async def test_a_gateway_that_starts_again_ends_the_runs_for_which_agents_waited(put: Put) -> None:
    before = await put(*command(acp_agent))
    await before.say("edit fresh")
    await before.until("approval.requested")
    await before.idle()
    await before.close()
    from tests.support.agency import ALIVE

    ALIVE.remove(before.node_id)
    after = await put(*command(acp_agent))
    failed = await after.until("RUN_ERROR")
    assert failed["code"] == "gateway_restarted"


async def test_another_node_does_not_take_up_what_waits_on_this_one(put: Put) -> None:
    here = await put(*command(acp_agent))
    elsewhere = await put(*command(acp_agent))
    phone = await here.pair()
    await here.say("edit fresh")
    approval = await here.until("approval.requested")
    await here.idle()
    await elsewhere.decide(phone, approval, "approve")
    await here.worker.sweep()  # the bell of another process
    await here.until("RUN_FINISHED")
    assert await here.answers() == ["answered: yes"]


async def test_a_model_cannot_call_what_an_agent_outside_carries_out(helped: Agency) -> None:
    assert not [offer for offer in helped.tools.offers if offer.name.startswith("helper.")]
    assert helped.tools.judge("helper.switch_mode", {"title": "Bypass"}) is Risk.HIGH


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("garbage", "something else than ACP"),
        ("endless", "longer than"),
        ("gone", "ended with code 2: no key: set EXAMPLE_KEY"),
        ("newer", "version 9"),
        ("silent", "did not answer 'initialize'"),
    ],
)
async def test_an_agent_that_does_not_start_says_why(put: Put, how: str, why: str) -> None:
    agency = await put(*command(acp_rogue, how), patience=Patience(start=timedelta(milliseconds=800)))
    await agency.say("hello")
    failed = await agency.until("RUN_ERROR")
    assert failed["code"] == "agent_not_ready"
    assert "helper does not run" in failed["message"]
    state = runner_of(agency).standing()
    assert state.standing is Standing.FAILED
    assert why in state.detail


async def test_a_program_that_is_not_there_is_named(put: Put) -> None:
    agency = await put("no-such-program")
    await agency.say("hello")
    await agency.until("RUN_ERROR")
    assert runner_of(agency).standing().detail == "there is no program 'no-such-program'."


@pytest.mark.parametrize(("how", "code"), [("flood", "answer_too_large"), ("error", "provider_error")])
async def test_an_agent_that_misbehaves_in_its_answer_fails_that_answer(put: Put, how: str, code: str) -> None:
    agency = await put(*command(acp_rogue, how), patience=Patience(cancel=timedelta(0)))
    await agency.say("hello")
    failed = await agency.until("RUN_ERROR")
    assert failed["code"] == code
    assert "secret" not in json.dumps(failed)


async def test_what_cannot_be_read_is_passed_over(put: Put) -> None:
    agency = await put(*command(acp_rogue, "mumble"))
    await agency.say("hello")
    await agency.until("RUN_FINISHED")
    assert await agency.answers() == ["fine"]


async def test_an_agent_that_does_not_stop_is_started_anew(put: Put) -> None:
    agency = await put(*command(acp_rogue, "stubborn"), patience=Patience(cancel=timedelta(0)))
    phone = await agency.pair()
    await agency.say("hello")
    run_id = (await agency.until("RUN_STARTED"))["runId"]
    await agency.until_live("TEXT_MESSAGE_CONTENT")
    life = runner_of(agency)._life
    assert life is not None
    await agency.command(phone.principal, "run.cancel", run_id=run_id)
    async with asyncio.timeout(WITHIN):
        await life.gone
        await life._process._process.wait()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(life._process.pid, 0)
        pytest.fail("something of it is left")


async def test_an_agent_is_for_the_roles_that_its_settings_name(helped: Agency) -> None:
    bridges = helped.worker._runner
    assert isinstance(bridges, Bridges)
    bridges._role_of = lambda *_: Role.MEMBER
    principal = Principal(helped.user_id, DEFAULT_DEVICE_SCOPES)
    helped.conversations.check_agent = bridges.check
    for name, code in (("helper", "forbidden"), ("nobody", "not_found")):
        with pytest.raises(Problem) as refused:
            await helped.database.write(
                lambda tx, name=name: helped.conversations.send_message(tx, principal, None, "hello", 0, agent=name)
            )
        assert refused.value.code == code
    assert bridges.choose(None, helped.user_id, None) == ""  # pyright: ignore[reportArgumentType]  the roles need no row here


async def test_a_stop_that_came_as_a_life_ended_waited_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wait may swallow a cancellation that comes as what it waits for is there; another life was begun then."""
    lives: list[str] = []
    is_ending = asyncio.Event()

    async def live(_runner: AcpRunner) -> str:
        lives.append("begun")
        is_ending.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if len(lives) > 1:
                raise
        return "it ended"

    monkeypatch.setattr(AcpRunner, "_live", live)
    bridge = AcpBridge(name="helper", kind="acp", command=("true",))
    runner = AcpRunner(bridge, tmp_path, {}, SystemClock(), backoff=Backoff(first=timedelta(0)))
    runner.start()
    await is_ending.wait()
    closing = asyncio.create_task(runner.close())
    done, _ = await asyncio.wait({closing}, timeout=WITHIN)
    assert done
    assert lives == ["begun"]
