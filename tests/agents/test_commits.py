"""How many commits a turn takes: each is a sync of the disk that somebody waits for."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.dialects import sqlite

from entobot.agents import store
from entobot.storage.database_sqlite import SqliteDatabase
from tests.agents.conftest import Opener
from tests.agents.test_worker import DONE, Gated, Scripted, calls
from tests.support.agency import Agency


@pytest.fixture
def units() -> Callable[[Agency], list[str]]:
    """Who asked for each unit that writes, from now on; units that wait together share a commit."""

    def count(agency: Agency) -> list[str]:
        asked: list[str] = []
        write = agency.database.write

        async def counted(unit: Callable[..., Any], key: str = "", *, is_small: bool = False) -> Any:
            asked.append(unit.__qualname__.removesuffix(".<locals>.<lambda>").removesuffix(".<locals>.unit"))
            return await write(unit, key, is_small=is_small)

        agency.database.write = counted
        return asked

    return count


async def test_an_echo_turn_takes_two_commits(agency: Agency, units: Callable[[Agency], list[str]]) -> None:
    asked = units(agency)
    await agency.say("hello")
    await agency.until("RUN_FINISHED")
    await agency.idle()
    assert asked == [
        "Agency.say",  # the message, its run, RUN_STARTED
        "Worker._think",  # the answer, the run's end, RUN_FINISHED, and that nothing else waits there
    ]


async def test_an_approved_note_takes_five_commits(agency: Agency, units: Callable[[Agency], list[str]]) -> None:
    phone = await agency.pair()
    asked = units(agency)
    await agency.say("!note milk")
    approval = await agency.until("approval.requested")
    await agency.idle()
    assert asked == [
        "Agency.say",  # the message, its run, RUN_STARTED
        "Worker._think",  # the tool call, the request, and that the run waits
    ]
    asked.clear()
    await agency.decide(phone, approval, "approve")
    await agency.until("RUN_FINISHED")
    await agency.idle()
    assert asked == [
        "Agency.command",  # the decision, its audit entry, and that the call is being executed
        "Worker._execute",  # what came of it, its audit entry, and that the model is asked again
        "Worker._think",  # the answer, the run's end, RUN_FINISHED
    ]


async def test_a_tool_that_needs_no_approval_takes_one_more_commit(
    open_agency: Opener, units: Callable[[Agency], list[str]]
) -> None:
    agency = await open_agency(runner=Scripted(calls(("c1", "clock", "{}")), DONE))
    asked = units(agency)
    await agency.say("what time is it?")
    await agency.until("RUN_FINISHED")
    await agency.idle()
    assert asked == ["Agency.say", "Worker._think", "Worker._execute", "Worker._think"]


async def test_a_message_behind_another_is_taken_in_the_commit_that_ends_the_run_before_it(
    open_agency: Opener, units: Callable[[Agency], list[str]]
) -> None:
    runner = Gated()
    agency = await open_agency(runner=runner)
    asked = units(agency)
    first = await agency.say("1")
    await agency.until("RUN_STARTED")
    await agency.say("2", first.conversation_id)
    runner.gate("2").set()
    await agency.until_live("TEXT_MESSAGE_CONTENT")
    asked.clear()
    runner.gate("1").set()
    await agency.until("RUN_FINISHED", 2)
    await agency.idle()
    assert asked == ["Worker._think", "Worker._think"]


async def test_claiming_looked_at_every_run_that_had_ever_ended(agency: Agency) -> None:
    if not isinstance(agency.database, SqliteDatabase):
        pytest.skip("how SQLite reads is asked in its own words")
    asked = text(f"EXPLAIN QUERY PLAN {store._BUSY_OF_USER.compile(dialect=sqlite.dialect(paramstyle='named'))}")
    (plan,) = await agency.database.read(lambda tx: [row["detail"] for row in tx.rows(asked, {"user": "usr_1"})])
    assert "USING INDEX uq_runs_active_conversation" in plan
