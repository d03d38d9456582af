"""Browsers in which somebody signed in before: what strangers guess elsewhere does not slow them down (OWASP: device
cookies). Such a cookie opens nothing.
"""

from entobot.core.secrets import Entropy, b64u, keyed_digest, random_secret, same

COOKIE = "__Host-entobot_browser"
LIFE_MS = 180 * 24 * 3600_000
MAX_CHARACTERS = 160


class KnownBrowsers:
    """Nothing is stored: a cookie names its person, a random number and its end, under a MAC by `key`."""

    def __init__(self, key: bytes, entropy: Entropy) -> None:
        self._key = key
        self._entropy = entropy

    def new(self, user_id: str, now_ms: int) -> str:
        head = f"{user_id}.{random_secret(self._entropy, 12)}.{now_ms + LIFE_MS}"
        return f"{head}.{self._mac(head)}"

    def read(self, cookie: str | None, user_id: str, now_ms: int) -> str | None:
        """What this person's attempts in this browser are counted under; None where it is not known as theirs."""
        if cookie is None or len(cookie) > MAX_CHARACTERS:
            return None
        head, _, mac = cookie.rpartition(".")
        if not same(mac, self._mac(head)):
            return None
        whose, number, ends_ms = head.split(".")
        return number if whose == user_id and now_ms < int(ends_ms) else None

    def _mac(self, head: str) -> str:
        return b64u(keyed_digest(self._key, head.encode("utf-8", "surrogatepass")))
