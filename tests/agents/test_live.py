"""How a turn is shown while it is written."""

from datetime import timedelta

import pytest

from entobot.agents.live import MAX_PIECE_CHARACTERS, LiveTurn
from entobot.agents.model import Run, RunState
from entobot.agents.tools import built_in_tools
from entobot.agents.workspace import Workspace
from tests.support.agency import Agency, Event

AGES = timedelta(hours=1)


@pytest.fixture
def turn(agency: Agency) -> LiveTurn:
    run = Run("run_1", agency.user_id, "cnv_1", "msg_1", RunState.THINKING, 1, None, 0, 0, None)
    return LiveTurn(agency.stream, agency.clock, agency.ids, run, flush_every=AGES)


async def shown(agency: Agency) -> list[Event]:
    await agency.database.read(lambda _: None)  # the bus delivers on the next turn of the loop
    return agency.live


async def test_a_fast_model_does_not_flood(agency: Agency, turn: LiveTurn) -> None:
    for number in range(10_000):
        turn.text(f"{number} ")
    turn.close()
    events = await shown(agency)
    assert [event["type"] for event in events] == [
        "TEXT_MESSAGE_START",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_END",
    ]
    assert "".join(event.get("delta", "") for event in events) == "".join(f"{n} " for n in range(10_000))
    assert all(len(event.get("delta", "")) <= MAX_PIECE_CHARACTERS for event in events)


async def test_the_first_words_do_not_wait_for_more(agency: Agency, turn: LiveTurn) -> None:
    turn.text("first ")
    await agency.until_live("TEXT_MESSAGE_CONTENT")
    turn.text("second")
    assert len(await shown(agency)) == 2
    turn.close()


async def test_text_and_calls_keep_their_order_and_every_start_has_an_end(agency: Agency, turn: LiveTurn) -> None:
    turn.text("a")
    turn.call("c1", "clock", "{")
    turn.call("c1", "", "}")
    turn.call("c2", "note", "{}")
    turn.text("b")
    turn.close()
    turn.close()
    turn.text("late")
    events = await shown(agency)
    assert [(e["type"].removeprefix("TEXT_MESSAGE_"), e.get("delta")) for e in events] == [
        ("START", None),
        ("CONTENT", "a"),
        ("TOOL_CALL_START", None),
        ("TOOL_CALL_ARGS", "{}"),
        ("TOOL_CALL_END", None),
        ("TOOL_CALL_START", None),
        ("TOOL_CALL_ARGS", "{}"),
        ("TOOL_CALL_END", None),
        ("CONTENT", "b"),
        ("END", None),
    ]


async def test_what_is_dropped_shows_nothing_more(agency: Agency, turn: LiveTurn) -> None:
    turn.text("a")
    turn.drop()
    turn.close()
    assert [event["type"] for event in await shown(agency)] == ["TEXT_MESSAGE_START"]


def test_a_title_is_one_printable_line(agency: Agency) -> None:
    tools = built_in_tools(agency.clock, Workspace(agency.workspace))
    spec = tools.find("note")
    assert spec is not None
    title = tools.title(spec, {"text": "pay\n\u202eevil\u2066" + "x" * 300})
    assert title.startswith("Note: pay\ufffd\ufffdevil\ufffdxxx")
    assert len(title) == 120
