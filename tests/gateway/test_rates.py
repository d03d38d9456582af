"""Who is counted together, what is asked first, and what the refusal says."""

from collections import Counter
from typing import Any

import pytest

from entobot.config import LimitSettings
from entobot.core.access import ROUTES
from entobot.core.errors import Code, Problem
from entobot.core.principal import Principal
from entobot.core.rates import RATES, Allowance, CountedBy, Rate, rate_of
from entobot.gateway.rates import Rates, rate_limited
from tests.support.time import ManualClock


def rates(clock: ManualClock, rate: Rate, per_second: float, burst: int, **more: Any) -> Rates:
    return Rates({rate: Allowance(per_second, burst)}, monotonic=clock.monotonic, **more)


def admitted(limiter: Rates, rate: Rate, addresses: list[str]) -> int:
    return sum(limiter.wait_of_address(rate, address) == 0.0 for address in addresses)


def device(number: int, user: str = "usr_1") -> Principal:
    return Principal(user, frozenset(), f"dev_{number}")


def test_every_class_has_its_settings_and_they_are_what_the_table_says() -> None:
    assert LimitSettings().allowances() == {rate: rule.default for rate, rule in RATES.items()}
    assert list(RATES) == sorted(Rate)


def test_every_route_has_a_class_and_everything_before_authentication_is_counted_by_address() -> None:
    for route in ROUTES:
        rate = rate_of(*route.split())
        assert rate in RATES
        assert RATES[rate].counted_by is not CountedBy.CONNECTION
        if "/auth/" in route and route.startswith("POST"):
            assert RATES[rate].counted_by is CountedBy.ADDRESS, route


def test_an_address_has_its_burst_and_an_ipv6_48_a_total_above_its_64s(clock: ManualClock) -> None:
    limiter = rates(clock, Rate.PAIRING, 1, 3, network_multiple=2)
    assert admitted(limiter, Rate.PAIRING, ["192.0.2.1"] * 9) == 3
    assert admitted(limiter, Rate.PAIRING, [f"192.0.2.{n}" for n in range(2, 20)]) == 18
    assert admitted(limiter, Rate.PAIRING, ["2001:db8:1:1::1", "2001:db8:1:1::2"] * 9) == 3
    many = [f"2001:db8:1:{n:x}::1" for n in range(2, 5000)]
    assert admitted(limiter, Rate.PAIRING, many) == 3, "six for the /48, three of them are gone"
    assert len(limiter._addresses[Rate.PAIRING]) < 30, "who is refused for its network fills no map"
    assert limiter.wait_of_address(Rate.PAIRING, "2001:db8:2::1") == 0.0


def test_an_address_that_is_refused_costs_its_network_nothing(clock: ManualClock) -> None:
    limiter = rates(clock, Rate.PAIRING, 1, 3, network_multiple=2)
    assert admitted(limiter, Rate.PAIRING, ["2001:db8:1:1::1"] * 100) == 3
    assert admitted(limiter, Rate.PAIRING, ["2001:db8:1:2::1"] * 100) == 3


def test_a_device_has_its_burst_a_user_a_total_and_the_owner_at_the_machine_none(clock: ManualClock) -> None:
    limiter = rates(clock, Rate.WRITES, 1, 2, user_multiple=2)
    waits = [limiter.wait_of_principal(Rate.WRITES, device(n)) for n in (1, 1, 1, 2, 2, 3)]
    assert [wait == 0.0 for wait in waits] == [True, True, False, True, True, False]
    assert limiter.wait_of_principal(Rate.WRITES, device(9, "usr_2")) == 0.0
    owner = Principal("usr_1", frozenset())
    assert all(limiter.wait_of_principal(Rate.WRITES, owner) == 0.0 for _ in range(50))


def test_classes_do_not_eat_one_anothers_share(clock: ManualClock) -> None:
    limiter = rates(clock, Rate.WRITES, 1, 1)
    assert limiter.wait_of_principal(Rate.WRITES, device(1)) == 0.0
    assert limiter.wait_of_principal(Rate.WRITES, device(1)) > 0.0
    assert limiter.wait_of_principal(Rate.READS, device(1)) == 0.0


def test_a_refusal_says_which_limit_and_when_to_come_back_and_is_counted(clock: ManualClock) -> None:
    hits: Counter[Rate] = Counter()
    limiter = rates(clock, Rate.PAIRING, 0.3, 1, on_limited=lambda rate: hits.update([rate]))
    limiter.check_address(Rate.PAIRING, "192.0.2.1")
    with pytest.raises(Problem, match="limit 'pairing'") as refusal:
        limiter.check_address(Rate.PAIRING, "192.0.2.1")
    problem = refusal.value
    assert (problem.code, problem.retry_after_s) == (Code.RATE_LIMITED, 3.334)
    clock.advance(problem.retry_after_s or 0)
    limiter.check_address(Rate.PAIRING, "192.0.2.1")
    limiter.check_address(Rate.READS, "192.0.2.1")  # counted by device, later
    limiter.check_principal(Rate.PAIRING, device(1))  # counted by address, before
    assert hits == {Rate.PAIRING: 1}


def test_waiting_as_told_is_enough_although_it_is_rounded() -> None:
    assert rate_limited("Wait.", 0.0001).retry_after_s == 0.001
    assert rate_limited("Wait.", 1.0).retry_after_s == 1.0


def test_with_more_nodes_each_gives_its_part(clock: ManualClock) -> None:
    limiter = rates(clock, Rate.WRITES, 8, 8)
    limiter.scale(4)
    assert sum(limiter.wait_of_principal(Rate.WRITES, device(1)) == 0.0 for _ in range(20)) == 2
    clock.advance(0.5)
    assert limiter.wait_of_principal(Rate.WRITES, device(1)) == 0.0
