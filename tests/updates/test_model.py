"""The pure decisions of roll-outs: who comes when, how far a device is, when a stage is over."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from entobot.updates.model import (
    BAD,
    ENDED,
    DeviceState,
    OnDevice,
    Pulse,
    Rollout,
    Said,
    Stage,
    State,
    Step,
    Tally,
    Terms,
    after_said,
    after_version,
    decide,
    judge,
    plan,
)

TERMS = Terms(health_ms=60_000, timeout_ms=600_000)
ROLLOUT = Rollout(
    "rlo_1", "rel_1", "sensor", "1.1.0", State.RUNNING, 0, (Stage(percent=10), Stage(percent=100)), TERMS, 0, "",
    "usr_1", 0, 0,
)  # fmt: skip
BOARD = OnDevice("rlo_1", "dev_1", 0, DeviceState.INSTALLED, 1_000_000, installed_at_ms=1_000_000)

percents = st.lists(st.integers(1, 100), min_size=1, max_size=5, unique=True).map(sorted)
fleets = st.dictionaries(st.text("abc0123", min_size=1, max_size=6), st.lists(st.sampled_from(["test", "roof"])))
states = st.sampled_from(DeviceState)
tallies = st.builds(Tally, st.dictionaries(states, st.integers(0, 50)), st.integers(0, 5))


@given(fleets, percents, st.text(max_size=5))
def test_each_stage_has_its_share_and_nobody_comes_twice(
    fleet: dict[str, list[str]], shares: list[int], seed: str
) -> None:
    stages = [Stage(percent=one) for one in shares]
    placed = plan(stages, fleet, seed)
    for number, share in enumerate(shares):
        assert sum(1 for stage in placed.values() if stage <= number) == -(-share * len(fleet) // 100)
    assert plan(stages, dict(reversed(list(fleet.items()))), seed) == placed


@given(fleets, st.text(max_size=5))
def test_those_that_are_named_come_first_and_count_in_the_shares(fleet: dict[str, list[str]], seed: str) -> None:
    placed = plan([Stage(tags=("test",)), Stage(percent=50), Stage(percent=100)], fleet, seed)
    assert set(placed) == set(fleet)
    assert {one for one, stage in placed.items() if stage == 0} == {one for one in fleet if "test" in fleet[one]}
    first = sum(1 for stage in placed.values() if stage == 0)
    assert sum(1 for stage in placed.values() if stage <= 1) == max(first, -(-len(fleet) // 2))


def test_the_first_stage_that_names_a_board_is_its_own() -> None:
    fleet = {"dev_1": ["test"], "dev_2": []}
    assert plan([Stage(percent=100), Stage(tags=("test",))], fleet, "") == {"dev_1": 0, "dev_2": 0}


@given(st.lists(st.one_of(st.sampled_from(Said), st.booleans()), max_size=30))
def test_whatever_a_board_says_it_comes_to_an_end_and_stays_there(said: list[Said | bool]) -> None:
    state, changes = DeviceState.OFFERED, 0
    for one in said:
        after = after_said(state, one) if isinstance(one, Said) else after_version(state, is_new=one)
        changes += after is not state
        if state is DeviceState.ROLLED_BACK:
            assert after is state
        state = after
    assert changes <= 4


@given(states, st.sampled_from(Said))
def test_what_has_not_begun_cannot_fail(state: DeviceState, said: Said) -> None:
    after = after_said(state, said)
    if state is DeviceState.WAITING:
        assert after is state
    if said is Said.FAILED and state in (DeviceState.INSTALLED, DeviceState.HEALTHY):
        assert after is state


def test_a_board_is_healthy_when_it_stayed_online_for_long_enough() -> None:
    since = BOARD.since_ms
    online = Pulse("1.1.0", since - 5)
    assert judge(BOARD, online, TERMS, since + 59_999)[0] is DeviceState.INSTALLED
    assert judge(BOARD, online, TERMS, since + 60_000)[0] is DeviceState.HEALTHY
    late = Pulse("1.1.0", since + 30_000)  # it was away in between
    assert judge(BOARD, late, TERMS, since + 60_000)[0] is DeviceState.INSTALLED
    assert judge(BOARD, Pulse("1.1.0", None), TERMS, since + 599_999)[0] is DeviceState.INSTALLED
    assert judge(BOARD, Pulse("1.1.0", None), TERMS, since + 600_000) == (
        DeviceState.FAILED, "it did not stay online",
    )  # fmt: skip


def test_a_reading_that_is_asked_for_must_have_come_since() -> None:
    terms, since = replace(TERMS, reading="warmth"), BOARD.since_ms
    for at, state in ((None, DeviceState.INSTALLED), (since, DeviceState.INSTALLED), (since + 1, DeviceState.HEALTHY)):
        assert judge(BOARD, Pulse("1.1.0", since, at), terms, since + 60_000)[0] is state
    assert judge(BOARD, Pulse("1.1.0", since), terms, since + 600_000)[1] == "the reading warmth did not come"


def test_a_board_that_is_away_has_time_and_one_that_is_there_and_silent_has_not() -> None:
    offered = replace(BOARD, state=DeviceState.OFFERED)
    assert judge(offered, Pulse("1.0.0", None), TERMS, 10**12)[0] is DeviceState.OFFERED
    assert judge(offered, Pulse("1.0.0", 2_000_000), TERMS, 2_599_999)[0] is DeviceState.OFFERED
    assert judge(offered, Pulse("1.0.0", 2_000_000), TERMS, 2_600_000)[0] is DeviceState.FAILED
    loading = replace(BOARD, state=DeviceState.DOWNLOADING)
    assert judge(loading, Pulse("1.0.0", None), TERMS, 1_600_000)[0] is DeviceState.FAILED


@given(tallies, st.integers(0, 1), st.integers(0, 20), st.integers(0, 100))
def test_a_roll_out_never_goes_on_over_too_many_failures(tally: Tally, stage: int, forgiven: int, limit: int) -> None:
    one = replace(ROLLOUT, stage=stage, forgiven=forgiven, terms=replace(TERMS, max_failed_percent=limit))
    step = decide(one, tally)
    too_many = max(0, tally.of(*BAD) - forgiven) * 100 > limit * tally.total
    assert (step is Step.PAUSE) is too_many
    if step is Step.ADVANCE:
        assert stage == 0
        assert tally.of(DeviceState.WAITING, DeviceState.DOWNLOADING, DeviceState.INSTALLED) == 0
        assert tally.of(DeviceState.HEALTHY) * 2 >= tally.total
    if step is Step.FINISH:
        assert stage == 1
        assert tally.of(*ENDED) == tally.total
    for other in (State.PAUSED, State.ABORTED, State.DONE):
        assert decide(replace(one, state=other), tally) is Step.STAY


def test_one_failure_of_a_small_first_stage_pauses() -> None:
    assert decide(ROLLOUT, Tally({DeviceState.ROLLED_BACK: 1})) is Step.PAUSE
    assert (
        decide(replace(ROLLOUT, forgiven=1), Tally({DeviceState.ROLLED_BACK: 1, DeviceState.HEALTHY: 1}))
        is Step.ADVANCE
    )
