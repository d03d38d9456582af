"""When a number begins and ends an alert: properties of the judge, and what grows."""

from hypothesis import given
from hypothesis import strategies as st

from entobot.alerts.model import Growth, Judge, Step, Watched, watched
from entobot.config_alerts import AlertRule
from entobot.core.alert_rules import RULES, RuleId, Watches

LEVELS = [rule for rule, one in RULES.items() if one.watches is Watches.LEVEL]
SEEN = st.lists(st.tuples(st.floats(0, 100), st.integers(0, 100_000)), max_size=60)


def judged(of: Watched, seen: list[tuple[float, int]]) -> list[tuple[Step, float, int]]:
    """Every step with its value and time, as the watch goes through them: open after it fired, until it cleared."""
    judge, is_open, now_ms, steps = Judge(of, of.window_ms), False, 0, list[tuple[Step, float, int]]()
    for value, passed_ms in seen:
        now_ms += passed_ms
        step = judge.step(value, now_ms, is_open=is_open)
        is_open = step is Step.FIRE or (is_open and step is not Step.CLEAR)
        steps.append((step, value, now_ms))
    return steps


@given(st.sampled_from(LEVELS), SEEN)
def test_it_fires_once_and_again_only_after_it_was_over(rule: RuleId, seen: list[tuple[float, int]]) -> None:
    changes = [step for step, _, _ in judged(watched(())[rule], seen) if step is not Step.STAY]
    assert changes == [Step.FIRE, Step.CLEAR] * (len(changes) // 2) + [Step.FIRE] * (len(changes) % 2)


@given(st.sampled_from(LEVELS), SEEN)
def test_it_fires_only_where_the_value_was_beyond_for_the_whole_window(
    rule: RuleId, seen: list[tuple[float, int]]
) -> None:
    of = watched(())[rule]
    steps = judged(of, seen)
    for place, (step, _, at_ms) in enumerate(steps):
        if step is Step.FIRE:
            run: list[int] = []
            for _, value, when_ms in reversed(steps[: place + 1]):
                if not of.is_beyond(value):
                    break
                run.append(when_ms)
            assert at_ms - run[-1] >= of.window_ms


@given(st.sampled_from(LEVELS), SEEN)
def test_it_is_over_only_well_behind_the_threshold(rule: RuleId, seen: list[tuple[float, int]]) -> None:
    of = watched(())[rule]
    for step, value, _ in judged(of, seen):
        if step is Step.CLEAR:
            assert not of.is_beyond(value)
            assert of.is_over(value)


@given(st.sampled_from(list(RuleId)), st.floats(0, 1e6))
def test_no_value_both_begins_and_ends_an_alert(rule: RuleId, value: float) -> None:
    of = watched(())[rule]
    assert not (of.is_beyond(value) and of.is_over(value))


def test_what_hovers_around_the_threshold_is_one_alert() -> None:
    of = watched(())[RuleId.DISK_LOW]
    changes = [step for step, _, _ in judged(of, [(9.0, 60_000)] * 3 + [(9.9, 60_000), (10.1, 60_000)] * 20)]
    assert changes.count(Step.FIRE) == 1
    assert changes.count(Step.CLEAR) == 0


def test_growth_is_of_the_window_and_a_counter_may_begin_anew() -> None:
    growth = Growth(60_000)
    assert growth.of(100, 0) == 0
    assert growth.of(130, 30_000) == 30
    assert growth.of(130, 60_000) == 30
    assert growth.of(130, 90_001) == 0
    assert growth.of(5, 100_000) == 0
    assert growth.of(9, 110_000) == 4


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 40_000)), min_size=1, max_size=50))
def test_growth_never_counts_more_than_there_was(steps: list[tuple[int, int]]) -> None:
    growth, total, now_ms = Growth(60_000), 0, 0
    for more, passed_ms in steps:
        total, now_ms = total + more, now_ms + passed_ms
        assert 0 <= growth.of(total, now_ms) <= total


def test_settings_change_a_rule_and_leave_the_others() -> None:
    changed = watched([AlertRule(id=RuleId.DISK_LOW, threshold=3), AlertRule(id=RuleId.LIMITS_HIT, enabled=False)])
    assert changed[RuleId.DISK_LOW].threshold == 3
    assert changed[RuleId.DISK_LOW].window_ms == 60_000
    assert not changed[RuleId.LIMITS_HIT].is_enabled
    assert {rule for rule, one in changed.items() if one != watched(())[rule]} == {RuleId.DISK_LOW, RuleId.LIMITS_HIT}


def test_every_rule_says_what_to_do() -> None:
    assert list(RULES) == sorted(RuleId) == list(RuleId)
    for rule in RULES.values():
        assert len(rule.fix.split()) > 6
        assert rule.docs.startswith("docs/")
