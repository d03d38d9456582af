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
