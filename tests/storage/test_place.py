"""Where commits are done: on the loop while that costs it next to nothing."""

import pytest

from entobot.storage.place import FAST_S, HELD_S, PAUSE_S, SLOW_S, CommitPlace

FAST, SLOW = FAST_S / 2, SLOW_S * 2


@pytest.fixture
def place() -> CommitPlace:
    return CommitPlace()


def after(place: CommitPlace, *took: float) -> bool:
    for seconds in took:
        place.took(seconds)
    return place.may_commit_on_loop(0.0)


def test_nothing_is_committed_on_the_loop_before_the_disk_is_known(place: CommitPlace) -> None:
    assert not place.may_commit_on_loop(0.0)
    assert not after(place, FAST, FAST)
    assert after(place, FAST)


def test_a_slow_disk_never_gets_the_loop(place: CommitPlace) -> None:
    assert not after(place, *[SLOW] * 20)


def test_a_disk_that_turns_slow_loses_the_loop_and_gets_it_back_when_it_has_recovered(place: CommitPlace) -> None:
    after(place, *[FAST] * 9)
    assert not after(place, *[SLOW] * 9)
    assert not after(place, *[FAST] * 4)
    assert after(place, FAST)


def test_one_late_commit_is_forgiven(place: CommitPlace) -> None:
    after(place, *[FAST] * 9)
    place.held_loop(0.010, 0.0)
    assert after(place, 0.010)


@pytest.mark.parametrize("holds", [[0.040], [0.010] * 4])
def test_what_holds_the_loop_up_sends_commits_and_reads_away_for_a_while(
    place: CommitPlace, holds: list[float]
) -> None:
    after(place, *[FAST] * 9)
    assert place.may_read_on_loop(10.0)
    for seconds in holds:
        place.held_loop(seconds, 10.0)
    assert not place.may_read_on_loop(10.0 + PAUSE_S - 0.1)
    assert not place.may_commit_on_loop(10.0 + PAUSE_S - 0.1)
    assert place.may_read_on_loop(10.0 + PAUSE_S)
    assert place.may_commit_on_loop(10.0 + PAUSE_S)


def test_many_short_ones_between_make_a_late_one_good(place: CommitPlace) -> None:
    for _ in range(50):
        place.held_loop(HELD_S * 4, 0.0)
        for _ in range(50):
            place.held_loop(FAST / 10, 0.0)
    assert place.may_read_on_loop(0.0)
