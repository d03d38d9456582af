"""Lists of networks, and whether an address is in one of them. Pure."""

import ipaddress
from collections.abc import Iterable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def parse_network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """A network in CIDR notation, or one address. Raises ValueError with a text for the operator."""
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f"'{text}' is no network such as 192.168.1.0/24 or 2001:db8::/32: {error}") from None


def plain_address(text: str) -> Address:
    """The address without a zone, IPv4 also where it came mapped into IPv6. Raises ValueError."""
    parsed = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        return parsed.ipv4_mapped
    return parsed


_NAT64 = ipaddress.ip_network("64:ff9b::/96")
"""RFC 6052: an IPv4 address in the last 32 bits."""
_PROVIDERS_OWN = ipaddress.ip_address("168.63.129.16")
"""Public as it is written; from inside Azure it is the machine's own host."""


def reached_address(address: Address) -> Address:
    """Where a packet to it ends: the IPv4 address that an IPv6 one only carries (mapped, RFC 4291 §2.5.5.2; 6to4,
    RFC 3056; NAT64), else itself.
    """
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return ipaddress.IPv4Address(address.packed[-4:])
        return address.ipv4_mapped or address.sixtofour or address
    return address


def is_public(address: Address) -> bool:
    """Whether it is a host of the public internet: no private, shared, link-local, reserved or multicast address, also
    where an IPv6 address only carries an IPv4 one.
    """
    address = reached_address(address)
    if isinstance(address, ipaddress.IPv6Address) and (address.teredo is not None or address.is_site_local):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved and address != _PROVIDERS_OWN


class Networks:
    """`"192.0.2.7" in networks`. What is no address is in none."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        """Raises ValueError, see `parse_network`."""
        self._networks = tuple(parse_network(text) for text in texts)

    def __bool__(self) -> bool:
        return bool(self._networks)

    def __contains__(self, address: str | Address) -> bool:
        if isinstance(address, str):
            try:
                address = plain_address(address)
            except ValueError:
                return False
        return any(address.version == network.version and address in network for network in self._networks)

    def __str__(self) -> str:
        return ", ".join(str(network) for network in self._networks)
