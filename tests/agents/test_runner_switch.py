"""Runs keep the runner that began them while settings change around them."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from entobot.agents.runner import (
    RunErrorCode,
    RunFailed,
    TextDelta,
    ToolRequest,
    TurnEnd,
    TurnEvent,
    TurnRequest,
)
from entobot.agents.runner_switch import MAX_HELD_RUNS, RunnerSwitch
from tests.support.gateway import quiet


class Named:
    """Calls one tool in a run's first turn and says its name in the second."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.states: list[str | None] = []
        self.is_closed = False

    async def turn(self, request: TurnRequest) -> AsyncIterator[TurnEvent]:
        assert not self.is_closed
        self.states.append(request.state)
        if request.run_id == "run_broken":
            raise RunFailed(RunErrorCode.PROVIDER_ERROR, "no")
        yield TextDelta("…")
        calls = (ToolRequest("c", "clock", "{}"),) if request.state is None else ()
        yield TurnEnd(self.name, calls, f'{{"by":"{self.name}"}}')

    async def close(self) -> None:
        self.is_closed = True


def request(run_id: str = "run_1", state: str | None = None) -> TurnRequest:
    return TurnRequest(run_id, (), state, (), ())


async def end_of(switch: RunnerSwitch, asked: TurnRequest) -> TurnEnd:
    events = [event async for event in switch.turn(asked)]
    assert isinstance(events[0], TextDelta)
    end = events[-1]
    assert isinstance(end, TurnEnd)
    return end


async def test_runs_that_begin_after_a_change_have_the_new_runner_and_others_keep_theirs() -> None:
    old, new = Named("old"), Named("new")
    switch = RunnerSwitch("llm", old)
    begun = await end_of(switch, request("run_1"))
    switch.use("llm", new)
    assert switch.name == "new"
    assert (await end_of(switch, request("run_2"))).text == "new"
    await quiet()
    assert not old.is_closed, "a run of its own goes on"
    assert (await end_of(switch, request("run_1", begun.state))).text == "old"
    assert old.states == [None, '{"by":"old"}']
    await quiet()
    assert old.is_closed
    assert not new.is_closed


async def test_a_replaced_runner_without_runs_is_closed_at_once() -> None:
    old = Named("old")
    switch = RunnerSwitch("echo", old)
    switch.use("llm", Named("new"))
    await quiet()
    assert old.is_closed


async def test_a_turn_under_way_is_not_closed_under_its_feet() -> None:
    old = Named("old")
    switch = RunnerSwitch("llm", old)
    begun = await end_of(switch, request())
    turn: Any = switch.turn(request(state=begun.state))
    await anext(turn)
    switch.use("llm", Named("new"))
    for n in range(MAX_HELD_RUNS):  # so many that the run under way is not remembered any more
        await end_of(switch, request(f"other_{n}"))
    await quiet()
    assert not old.is_closed
    assert [event.text async for event in turn] == ["old"]
    await quiet()
    assert old.is_closed


async def test_a_failed_run_lets_go_of_its_runner() -> None:
    old = Named("old")
    switch = RunnerSwitch("llm", old)
    with pytest.raises(RunFailed):
        await end_of(switch, request("run_broken"))
    switch.use("llm", Named("new"))
    await quiet()
    assert old.is_closed


async def test_after_a_restart_a_run_goes_on_with_its_kind_and_no_other() -> None:
    begun = await end_of(RunnerSwitch("llm", Named("before")), request())
    assert (await end_of(RunnerSwitch("llm", Named("after")), request(state=begun.state))).text == "after"
    with pytest.raises(RunFailed) as caught:
        await end_of(RunnerSwitch("echo", Named("echo")), request(state=begun.state))
    assert caught.value.code is RunErrorCode.AGENT_NOT_READY


async def test_runs_that_never_end_are_not_remembered_for_ever() -> None:
    old = Named("old")
    switch = RunnerSwitch("llm", old)
    await end_of(switch, request("run_0"))
    switch.use("llm", Named("new"))
    for n in range(MAX_HELD_RUNS):
        assert not old.is_closed
        await end_of(switch, request(f"run_{n + 1}"))
    await quiet()
    assert old.is_closed


async def test_closing_closes_every_runner_in_use() -> None:
    old, new = Named("old"), Named("new")
    switch = RunnerSwitch("llm", old)
    await end_of(switch, request("run_1"))
    switch.use("llm", new)
    await switch.close()
    assert old.is_closed
    assert new.is_closed
