"""Which addresses of a model server may be stored: see docs/adr/0036."""

import socket
from ipaddress import ip_network
from urllib.parse import urlsplit

from entobot.core.networks import Address, plain_address, reached_address

_NEVER = tuple(
    ip_network(text)
    for text in (
        "169.254.0.0/16",  # link-local (RFC 3927), where clouds answer with a machine's credentials
        "fe80::/10",
        "fd00:ec2::254/128",  # the same of AWS over IPv6
        "100.100.100.200/32",  # of Alibaba
        "168.63.129.16/32",  # of Azure
        "0.0.0.0/32",
        "::/128",
        "224.0.0.0/4",
        "ff00::/8",
    )
)
_FORM = "is an http:// or https:// URL without credentials or parameters, as in http://127.0.0.1:11434/v1."
_REFUSED = "leads to a link-local or metadata address: nothing that serves a model is there."


def check_url(url: str) -> None:
    """Empty, or an address as it is written that may be asked. Raises ValueError with words that follow the key."""
    if not url:
        return
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(_FORM) from None
    is_plain = not parts.query and not parts.fragment and "@" not in parts.netloc and len(url.split()) == 1
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or not is_plain or "\\" in url:
        raise ValueError(_FORM)
    try:
        address = plain_address(parts.hostname)
    except ValueError:
        return
    if _is_never(address):
        raise ValueError(_REFUSED)


def check_resolved(url: str) -> None:
    """Where its name leads now, which blocks; a name that is not known yet is let through. Raises ValueError."""
    check_url(url)
    if not url:
        return
    parts = urlsplit(url)
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port or 80, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return
    if any(_is_never(plain_address(str(one[4][0]))) for one in found):
        raise ValueError(_REFUSED)


def _is_never(address: Address) -> bool:
    address = reached_address(address)
    return any(address.version == network.version and address in network for network in _NEVER)
