"""The store goes away while a model or a tool is at work: what came of it is kept once the store is back."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from entobot.agents.runner import TextDelta, ToolRequest, TurnEnd, TurnEvent, TurnRequest
from entobot.agents.tools import Arguments, Toolbox, ToolSpec
from entobot.agents.worker import Pace
from entobot.storage.database import StorageFailed
from tests.agents.conftest import Opener
from tests.support.agency import ALIVE, Agency

AGAIN = Pace(flush_every=timedelta(0), store_again=timedelta(milliseconds=1))
HAPPENED = StorageFailed("the connection broke while the server was committing")
HAPPENED.is_outcome_unknown = True


class Working:
    """Calls the tool, then says how it ended. `at_work` is called in the model's first turn."""

    name = "working"

    def __init__(self, at_work: Callable[[], None] = lambda: None) -> None:
        self._at_work = at_work
        self.told: list[str] = []

    async def turn(self, request: TurnRequest) -> AsyncIterator[TurnEvent]:
        if request.transcript[-1].content == "work" and not request.tool_results:
            yield TurnEnd("", (ToolRequest("c1", "work", "{}"),), "{}")
            return
        self.told += [outcome.content for outcome in request.tool_results]
        self._at_work()
        yield TextDelta("done")
        yield TurnEnd("done", (), "{}")

    async def close(self) -> None:
        pass


class Store:
    """Stands before an agency's store and fails the next `failures` commits, made or not."""

    def __init__(self) -> None:
        self.failures = 0
        self.is_made = False
        self.refused = 0

    def stand_before(self, agency: Agency, patch: pytest.MonkeyPatch) -> None:
        write = agency.database.write

        async def attempt(unit: Any, key: str = "", **options: Any) -> Any:
            if not self.failures:
                return await write(unit, key, **options)
            self.failures -= 1
            self.refused += 1
            if self.is_made:
                await write(unit, key, **options)
                raise HAPPENED
            raise StorageFailed("the disk is full")

        patch.setattr(agency.database, "write", attempt)

    def go_away(self) -> None:
        self.failures = 3


@pytest.fixture
def store() -> Store:
    return Store()


Opened = Callable[..., Awaitable[tuple[Agency, Working]]]


@pytest.fixture
def open_working(open_agency: Opener, store: Store, monkeypatch: pytest.MonkeyPatch) -> Opened:
    async def open_(tool: Callable[[Any], str], at_work: Callable[[], None] = lambda: None) -> tuple[Agency, Working]:
        runner = Working(at_work)
        toolbox = Toolbox([ToolSpec("work", "Works.", Arguments, tool)])
        agency = await open_agency(runner=runner, tools=lambda *_: toolbox, pace=AGAIN)
        store.stand_before(agency, monkeypatch)
        return agency, runner

    return open_


async def test_what_a_tool_did_is_kept_and_told_to_the_model(open_working: Opened, store: Store) -> None:
    executed: list[int] = []

    def work(_: Any) -> str:
        executed.append(1)
        store.go_away()
        return "42 lines written"

    agency, runner = await open_working(work)
    await agency.say("work")
    await agency.until("RUN_FINISHED")
    assert (len(executed), store.refused) == (1, 3)
    assert runner.told == ["42 lines written"]
    assert len(await agency.of("TOOL_CALL_RESULT")) == 1


async def test_what_a_model_said_is_kept_and_it_is_not_asked_again(open_working: Opened, store: Store) -> None:
    asked: list[int] = []

    def at_work() -> None:
        asked.append(1)
        store.go_away()

    agency, _ = await open_working(lambda _: "", at_work)
    await agency.say("hi")
    await agency.until("RUN_FINISHED")
    assert await agency.answers() == ["done"]
    assert (len(asked), store.refused) == (1, 3)


async def test_an_answer_whose_commit_was_made_and_not_confirmed_is_there_once_and_the_next_is_served(
    open_working: Opened, store: Store
) -> None:
    store.is_made = True
    agency, _ = await open_working(lambda _: "", lambda: setattr(store, "failures", 1))
    conversation_id = (await agency.say("hi")).conversation_id
    await agency.until("RUN_FINISHED")
    await agency.say("and this", conversation_id)
    await agency.until("RUN_FINISHED", 2)
    assert await agency.answers() == ["done", "done"]


async def test_a_stop_while_the_store_is_away_does_not_wait_for_it(
    open_working: Opened, open_agency: Opener, store: Store
) -> None:
    agency, _ = await open_working(lambda _: "", lambda: setattr(store, "failures", 1_000_000))
    await agency.say("hi")
    await agency.until_live("TEXT_MESSAGE_CONTENT")
    await agency.worker.stop(timedelta(seconds=60))
    ALIVE.remove(agency.node_id)
    again = await open_agency()
    assert (await again.until("RUN_ERROR"))["code"] == "gateway_restarted"
