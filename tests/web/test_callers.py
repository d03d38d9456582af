"""Whose request it is: forwarded addresses are believed from trusted proxies only, and never guessed."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entobot.core.networks import Networks, plain_address
from entobot.web.callers import MAX_HOPS, Callers

PROXIES = Callers(trusted=Networks(["10.0.0.0/8", "2001:db8:ffff::/48"]))


@pytest.mark.parametrize(
    ("forwarded_for", "client"),
    [
        ([], "10.0.0.1"),
        ([b"203.0.113.9"], "203.0.113.9"),
        ([b"1.1.1.1, 203.0.113.9"], "203.0.113.9"),
        ([b"1.1.1.1", b"203.0.113.9"], "203.0.113.9"),
        ([b"203.0.113.9, 10.0.0.7"], "203.0.113.9"),
        ([b"203.0.113.9", b"10.0.0.7,10.0.0.8"], "203.0.113.9"),
        ([b"nonsense, 203.0.113.9"], "203.0.113.9"),
        ([b"10.0.0.9, 10.0.0.7"], "10.0.0.9"),
        ([b"2001:db8::1"], "2001:db8::1"),
        ([b"2001:DB8:0::1, 2001:db8:ffff::2"], "2001:db8::1"),
        ([b"[2001:db8::1]:443"], "2001:db8::1"),
        ([b"203.0.113.9:50000"], "203.0.113.9"),
        ([b"::ffff:203.0.113.9"], "203.0.113.9"),
        ([b"::ffff:10.0.0.7"], "10.0.0.7"),
        ([b""], None),
        ([b"203.0.113.9,"], None),
        ([b"203.0.113.9, , 10.0.0.7"], None),
        ([b"unknown"], None),
        ([b"_hidden"], None),
        ([b"203.0.113.999"], None),
        ([b"0313.0.113.9"], None),
        ([b"fe80::1%eth0"], None),
        ([b"localhost"], None),
        ([b'"203.0.113.9"'], None),
        ([b"203.0.113.9 10.0.0.7"], None),
        ([b"203.0.113.9\xff"], None),
        ([b"[2001:db8::1"], None),
        ([b"for=203.0.113.9"], None),
        ([b",".join([b"10.0.0.7"] * (MAX_HOPS + 1))], None),
    ],
)
def test_the_rightmost_hop_that_is_no_trusted_proxy_is_the_caller(
    forwarded_for: list[bytes], client: str | None
) -> None:
    assert PROXIES.client_of("10.0.0.1", forwarded_for) == client


@given(st.lists(st.binary(max_size=40), max_size=4), st.ip_addresses())
def test_whatever_the_caller_writes_the_proxys_own_word_counts(text: list[bytes], real: ipaddress.IPv4Address) -> None:
    client = PROXIES.client_of("10.0.0.1", [*text, str(real).encode()])
    assert PROXIES.is_trusted(str(real)) or client == str(plain_address(str(real)))


def test_nobody_is_trusted_and_everybody_allowed_unless_it_is_said() -> None:
    assert not Callers().is_trusted("127.0.0.1")
    assert Callers().may_connect("203.0.113.9")


def test_an_allow_list_lets_in_its_networks_and_the_proxies_that_speak_for_them() -> None:
    callers = Callers(trusted=Networks(["10.0.0.1"]), allowed=Networks(["192.168.1.0/24", "2001:db8::/32"]))
    assert [callers.may_connect(a) for a in ("192.168.1.9", "2001:db8:5::1", "10.0.0.1")] == [True] * 3
    assert [callers.may_connect(a) for a in ("192.168.2.9", "2001:db9::1", "10.0.0.2", "127.0.0.1", "x", "")] == [
        False
    ] * 6
    assert not callers.is_allowed("10.0.0.1"), "it may connect, and its own requests are refused"


@pytest.mark.parametrize("text", ["192.168.1.1/24", "localhost", "192.168.1.0/33", "*", "", "10.0.0.0-10.0.0.9"])
def test_what_is_no_network_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(ValueError, match="is no network such as"):
        Networks([text])
