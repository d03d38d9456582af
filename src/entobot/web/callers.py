"""Whose connection it is: which proxies are believed, whom they speak for, and who may connect at all. Pure.

One address is resolved for each request, here and nowhere else; limits, the allow-list, audit, devices and logs all
use it. Only `X-Forwarded-For` and the PROXY protocol are read, and only from trusted proxies. `Forwarded` (RFC 7239)
is not: a proxy that sets one of two headers passes the caller's other one through. `X-Forwarded-Proto` decides
nothing: the origin is configuration.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from entobot.core.networks import Networks, plain_address

MAX_HOPS = 32
_WITH_PORT = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<v4>[0-9.]+))(?::[0-9]{1,5})?")


@dataclass(slots=True)
class Callers:
    """`allowed` empty lets everybody connect, and may be replaced while it is used. `proxy_protocol`: trusted proxies begin every connection with it."""

    trusted: Networks = field(default_factory=Networks)
    allowed: Networks = field(default_factory=Networks)
    proxy_protocol: bool = False

    def is_trusted(self, address: str) -> bool:
        return bool(self.trusted) and address in self.trusted

    def is_allowed(self, address: str) -> bool:
        return not self.allowed or address in self.allowed

    def may_connect(self, peer: str) -> bool:
        """Whether a TCP connection is taken: a trusted proxy may speak for somebody who is allowed."""
        return self.is_allowed(peer) or self.is_trusted(peer)

    def sends_header(self, peer: str) -> bool:
        return self.proxy_protocol and self.is_trusted(peer)

    def client_of(self, peer: str, forwarded_for: Sequence[bytes]) -> str | None:
        """The address behind a trusted `peer`: the rightmost hop that is no trusted proxy, else the leftmost one.

        `forwarded_for` are the values of all X-Forwarded-For fields, in order. None when a hop that had to be read is
        no address: nobody's address is guessed. What stands left of the answer is the caller's own text and not read.
        """
        client = peer
        for count, hop in enumerate(_hops_from_right(forwarded_for)):
            address = _address_of(hop)
            if address is None or count >= MAX_HOPS:
                return None
            client = address
            if not self.is_trusted(address):
                break
        return client


def _hops_from_right(values: Sequence[bytes]) -> Iterator[str]:
    for value in reversed(values):
        for hop in reversed(value.split(b",")):
            yield hop.strip(b" \t").decode("latin-1")


def _address_of(hop: str) -> str | None:
    """An address as proxies write it: alone, or with a port, IPv6 in brackets then."""
    found = _WITH_PORT.fullmatch(hop)
    text = hop if found is None else found["v6"] or found["v4"]
    if "%" in text:
        return None
    try:
        return str(plain_address(text))
    except ValueError:
        return None
