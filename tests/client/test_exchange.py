"""What frames mean, and where the next connection may go on."""

import json
from typing import Any

import pytest

from entobot.client.events import (
    CaughtUp,
    Event,
    MessageCreated,
    Other,
    RunFinished,
    Snapshot,
    TextContent,
    Texts,
    TextStart,
)
from entobot.client.exchange import (
    EventFrame,
    Exchange,
    NotAFrame,
    Ready,
    Reset,
    ResumeDone,
    SnapshotFrame,
    Told,
    read_frame,
)
from entobot.client.journal import Position
from entobot.core.errors import Code


def event(seq: int | None, body: dict[str, Any] | None = None) -> EventFrame:
    members = {"type": "event", "ts": 5, "topic": "t", "event": body or {"type": "RUN_FINISHED", "threadId": "c", "runId": "r"}}  # fmt: skip
    frame = read_frame(json.dumps(members | ({} if seq is None else {"seq": seq})).encode())
    assert isinstance(frame, EventFrame)
    return frame


def ready(seq: int, stream: str = "s") -> Ready:
    return Ready("dev", "usr", ["chat"], stream, seq, 300)


def opened() -> Exchange:
    """After its first snapshot, at 5."""
    exchange = Exchange()
    assert exchange.begin() is None
    exchange.ready(ready(5))
    exchange.reset(Reset("none"))
    exchange.snapshot(SnapshotFrame(5))
    return exchange


def test_a_first_connection_begins_with_a_snapshot_of_all_pages() -> None:
    exchange = Exchange()
    exchange.begin()
    exchange.ready(ready(5))
    exchange.reset(Reset("none"))
    assert exchange.snapshot(SnapshotFrame(5, [{"a": 1}], more=True)) is None
    assert exchange.received is None, "half a snapshot is no position"
    told = exchange.snapshot(SnapshotFrame(5, [{"b": 2}], unread=3))
    assert told == Told(Snapshot("none", 5, [{"a": 1}, {"b": 2}], [], 3), Position("s", 5))


def test_a_connection_that_ends_within_the_snapshot_begins_again() -> None:
    exchange = Exchange()
    exchange.begin()
    exchange.ready(ready(5))
    exchange.reset(Reset("none"))
    exchange.snapshot(SnapshotFrame(5, [{"a": 1}], more=True))
    assert exchange.begin() is None
    exchange.ready(ready(6))
    exchange.reset(Reset("none"))
    told = exchange.snapshot(SnapshotFrame(6, [{"b": 2}]))
    assert told is not None
    assert told.item == Snapshot("none", 6, [{"b": 2}], [], 0)


def test_durable_events_move_the_position_and_live_ones_do_not() -> None:
    exchange = opened()
    told = exchange.event(event(6))
    assert told is not None
    assert told.reaches == Position("s", 6)
    live = exchange.event(event(None))
    assert live is not None
    assert live.reaches is None
    assert exchange.begin() == Position("s", 6)


def test_what_was_told_before_is_not_told_again() -> None:
    exchange = opened()
    exchange.event(event(6))
    exchange.begin()
    exchange.ready(ready(7))
    assert exchange.event(event(6)) is None
    assert exchange.event(event(7)) is not None
    assert exchange.event(event(7)) is None
    assert exchange.resume_done(ResumeDone(7)).item == CaughtUp(7)


def test_the_end_of_a_resume_moves_over_events_of_other_scopes() -> None:
    exchange = opened()
    exchange.begin()
    exchange.ready(ready(9))
    assert exchange.resume_done(ResumeDone(9)).reaches == Position("s", 9)


def test_only_what_this_connection_brought_may_be_acknowledged() -> None:
    exchange = opened()
    exchange.event(event(6))
    assert exchange.may_acknowledge(Position("s", 6))
    assert not exchange.may_acknowledge(Position("s", 7))
    exchange.begin()
    assert not exchange.may_acknowledge(Position("s", 6)), "not before ready"
    exchange.ready(ready(9))
    assert exchange.may_acknowledge(Position("s", 6))


def test_a_gateway_that_is_behind_is_not_told_of_what_it_does_not_know() -> None:
    exchange = opened()
    exchange.event(event(6))
    exchange.begin()
    exchange.ready(ready(3))
    assert not exchange.may_acknowledge(Position("s", 6))
    exchange.reset(Reset("ahead"))
    exchange.snapshot(SnapshotFrame(3))
    assert exchange.received == Position("s", 3)
    exchange.begin()
    exchange.ready(ready(1, "another"))
    assert not exchange.may_acknowledge(Position("s", 3))


def test_events_before_ready_end_the_connection() -> None:
    exchange = Exchange()
    exchange.begin()
    with pytest.raises(NotAFrame):
        exchange.event(event(1))


@pytest.mark.parametrize("payload", [b"", b"{", b"[]", b"1", b"\xff", b'{"type":"event"}', b'{"type":"ready","seq":"x"}', b"[" * 5000])  # fmt: skip
def test_what_is_no_frame_is_refused(payload: bytes) -> None:
    with pytest.raises(NotAFrame):
        read_frame(payload)


@pytest.mark.parametrize("payload", [b'{"type":"new"}', b'{"type":"presence","who":[1]}'])
def test_frames_of_a_newer_gateway_are_ignored(payload: bytes) -> None:
    assert read_frame(payload) is None


def test_members_of_a_newer_gateway_are_ignored_and_its_events_are_handed_on_as_they_are() -> None:
    frame = event(1, {"type": "garden.watered", "data": {"litres": 3}})
    exchange = opened()
    exchange.sent_up_to = 0
    told = exchange.event(frame)
    assert told is not None
    assert isinstance(told.item, Event)
    assert told.item.body == Other("garden.watered", {"type": "garden.watered", "data": {"litres": 3}})
    assert isinstance(read_frame(b'{"type":"pong","new":1}'), object)


def test_an_error_code_of_a_newer_gateway_keeps_its_meaning() -> None:
    again = read_frame(b'{"type":"error","id":"x","code":"tired","message":"Later.","retry":true,"retry_after_s":2}')
    never = read_frame(b'{"type":"error","id":"x","code":"odd","message":"No.","retry":false}')
    assert again is not None
    assert never is not None
    assert (again.problem.retry, again.problem.retry_after_s) == (True, 2)  # pyright: ignore[reportAttributeAccessIssue]  an Error
    assert never.problem.code is Code.INVALID  # pyright: ignore[reportAttributeAccessIssue]  an Error


def test_texts_are_put_together_begun_anew_and_replaced_by_their_message() -> None:
    texts = Texts()

    def told(body: Any, topic: str = "conversation:a") -> None:
        texts.follow(Event(None, 0, topic, body))

    told(TextStart("m1"))
    told(TextContent("m1", "Hel"))
    told(TextContent("m1", "lo"))
    told(TextContent("m2", "no beginning"))
    assert (texts.text("m1"), texts.text("m2")) == ("Hello", "")
    told(TextStart("m1"))
    told(TextContent("m1", "Anew"))
    assert texts.text("m1") == "Anew"
    told(TextStart("m3"), "conversation:b")
    told(TextContent("m3", "other"), "conversation:b")
    told(RunFinished("a", "r"))
    assert (texts.text("m1"), texts.text("m3")) == ("", "other")
    message = {"message_id": "m3", "conversation_id": "b", "role": "assistant", "content": "other", "created_at": "t"}
    read = read_frame(json.dumps({"type": "event", "ts": 1, "topic": "conversation:b", "seq": 1, "event": {"type": "message.created", "data": message}}).encode())  # fmt: skip
    exchange = opened()
    exchange.sent_up_to = 0
    assert isinstance(read, EventFrame)
    whole = exchange.event(read)
    assert whole is not None
    assert isinstance(whole.item, Event)
    assert isinstance(whole.item.body, MessageCreated)
    texts.follow(whole.item)
    assert texts.text("m3") == ""
