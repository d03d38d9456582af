"""What no set of policies can do, what a forbid does, and that nothing is delivered that is not permitted."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entobot.mqtt.model import Action
from entobot.mqtt.policy import DOWNWARD, own_subtree
from entobot.mqtt.topics import matches
from entobot.policies.deciding import FACTS_S, Commanding, Decider, decide_command, decide_topic
from entobot.policies.engine import Compiled, Shut, Unreadable
from entobot.policies.engine_cedar import CedarEngine
from entobot.policies.model import BUILT_IN, Asked, Facts, Person, Policy, Question, Verdict
from entobot.storage.database import Transaction
from tests.support.time import ManualClock

ENGINE = CedarEngine()
ANN, BOB = Person("usr_ann", "owner", manages_devices=True), Person("usr_bob", "member", manages_devices=False)
SENSOR = Facts("dev_sensor", ANN, "sensor", ("hall", "ground"))
THERMOSTAT = Facts("dev_thermostat", ANN, "thermostat", ())
FOREIGN = Facts("dev_foreign", BOB, "sensor", ("hall",))
DEVICES = {one.device_id: one for one in (SENSOR, THERMOSTAT, FOREIGN)}
ANYTHING = "permit (principal, action, resource);"
OWN_TELEMETRY = """permit (principal is Device, action == Action::"subscribe", resource is Device)
when { resource.owner == principal.owner && context.topic like "telemetry/*" };"""

# Policies from parts, every one of which is valid for the schema.
CONDITIONS = (
    'context.topic like "telemetry/*"',
    'context.topic like "*"',
    'context.topic == "command"',
    'context.topic == "telemetry/x"',
    'principal.type == "thermostat"',
    "resource.owner == principal.owner",
    'resource.tags.contains("hall")',
    'resource == Device::"dev_sensor"',
    "principal == resource",
    "context.hour >= 12",
    "true",
)
ACTIONS = (
    'action == Action::"publish"',
    'action == Action::"subscribe"',
    'action in [Action::"publish", Action::"subscribe"]',
)
policy_texts = st.builds(
    lambda effect, action, conditions: (
        f"{effect} (principal is Device, {action}, resource is Device) when {{ {' && '.join(conditions)} }};"
    ),
    st.sampled_from(["permit", "permit", "permit", "forbid"]),
    st.sampled_from(ACTIONS),
    st.lists(st.sampled_from(CONDITIONS), min_size=1, max_size=2),
)
policy_sets = st.lists(policy_texts, min_size=1, max_size=4)
levels = st.sampled_from(["telemetry", "x", "command", "notification", "event", "", "command2"])
names = st.one_of(
    st.builds(
        lambda device, rest: "/".join(["devices", device, *rest]),
        st.sampled_from([*DEVICES, "dev_nobody", "", "Dev_sensor"]),
        st.lists(levels, min_size=0, max_size=3),
    ),
    st.sampled_from(["devices", "x", "$SYS/x/y", "/devices/dev_sensor/x", "Devices/dev_sensor/x"]),
)
filters = st.one_of(
    names,
    st.builds(
        lambda first, device, rest, last: "/".join([first, device, *rest, *last]),
        st.sampled_from(["devices", "+"]),
        st.sampled_from([*DEVICES, "+"]),
        st.lists(st.one_of(levels, st.just("+")), max_size=2),
        st.sampled_from([[], ["#"]]),
    ),
    st.sampled_from(["#", "+", "devices/#", "+/+/#"]),
)


def compiled(texts: Sequence[str]) -> Compiled:
    return ENGINE.compile([Policy(f"p{number}", text) for number, text in enumerate(texts)])


def decided(found: Compiled, device_id: str, action: Action, text: str, minute: int = 0) -> bool:
    return decide_topic(found.ask, DEVICES.get, device_id, action, text, minute).is_allowed


@settings(max_examples=150, deadline=None)
@given(policy_sets, st.sampled_from(sorted(DEVICES)), names)
def test_no_policies_let_a_device_publish_downward_or_outside(texts: list[str], device_id: str, topic: str) -> None:
    found = compiled([ANYTHING, *texts])
    parts = topic.split("/")
    is_outside = len(parts) < 3 or parts[0] != "devices" or parts[1] not in DEVICES
    if is_outside or parts[2] in DOWNWARD:
        assert not decided(found, device_id, Action.PUBLISH, topic)
    if is_outside or (parts[2] in DOWNWARD and parts[1] != device_id):
        assert not decided(found, device_id, Action.SUBSCRIBE, topic), "nor read what the gateway says to another"


@settings(max_examples=150, deadline=None)
@given(policy_sets, st.sampled_from(sorted(DEVICES)), st.sampled_from(list(Action)), names)
def test_a_forbid_wins_over_every_permit(texts: list[str], device_id: str, action: Action, topic: str) -> None:
    forbid = f'forbid (principal == Device::"{device_id}", action == Action::"{action}", resource);'
    assert not decided(compiled([ANYTHING, *texts, forbid]), device_id, action, topic)


@settings(max_examples=100, deadline=None)
@given(policy_sets, st.sampled_from(sorted(DEVICES)), st.sampled_from(list(Action)), names)
def test_without_a_policy_that_speaks_of_it_the_own_subtree_is_what_it_was(
    texts: list[str], device_id: str, action: Action, topic: str
) -> None:
    """A permit widens and a forbid narrows: neither does the other."""
    was = own_subtree(device_id, action, topic).is_allowed
    permits = [one for one in texts if one.startswith("permit")] or [ANYTHING]
    forbids = [one for one in texts if one.startswith("forbid")] or ["forbid (principal, action, resource);"]
    if was:
        assert decided(compiled(permits), device_id, action, topic)
    else:
        assert not decided(compiled(forbids), device_id, action, topic)


@settings(max_examples=200, deadline=None)
@given(policy_sets, st.sampled_from(sorted(DEVICES)), filters, st.lists(names, min_size=1, max_size=8))
def test_a_refused_filter_would_have_delivered_nothing(
    texts: list[str], device_id: str, text: str, topics: list[str]
) -> None:
    """What is delivered is decided topic by topic, so a granted filter opens nothing; a refused one hides nothing."""
    found = compiled(texts)
    if not decided(found, device_id, Action.SUBSCRIBE, text):
        heard = [one for one in topics if matches(text, one) and decided(found, device_id, Action.SUBSCRIBE, one)]
        assert heard == [] or text.startswith(("#", "+", "devices/#"))


@pytest.mark.parametrize("text", ["#", "+", "+/dev_sensor/x", "devices/#", "devices/+", "$SYS/#"])
def test_filters_that_reach_outside_are_refused_whatever_is_permitted(text: str) -> None:
    assert not decided(compiled([ANYTHING]), "dev_sensor", Action.SUBSCRIBE, text)


@pytest.mark.parametrize(
    ("text", "is_granted"),
    [
        ("devices/dev_sensor/telemetry/#", True),
        ("devices/dev_sensor/telemetry/x", True),
        ("devices/dev_sensor/event", False),
        ("devices/dev_sensor/#", True),
        ("devices/dev_foreign/#", False),
        ("devices/+/telemetry/#", True),
        ("devices/dev_thermostat/#", True),
        ("devices/dev_sensor/command", False),
        ("devices/dev_nobody/telemetry/x", False),
    ],
)
def test_a_filter_is_granted_where_something_of_it_may_be_permitted(text: str, is_granted: bool) -> None:
    found = compiled([OWN_TELEMETRY])
    assert decided(found, "dev_thermostat", Action.SUBSCRIBE, text) is is_granted


def test_the_hour_and_the_weekday_are_those_of_the_clock_on_the_wall() -> None:
    east = timezone(timedelta(hours=2))
    engine = CedarEngine(lambda at: at.astimezone(east))
    text = 'forbid (principal, action, resource) when { context.hour >= 22 && context.weekday == "monday" };'
    found = engine.compile([Policy("night", text)])
    assert found.uses_time

    def at(*moment: int) -> bool:
        minute = int(datetime(*moment, tzinfo=UTC).timestamp()) // 60  # pyright: ignore[reportArgumentType]  five numbers
        return decided(found, "dev_sensor", Action.PUBLISH, "devices/dev_sensor/x", minute)

    assert at(2026, 11, 23, 19, 59)
    assert not at(2026, 11, 23, 20, 0)
    assert not at(2026, 11, 23, 21, 59)
    assert at(2026, 11, 23, 22, 0), "tuesday there"


@pytest.mark.parametrize(
    ("text", "uses_time"),
    [
        (ANYTHING, False),
        ("forbid (principal, action, resource) when { context.hour > 3 };", True),
        ('forbid (principal, action, resource) when { context["\\u{68}our"] > 3 };', True),
        ("forbid (principal, action, resource) when { context has now };", True),
    ],
)
def test_it_is_known_whether_answers_depend_on_the_time(text: str, uses_time: bool) -> None:
    assert compiled([text]).uses_time is uses_time


def test_a_policy_that_fails_while_it_is_asked_denies_also_as_a_forbid() -> None:
    text = "forbid (principal, action, resource) when { context.hour * 9223372036854775807 > 5 };"
    found = compiled([text])
    verdict = found.ask(Question(SENSOR, Asked.PUBLISH, SENSOR, "x", 5 * 60))
    assert not verdict.is_allowed
    assert "`p0`" in verdict.failure


def test_a_denial_names_the_policy_and_its_statement() -> None:
    found = ENGINE.compile(
        [
            Policy("night", 'forbid (principal, action, resource) when { context.topic == "x" };'),
            Policy("two", f'{ANYTHING}\n@id("loud")\nforbid (principal, action, resource) when {{ context.topic == "x" }};'),
        ]
    )  # fmt: skip
    rule = decide_topic(found.ask, DEVICES.get, "dev_sensor", Action.PUBLISH, "devices/dev_sensor/x", 0).rule
    assert rule == "policy night, two#loud forbids it"
    rule = decide_topic(found.ask, DEVICES.get, "dev_sensor", Action.PUBLISH, "devices/dev_foreign/y", 0).rule
    assert rule == "two#1"


def test_what_is_built_in_reads_as_policies_and_says_the_same() -> None:
    for one in BUILT_IN:
        assert ENGINE.flaws(one.text) == []
    found = compiled(["forbid (principal, action, resource) when { false };"])
    for person, thing, may in ((ANN, FOREIGN, True), (BOB, FOREIGN, True), (BOB, SENSOR, False)):
        wanted = Commanding(person, "person", None, thing, "on")
        assert decide_command(found.ask, wanted, 0).is_allowed is may


@pytest.mark.parametrize(
    ("forbidden", "allowed"),
    [
        ("principal is User", []),
        ("principal is Agent", ["person", "board"]),
        ("principal is Device", ["person", "agent"]),
    ],
)
def test_who_acts_for_a_person_may_no_more_than_they(forbidden: str, allowed: list[str]) -> None:
    found = compiled([f'forbid ({forbidden}, action == Action::"command", resource);'])
    wanted = {
        "person": Commanding(ANN, "person", None, SENSOR, "on"),
        "agent": Commanding(ANN, "agent", None, SENSOR, "on"),
        "board": Commanding(ANN, "person", THERMOSTAT, SENSOR, "on"),
    }
    assert [name for name, one in wanted.items() if decide_command(found.ask, one, 0).is_allowed] == allowed
    permit = compiled(['permit (principal is Agent, action == Action::"command", resource);'])
    asked = Commanding(BOB, "agent", None, SENSOR, "on")
    assert not decide_command(permit.ask, asked, 0).is_allowed, "an agent opens nothing to its person"


def test_what_cannot_be_used_permits_nothing() -> None:
    shut = Shut("pip install 'entobot[policy]'")
    decision = decide_topic(shut.ask, DEVICES.get, "dev_sensor", Action.PUBLISH, "devices/dev_sensor/x", 0)
    assert (decision.is_allowed, decision.rule) == (False, "pip install 'entobot[policy]'")
    with pytest.raises(Unreadable, match="policy 'old' cannot be read"):
        ENGINE.compile([Policy("old", "permit everything;")])


class Counting:
    """A set of policies that counts how often it is asked."""

    def __init__(self, *, uses_time: bool = False) -> None:
        self.uses_time = uses_time
        self.asked: list[Question] = []

    def ask(self, question: Question) -> Verdict:
        self.asked.append(question)
        return Verdict(is_allowed="quiet" not in question.principal.tags)  # pyright: ignore[reportAttributeAccessIssue]  only devices are asked about


def test_answers_are_remembered_until_what_they_depend_on_changes(clock: ManualClock) -> None:
    facts, reads, tx = dict(DEVICES), list[str](), cast("Transaction", None)

    def facts_of(_: Transaction, device_id: str) -> Facts | None:
        reads.append(device_id)
        return facts.get(device_id)

    decider, found = Decider(clock, facts_of), Counting()

    def publish() -> bool:
        return decider.decide(tx, "dev_sensor", Action.PUBLISH, "devices/dev_sensor/x").is_allowed

    assert publish()
    assert (found.asked, reads) == ([], []), "without policies nobody is asked"
    decider.use(found)
    assert [publish(), publish(), len(found.asked), len(reads)] == [True, True, 1, 1]
    facts["dev_sensor"] = replace(SENSOR, tags=("quiet",))
    clock.advance(FACTS_S)
    assert [publish(), len(found.asked)] == [False, 2], "half a second later it is another question"
    decider.use(timed := Counting(uses_time=True))
    assert [publish(), publish(), len(timed.asked)] == [False, False, 1]
    clock.advance(60)
    assert [publish(), len(timed.asked)] == [False, 2], "another minute"


def test_an_answer_of_former_policies_is_not_remembered_for_those_that_hold_now(clock: ManualClock) -> None:
    """Units run in other threads: policies may change while one is asked."""
    decider = Decider(clock, lambda _tx, _device_id: SENSOR)

    class Slow(Counting):
        def ask(self, question: Question) -> Verdict:
            decider.use(after)
            return super().ask(question)

    after = Counting()
    decider.use(Slow())
    for _ in range(2):
        decider.decide(cast("Transaction", None), "dev_sensor", Action.PUBLISH, "devices/dev_sensor/x")
    assert len(after.asked) == 1
