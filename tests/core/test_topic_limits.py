"""What a credential is limited to never widens what its device may."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entobot.core.errors import Code, Problem
from entobot.core.topic_limits import (
    MAX_FILTERS,
    NO_LIMITS,
    TopicLimits,
    clean_limits,
    is_within,
    limits_of_words,
    overlap,
    parse_limits,
    words_of_limits,
)
from entobot.mqtt.model import Action
from entobot.mqtt.policy import DOWNWARD, Decision, narrowed, own_subtree
from entobot.mqtt.topics import matches

LEVELS = st.sampled_from(["a", "b", "telemetry", "status", "command"])
DEVICES = st.sampled_from(["dev_1", "dev_2"])
TOPICS = st.builds(lambda one, rest: "/".join(("devices", one, *rest)), DEVICES, st.lists(LEVELS, max_size=3))
FILTERS = st.builds(
    lambda own, rest, is_open: "/".join(("devices", own, *rest, *(["#"] if is_open else []))),
    st.sampled_from(["dev_1", "dev_2", "+", "{device_id}"]),
    st.lists(LEVELS | st.just("+"), max_size=3),
    st.booleans(),
)
KEPT = st.none() | st.lists(FILTERS, max_size=3).map(tuple)
LIMITS = st.builds(TopicLimits, KEPT, KEPT)
ASKED = TOPICS | FILTERS.map(lambda one: one.replace("{device_id}", "dev_1"))


def judged(wide: Decision, limits: TopicLimits, action: Action, text: str) -> Decision:
    return narrowed(wide, limits, "dev_1", "key_1", action, text)


@given(LIMITS, st.sampled_from(Action), ASKED)
def test_a_limited_credential_never_reaches_more_than_its_device(
    limits: TopicLimits, action: Action, text: str
) -> None:
    wide = own_subtree("dev_1", action, text)
    found = judged(wide, limits, action, text)
    assert wide.is_allowed or not found.is_allowed
    assert judged(wide, NO_LIMITS, action, text) == wide
    assert judged(found, limits, action, text) == found, "narrowing twice is narrowing once"
    if wide.is_allowed and not found.is_allowed:
        assert "key_1" in found.rule


@given(LIMITS, LIMITS, st.sampled_from(Action), ASKED)
def test_no_second_limit_undoes_the_first(one: TopicLimits, two: TopicLimits, action: Action, text: str) -> None:
    allowed = Decision(is_allowed=True, rule="")
    both = judged(judged(allowed, one, action, text), two, action, text)
    assert both.is_allowed == all(judged(allowed, limits, action, text).is_allowed for limits in (one, two))


@given(st.lists(FILTERS, max_size=3), TOPICS)
def test_a_topic_lies_within_the_filters_that_match_it(filters: list[str], topic: str) -> None:
    of_device = [one.replace("{device_id}", "dev_1") for one in filters]
    assert is_within(filters, "dev_1", topic) is any(matches(one, topic) for one in of_device)


@given(FILTERS, FILTERS, TOPICS)
def test_two_filters_overlap_where_some_topic_falls_under_both(one: str, other: str, topic: str) -> None:
    assert overlap(one, other) is overlap(other, one)
    if matches(one, topic) and matches(other, topic):
        assert overlap(one, other)
    if overlap(one, other):
        witness = common(one.split("/"), other.split("/"))
        assert matches(one, witness)
        assert matches(other, witness)


def common(one: list[str], other: list[str]) -> str:
    """A topic of both, where they overlap."""
    kept = [[level for level in two if level != "#"] for two in (one, other)]
    found: list[str] = []
    for at in range(max(map(len, kept))):
        said = [two[at] for two in kept if at < len(two) and two[at] != "+"]
        found.append(said[0] if said else "x")
    return "/".join(found)


@given(LIMITS)
def test_limits_are_read_as_they_were_written(limits: TopicLimits) -> None:
    assert parse_limits(limits.text) == limits
    kept = clean_limits(limits.publish, limits.subscribe)
    assert clean_limits(kept.publish, kept.subscribe) == kept
    words = words_of_limits({"publish": kept.publish, "subscribe": kept.subscribe})
    asked = limits_of_words(words)
    assert clean_limits(asked.get("publish"), asked.get("subscribe")) == kept


def test_a_filter_is_one_below_the_device_unless_it_says_otherwise() -> None:
    found = clean_limits(["telemetry/#", "devices/+/event", "telemetry/#"], [])
    assert found == TopicLimits(("devices/+/event", "devices/{device_id}/telemetry/#"), ())
    assert found.publish is not None
    assert is_within(found.publish, "dev_9", "devices/dev_9/telemetry/x")
    assert not is_within(found.publish, "dev_9", "devices/dev_1/telemetry/x")
    assert not any(is_within(found.publish, "dev_9", f"devices/dev_9/{one}") for one in DOWNWARD)


@pytest.mark.parametrize("text", ["", "a b", "a,b", "a/#/b", "a+", "x" * 300, "a\x00b", "a\x1f"])
def test_what_is_no_filter_is_refused(text: str) -> None:
    with pytest.raises(Problem) as caught:
        clean_limits([text], None)
    assert caught.value.code is Code.INVALID


def test_there_are_so_many_filters_at_most() -> None:
    with pytest.raises(Problem):
        clean_limits([f"t/{n}" for n in range(MAX_FILTERS + 1)], None)


@pytest.mark.parametrize("text", ["telemetry/#", "write=a", "publish=a publish=b"])
def test_words_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(Problem):
        limits_of_words(text)
