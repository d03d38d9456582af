"""IP addresses: who counts as one stranger, what is loopback, and under which addresses this machine is reached."""

import ipaddress
import socket
from collections.abc import Iterable
from pathlib import Path

from entobot.core.networks import Address, plain_address

_IF_INET6 = Path("/proc/net/if_inet6")
_NOWHERE_V4 = "192.0.2.1"
_NOWHERE_V6 = "2001:db8::1"
"""Documentation addresses (RFC 5737, RFC 3849): connecting a UDP socket picks a route and sends nothing."""


def address_key(address: str) -> str:
    """What counts as one stranger: an IPv4 address, an IPv6 /64; anything else as it stands (also "")."""
    try:
        parsed = plain_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        return f"{ipaddress.IPv6Address(int(parsed) >> 64 << 64)}/64"
    return str(parsed)


def network_key(address: str) -> str | None:
    """The IPv6 /48 that an address is in: what one customer may hold 65,536 /64s of. None for anything else."""
    try:
        parsed = plain_address(address)
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv4Address):
        return None
    return f"{ipaddress.IPv6Address(int(parsed) >> 80 << 80)}/48"


def is_loopback(host: str) -> bool:
    """True for `localhost` and literal loopback addresses; a name is never looked up."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def primary_lan_address() -> str | None:
    """The address of the interface that leads out: IPv4 where there is one, else IPv6; None without a network."""
    for family, nowhere in ((socket.AF_INET, _NOWHERE_V4), (socket.AF_INET6, _NOWHERE_V6)):
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((nowhere, 9))
                found = ipaddress.ip_address(str(probe.getsockname()[0]).partition("%")[0])
            except (OSError, ValueError):
                continue
            if _is_reachable(found):
                return str(found)
    return None


def lan_addresses() -> tuple[str, ...]:
    """Every address at which other machines may reach this one, the primary first.

    Reads a file and asks the resolver for the own host name: call it off the event loop.
    """
    primary = primary_lan_address()
    found = [primary] if primary else []
    found += [str(address) for address in (*_of_host_name(), *_of_ipv6_interfaces()) if _is_reachable(address)]
    return tuple(dict.fromkeys(found))


def _is_reachable(address: Address) -> bool:
    return not (address.is_loopback or address.is_link_local or address.is_unspecified or address.is_multicast)


def _of_host_name() -> Iterable[Address]:
    try:
        answers = socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)
    except OSError:
        return
    for answer in answers:
        yield ipaddress.ip_address(str(answer[4][0]).partition("%")[0])


def _of_ipv6_interfaces() -> Iterable[Address]:
    try:
        lines = _IF_INET6.read_text("ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return
    for line in lines:
        yield ipaddress.IPv6Address(bytes.fromhex(line.split()[0]))
