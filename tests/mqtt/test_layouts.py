"""Other layouts of topics: what they map, what they leave alone, and that a layout opens nothing."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from entobot.config_mqtt import KNOWN_LAYOUTS, MqttSettings
from entobot.mqtt.layouts import Layout, names_of
from entobot.mqtt.model import Action
from entobot.mqtt.policy import own_subtree

SETTINGS = MqttSettings.model_validate({"layouts": '[{"name": "topdog"}, {"name": "unhidra"}]'})
LAYOUTS = {one.name: Layout(one.root, one.names) for one in SETTINGS.layouts}
TOPDOG = names_of(LAYOUTS, "dev_1/topdog", "dev_1", "usr_1")
UNHIDRA = names_of(LAYOUTS, "dev_1/unhidra", "dev_1", "usr_1")
OURS = names_of(LAYOUTS, "dev_1", "dev_1", "usr_1")

MESSAGE_TYPES = {
    "voice_command", "pairing_request", "heartbeat", "acknowledgment",  # up
    "build_status", "notification", "approval_request", "pairing_response", "command_result",  # down
}  # fmt: skip


def test_every_message_type_of_topdog_has_a_place_in_the_device_s_own_topics_and_comes_back_as_it_was() -> None:
    assert set(KNOWN_LAYOUTS["topdog"]["names"]) == MESSAGE_TYPES
    for name in MESSAGE_TYPES:
        theirs = f"topdog/usr_1/dev_1/{name}"
        ours = TOPDOG.ours(theirs)
        assert own_subtree("dev_1", Action.SUBSCRIBE, ours).is_allowed
        assert TOPDOG.theirs(ours) == theirs
    up = ("voice_command", "pairing_request", "heartbeat", "acknowledgment")
    assert all(
        own_subtree("dev_1", Action.PUBLISH, TOPDOG.ours(f"topdog/usr_1/dev_1/{name}")).is_allowed for name in up
    )
    assert not own_subtree("dev_1", Action.PUBLISH, TOPDOG.ours("topdog/usr_1/dev_1/approval_request")).is_allowed


def test_unhidra_s_topics_are_ours_under_another_root() -> None:
    for rest in ("telemetry/temperature", "telemetry", "command", "status", "#", "+", "+/x"):
        assert UNHIDRA.ours(f"unhidra/devices/dev_1/{rest}") == f"devices/dev_1/{rest}"
        assert UNHIDRA.theirs(f"devices/dev_1/{rest}") == f"unhidra/devices/dev_1/{rest}"


def test_one_wildcard_is_all_that_is_the_device_s_own_and_shares_stay_shared() -> None:
    assert TOPDOG.ours("topdog/usr_1/dev_1/#") == TOPDOG.ours("topdog/usr_1/dev_1/+") == "devices/dev_1/#"
    assert TOPDOG.ours("$share/x/topdog/usr_1/dev_1/#") == "$share/x/devices/dev_1/#"


def test_what_a_layout_has_no_name_for_comes_under_its_root() -> None:
    assert TOPDOG.theirs("devices/dev_1/command") == "topdog/usr_1/dev_1/command"
    assert TOPDOG.theirs("devices/dev_2/command") == "devices/dev_2/command"


def test_who_does_not_ask_for_a_layout_speaks_ours() -> None:
    for text in ("devices/dev_1/status", "topdog/usr_1/dev_1/heartbeat", "unhidra/devices/dev_1/status"):
        assert OURS.ours(text) == OURS.theirs(text) == text
    assert names_of(LAYOUTS, "dev_1/topdog", "dev_2", "usr_1") is OURS
    assert TOPDOG.ours("devices/dev_1/status") == "devices/dev_1/status"


FOREIGN = [
    "topdog/usr_1/dev_2/heartbeat",
    "topdog/usr_2/dev_1/heartbeat",
    "topdog/usr_1/+/heartbeat",
    "topdog/+/dev_1/heartbeat",
    "topdog/#",
    "topdog/usr_1/dev_1/made_up",
    "topdog/usr_1/dev_1/heartbeat/more",
    "topdog/usr_1/dev_1/",
    "topdog/usr_1/dev_1",
    "topdog/usr_1/dev_1/../dev_2/heartbeat",
    "unhidra/devices/dev_2/status",
    "unhidra/devices/dev_1",
    "unhidra/#",
    "devices/dev_2/status",
    "#",
]


@pytest.mark.parametrize("text", FOREIGN)
@pytest.mark.parametrize("names", [TOPDOG, UNHIDRA])
def test_what_is_not_the_device_s_own_is_refused_under_every_layout(names: Any, text: str) -> None:
    for action in (Action.PUBLISH, Action.SUBSCRIBE):
        assert not own_subtree("dev_1", action, names.ours(text)).is_allowed


LEVEL = st.sampled_from(
    ["topdog", "unhidra", "devices", "dev_1", "dev_2", "usr_1", "usr_2", "+", "#", "status", "", ".."]
)


@given(st.lists(LEVEL, min_size=1, max_size=6).map("/".join))
def test_a_layout_lets_nothing_out_of_the_device_s_own_topics(text: str) -> None:
    for names in (TOPDOG, UNHIDRA):
        mapped = names.ours(text)
        assert mapped == text or mapped.startswith("devices/dev_1/")


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"name": "mine"}, "root"),
    ({"name": "mine", "root": "devices/{device_id}"}, "does not begin with 'devices'"),
    ({"name": "mine", "root": "things"}, "one of them {device_id}"),
    ({"name": "mine", "root": "things/{device_id}/#"}, "is made of levels"),
    ({"name": "mine", "root": "things/{device_id.__class__}"}, "is made of levels"),
    ({"name": "mine", "root": "t/{device_id}", "names": {"a": "../dev_2"}}, "map names to"),
    ({"name": "mine", "root": "t/{device_id}", "names": {"a/#": "event"}}, "map names to"),
    ({"name": "mine", "root": "t/{device_id}", "names": {"a": "event", "b": "event"}}, "the same topic"),
    ({"name": "a/b", "root": "t/{device_id}"}, "name"),
]


@pytest.mark.parametrize(("layout", "text"), WRONG)
def test_a_layout_that_could_open_more_is_refused_at_the_start(layout: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        MqttSettings.model_validate({"layouts": [layout]})


def test_two_layouts_of_one_name_are_refused() -> None:
    with pytest.raises(ValidationError, match="same name"):
        MqttSettings.model_validate({"layouts": [{"name": "topdog"}, {"name": "topdog"}]})
