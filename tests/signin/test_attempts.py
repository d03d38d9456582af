"""Guesses are slowed down, and shut nobody else out: whatever strangers do, in whichever order."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from entobot.core.errors import Code, Problem
from entobot.core.rates import Rate
from entobot.signin import attempts
from entobot.signin.attempts import Attempts
from entobot.signin.known_browsers import LIFE_MS, KnownBrowsers
from entobot.signin.refusals import ELSEWHERE, MAX_PLACES, WINDOW_MS, Refusals
from tests.support.time import ManualClock, SeededEntropy

LOGIN = "bob"


class Guessing(RuleBasedStateMachine):
    """Strangers from many networks, and Bob in a browser in which he signed in before."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.attempts = Attempts(self.clock.monotonic)
        self.begun_s = self.clock.monotonic()
        self.guesses = 0
        self.of_network: dict[int, int] = {}
        self.bad_codes = 0
        self.refusals: set[tuple[Code, bool]] = set()

    def try_it(self, network: int, browser: str | None) -> bool:
        try:
            self.attempts.take_password(LOGIN, f"192.0.2.{network}", browser)
        except Problem as problem:
            self.refusals.add((problem.code, 0 < (problem.retry_after_s or 0) <= 60))
            return False
        return True

    @rule(network=st.integers(1, 40), times=st.integers(1, 30))
    def guess(self, network: int, times: int) -> None:
        got = sum(self.try_it(network, None) for _ in range(times))
        self.guesses += got
        self.of_network[network] = self.of_network.get(network, 0) + got

    @rule(times=st.integers(1, 20))
    def try_codes(self, times: int) -> None:
        """Of a stranger who has the password."""
        for _ in range(times):
            try:
                self.attempts.check_code("usr_bob", None)
            except Problem:
                continue
            self.attempts.note_bad_code("usr_bob", None)
            self.bad_codes += 1

    @rule(seconds=st.integers(1, 900))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule()
    def sign_in(self) -> None:
        """Not more often than once in half a minute, Bob himself always gets in, from a stranger's network too."""
        self.clock.advance(attempts.PER_BROWSER_EVERY_S)
        assert self.try_it(1, "bobs-browser")
        self.attempts.check_code("usr_bob", "bobs-browser")

    @invariant()
    def whoever_waits_is_told_how_long(self) -> None:
        assert self.refusals <= {(Code.RATE_LIMITED, True)}

    @invariant()
    def guesses_are_few(self) -> None:
        elapsed_s = self.clock.monotonic() - self.begun_s
        assert self.guesses <= attempts.PER_LOGIN_AT_ONCE + elapsed_s / attempts.PER_LOGIN_EVERY_S
        for count in self.of_network.values():
            assert count <= attempts.PER_PLACE_AT_ONCE + elapsed_s / attempts.PER_PLACE_EVERY_S
        assert self.bad_codes <= attempts.CODES_AT_ONCE + elapsed_s / attempts.CODES_EVERY_S


def test_guesses_stay_few_and_keep_nobody_out_of_a_browser_that_is_known() -> None:
    chosen = settings(max_examples=60, stateful_step_count=30, deadline=None)
    run_state_machine_as_test(Guessing, settings=chosen)


def test_a_limit_that_is_hit_is_counted_and_several_nodes_share_it() -> None:
    clock, limited = ManualClock(), list[Rate]()
    both = Attempts(clock.monotonic, limited.append)
    both.scale(2)
    for _ in range(attempts.PER_PLACE_AT_ONCE // 2):
        both.take_password(LOGIN, "192.0.2.1", None)
    with pytest.raises(Problem):
        both.take_password(LOGIN, "192.0.2.1", None)
    assert limited == [Rate.SIGN_INS]


def test_what_one_login_uses_up_is_no_other_ones() -> None:
    clock = ManualClock()
    counted = Attempts(clock.monotonic)
    for _ in range(attempts.PER_PLACE_AT_ONCE):
        counted.take_password("alice", "192.0.2.1", None)
    counted.take_password(LOGIN, "192.0.2.1", None)


def test_a_known_browser_is_known_for_half_a_year_and_for_one_person() -> None:
    browsers = KnownBrowsers(b"k" * 32, SeededEntropy())
    cookie = browsers.new("usr_bob", 1000)
    assert browsers.read(cookie, "usr_bob", 1000 + LIFE_MS - 1)
    assert browsers.read(cookie, "usr_bob", 1000 + LIFE_MS) is None
    assert browsers.read(cookie, "usr_alice", 1000) is None
    assert browsers.read(cookie, "", 1000) is None
    assert KnownBrowsers(b"j" * 32, SeededEntropy()).read(cookie, "usr_bob", 1000) is None
    head, _, mac = cookie.rpartition(".")
    forged = [f"{head}0.{mac}", f"usr_alice{head[7:]}.{mac}", f".{mac}", mac, "", ".", "x" * 5000, None]
    assert [browsers.read(one, "usr_alice", 1000) for one in forged] == [None] * len(forged)


def test_refusals_are_told_once_and_then_counted_and_never_fill_the_memory() -> None:
    refusals = Refusals()
    first = refusals.note("usr_bob", "192.0.2.1", "password", 0)
    assert first is not None
    assert (first.user_id, first.network, first.reason, first.count) == ("usr_bob", "192.0.2.1", "password", 1)
    assert refusals.note("usr_bob", "192.0.2.1", "code", 1) is not None, "another reason is news"
    assert [refusals.note("usr_bob", "192.0.2.1", "password", at) for at in (1, 2, 3)] == [None] * 3
    assert refusals.note("usr_bob", "198.51.100.1", "password", 4) is not None
    assert refusals.take_due(WINDOW_MS - 1) == []
    (counted,) = refusals.take_due(WINDOW_MS)
    assert (counted.network, counted.reason, counted.count) == ("192.0.2.1", "password", 3)
    told = [refusals.note("", f"10.{one >> 8}.{one & 255}.1", "password", 2 * WINDOW_MS) for one in range(5000)]
    assert sum(one is not None for one in told) <= MAX_PLACES + 1
    assert len(refusals) <= MAX_PLACES + 1
    assert {one.network for one in refusals.take_due(3 * WINDOW_MS)} == {ELSEWHERE}
    assert len(refusals) == 0
