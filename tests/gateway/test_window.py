"""Flow control: what is in flight, when sending pauses, and for how long."""

from hypothesis import given
from hypothesis import strategies as st

from entobot.gateway.window import MAX_UNACKED_BYTES, MAX_UNACKED_EVENTS, Window


def filled(count: int, size_bytes: int = 1, now_s: float = 0.0) -> Window:
    window = Window()
    for seq in range(1, count + 1):
        window.sent(seq, size_bytes, now_s, 0)
    return window


def test_sending_pauses_at_256_events() -> None:
    assert MAX_UNACKED_EVENTS == 256
    assert filled(255).is_open
    assert not filled(256).is_open


def test_sending_pauses_at_one_mebibyte() -> None:
    assert MAX_UNACKED_BYTES == 1024 * 1024
    assert filled(2, 512 * 1024 - 1).is_open
    assert not filled(2, 512 * 1024).is_open


def test_an_acknowledgement_covers_everything_before_it_and_reopens() -> None:
    window = filled(256)
    assert not window.acknowledged(0)
    assert window.acknowledged(10)
    assert window.is_open
    assert not window.acknowledged(10)


def test_patience_lasts_thirty_seconds() -> None:
    window = filled(256, now_s=100.0)
    assert window.patience_ends_s == 130.0


def test_more_events_in_flight_do_not_begin_the_pause_anew() -> None:
    window = filled(256, now_s=100.0)
    window.sent(257, 1, 120.0, 0)
    assert window.patience_ends_s == 130.0


def test_a_reopened_window_forgets_its_pause() -> None:
    window = filled(256, now_s=100.0)
    window.acknowledged(1)
    assert window.patience_ends_s == float("inf")
    window.sent(257, 1, 1000.0, 0)
    assert window.patience_ends_s == 1030.0


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 400), st.integers(1, 300_000)), max_size=120))
def test_what_is_in_flight_is_what_was_sent_and_not_acknowledged(steps: list[tuple[bool, int, int]]) -> None:
    window, flying, seq = Window(), dict[int, int](), 0
    for is_ack, upto, size in steps:
        if is_ack:
            was_open = window.is_open
            reopened = window.acknowledged(upto)
            flying = {key: value for key, value in flying.items() if key > upto}
            assert reopened == (not was_open and window.is_open)
        else:
            seq += 1
            window.sent(seq, size, 0.0, 0)
            flying[seq] = size
        assert window.is_open == (len(flying) < MAX_UNACKED_EVENTS and sum(flying.values()) < MAX_UNACKED_BYTES)
