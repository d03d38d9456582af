"""The checker of MQTT's promises, on histories made by hand: each breaks one promise, and only that one is told."""

from collections.abc import Callable
from typing import Any

import pytest

from entobot.client.history import Record, Violation
from entobot.client.history_mqtt import Ear, Kept, check

TOPIC = "devices/dev_1/telemetry/alpha"
SCREEN = Ear(("screen",), "devices/dev_1/telemetry/")
SHARED = Ear(("left", "right"), "devices/dev_1/telemetry/")


class Story:
    """Records in the order in which they are told, a millisecond apart."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.kept: list[int] = []
        self.commands: dict[str, str] = {}

    def note(self, client: str, kind: str, **what: Any) -> None:
        self.records.append(Record(client, len(self.records) * 1_000_000, kind, what))

    def says(self, value: int, qos: int = 1) -> None:
        self.note("sensor", "published", topic=TOPIC, qos=qos, value=value)

    def is_acknowledged(self, value: int) -> None:
        self.note("sensor", "acknowledged", topic=TOPIC, value=value)
        self.kept.append(value)

    def hears(self, client: str, value: int, qos: int = 1) -> None:
        self.note(client, "delivered", topic=TOPIC, qos=qos, value=value)

    def is_commanded(self, command_id: str) -> None:
        self.note("phone", "ordered", command_id=command_id)
        self.note("sensor", "obeyed", command_id=command_id)
        self.commands[command_id] = "done"

    def without(self, kind: str, **what: Any) -> None:
        self.records = [
            one for one in self.records if one.kind != kind or any(one.what[name] != is_ for name, is_ in what.items())
        ]

    def broken(self) -> list[Violation]:
        return check(self.records, [SCREEN, SHARED], Kept({TOPIC: self.kept}, self.commands))


def good() -> Story:
    """The screen is away for a while, and what was under way to it comes again; the last one nobody acknowledged."""
    story = Story()
    for client in ("sensor", "screen", "left", "right"):
        story.note(client, "connected", present=False)
    for value, qos, share in ((1, 1, "left"), (2, 2, "right"), (3, 1, "left")):
        story.says(value, qos)
        story.is_acknowledged(value)
        story.hears("screen", value, qos)
        story.hears(share, value, qos)
    story.note("screen", "broken")
    story.note("screen", "connected", present=True)
    story.hears("screen", 3)
    story.is_commanded("cmd_1")
    story.says(4)
    return story


def hears_twice(story: Story) -> None:
    story.hears("screen", 2, qos=2)


def shares_twice(story: Story) -> None:
    story.hears("left", 2, qos=2)


def repeats_over_a_sound_line(story: Story) -> None:
    story.says(5)
    story.hears("screen", 5)
    story.hears("screen", 5)


def hears_in_another_order(story: Story) -> None:
    story.says(5)
    story.hears("screen", 5)
    story.hears("screen", 4)


def finds_no_session(story: Story) -> None:
    story.note("left", "broken")
    story.note("left", "connected", present=False)


def hears_what_nobody_said(story: Story) -> None:
    story.hears("screen", 99)


def keeps_twice(story: Story) -> None:
    story.kept.append(1)


def keeps_what_nobody_said(story: Story) -> None:
    story.kept.append(98)


def keeps_less(story: Story) -> None:
    story.kept.remove(2)


def screen_never_hears(story: Story) -> None:
    story.records = [one for one in story.records if (one.client, one.what.get("value")) != ("screen", 2)]


def nobody_of_the_share_hears(story: Story) -> None:
    story.records = [one for one in story.records if (one.client, one.what.get("value")) != ("right", 2)]


def command_never_comes(story: Story) -> None:
    story.without("obeyed")


def command_does_not_end(story: Story) -> None:
    story.commands["cmd_1"] = "sent"


BREAKS: dict[Callable[[Story], None], str] = {
    hears_twice: "a message of QoS 2 comes once",
    shares_twice: "a message of QoS 2 comes once",
    repeats_over_a_sound_line: "a message of QoS 1 comes twice over a broken line only",
    hears_in_another_order: "messages keep their order",
    finds_no_session: "a session can be resumed",
    hears_what_nobody_said: "what comes was sent",
    keeps_twice: "a reading is kept once",
    keeps_what_nobody_said: "what is kept was sent",
    keeps_less: "no acknowledged message is lost",
    screen_never_hears: "no acknowledged message is lost",
    nobody_of_the_share_hears: "no acknowledged message is lost",
    command_never_comes: "no command is lost",
    command_does_not_end: "no command is lost",
}


def test_a_good_history_breaks_no_promise() -> None:
    assert good().broken() == []


@pytest.mark.parametrize("breaks", BREAKS, ids=lambda one: one.__name__)
def test_each_broken_promise_is_found_and_shown(breaks: Callable[[Story], None]) -> None:
    story = good()
    breaks(story)
    assert [one.promise for one in story.broken()] == [BREAKS[breaks]]


def test_of_what_several_share_a_repeat_may_come_to_another_one_and_later() -> None:
    story = good()
    for value in (5, 6):
        story.says(value)
        story.is_acknowledged(value)
        story.hears("screen", value)
    story.hears("left", 5)
    story.hears("right", 6)
    story.note("sensor", "broken")
    story.note("sensor", "connected", present=True)
    story.hears("right", 5)
    assert story.broken() == []
