"""What may be written as a link, an endpoint or a mail address, and what of it may be shown. Pure."""

import re
from email.utils import parseaddr
from typing import Protocol
from urllib.parse import urlsplit

from entobot.notifications.model import MAX_ADDRESS_CHARACTERS, MAX_LINK_CHARACTERS, Channel, Place

_TOPIC = re.compile(r"[-_A-Za-z0-9]{1,64}")
MAX_MAIL_CHARACTERS = 254
"""RFC 5321 §4.5.3.1.3, without the brackets."""


def is_link(text: str) -> bool:
    """A path of our own, or an https address without credentials."""
    if not _is_plain(text, MAX_LINK_CHARACTERS):
        return False
    return not text.startswith("//") if text.startswith("/") else is_url(text, ("https",))


def is_endpoint(text: str) -> bool:
    """An address that may be posted to, as it is written; where it leads is looked at when it is used.

    Plain http is for loopback, where the operator allows that; elsewhere it is refused when it is used.
    """
    return _is_plain(text, MAX_ADDRESS_CHARACTERS) and is_url(text, ("https", "http"))


def is_url(text: str, schemes: tuple[str, ...]) -> bool:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    is_bare = "@" not in parts.netloc and not parts.fragment
    return parts.scheme in schemes and bool(parts.hostname) and is_bare and port != 0


def is_mail_address(text: str) -> bool:
    local, _, domain = text.rpartition("@")
    is_plain = text.isascii() and text.isprintable() and len(text) <= MAX_MAIL_CHARACTERS
    return (
        is_plain
        and parseaddr(text) == ("", text)
        and bool(local)
        and "." in domain.strip(".")
        and not set(text) & set(' ,;:<>()[]"\\')
    )


def is_ntfy_address(text: str) -> bool:
    """Server and topic: the topic is the last part of the path."""
    parts = urlsplit(text)
    return is_endpoint(text) and not parts.query and _TOPIC.fullmatch(parts.path.rpartition("/")[2]) is not None


class Addressed(Protocol):
    @property
    def address(self) -> str: ...


def host_of(one: Addressed) -> str:
    return urlsplit(one.address).hostname or ""


def shown(place: Place) -> str:
    """What the person themselves may see of the address: a host, where the rest is a secret."""
    if place.channel in (Channel.EMAIL, Channel.SMS):
        return place.address
    return host_of(place)


def _is_plain(text: str, most: int) -> bool:
    return 0 < len(text) <= most and text.isascii() and text.isprintable() and not set(text) & set(' \\"<>')
