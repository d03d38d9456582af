"""When a certificate is renewed and a failed try is repeated, for every certificate and every wish."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from entobot.core.clock import to_ms
from entobot.web.renewal import FIRST_RETRY, LAST_RETRY, Life, Wish, renewal_ms, retry_ms

DAY_MS = to_ms(timedelta(days=1))
NOW_MS = 1_795_000_000_000
chances = st.floats(0, 1, exclude_max=True)
lives = st.builds(
    lambda start, days: Life(start, start + round(days * DAY_MS)),
    st.integers(NOW_MS - 100 * DAY_MS, NOW_MS),
    st.floats(0.01, 400),
)
wishes = st.builds(
    lambda start, days: Wish(start, start + round(days * DAY_MS)),
    st.integers(NOW_MS - 500 * DAY_MS, NOW_MS + 500 * DAY_MS),
    st.floats(0, 30),
)


@given(lives, chances)
def test_without_a_wish_a_third_of_the_life_is_left_or_a_little_more(life: Life, chance: float) -> None:
    left_ms = life.not_after_ms - renewal_ms(life, None, chance)
    assert life.length_ms // 3 <= left_ms <= life.length_ms * (1 / 3 + 1 / 20) + 2


@given(lives, wishes, chances)
def test_a_wish_is_followed_unless_it_would_leave_too_little(life: Life, wish: Wish, chance: float) -> None:
    at_ms = renewal_ms(life, wish, chance)
    assert at_ms <= life.not_after_ms - life.length_ms // 10 + 1
    latest_ms = life.not_after_ms - round(life.length_ms / 10)
    if wish.end_ms <= latest_ms:
        assert wish.start_ms <= at_ms <= wish.end_ms
    else:
        assert at_ms == latest_ms or wish.start_ms <= at_ms


@given(lives, chances)
def test_a_window_that_ends_before_it_begins_is_no_wish(life: Life, chance: float) -> None:
    wish = Wish(NOW_MS, NOW_MS - 1)
    assert renewal_ms(life, wish, chance) == renewal_ms(life, None, chance)


@given(st.integers(1, 10_000), chances)
def test_failures_wait_longer_and_longer_up_to_a_limit(failures: int, chance: float) -> None:
    pause_ms = retry_ms(failures, NOW_MS, chance) - NOW_MS
    assert to_ms(FIRST_RETRY) * 0.79 <= pause_ms <= to_ms(LAST_RETRY) * 1.21
    assert retry_ms(failures + 1, NOW_MS, chance) >= NOW_MS + pause_ms


@given(st.integers(1, 50), chances, st.floats(0, 1e6))
def test_nobody_comes_back_before_the_authority_wants_it(failures: int, chance: float, wait_s: float) -> None:
    assert retry_ms(failures, NOW_MS, chance, wait_s) >= NOW_MS + round(wait_s * 1000)
    assert retry_ms(failures, NOW_MS, chance, wait_s) >= retry_ms(failures, NOW_MS, chance)
