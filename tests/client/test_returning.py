"""When to come back, by close code and number of failures."""

import pytest

from entobot.client.returning import Backoff, Next, next_step
from tests.support.time import SeededEntropy


class Highest:
    def bytes(self, count: int) -> bytes:
        return b"\xff" * count


@pytest.mark.parametrize(
    ("code", "step"),
    [
        (1000, Next.RETURN),
        (1006, Next.RETURN),
        (1012, Next.RETURN),
        (4000, Next.RETURN),
        (4001, Next.RETURN),
        (4002, Next.RETURN),
        (4003, Next.REFRESH_FIRST),
        (4004, Next.RETURN),
        (4499, Next.RETURN),
        (4500, Next.STOP),
        (4501, Next.STOP),
        (4502, Next.WAIT_SUSPENDED),
        (4503, Next.STOP),
        (4504, Next.STOP),
        (4505, Next.STOP),
        (4999, Next.STOP),
    ],
)
def test_the_close_code_says_what_to_do(code: int, step: Next) -> None:
    assert next_step(code) is step


def test_pauses_are_random_below_a_bound_that_doubles_up_to_a_minute() -> None:
    backoff = Backoff(Highest())
    bounds = [backoff.delay_s() for _ in range(12)]
    assert bounds[:4] == pytest.approx([0.5, 1, 2, 4])
    assert bounds[-1] == pytest.approx(60)
    seeded = Backoff(SeededEntropy())
    pauses = [seeded.delay_s() for _ in range(200)]
    assert all(0 <= pause <= 60 for pause in pauses)
    late = pauses[20:]
    assert min(late) < 6
    assert max(late) > 54, "all of the range is used"


def test_what_the_gateway_says_wins_and_all_who_were_told_the_same_do_not_come_at_once() -> None:
    backoff = Backoff(SeededEntropy())
    pauses = {backoff.delay_s(30.0) for _ in range(10)}
    assert all(30 <= pause <= 31 for pause in pauses)
    assert len(pauses) == 10


def test_a_connection_that_lasted_was_no_failure() -> None:
    backoff = Backoff(Highest())
    for _ in range(8):
        backoff.delay_s()
    backoff.lasted(backoff.steady_s - 1)
    assert backoff.delay_s() == pytest.approx(60)
    backoff.lasted(backoff.steady_s)
    assert backoff.delay_s() == pytest.approx(0.5)
