"""The checker, on histories made by hand: each breaks one promise, and only that one is told."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from entobot.client.history import Record, Recorder, Violation, check, read_records, report

STREAM = "str_1"


class Story:
    """Records in the order in which they are told, a millisecond apart."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def note(self, client: str, kind: str, **what: Any) -> None:
        self.records.append(Record(client, len(self.records) * 1_000_000, kind, what))

    def opens(self, client: str, seq: int = 0, reason: str = "none") -> None:
        self.note(client, "ready", stream=STREAM, user="usr_1", seq=seq, resume=None)
        self.note(client, "reset", stream=STREAM, reason=reason)
        self.note(client, "snapshot", stream=STREAM, seq=seq)

    def resumes(self, client: str, after: int, done: int | None = None) -> None:
        resume = {"stream": STREAM, "after": after}
        self.note(client, "ready", stream=STREAM, user="usr_1", seq=after, resume=resume)
        if done is not None:
            self.note(client, "resume_done", stream=STREAM, seq=done)

    def sends(self, client: str, command: str, text: str) -> None:
        data = json.dumps({"content": text})
        self.note(client, "sent", id=command, name="message.send", data=data)

    def is_answered(self, client: str, command: str, message: str, seq: int) -> None:
        self.note(client, "answered", id=command, data={"message_id": message, "seq": seq}, code=None)

    def is_told(self, client: str, seq: int, message: str, text: str = "") -> None:
        what = {"type": "message.created", "role": "user", "message_id": message, "content": text or message}
        self.note(client, "event", stream=STREAM, seq=seq, digest=f"{seq}{message}", **what)

    def broken(self, **options: Any) -> list[Violation]:
        return check(self.records, **options)


def good() -> Story:
    """Two devices of one user; one is away for a while."""
    story = Story()
    story.opens("a")
    story.opens("b")
    story.sends("a", "c1", "m1")
    story.is_told("a", 1, "m1")
    story.is_answered("a", "c1", "m1", 1)
    story.is_told("b", 1, "m1")
    story.note("b", "processed", stream=STREAM, seq=1)
    story.note("b", "ack", stream=STREAM, seq=1)
    story.note("b", "ended", code=1006)
    story.sends("a", "c2", "m2")
    story.is_answered("a", "c2", "m2", 2)
    story.is_told("a", 2, "m2")
    story.resumes("b", 1)
    story.is_told("b", 2, "m2")
    story.note("b", "resume_done", stream=STREAM, seq=2)
    return story


def rows(*messages: str) -> dict[str, list[dict[str, Any]]]:
    return {"usr_1": [{"message_id": one, "content": one, "role": "user"} for one in messages]}


def test_a_good_history_breaks_no_promise() -> None:
    assert good().broken(stored=rows("m1", "m2")) == []


def told_twice(story: Story) -> None:
    story.is_told("a", 2, "m2")


def out_of_order(story: Story) -> None:
    story.is_told("a", 4, "m4")
    story.is_told("a", 3, "m3")


def skipped_by_one_device(story: Story) -> None:
    story.is_told("a", 3, "m3")
    story.is_told("b", 3, "m3")
    story.is_told("b", 4, "m4")
    story.is_told("a", 5, "m5")
    story.is_told("b", 5, "m5")


def skipped_at_the_resume(story: Story) -> None:
    story.is_told("a", 3, "m3")
    story.resumes("b", 2, done=3)


def lost(story: Story) -> None:
    story.sends("a", "c3", "m3")
    story.is_answered("a", "c3", "m3", 3)
    story.is_told("a", 3, "another")
    story.is_told("b", 3, "another")


def told_to_nobody(story: Story) -> None:
    story.sends("a", "c3", "m3")
    story.is_answered("a", "c3", "m3", 3)


def two_effects(story: Story) -> None:
    story.is_told("a", 3, "m9", text="m2")
    story.is_told("b", 3, "m9", text="m2")


def two_answers(story: Story) -> None:
    story.is_answered("a", "c2", "m9", 2)


def an_effect_of_what_was_refused(story: Story) -> None:
    story.sends("a", "c3", "m3")
    story.note("a", "answered", id="c3", data=None, code="invalid")
    story.is_told("a", 3, "m3")


def two_truths(story: Story) -> None:
    story.is_told("a", 3, "m3")
    story.is_told("b", 3, "m4")


def order_turned(story: Story) -> None:
    story.sends("b", "c3", "m3")
    story.is_told("a", 3, "m4")
    story.is_told("b", 3, "m4")
    story.is_told("a", 4, "m3")
    story.is_told("b", 4, "m3")
    story.is_answered("b", "c3", "m3", 4)
    story.sends("a", "c4", "m4")
    story.is_answered("a", "c4", "m4", 3)


def went_back(story: Story) -> None:
    story.resumes("b", 2)
    story.note("b", "reset", stream=STREAM, reason="ahead")
    story.note("b", "snapshot", stream=STREAM, seq=1)


def silent_reset(story: Story) -> None:
    story.resumes("b", 2)
    story.note("b", "snapshot", stream=STREAM, seq=2)


def resumed_elsewhere(story: Story) -> None:
    story.resumes("b", 1, done=2)


def acknowledged_too_much(story: Story) -> None:
    story.note("b", "ack", stream=STREAM, seq=3)


PROMISES: dict[Callable[[Story], None], str] = {
    told_twice: "no event comes twice or out of order",
    out_of_order: "no event comes twice or out of order",
    skipped_by_one_device: "no event is skipped",
    skipped_at_the_resume: "no event is skipped",
    lost: "no acknowledged message is lost",
    told_to_nobody: "no acknowledged message is lost",
    two_effects: "a command has its effect once",
    two_answers: "a command has one result",
    an_effect_of_what_was_refused: "a refused command leaves nothing behind",
    two_truths: "all devices of a user see one history",
    order_turned: "a user's messages keep their order",
    went_back: "what was acknowledged can be resumed",
    silent_reset: "a snapshot is announced by a reset",
    resumed_elsewhere: "a client resumes where it left",
    acknowledged_too_much: "only what was received is acknowledged",
}


@pytest.mark.parametrize("breaks", PROMISES, ids=lambda one: one.__name__)
def test_each_broken_promise_is_found_and_shown_by_few_records(breaks: Callable[[Story], None]) -> None:
    story = good()
    breaks(story)
    is_contiguous = breaks is not out_of_order
    found = story.broken(is_contiguous=is_contiguous)
    assert {one.promise for one in found} == {PROMISES[breaks]}, report(found)
    assert all(0 < len(one.evidence) <= 4 for one in found)
    assert PROMISES[breaks] in report(found)


def test_a_message_that_is_acknowledged_and_not_stored_is_lost() -> None:
    found = good().broken(stored=rows("m1"))
    assert [one.text for one in found] == ["m2 is not stored"]


def test_a_message_that_is_stored_twice_is_found_even_if_nobody_was_told() -> None:
    stored = rows("m1", "m2")
    stored["usr_1"].append({"message_id": "m9", "content": "m1", "role": "user"})
    assert [one.promise for one in good().broken(stored=stored)] == ["a command has its effect once"]


def test_numbers_may_have_gaps_for_a_device_without_all_scopes_as_long_as_all_such_devices_agree() -> None:
    story = Story()
    story.opens("a")
    story.is_told("a", 2, "m2")
    assert story.broken(is_contiguous=False) == []
    assert [one.promise for one in story.broken()] == ["no event is skipped"]


def test_a_reset_that_was_announced_as_possible_is_none() -> None:
    story = good()
    story.resumes("b", 2)
    story.note("b", "reset", stream=STREAM, reason="expired")
    story.note("b", "snapshot", stream=STREAM, seq=9)
    assert story.broken(allowed_resets=frozenset({"expired"})) == []


def test_a_program_that_starts_again_goes_on_at_what_it_had_processed() -> None:
    story = good()
    story.note("b", "started", position={"stream": STREAM, "after": 1})
    story.resumes("b", 1)
    story.is_told("b", 2, "m2")
    assert story.broken() == []
    story.note("b", "started", position={"stream": STREAM, "after": 7})
    assert [one.promise for one in story.broken()] == ["a client resumes where it left"]


def test_what_was_recorded_can_be_read_from_the_file_although_its_last_line_was_cut(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    times = iter(range(10))
    recorder = Recorder("a", file, now_ns=lambda: next(times))
    event = {"type": "message.created", "data": {"message_id": "m1", "role": "user", "content": "hello"}}
    frame = json.dumps({"type": "event", "seq": 1, "ts": 5, "topic": "t", "event": event}).encode()
    recorder.note("event", connection=1, stream=STREAM, seq=1, frame=frame)
    recorder.note("ended", code=1006)
    recorder.close()
    with file.open("a") as more:
        more.write('{"client": "a", "at_')
    read = read_records(file)
    assert read == recorder.records
    assert read[0].what["message_id"] == "m1"


def test_a_report_tells_the_smallest_counterexamples_and_how_many_more_there_are() -> None:
    story = good()
    for _ in range(9):
        told_twice(story)
    text = report(story.broken(), at_most=2)
    assert text.count("no event comes twice") == 2
    assert "… and 7 more" in text
