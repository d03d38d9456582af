from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from entobot.core.clock import SystemClock, rfc3339, rfc3339_or_none, to_ms

YEAR_2200_MS = 7_258_118_400_000


@given(st.integers(0, YEAR_2200_MS))
def test_rfc_3339_text_keeps_every_millisecond(at_ms: int) -> None:
    text = rfc3339(at_ms)
    assert text.endswith("Z")
    assert len(text) == 24
    assert (datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1) == at_ms


def test_no_time_is_none() -> None:
    assert rfc3339_or_none(None) is None
    assert rfc3339_or_none(0) == "1970-01-01T00:00:00.000Z"


def test_durations_become_whole_milliseconds() -> None:
    assert to_ms(timedelta(minutes=1, microseconds=999)) == 60_000


def test_the_system_clock_counts_milliseconds_of_our_days() -> None:
    clock = SystemClock()
    assert 1_700_000_000_000 < clock.now_ms() < 4_000_000_000_000
    assert clock.monotonic() <= clock.monotonic()
