"""What a change does to settings, and that none can keep the gateway from starting."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entobot.app.front import callers_of, opening_of, per_address_of, rates_of, strangers_of
from entobot.core.errors import Code, Problem
from entobot.settings.editable import EDITABLE
from entobot.settings.model import Kind, fields, tree_of
from entobot.settings.planning import Asking, plan, usable
from entobot.sources import Layers, Source
from entobot.telemetry.meters import Meters
from entobot.web.application import WebSettings
from tests.support.time import ManualClock

ORIGIN = "https://gateway.example:18790"


def layers(**parts: Any) -> Layers:
    return Layers(**parts)


def wrong(stored: dict[str, Any], changes: dict[str, Any], at: Layers | None = None, **options: Any) -> dict[str, str]:
    with pytest.raises(Problem) as caught:
        plan(at or Layers(), stored, changes, **options)
    assert caught.value.code is Code.INVALID
    errors: Any = caught.value.extra["errors"]
    return {one["key"]: one["message"] for one in errors}


# -- precedence


def test_each_source_beats_those_before_it() -> None:
    order = [Source.FILE, Source.STORED, Source.ENVIRONMENT, Source.COMMAND]
    given_so_far: dict[str, Any] = {}
    assert Layers().source("gateway", "name") is Source.DEFAULT
    for source in order:
        given_so_far[source] = {"gateway": {"name": source.value}}
        at = Layers(**given_so_far)
        assert (at.settings().gateway.name, at.source("gateway", "name")) == (source.value, source)
        assert (at.pin("gateway", "name") is not None) is (source in (Source.ENVIRONMENT, Source.COMMAND))


# -- a change


def test_a_change_is_told_with_what_held_before_and_what_holds_after() -> None:
    at = layers(file={"stream": {"keep_events": 5000}})
    planned = plan(at, {}, {"stream.keep_events": 6000, "gateway.heartbeat": 20})
    assert [(one.key, one.before, one.after, one.applies) for one in planned.differences] == [
        ("gateway.heartbeat", 30.0, 20.0, "restart"),
        ("stream.keep_events", 5000, 6000, "now"),
    ]
    assert planned.settings.gateway.heartbeat == timedelta(seconds=20)
    back = plan(planned.layers, planned.stored, {"stream.keep_events": None})
    assert [(one.before, one.after) for one in back.differences] == [(6000, 5000)]
    assert "stream.keep_events" not in back.stored


def test_a_whole_form_that_is_sent_back_changes_nothing() -> None:
    at = layers(environment={"gateway": {"name": "pinned"}}, command={"gateway": {"port": "4000"}})
    whole = {key: field.of(at.settings()) for key, field in fields().items() if field.kind is not Kind.SECRET}
    assert plan(at, {}, whole).differences == ()


def test_what_is_pinned_is_refused_and_says_by_what() -> None:
    at = layers(environment={"gateway": {"name": "x"}}, command={"agent": {"runner": "echo"}})
    told = wrong({}, {"gateway.name": "y", "agent.runner": "none"}, at)
    assert "ENTOBOT_GATEWAY__NAME" in told["gateway.name"]
    assert "entobot up" in told["agent.runner"]


def test_what_was_stored_under_a_pin_can_be_taken_back() -> None:
    at = layers(environment={"gateway": {"name": "x"}})
    planned = plan(at, {"gateway.name": "old"}, {"gateway.name": None})
    assert planned.stored == {}


@pytest.mark.parametrize(
    "key",
    [key for key in fields() if key not in EDITABLE],
)
def test_what_is_not_listed_cannot_be_stored(key: str) -> None:
    field = fields()[key]
    value: Any = {
        Kind.BOOLEAN: True,
        Kind.CHOICE: field.choices[-1] if field.choices else "",
        Kind.INTEGER: 4711,
        Kind.NUMBER: 0.5,
        Kind.DURATION: 4711.0,
        Kind.LIST: ["age1x"],
    }.get(field.kind, "/tmp/x")
    assert "cannot be changed while the gateway runs" in wrong({}, {key: value})[key]
    assert usable(Layers(), {key: value})[1] == {key: "is not a setting that can be stored."}


def test_nothing_that_leads_elsewhere_or_locks_out_is_listed() -> None:
    kinds = {fields()[key].kind for key in EDITABLE}
    assert not kinds & {Kind.PATH, Kind.SECRET}
    for section in ("storage", "bus", "tls", "backup", "tracing"):
        assert not any(key.startswith(f"{section}.") for key in EDITABLE)
    for name in ("host", "port", "ws_port", "public_url", "trusted_proxies", "proxy_protocol"):
        assert f"gateway.{name}" not in EDITABLE


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("gateway.heartbeat", 1, "at least 5"),
        ("gateway.heartbeat", "PT30S", "a number of seconds"),
        ("gateway.heartbeat", True, "a number of seconds"),
        ("gateway.heartbeat", float("nan"), "a number of seconds"),
        ("gateway.max_connections", 1, "at least 100"),
        ("gateway.max_connections", 500.5, "a whole number"),
        ("limits.requests_burst", 1, "at least 20"),
        ("log.level", "quiet", "is one of debug, info, warning, error."),
        ("log.level", ["debug"], "is one of"),
        ("gateway.name", "a\nb", "visible"),
        ("gateway.name", "x" * 101, "at most 100"),
        ("gateway.name", 5, "is a text"),
        ("gateway.allowed_networks", "10.0.0.0/8", "is a list of texts."),
        ("gateway.allowed_networks", [5], "is a list of texts."),
        ("gateway.allowed_networks", ["lan"], "'lan' is no network"),
        ("gateway.allowed_origins", ["*"], "is not an origin"),
        ("agent.instructions", "a\0b", "visible"),
        ("agent.base_url", "http://127.0.0.1/v1", "PUT /api/v1/settings/providers/compatible"),
        ("gateway.nmae", "x", "not a known setting"),
        ("nothing", None, "not a known setting"),
    ],
)
def test_a_wrong_value_is_refused_in_words(key: str, value: Any, told: str) -> None:
    assert told in wrong({}, {key: value})[key]


def test_everything_that_is_wrong_is_told_at_once() -> None:
    changes = {"log.level": "x", "gateway.heartbeat": 0, "gateway.name": "fine", "stream.keep_events": 1}
    assert set(wrong({}, changes)) == {"log.level", "gateway.heartbeat", "stream.keep_events"}


def test_who_asks_cannot_lock_themselves_out_unless_they_insist() -> None:
    asking = Asking("192.0.2.7", "https://pages.example")
    networks = {"gateway.allowed_networks": ["10.0.0.0/8"]}
    assert "192.0.2.7" in wrong({}, networks, asking=asking)["gateway.allowed_networks"]
    origins = {"gateway.allowed_origins": ["https://other.example"]}
    assert "https://pages.example" in wrong({}, origins, asking=asking)["gateway.allowed_origins"]
    assert plan(Layers(), {}, networks | origins).differences
    wide = {"gateway.allowed_networks": ["10.0.0.0/8", "192.0.2.0/24"]}
    assert plan(Layers(), {}, wide, asking=asking).differences
    assert plan(Layers(), {}, networks, asking=Asking()).differences


# -- what is stored


def test_stored_values_that_cannot_be_used_are_told_and_the_others_obeyed() -> None:
    stored = {
        "gateway.name": "mine",
        "gateway.allowed_origins": ["nowhere"],
        "log.level": "quiet",
        "storage.url": "postgresql://elsewhere",
        "agent.gone": 1,
        "agent.base_url": "http://169.254.169.254/v1",
    }
    at, refused = usable(Layers(), stored)
    assert at.settings().gateway.name == "mine"
    assert set(refused) == set(stored) - {"gateway.name"}
    assert plan(at, stored, dict.fromkeys(refused)).stored == {"gateway.name": "mine"}


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


def likely(key: str) -> st.SearchStrategy[Any]:
    """Values of the right kind, many within bounds and many at or beyond them."""
    field = fields()[key]
    low, high = field.bounds.get("minimum", 0), field.bounds.get("maximum", 10_000_000)
    numbers = st.sampled_from([low - 1, low, low + 1, high - 1, high, high + 1])
    texts = ["", "x", "openai:gpt", "anthropic:", "qwen3:8b", " ", "http://10.0.0.1:11434/v1", "http://169.254.1.1"]
    entries = ["10.0.0.0/8", "::/0", "10.0.0.1/8", "https://a.example", "https://a.example:443", "*", "null", ""]
    return {
        Kind.INTEGER: numbers.map(int) | st.integers(),
        Kind.NUMBER: numbers | st.floats(),
        Kind.DURATION: numbers | st.floats(),
        Kind.CHOICE: st.sampled_from([*field.choices, "other"]),
        Kind.TEXT: st.sampled_from(texts) | st.text(max_size=30),
        Kind.TABLES: st.lists(
            st.sampled_from([{"tool": "note"}, {"quorum": 2}, {"deciders": []}, {"no": 1}, "x"]), max_size=3
        ),
        Kind.LIST: st.lists(st.sampled_from(entries) | st.text(max_size=30), max_size=4),
        Kind.BOOLEAN: st.booleans(),
    }[field.kind]


CHANGE = st.sampled_from(sorted(EDITABLE)).flatmap(
    lambda key: st.tuples(st.just(key), st.none() | likely(key) | likely(key) | JUNK)
)
CHANGES = st.lists(CHANGE, min_size=1, max_size=4).map(dict)
PINNED = st.sampled_from(
    [
        {},
        {"gateway": {"allowed_networks": "10.0.0.0/8", "max_connections": "5"}},
        {"gateway": {"trusted_proxies": "10.0.0.1", "proxy_protocol": "true"}, "agent": {"runner": "echo"}},
    ]
)


def start(at: Layers) -> None:
    """What a start makes of settings before the port is open; raises what a start would raise."""
    settings, clock, meters = at.settings(), ManualClock(), Meters()
    gateway = settings.gateway
    WebSettings(origin=ORIGIN, version="1", gateway_name=gateway.name, allowed_origins=gateway.allowed_origins)
    callers_of(gateway)
    per_address_of(gateway)
    opening_of(settings.limits, clock)
    rates_of(settings.limits, clock, meters)
    strangers_of(settings.limits, clock, meters)


@given(st.lists(CHANGES, max_size=6), PINNED, PINNED)
def test_no_sequence_of_changes_leaves_settings_with_which_it_does_not_start(
    steps: list[dict[str, Any]], file: Any, environment: Any
) -> None:
    bare = layers(file=file, environment=environment)
    stored: dict[str, Any] = {}
    at = bare
    for changes in steps:
        try:
            planned = plan(at, stored, changes, asking=Asking(), by_route=["agent.base_url"])
        except Problem:
            continue
        stored, at = dict(planned.stored), planned.layers
        again, refused = usable(bare, stored)
        assert refused == {}
        assert again.settings() == planned.settings
        start(again)
    emptied = plan(at, stored, dict.fromkeys(stored))
    assert emptied.settings == bare.settings()


@given(st.dictionaries(st.sampled_from([*fields(), "x", "agent.old"]), JUNK, max_size=5), PINNED)
def test_whatever_is_stored_the_gateway_starts(stored: dict[str, Any], environment: Any) -> None:
    at, refused = usable(layers(environment=environment), stored)
    start(at)
    assert tree_of({key: value for key, value in stored.items() if key not in refused}) == at.stored
