"""The decision alone, in time that is a number: whatever the rules, the ways and the moment."""

from dataclasses import replace
from datetime import UTC, timedelta

from hypothesis import given
from hypothesis import strategies as st

from entobot.core.clock import to_ms
from entobot.notifications.model import RANK, Attempt, AttemptState, Channel, Notification, Place, Priority, State
from entobot.notifications.routing import Case, decide
from entobot.notifications.rules import Quiet, Rules, Step, from_json, quiet_until_ms, to_json

START_MS = 1_790_000_000_000
LIVE_MS = 10_000
SENT = [one for one in Channel if one is not Channel.LIVE]

minutes = st.integers(0, 1439)
steps = st.builds(Step, st.sampled_from(SENT), st.integers(0, 3600).map(lambda s: s * 1000), st.sampled_from(Priority))
rules_of = st.builds(
    Rules,
    steps=st.lists(steps, max_size=8).map(tuple),
    quiet=st.none() | st.builds(Quiet, minutes, minutes),
    critical_breaks_quiet=st.booleans(),
    muted=st.frozensets(st.sampled_from(["notice", "build"]), max_size=2),
    digest_minute=minutes,
)


def notification(priority: Priority, expires_ms: int | None) -> Notification:
    return Notification(
        "ntf_1", "usr_1", "notice", priority, "Title", "", "", None, "", "", State.OPEN, 1, False,
        START_MS, START_MS, START_MS, expires_ms,
    )  # fmt: skip


def place(channel: Channel, number: int) -> Place:
    return Place(f"npl_{channel}_{number}", "usr_1", channel, "https://x.example/", None, "", "", "", True, 0)


def attempt(one: Notification, to: Place, now_ms: int, *, fails: bool) -> Attempt:
    state = AttemptState.FAILED if fails else AttemptState.ACCEPTED
    return Attempt(
        f"nat_{to.place_id}", one.notification_id, "usr_1", to.channel, to.place_id, state, "", 1, now_ms, now_ms
    )


@given(
    rules=rules_of,
    priority=st.sampled_from(Priority),
    counts=st.dictionaries(st.sampled_from(SENT), st.integers(1, 2)),
    failing=st.frozensets(st.sampled_from(SENT)),
    is_connected=st.booleans(),
    seen_after_ms=st.none() | st.integers(0, 7_200_000),
    lives_ms=st.none() | st.integers(1, 7_200_000),
)
def test_the_whole_way_of_any_notification_keeps_what_is_promised(
    rules: Rules,
    priority: Priority,
    counts: dict[Channel, int],
    failing: frozenset[Channel],
    is_connected: bool,
    seen_after_ms: int | None,
    lives_ms: int | None,
) -> None:
    expires_ms = None if lives_ms is None else START_MS + lives_ms
    one = notification(priority, expires_ms)
    places = [place(channel, number) for channel, count in counts.items() for number in range(count)]
    attempts: list[Attempt] = []
    now_ms = START_MS
    for _ in range(60):
        is_seen = seen_after_ms is not None and now_ms >= START_MS + seen_after_ms
        decision = decide(Case(one, rules, UTC, places, attempts, is_seen, is_connected), now_ms)
        assert len({to.place_id for to in decision.to}) == len(decision.to)
        for to in decision.to:
            assert not is_seen, "nobody is told what they have seen"
            assert to.place_id not in {each.place_id for each in attempts}, "no place is tried twice"
            assert expires_ms is None or now_ms < expires_ms
            assert now_ms >= START_MS + LIVE_MS or not is_connected, "the open app has its ten seconds"
            assert one.kind not in rules.muted
            assert priority is not Priority.LOW, "what is low waits for the digest"
            is_loud = priority is Priority.CRITICAL and rules.critical_breaks_quiet
            assert is_loud or quiet_until_ms(rules, UTC, now_ms) is None
            allowed = [step for step in rules.steps if step.channel is to.channel]
            assert any(RANK[priority] >= RANK[step.least] for step in allowed)
        attempts += [attempt(one, to, now_ms, fails=to.channel in failing) for to in decision.to]
        if decision.ends is not None:
            assert decision.ends is State.EXPIRED
            assert expires_ms is not None
            assert now_ms >= expires_ms
            return
        if decision.is_digest:
            assert priority is Priority.LOW
            return
        one = replace(
            one, step=decision.step, since_ms=one.since_ms if decision.since_ms is None else decision.since_ms
        )
        following = now_ms if any(to.channel in failing for to in decision.to) else decision.look_at_ms
        if following is None:
            break
        assert following > now_ms or decision.to, "it never looks again at once for nothing"
        now_ms = following
    else:
        raise AssertionError("it never comes to an end")
    if seen_after_ms is None and one.kind not in rules.muted and priority is not Priority.LOW:
        wanted = {step.channel for step in rules.steps if RANK[priority] >= RANK[step.least]}
        assert {each.channel for each in attempts} == wanted & set(counts), "every way of the rules was tried"


def told_at(rules: Rules, priority: Priority) -> list[tuple[Channel | None, int]]:
    """When each channel is tried, in hours since the start, with a place for each; None for the digest."""
    one, attempts, told, now_ms = notification(priority, None), list[Attempt](), list[tuple[Channel | None, int]](), 0
    places = [place(channel, 0) for channel in SENT]
    look_ms: int | None = START_MS
    while look_ms is not None:
        now_ms = look_ms
        decision = decide(Case(one, rules, UTC, places, attempts, False, False), now_ms)
        hour = round((now_ms - START_MS) / 3600_000)
        told += [(to.channel, hour) for to in decision.to]
        if decision.is_digest:
            told.append((None, hour))
        attempts += [attempt(one, to, now_ms, fails=False) for to in decision.to]
        one = replace(
            one, step=decision.step, since_ms=one.since_ms if decision.since_ms is None else decision.since_ms
        )
        look_ms = decision.look_at_ms
        assert now_ms < START_MS + 40 * 24 * 3600_000, "it never comes"
    return told


def quiet_around(after: timedelta, length: timedelta) -> Quiet:
    """Quiet hours that begin so long after the start, each day."""
    begin = (START_MS + to_ms(after)) // 60_000 % 1440
    return Quiet(begin, (begin + to_ms(length) // 60_000) % 1440)


def test_a_step_that_is_longer_than_the_day_between_quiet_hours_came_never() -> None:
    steps = (Step(Channel.PUSH, 0, Priority.NORMAL), Step(Channel.EMAIL, to_ms(timedelta(hours=30)), Priority.NORMAL))
    rules = Rules(steps, quiet=quiet_around(timedelta(hours=4), timedelta(hours=8)))
    assert told_at(rules, Priority.HIGH) == [(Channel.PUSH, 0), (Channel.EMAIL, 36)]


def test_a_digest_at_an_hour_that_is_quiet_came_never() -> None:
    quiet = quiet_around(timedelta(hours=4), timedelta(hours=8))
    assert told_at(Rules((), quiet=quiet, digest_minute=quiet.begin + 60), Priority.LOW) == [(None, 12)]


@given(rules=rules_of)
def test_rules_come_out_of_the_store_as_they_went_in(rules: Rules) -> None:
    assert from_json(to_json(rules)) == rules


@given(begin=minutes, to=minutes, at=st.integers(0, 3 * 1440))
def test_quiet_hours_end_within_a_day_and_nothing_holds_at_their_end(begin: int, to: int, at: int) -> None:
    rules = Rules(steps=(), quiet=Quiet(begin, to))
    now_ms = START_MS + at * 60_000
    until_ms = quiet_until_ms(rules, UTC, now_ms)
    if until_ms is None:
        return
    assert now_ms < until_ms <= now_ms + 24 * 3600_000
    assert quiet_until_ms(rules, UTC, until_ms) is None
