"""What an SMS asks for: pure, whatever is written."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entobot.lines import wording
from entobot.lines.model import MAX_AHEAD, MAX_COMMANDS, Command, Word, commands_of, when

BERLIN = ZoneInfo("Europe/Berlin")


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


NOW = ms("2026-11-22T10:00:30+01:00")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("status", [(Word.STATUS, "")]),
        ("Status?", [(Word.ASK, "Status?")]),
        ("status of the build", [(Word.ASK, "status of the build")]),
        ("HELP", [(Word.HELP, "")]),
        ("Help me with dinner", [(Word.ASK, "Help me with dinner")]),
        ("note: milk\nTODO call Bob; pending", [(Word.NOTE, "milk"), (Word.TODO, "call Bob"), (Word.PENDING, "")]),
        ("note bread; butter", [(Word.NOTE, "bread; butter")]),
        ("is the garage\nwarm?", [(Word.ASK, "is the garage warm?")]),
        ("ask status of Alpha", [(Word.ASK, "status of Alpha")]),
        ("YES 123456", [(Word.YES, "123456")]),
        ("no 123 456", [(Word.NO, "123456")]),
        ("YES 12345678", [(Word.ASK, "YES 12345678")]),
        ("yes please", [(Word.ASK, "yes please")]),
        (" ; \n ", []),
        ("todo", [(Word.TODO, "")]),
    ],
)
def test_a_message_is_read_as_people_write(text: str, found: list[tuple[Word, str]]) -> None:
    assert commands_of(text) == [Command(*one) for one in found]


def test_of_many_commands_the_first_are_kept_and_one_more_says_so() -> None:
    assert len(commands_of("STATUS\n" * 100)) == MAX_COMMANDS + 1


@pytest.mark.parametrize(
    ("rest", "at", "text"),
    [
        ("10m call Bob", "2026-11-22T10:10:30+01:00", "call Bob"),
        ("me in 2 hours to call Bob", "2026-11-22T12:00:30+01:00", "call Bob"),
        ("3 days water the plants", "2026-11-25T10:00:30+01:00", "water the plants"),
        ("18:30 call Bob", "2026-11-22T18:30:00+01:00", "call Bob"),
        ("at 6pm to call Bob", "2026-11-22T18:00:00+01:00", "call Bob"),
        ("9am stand up", "2026-11-23T09:00:00+01:00", "stand up"),
        ("tomorrow 12:05 lunch", "2026-11-23T12:05:00+01:00", "lunch"),
        ("18:30 tomorrow call", "2026-11-23T18:30:00+01:00", "call"),
        ("12am sleep", "2026-11-23T00:00:00+01:00", "sleep"),
    ],
)
def test_times_are_the_person_s_own(rest: str, at: str, text: str) -> None:
    assert when(rest, BERLIN, NOW) == (ms(at), text)


@pytest.mark.parametrize(
    "rest", ["", "call Bob", "10m", "25:00 x", "18:99 x", "13pm x", "0am x", "0m x", "5 apples", "9999d x"]
)
def test_what_says_no_time_is_no_reminder(rest: str) -> None:
    assert when(rest, BERLIN, NOW) is None


def test_a_time_of_the_day_is_kept_when_the_clocks_change_in_between() -> None:
    night = ms("2026-10-24T20:00:00+02:00")
    assert when("tomorrow 08:00 wake", BERLIN, night) == (ms("2026-10-25T08:00:00+01:00"), "wake")


@given(st.text(max_size=400), st.integers(0, 4_000_000_000_000))
def test_whatever_is_written_has_a_bounded_reading_and_no_reminder_is_in_the_past(text: str, now_ms: int) -> None:
    found = commands_of(text)
    assert len(found) <= MAX_COMMANDS + 1
    for one in found:
        told = when(one.rest, UTC, now_ms)
        assert told is None or now_ms < told[0] <= now_ms + MAX_AHEAD / timedelta(milliseconds=1)


@given(st.text(max_size=900), st.integers(20, 500))
def test_an_answer_is_never_longer_than_what_is_paid_for(text: str, most: int) -> None:
    assert len(wording.cut(text, most, "https://x.example/")) <= most
