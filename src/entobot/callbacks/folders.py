"""Which URLs programs may name: those in folders that the settings allow. Looks nothing up."""

from collections.abc import Sequence
from urllib.parse import urlsplit

MAX_URL_CHARACTERS = 1024


def is_within(url: str, folders: Sequence[str]) -> bool:
    """Whether the URL lies in one of the folders: same scheme, host and port, and a path below it that no server could
    read as another one.
    """
    if len(url) > MAX_URL_CHARACTERS or not url.isascii() or not url.isprintable() or set(url) & set(' "<>\\^`{|}'):
        return False
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    steps = parts.path.lower().replace("%2e", ".").replace("%2f", "/").replace("%5c", "/").split("/")
    if "@" in parts.netloc or "#" in url or not {"", ".", ".."}.isdisjoint(steps[1:-1]) or steps[-1] in (".", ".."):
        return False
    for folder in folders:
        allowed = urlsplit(folder)
        is_same = (parts.scheme, parts.hostname, port) == (allowed.scheme, allowed.hostname, allowed.port)
        if is_same and parts.path.startswith(allowed.path):
            return True
    return False
