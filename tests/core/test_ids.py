from hypothesis import given
from hypothesis import strategies as st

from entobot.core.ids import Prefix, RandomIds, is_id, is_ulid, ulid
from entobot.core.secrets import CROCKFORD
from tests.support.time import ManualClock

times = st.integers(0, 2**48 - 1)
randoms = st.binary(min_size=10, max_size=10)


@given(times, randoms)
def test_a_ulid_is_26_crockford_characters_that_hold_time_and_randomness(at_ms: int, random80: bytes) -> None:
    text = ulid(at_ms, random80)
    assert is_ulid(text)
    number = 0
    for character in text:
        number = number * 32 + CROCKFORD.index(character)
    assert number == at_ms << 80 | int.from_bytes(random80, "big")


@given(times, times, randoms, randoms)
def test_ulids_sort_by_time(first: int, second: int, a: bytes, b: bytes) -> None:
    if first < second:
        assert ulid(first, a) < ulid(second, b)


def test_a_known_ulid_is_written_as_the_specification_writes_it() -> None:
    assert ulid(1469918176385, bytes(10)) == "01ARYZ6S410000000000000000"


def test_what_is_no_ulid_is_told() -> None:
    good = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
    bad = ["", good[:-1], good + "0", good.lower(), "8" + good[1:], good[:-1] + "U", good[:-1] + "O", good + "\n"]
    assert is_ulid(good)
    assert [text for text in bad if is_ulid(text)] == []


def test_an_id_has_the_prefix_of_its_kind(ids: RandomIds) -> None:
    made = ids.new(Prefix.DEVICE)
    assert is_id(made, Prefix.DEVICE)
    assert not is_id(made, Prefix.USER)
    assert not is_id(made.removeprefix("dev_"), Prefix.DEVICE)


def test_prefixes_are_distinct_four_characters_and_sorted() -> None:
    assert all(len(prefix) == 4 and prefix.endswith("_") for prefix in Prefix)
    assert len(set(Prefix)) == len(Prefix)
    assert [prefix.name for prefix in Prefix] == sorted(prefix.name for prefix in Prefix)


def test_ids_of_one_moment_differ_and_later_ones_sort_behind(ids: RandomIds, clock: ManualClock) -> None:
    now = {ids.new(Prefix.MESSAGE) for _ in range(1000)}
    clock.advance(0.001)
    assert len(now) == 1000
    assert ids.new(Prefix.MESSAGE) > max(now)
