"""URLs that may hold a password, as people may see them. Pure."""

import re

_END = re.compile(r"[/?#]")


def place_of(url: str) -> str | None:
    """Host and port, perhaps several, perhaps none. None where a piece of the password might be taken for them.

    A password with `/`, `?` or `#` in it that is not percent-encoded ends the part with the host too early: what stands
    there then is the user and the beginning of the password.
    """
    rest = url.partition("://")[2]
    authority = _END.split(rest, maxsplit=1)[0]
    if "@" in rest[len(authority) :]:
        return None
    return authority.rpartition("@")[2]
