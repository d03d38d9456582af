"""Whatever another broker says, it says it of a board that the bridge may speak for, below that board's own topics."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from entobot.config_mqtt import MqttBridge, may_meet
from entobot.mqtt.bridge_map import Boards, Inward, Map, Outward, Refused, Said, Who, Why, reading
from entobot.mqtt.topics import check_name, matches

OVEN = Who("dev_1", "usr_1", "oven", "furnace", ("hall", "hot"))
KILN = Who("dev_2", "usr_1", "kiln", "furnace")
DOOR = Who("dev_3", "usr_2", "door", "lock")
MAP = Map(
    (
        Inward("factory/{device}/temp", "telemetry/temperature"),
        Inward("any/{device}/{what}", "telemetry/{what}"),
        Inward("zigbee/{device}", "telemetry/humidity", "/humidity"),
        Inward("door/+/#", "event", device="door"),
    ),
    (Outward("telemetry", "house/{device}/{name}"), Outward("status", "is/{device_id}")),
)
NAMED = Boards((OVEN, KILN, DOOR), "name", ("oven", "dev_2"), ())
SEGMENT = st.text(alphabet=st.one_of(st.characters(), st.sampled_from("+#/${}.oven")), max_size=12)
TOPIC = st.one_of(
    st.builds("factory/{}/temp".format, SEGMENT),
    st.builds("any/{}/{}".format, st.one_of(SEGMENT, st.just("oven")), SEGMENT),
    SEGMENT,
)
WHERE = re.compile(r"telemetry/[a-z][a-z0-9_]{0,31}|event")


@given(TOPIC, st.one_of(st.binary(max_size=64), st.builds(lambda found: json.dumps(found).encode(), st.floats())))
def test_a_capture_never_escapes_whatever_the_topic_and_the_payload(topic: str, payload: bytes) -> None:
    for found in MAP.inward(topic, payload, NAMED):
        if isinstance(found, Said):
            assert found.who in (OVEN, KILN), "no board that it may not speak for"
            assert WHERE.fullmatch(found.what), found.what
            check_name(f"devices/{found.who.device_id}/{found.what}")


@given(st.text(max_size=20), st.sampled_from(["id", "name", "tag"]), st.text(max_size=20))
def test_what_a_board_is_called_is_one_level_of_the_other_broker_s_topic(name: str, by: str, reading_name: str) -> None:
    who = Who("dev_1", "usr_1", name, "", ())
    boards = Boards([who], by, ("*",), ())
    for one, topic in MAP.outward("telemetry", who, boards, reading_name):
        check_name(topic)
        assert matches("house/+/+", topic), (one, topic)


@pytest.mark.parametrize(
    ("topic", "payload", "found"),
    [
        ("factory/oven/temp", b"181.5", Said(OVEN, "telemetry/temperature", b"181.5")),
        ("factory/oven/temp", b"hot", Said(OVEN, "telemetry/temperature", b'"hot"')),
        ("factory/oven/temp", b'{"a": 1}', Refused(Why.PAYLOAD, "oven")),
        ("factory/oven/temp", b'{"a', Refused(Why.PAYLOAD, "oven")),
        ("factory/oven/temp", b"", Refused(Why.PAYLOAD, "oven")),
        ("factory/oven/temp", b"\xff\xfe", Refused(Why.PAYLOAD, "oven")),
        ("factory/oven/temp", b'{"value": "\xff"}', Refused(Why.PAYLOAD, "oven")),
        ("factory/oven/temp", b"1" + b"0" * 400, Refused(Why.PAYLOAD, "oven")),
        ("factory/door/temp", b"1", Refused(Why.DEVICE, "door")),
        ("factory/dev_1/temp", b"1", Refused(Why.DEVICE, "dev_1")),
        ("factory//temp", b"1", Refused(Why.DEVICE, "")),
        ("any/oven/Power-W", b"5", Said(OVEN, "telemetry/power_w", b"5")),
        ("any/oven/7", b"5", Refused(Why.NAME, "7")),
        ("any/oven/" + "x" * 33, b"5", Refused(Why.NAME, "x" * 33)),
        ("zigbee/kiln", b'{"humidity": 40, "x": []}', Said(KILN, "telemetry/humidity", b"40")),
        ("zigbee/kiln", b'{"humidity": {}}', Refused(Why.PAYLOAD, "kiln")),
        ("door/a/b/c", b"{}", Refused(Why.DEVICE, "door")),
        ("factory/oven/temp/more", b"1", Refused(Why.TOPIC, "factory/oven/temp/more")),
        ("devices/dev_1/status", b"online", Refused(Why.TOPIC, "devices/dev_1/status")),
    ],
)
def test_each_message_is_one_reading_or_one_reason(topic: str, payload: bytes, found: Said | Refused) -> None:
    assert MAP.inward(topic, payload, NAMED) == [found]


def test_a_name_of_two_boards_is_nobody_s_and_a_tag_may_name_one() -> None:
    twin = Who("dev_4", "usr_2", "oven", "", ("hall",))
    named = Boards((OVEN, twin), "name", ("*",), ())
    assert named.find("oven") is None
    tagged = Boards((OVEN, twin), "tag", (), ("furnace",))
    assert (tagged.find("hall"), tagged.find("hot"), tagged.get("dev_4")) == (OVEN, OVEN, None)
    assert tagged.has_seen("dev_4")


@pytest.mark.parametrize(
    ("value", "is_json", "said"),
    [(62.0, False, b"62"), (0.5, False, b"0.5"), (True, False, b"true"), ("on", False, b"on"), (1e300, False, b"1e+300"),
     ("on", True, b'{"value": "on", "at": 7}')],
)  # fmt: skip
def test_a_reading_is_told_as_it_was_written(value: object, is_json: bool, said: bytes) -> None:
    assert reading(value, 7, is_json=is_json) == said


BASE = {"name": "b", "url": "mqtts://h", "devices": ["*"], "in": [{"topic": "a/{device}", "to": "telemetry/t"}]}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"url": "https://h"}, "no mqtts://"),
        ({"url": "mqtts://u:secret@h"}, "username and password_file"),
        ({"url": "mqtt://h", "alpn": "mqtt"}, "for mqtts://"),
        ({"devices": []}, "names no board"),
        ({"in": []}, "takes or tells nothing"),
        ({"key_file": "/k"}, "belong together"),
        ({"password_file": "/p"}, "needs username"),
        ({"in": [{"topic": "a/b", "to": "telemetry/t"}]}, "says whose it is"),
        ({"in": [{"topic": "$share/g/{device}", "to": "event"}]}, "none of '\\$share'"),
        ({"in": [{"topic": "a/x{device}", "to": "event"}]}, "whole levels"),
        ({"in": [{"topic": "a/#/{device}", "to": "event"}]}, "whole levels"),
        ({"in": [{"topic": "a/{device}", "to": "command"}]}, "to is telemetry/NAME"),
        ({"in": [{"topic": "a/{device}", "to": "telemetry/{device}"}]}, "to is telemetry/NAME"),
        ({"in": [{"topic": "a/{device}", "to": "telemetry/../x"}]}, "to is telemetry/NAME"),
        ({"out": [{"of": "telemetry", "topic": "a/{name}"}]}, "{device} or {device_id}"),
        ({"out": [{"of": "status", "topic": "a/{device}/+"}]}, "no \\+ or #"),
        ({"out": [{"of": "command", "topic": "a/{device}", "retain": True}]}, "not retained"),
        ({"protocol": "3.1.1", "out": [{"of": "status", "topic": "a/{device}"}]}, "told itself"),
    ],
)
def test_a_bridge_that_could_not_be_meant_is_refused_at_the_start(change: dict[str, object], why: str) -> None:
    assert MqttBridge.model_validate(BASE)
    with pytest.raises(ValidationError, match=why):
        MqttBridge.model_validate(BASE | change)


@pytest.mark.parametrize(
    ("told", "taken", "meets"),
    [
        ("a/{device}/t", "a/{device}/t", True),
        ("a/{device}/t", "a/+/x", False),
        ("a/{device}", "a/#", True),
        ("a", "a/#", True),
        ("a/{device}/{name}", "a/{device}/{device_id}", True),
        ("house/{device}", "factory/{device}", False),
        ("a/{device}/x", "a/{device}", False),
        ("x{device}/a", "{device}/a", True),
    ],
)
def test_whether_what_is_told_could_come_back_is_seen_before(told: str, taken: str, meets: bool) -> None:
    assert may_meet(told, taken) is meets
