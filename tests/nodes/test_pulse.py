"""Who is taken for dead, by one's own clock alone."""

from entobot.nodes.membership import Pulse


def test_a_beat_that_stands_still_for_ten_seconds_is_dead() -> None:
    pulse = Pulse()
    for second in (0.0, 2.5, 5.0, 7.5):
        assert pulse.look({"still": 7, "alive": int(second)}, second) == []
    assert pulse.look({"still": 7, "alive": 99}, 10.0) == [("still", 7)]


def test_who_beats_again_is_alive_from_the_beginning() -> None:
    pulse = Pulse()
    for second in (0.0, 2.5, 5.0, 7.5):
        pulse.look({"slow": 1}, second)
    assert pulse.look({"slow": 2}, 10.0) == []
    assert pulse.look({"slow": 2}, 12.5) == []


def test_a_gap_in_looking_kills_nobody() -> None:
    pulse = Pulse()
    pulse.look({"other": 1}, 0.0)
    assert pulse.look({"other": 1}, 60.0) == [], "perhaps it was the database that was away, for the other too"
    for second in (62.5, 65.0, 67.5):
        assert pulse.look({"other": 1}, second) == []
    assert pulse.look({"other": 1}, 70.0) == [("other", 1)]
