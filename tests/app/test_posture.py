"""The score: a hundred when all is in order, less by the worst point of every topic."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entobot.app.posture import COST, Grade, Topic, WeakPoint, clock_is_synchronised, score

POINTS = st.lists(st.builds(WeakPoint, st.sampled_from(Topic), st.sampled_from(Grade), st.just("x"), st.just("y")))


def point(topic: Topic, grade: Grade) -> WeakPoint:
    return WeakPoint(topic, grade, "what", "fix")


def test_nothing_weak_is_a_hundred() -> None:
    assert score([]) == 100


def test_a_topic_costs_what_its_worst_point_does() -> None:
    one = [point(Topic.BACKUP, Grade.NOTE), point(Topic.BACKUP, Grade.WARN), point(Topic.BACKUP, Grade.WARN)]
    assert score(one) == 100 - COST[Grade.WARN]
    assert score([*one, point(Topic.STORE, Grade.BAD)]) == 100 - COST[Grade.WARN] - COST[Grade.BAD]


@given(POINTS, POINTS)
def test_more_weak_points_never_raise_the_score(some: list[WeakPoint], more: list[WeakPoint]) -> None:
    assert 0 <= score(some + more) <= score(some) <= 100


def test_the_kernel_is_asked_without_changing_its_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    assert clock_is_synchronised() in (True, False, None)
    monkeypatch.setattr("entobot.app.posture.ctypes.CDLL", lambda _name: object())
    assert clock_is_synchronised() is None
