"""Claiming, waking, cancelling and stopping, with models that do as they are told."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from entobot.agents.runner import (
    RunErrorCode,
    RunFailed,
    TextDelta,
    ToolCallDelta,
    ToolRequest,
    TurnEnd,
    TurnEvent,
    TurnRequest,
)
from entobot.agents.runner_loading import LoadingRunner
from entobot.agents.service import Limits
from entobot.agents.tools import Arguments, Toolbox, ToolSpec
from entobot.agents.worker import Pace
from entobot.audit.events import AuditEvent
from entobot.core.errors import Code, Problem
from entobot.core.permissions import ALL_SCOPES
from entobot.core.principal import Principal
from entobot.storage.database import Transaction
from tests.agents.conftest import Opener
from tests.support.agency import ALIVE, PATIENCE_S, Agency
from tests.support.time import ManualClock


class Gated:
    """Answers a prompt when its gate is opened. `begun` and `open` count what is under way."""

    name = "gated"

    def __init__(self) -> None:
        self.gates: dict[str, asyncio.Event] = {}
        self.begun: list[str] = []
        self.closed = False

    def gate(self, prompt: str) -> asyncio.Event:
        return self.gates.setdefault(prompt, asyncio.Event())

    async def turn(self, request: TurnRequest) -> AsyncIterator[TurnEvent]:
        prompt = request.transcript[-1].content
        self.begun.append(prompt)
        yield TextDelta(f"thinking of {prompt}")
        await self.gate(prompt).wait()
        yield TurnEnd(f"answer to {prompt}", (), "{}")

    async def close(self) -> None:
        self.closed = True


class Stubborn(Gated):
    """Ignores being cancelled. `spoke` is set when it has said more nevertheless."""

    def __init__(self) -> None:
        super().__init__()
        self.spoke = asyncio.Event()

    async def turn(self, request: TurnRequest) -> AsyncIterator[TurnEvent]:
        yield TextDelta("never ")
        gate = self.gate("free")
        while not gate.is_set():
            try:
                await gate.wait()
            except asyncio.CancelledError:
                continue
        yield TextDelta("late")
        self.spoke.set()
        yield TurnEnd("late", (), "{}")


class Scripted:
    """Plays turns in order: an exception, or a TurnEnd whose calls are shown first."""

    name = "scripted"

    def __init__(self, *turns: TurnEnd | Exception) -> None:
        self.turns = list(turns)
        self.requests: list[TurnRequest] = []

    async def turn(self, request: TurnRequest) -> AsyncIterator[TurnEvent]:
        self.requests.append(request)
        turn = self.turns.pop(0)
        if isinstance(turn, Exception):
            raise turn
        if turn.text:
            yield TextDelta(turn.text)
        for call in turn.tool_calls:
            yield ToolCallDelta(call.tool_call_id, call.name, call.args_json)
        yield turn

    async def close(self) -> None:
        pass


def calls(*requests: tuple[str, str, str]) -> TurnEnd:
    return TurnEnd("", tuple(ToolRequest(*request) for request in requests), "{}")


DONE = TurnEnd("done", (), "{}")


async def test_a_slow_conversation_does_not_delay_another(open_agency: Opener) -> None:
    runner = Gated()
    agency = await open_agency(runner=runner)
    slow, quick = await agency.say("slow"), await agency.say("quick")
    runner.gate("quick").set()
    await agency.until("RUN_FINISHED")
    assert await agency.answers(quick.conversation_id) == ["answer to quick"]
    runner.gate("slow").set()
    await agency.until("RUN_FINISHED", 2)
    assert await agency.answers(slow.conversation_id) == ["answer to slow"]


async def test_within_a_conversation_one_run_follows_the_other(open_agency: Opener) -> None:
    runner = Gated()
    agency = await open_agency(runner=runner)
    first = await agency.say("1")
    await agency.say("2", first.conversation_id)
    await agency.until_live("TEXT_MESSAGE_CONTENT")
    await agency.worker.sweep()
    assert runner.begun == ["1"]
    again = await agency.database.write(lambda tx: agency.agents.claim(tx, first.conversation_id, "run_2", 1))
    assert again is None
    runner.gate("2").set()
    runner.gate("1").set()
    await agency.until("RUN_FINISHED", 2)
    assert await agency.answers() == ["answer to 1", "answer to 2"]


async def test_a_user_has_only_so_many_runs_at_a_time_and_the_rest_waits_its_turn(open_agency: Opener) -> None:
    runner = Gated()
    agency = await open_agency(runner=runner, limits=Limits(max_busy_per_user=2))
    for prompt in ("1", "2", "3"):
        await agency.say(prompt)
    await agency.until("RUN_STARTED", 2)
    await agency.worker.sweep()
    assert len(runner.begun) == 2
    for gate in ("1", "2", "3"):
        runner.gate(gate).set()
    await agency.until("RUN_FINISHED", 3)
    assert sorted(runner.begun) == ["1", "2", "3"]


async def test_all_users_together_have_only_so_many_tasks(open_agency: Opener) -> None:
    runner = Gated()
    agency = await open_agency(runner=runner, pace=Pace(max_tasks=1))
    await agency.say("1")
    await agency.say("2")
    await agency.until("RUN_STARTED")
    assert runner.begun == ["1"]
    runner.gate("1").set()
    runner.gate("2").set()
    await agency.until("RUN_FINISHED", 2)


async def test_a_run_woken_many_times_executes_its_call_once(agency: Agency) -> None:
    phone = await agency.pair()
    await agency.say("!note milk")
    approval = await agency.until("approval.requested")
    await agency.idle()
    await agency.decide(phone, approval, "approve")
    for _ in range(5):
        agency.worker._tasks.ring(approval["run_id"])
        await agency.worker.sweep()
    now_ms = agency.clock.now_ms()
    await asyncio.gather(
        *(agency.database.write(lambda tx: agency.agents.advance(tx, "run_none", now_ms)) for _ in range(3))
    )
    await agency.until("RUN_FINISHED")
    assert (agency.workspace / "notes.txt").read_text() == "milk\n"
    assert len(agency.audit.of(AuditEvent.TOOL_EXECUTED)) == 1


async def test_of_many_that_would_bring_a_run_on_one_gets_the_call(open_agency: Opener) -> None:
    agency = await open_agency()
    phone = await agency.pair()
    await agency.say("!note milk")
    approval = await agency.until("approval.requested")
    await agency.idle()
    await agency.worker.stop(timedelta(seconds=5))
    await agency.decide(phone, approval, "approve")
    now_ms = agency.clock.now_ms()
    steps = await asyncio.gather(
        *(agency.database.write(lambda tx: agency.agents.advance(tx, approval["run_id"], now_ms)) for _ in range(20))
    )
    assert len([step for step in steps if step is not None]) == 1


async def test_a_decision_that_rang_for_nobody_is_found_by_the_sweep(agency: Agency) -> None:
    phone = await agency.pair()
    await agency.say("!note milk")
    approval = await agency.until("approval.requested")
    await agency.idle()
    agency.approvals.go_on = lambda *_: False
    for unsubscribe in agency.worker._unsubscribe:
        unsubscribe()
    await agency.decide(phone, approval, "approve")
    await agency.idle()
    assert await agency.of("RUN_FINISHED") == []
    await agency.worker.sweep()
    await agency.until("RUN_FINISHED")


async def test_a_run_that_nobody_drives_any_more_is_ended_when_its_lease_runs_out(
    open_agency: Opener, clock: ManualClock
) -> None:
    lost = await open_agency(works=False)
    await lost.say("hello")
    now_ms = clock.now_ms()
    conversation = (await lost.database.read(lost.conversations.awaiting))[0]
    run_id = "run_01J00000000000000000000000"
    await lost.database.write(lambda tx: lost.agents.claim(tx, conversation, run_id, now_ms))
    await lost.worker.sweep()
    assert await lost.run_state(run_id) == "thinking"
    clock.advance(61)
    await lost.worker.sweep()
    assert await lost.run_state(run_id) == "failed"
    assert (await lost.until("RUN_ERROR"))["code"] == "gateway_restarted"


async def test_a_long_run_keeps_its_lease(open_agency: Opener, clock: ManualClock) -> None:
    runner = Gated()
    agency = await open_agency(runner=runner)
    await agency.say("long")
    await agency.until_live("TEXT_MESSAGE_CONTENT")
    other_node = await open_agency(works=False)
    for _ in range(5):
        clock.advance(59)
        await agency.worker.sweep()
        await other_node.worker.sweep()
    runner.gate("long").set()
    await agency.until("RUN_FINISHED")
    assert await agency.answers() == ["answer to long"]


# -- cancelling


async def test_cancelling_a_waiting_run_closes_its_approval_and_frees_the_conversation(agency: Agency) -> None:
    phone = await agency.pair()
    sent = await agency.say("!note milk")
    approval = await agency.until("approval.requested")
    await agency.say("next", sent.conversation_id)
    await agency.idle()
    result = await agency.command(phone.principal, "run.cancel", run_id=approval["run_id"])
    assert result["state"] == "cancelled"
    await agency.until("RUN_FINISHED", 2)
    assert await agency.answers() == ["next"]
    assert [event["decision"] for event in await agency.of("approval.decided")] == ["cancelled"]
    with pytest.raises(Problem) as refusal:
        await agency.decide(phone, approval, "approve")
    assert refusal.value.code is Code.APPROVAL_ALREADY_DECIDED
    assert not (agency.workspace / "notes.txt").exists()


async def test_cancelling_works_on_a_model_that_does_not_listen(open_agency: Opener) -> None:
    runner = Stubborn()
    agency = await open_agency(runner=runner)
    phone = await agency.pair()
    await agency.say("hi")
    started = await agency.until("RUN_STARTED")
    await agency.until_live("TEXT_MESSAGE_CONTENT")
    await agency.command(phone.principal, "run.cancel", run_id=started["runId"])
    await agency.idle()
    shown = len(agency.live)
    runner.gate("free").set()
    await runner.spoke.wait()
    await agency.database.read(lambda _: None)
    assert len(agency.live) == shown
    assert await agency.answers() == []


async def test_cancelling_what_has_ended_says_how_it_ended(agency: Agency) -> None:
    phone = await agency.pair()
    await agency.say("hi")
    finished = await agency.until("RUN_FINISHED")
    result = await agency.command(phone.principal, "run.cancel", run_id=finished["runId"])
    assert result == {"run_id": finished["runId"], "state": "finished"}
    assert len(await agency.of("RUN_FINISHED")) == 1


async def test_another_users_run_is_not_found(agency: Agency) -> None:
    await agency.say("hi")
    finished = await agency.until("RUN_FINISHED")
    with pytest.raises(Problem) as refusal:
        await agency.command(Principal("usr_other", ALL_SCOPES), "run.cancel", run_id=finished["runId"])
    assert refusal.value.code is Code.NOT_FOUND


async def test_a_tool_that_runs_while_its_run_is_cancelled_is_recorded_and_nothing_follows(
    open_agency: Opener,
) -> None:
    import threading

    inside, free = threading.Event(), threading.Event()

    def work(_: Any) -> str:
        inside.set()
        free.wait()
        return "worked"

    runner = Scripted(calls(("c1", "work", "{}"), ("c2", "work", "{}")), DONE)
    agency = await open_agency(runner=runner, tools=lambda *_: Toolbox([ToolSpec("work", "Works.", Arguments, work)]))
    phone = await agency.pair()
    await agency.say("go")
    started = await agency.until("RUN_STARTED")
    await asyncio.to_thread(inside.wait)
    await agency.command(phone.principal, "run.cancel", run_id=started["runId"])
    free.set()
    result = await agency.until("TOOL_CALL_RESULT")
    await agency.idle()
    assert (result["state"], result["content"]) == ("done", "worked")
    assert len(await agency.of("TOOL_CALL_RESULT")) == 1
    assert len(runner.requests) == 1


# -- failing


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (RunFailed(RunErrorCode.PROVIDER_RATE_LIMITED, "Later."), "provider_rate_limited"),
        (RuntimeError("SECRET"), "internal"),
    ],
)
async def test_a_failed_turn_is_an_error_and_the_next_message_is_served(
    open_agency: Opener, failure: Exception, code: str
) -> None:
    agency = await open_agency(runner=Scripted(failure, DONE))
    sent = await agency.say("1")
    await agency.say("2", sent.conversation_id)
    await agency.until("RUN_FINISHED")
    (error,) = await agency.of("RUN_ERROR")
    assert error["code"] == code
    assert "SECRET" not in error["message"]
    assert await agency.answers() == ["done"]


async def test_a_tool_that_breaks_is_told_to_the_model_without_its_inner_words(open_agency: Opener) -> None:
    def break_(_: Any) -> str:
        raise OSError("SECRET path")

    runner = Scripted(calls(("c1", "break", "{}")), DONE)
    agency = await open_agency(
        runner=runner, tools=lambda *_: Toolbox([ToolSpec("break", "Breaks.", Arguments, break_)])
    )
    await agency.say("go")
    await agency.until("RUN_FINISHED")
    (outcome,) = runner.requests[1].tool_results
    assert outcome.is_error
    assert "SECRET" not in outcome.content


async def test_a_model_that_uses_one_id_for_two_calls_gets_both_answers(open_agency: Opener) -> None:
    runner = Scripted(calls(("same", "clock", "{}"), ("same", "clock", "{}")), DONE)
    agency = await open_agency(runner=runner)
    await agency.say("go")
    await agency.until("RUN_FINISHED")
    assert len({event["toolCallId"] for event in await agency.of("TOOL_CALL_RESULT")}) == 2
    assert len(runner.requests[1].tool_results) == 2


async def test_what_no_database_can_hold_is_cleaned_from_an_answer(open_agency: Opener) -> None:
    agency = await open_agency(runner=Scripted(TurnEnd("a\x00b\ud800c", (), "{}")))
    await agency.say("go")
    await agency.until("RUN_FINISHED")
    assert await agency.answers() == ["ab?c"]


async def test_an_answer_that_fits_no_frame_is_an_error(open_agency: Opener) -> None:
    agency = await open_agency(runner=Scripted(TurnEnd("\n" * 80_000 + "x", (), "{}")))
    await agency.say("go")
    assert (await agency.until("RUN_ERROR"))["code"] == "answer_too_large"


# -- stopping and loading


async def test_stopping_ends_whatever_the_model_does(open_agency: Opener) -> None:
    runner = Stubborn()
    agency = await open_agency(runner=runner)
    await agency.say("hi")
    await agency.until_live("TEXT_MESSAGE_CONTENT")
    await asyncio.wait_for(agency.worker.stop(timedelta(seconds=5)), PATIENCE_S)
    assert (await agency.until("RUN_ERROR"))["code"] == "gateway_restarted"
    assert runner.closed
    runner.gate("free").set()


async def test_stopping_does_not_wait_for_a_tool_longer_than_it_is_told(open_agency: Opener) -> None:
    import threading

    inside, free = threading.Event(), threading.Event()

    def work(_: Any) -> str:
        inside.set()
        return str(free.wait())

    runner = Scripted(calls(("c1", "work", "{}")))
    agency = await open_agency(runner=runner, tools=lambda *_: Toolbox([ToolSpec("work", "Works.", Arguments, work)]))
    await agency.say("go")
    await asyncio.to_thread(inside.wait)
    await agency.worker.stop(timedelta(milliseconds=100))
    ALIVE.remove(agency.node_id)
    again = await open_agency()
    assert (await again.until("RUN_ERROR"))["code"] == "tool_outcome_unknown"
    free.set()


async def test_a_stopped_worker_takes_nothing_up(agency: Agency) -> None:
    await agency.worker.stop(timedelta(seconds=5))
    await agency.say("hi")
    await agency.idle()
    assert await agency.of("RUN_STARTED") == []


async def test_messages_wait_while_the_agent_is_loaded(open_agency: Opener) -> None:
    import threading

    loaded = threading.Event()

    def load() -> Scripted:
        loaded.wait()
        return Scripted(DONE)

    agency = await open_agency(runner=LoadingRunner(load, "late"))
    await agency.say("hi")
    await agency.until("RUN_STARTED")
    loaded.set()
    await agency.until("RUN_FINISHED")
    assert await agency.answers() == ["done"]


async def test_an_agent_that_cannot_be_loaded_is_an_error_and_is_tried_again(open_agency: Opener) -> None:
    results: list[Scripted | Exception] = [ImportError("SECRET"), Scripted(DONE)]

    def load() -> Scripted:
        result = results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    agency = await open_agency(runner=LoadingRunner(load, "llm"))
    sent = await agency.say("1")
    error = await agency.until("RUN_ERROR")
    assert (error["code"], error["retry"]) == ("agent_not_ready", True)
    await agency.say("2", sent.conversation_id)
    await agency.until("RUN_FINISHED")
    assert await agency.answers() == ["done"]


# -- what begins in the unit that calls for it


async def test_a_message_that_is_not_stored_after_all_begins_nothing(agency: Agency) -> None:
    sender = Principal(agency.user_id, ALL_SCOPES)

    def unit(tx: Transaction) -> None:
        agency.conversations.send_message(tx, sender, None, "hello", 1)
        raise LookupError("something else in the unit")

    with pytest.raises(LookupError):
        await agency.database.write(unit)
    await agency.idle()
    assert await agency.of("RUN_STARTED") == []
    await agency.say("after it")
    await agency.until("RUN_FINISHED")
    assert await agency.answers() == ["after it"]


async def test_runs_that_begin_in_one_commit_wait_their_turn_and_are_not_taken_for_lost(
    open_agency: Opener, clock: ManualClock
) -> None:
    runner = Gated()
    agency = await open_agency(runner=runner, pace=Pace(max_tasks=1))
    await asyncio.gather(agency.say("1"), agency.say("2"))
    await agency.until_live("TEXT_MESSAGE_CONTENT")
    clock.advance(61)
    await agency.worker.sweep()
    assert runner.begun == ["1"]
    runner.gate("2").set()
    runner.gate("1").set()
    await agency.until("RUN_FINISHED", 2)
    assert await agency.of("RUN_ERROR") == []


async def test_a_run_that_had_begun_and_not_had_its_turn_is_ended_by_a_stop(open_agency: Opener) -> None:
    runner = Gated()
    agency = await open_agency(runner=runner, pace=Pace(max_tasks=1))
    await asyncio.gather(agency.say("1"), agency.say("2"))
    await agency.until_live("TEXT_MESSAGE_CONTENT")
    await agency.worker.stop(timedelta(seconds=5))
    begun = {event["runId"] for event in await agency.of("RUN_STARTED")}
    ended = await agency.of("RUN_ERROR")
    assert {event["runId"] for event in ended} == begun
    assert {event["code"] for event in ended} == {"gateway_restarted"}
    assert runner.begun == ["1"]


async def test_a_message_stored_while_the_worker_stops_waits_for_the_next_start(open_agency: Opener) -> None:
    before = await open_agency()
    await before.worker.stop(timedelta(seconds=5))
    await before.say("late")
    assert await before.of("RUN_STARTED") == []
    await before.close()
    agency = await open_agency()
    await agency.until("RUN_FINISHED")
    assert await agency.answers() == ["late"]


async def test_a_decision_taken_while_the_worker_stops_waits_for_the_next_start(open_agency: Opener) -> None:
    before = await open_agency()
    phone = await before.pair()
    await before.say("!note milk")
    approval = await before.until("approval.requested")
    await before.idle()
    await before.worker.stop(timedelta(seconds=5))
    await before.decide(phone, approval, "approve")
    assert await before.of("TOOL_CALL_RESULT") == []
    await before.close()
    agency = await open_agency()
    await agency.until("RUN_FINISHED")
    assert (agency.workspace / "notes.txt").read_text() == "milk\n"
