"""The whole way of a message, with the runner that needs no model."""

import pytest
from ag_ui.core import Event as AgUiEvent
from pydantic import TypeAdapter

from entobot.audit.events import AuditEvent
from tests.support.agency import Agency
from tests.support.time import ManualClock

AG_UI = TypeAdapter(AgUiEvent)


async def test_an_acknowledged_message_is_answered(agency: Agency) -> None:
    sent = await agency.say("hello there")
    await agency.until("RUN_FINISHED")
    assert await agency.answers(sent.conversation_id) == ["hello there"]


async def test_the_answer_is_shown_word_by_word_under_the_id_of_the_stored_message(agency: Agency) -> None:
    await agency.say("one two three")
    await agency.until("RUN_FINISHED")
    stored = (await agency.of("message.created"))[-1]
    text = "".join(event["delta"] for event in agency.live if event["type"] == "TEXT_MESSAGE_CONTENT")
    assert text == "one two three"
    assert {event["messageId"] for event in agency.live} == {stored["message_id"]}


async def test_every_agent_event_is_ag_ui(agency: Agency) -> None:
    phone = await agency.pair()
    await agency.say("!note milk")
    await agency.decide(phone, await agency.until("approval.requested"), "approve")
    await agency.until("RUN_FINISHED")
    seen = [event for event in [*await agency.events(), *agency.live] if event["type"].isupper()]
    for event in seen:
        AG_UI.validate_python(event)
    kinds = {event["type"] for event in seen}
    assert kinds == {
        "RUN_STARTED",
        "RUN_FINISHED",
        "TEXT_MESSAGE_START",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_END",
        "TOOL_CALL_START",
        "TOOL_CALL_ARGS",
        "TOOL_CALL_END",
        "TOOL_CALL_RESULT",
    }


async def test_an_approved_note_is_taken_once_and_told(agency: Agency) -> None:
    phone = await agency.pair()
    await agency.say("!note buy milk")
    approval = await agency.until("approval.requested")
    assert not (agency.workspace / "notes.txt").exists()
    await agency.decide(phone, approval, "approve")
    await agency.until("RUN_FINISHED")
    assert (agency.workspace / "notes.txt").read_text() == "buy milk\n"
    assert await agency.answers() == ["noted: buy milk"]
    assert len(agency.audit.of(AuditEvent.TOOL_EXECUTED)) == 1


@pytest.mark.parametrize("reason", [None, "not today"])
async def test_a_denied_note_is_not_taken_and_the_answer_says_so(agency: Agency, reason: str | None) -> None:
    phone = await agency.pair()
    await agency.say("!note buy milk")
    await agency.decide(phone, await agency.until("approval.requested"), "deny", reason=reason)
    await agency.until("RUN_FINISHED")
    assert not (agency.workspace / "notes.txt").exists()
    (answer,) = await agency.answers()
    assert answer.startswith("not noted: buy milk.")
    assert reason is None or reason in answer


async def test_what_is_executed_is_the_edited_text(agency: Agency) -> None:
    phone = await agency.pair()
    await agency.say("!note buy milk")
    approval = await agency.until("approval.requested")
    edited = approval["action"].replace("buy milk", "buy oat milk")
    await agency.decide(phone, approval, "approve", edited_action=edited)
    await agency.until("RUN_FINISHED")
    assert (agency.workspace / "notes.txt").read_text() == "buy oat milk\n"


async def test_nobody_deciding_in_time_is_told_and_nothing_is_done(agency: Agency, clock: ManualClock) -> None:
    await agency.say("!note buy milk")
    approval = await agency.until("approval.requested")
    clock.advance(24 * 3600)
    await agency.worker.sweep()
    await agency.until("RUN_FINISHED")
    (decided,) = await agency.of("approval.decided")
    assert (decided["approval_id"], decided["decision"], decided["by"]) == (
        approval["approval_id"],
        "expired",
        "gateway",
    )
    assert not (agency.workspace / "notes.txt").exists()
    assert await agency.answers() == ["not noted: buy milk. Nobody decided in time; it was not done."]


async def test_an_approval_waits_while_nobody_is_connected(agency: Agency, clock: ManualClock) -> None:
    await agency.say("!note buy milk")
    await agency.until("approval.requested")
    clock.advance(23 * 3600)
    await agency.worker.sweep()
    await agency.idle()
    assert await agency.of("approval.decided") == []
    (started,) = await agency.of("RUN_STARTED")
    assert await agency.run_state(started["runId"]) == "waiting"


async def test_messages_of_a_conversation_are_answered_in_order(agency: Agency) -> None:
    first = await agency.say("1")
    for number in range(2, 6):
        await agency.say(str(number), first.conversation_id)
    await agency.until("RUN_FINISHED", 5)
    assert await agency.answers() == ["1", "2", "3", "4", "5"]


async def test_a_question_behind_a_waiting_approval_is_answered_after_it(agency: Agency) -> None:
    phone = await agency.pair()
    first = await agency.say("!note buy milk")
    approval = await agency.until("approval.requested")
    await agency.say("and then?", first.conversation_id)
    await agency.idle()
    assert await agency.answers() == []
    await agency.decide(phone, approval, "approve")
    await agency.until("RUN_FINISHED", 2)
    assert await agency.answers() == ["noted: buy milk", "and then?"]
