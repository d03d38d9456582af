"""Which filters match which topics, and who may use which."""

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entobot.mqtt.model import Action
from entobot.mqtt.packets import Malformed, Reason
from entobot.mqtt.policy import own_client_id, own_subtree
from entobot.mqtt.topics import MAX_LEVELS, MAX_TOPIC_BYTES, check_filter, check_name, like, matches, scope_of


@pytest.mark.parametrize(
    ("text", "topic", "is_match"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a/c", False),
        ("a/b", "a/b/c", False),
        ("a/b/c", "a/b", False),
        ("#", "a/b/c", True),
        ("a/#", "a/b/c", True),
        ("a/#", "a", True),
        ("a/#", "ab", False),
        ("+", "a", True),
        ("+", "/a", False),
        ("/+", "/a", True),
        ("+/+", "/a", True),
        ("a/+", "a/", True),
        ("a/+", "a", False),
        ("a/+/c", "a/b/c", True),
        ("a/+/c", "a/b/d", False),
        ("+/b/#", "a/b", True),
        ("#", "$SYS/up", False),
        ("+/up", "$SYS/up", False),
        ("$SYS/#", "$SYS/up", True),
        ("A", "a", False),
    ],
)
def test_a_filter_matches_as_the_specification_says(text: str, topic: str, is_match: bool) -> None:
    check_filter(text)
    check_name(topic)
    assert matches(text, topic) is is_match


@pytest.mark.parametrize("topic", ["", "a" * (MAX_TOPIC_BYTES + 1), "/" * MAX_LEVELS, "a\x1fb", "a\x9fb"])
def test_a_topic_that_is_too_long_or_cannot_be_shown_is_none(topic: str) -> None:
    with pytest.raises(Malformed) as caught:
        check_name(topic)
    assert caught.value.reason is Reason.TOPIC_NAME_INVALID


@pytest.mark.parametrize(
    ("text", "scope"),
    [
        ("devices/dev_1/status", "dev_1"),
        ("devices/dev_1/#", "dev_1"),
        ("devices/dev_1", "dev_1"),
        ("devices/+/status", ""),
        ("devices/#", ""),
        ("#", ""),
        ("other/dev_1", ""),
        ("devices", ""),
    ],
)
def test_whose_part_of_the_tree_it_is(text: str, scope: str) -> None:
    assert scope_of(text) == scope


@pytest.mark.parametrize(
    ("action", "text", "is_allowed"),
    [
        (Action.PUBLISH, "devices/dev_1/telemetry/t", True),
        (Action.PUBLISH, "devices/dev_1/status", True),
        (Action.PUBLISH, "devices/dev_1/event", True),
        (Action.PUBLISH, "devices/dev_1/result", True),
        (Action.PUBLISH, "devices/dev_1/command", False),
        (Action.PUBLISH, "devices/dev_1/command/x", False),
        (Action.PUBLISH, "devices/dev_1/notification", False),
        (Action.PUBLISH, "devices/dev_1", False),
        (Action.PUBLISH, "devices/dev_10/status", False),
        (Action.PUBLISH, "devices/dev_2/status", False),
        (Action.PUBLISH, "Devices/dev_1/status", False),
        (Action.PUBLISH, "/devices/dev_1/status", False),
        (Action.PUBLISH, "$SYS/x/y", False),
        (Action.SUBSCRIBE, "devices/dev_1/command", True),
        (Action.SUBSCRIBE, "devices/dev_1/#", True),
        (Action.SUBSCRIBE, "devices/dev_1/+", True),
        (Action.SUBSCRIBE, "devices/+/status", False),
        (Action.SUBSCRIBE, "devices/#", False),
        (Action.SUBSCRIBE, "+/dev_1/status", False),
        (Action.SUBSCRIBE, "#", False),
        (Action.SUBSCRIBE, "$SYS/#", False),
        (Action.SUBSCRIBE, "devices/dev_1", False),
    ],
)
def test_a_device_reaches_its_own_subtree_only(action: Action, text: str, is_allowed: bool) -> None:
    decision = own_subtree("dev_1", action, text)
    assert decision.is_allowed is is_allowed
    assert decision.rule


@pytest.mark.parametrize(
    ("client_id", "may"),
    [("dev_1", True), ("dev_1/app", True), ("dev_10", False), ("", False), ("dev_2/dev_1", False), ("dev_1/", True)],
)
def test_a_client_id_is_the_device_s(client_id: str, may: bool) -> None:
    assert own_client_id("dev_1", client_id) is may


LEVELS = st.lists(st.sampled_from(["a", "b%", "_", "!", "", "devices", "dev_1"]), min_size=1, max_size=4).map("/".join)


@given(LEVELS, LEVELS.flatmap(lambda text: st.sampled_from([text, f"{text}/#", "#", text.replace("a", "+")])))
def test_a_pattern_fits_whatever_its_filter_matches(topic: str, text: str) -> None:
    fits = sqlite3.connect(":memory:").execute("SELECT ? LIKE ? ESCAPE '!'", (topic, like(text))).fetchone()[0]
    assert fits or not matches(text, topic)


def test_a_pattern_leaves_out_other_levels_and_takes_its_signs_as_they_are() -> None:
    assert like("devices/+/a_b%!") == "devices/%/a!_b!%!!"
