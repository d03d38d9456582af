"""Challenges that a browser's authenticator signs. Nothing is stored before one is answered: whoever asks, and however
often, costs no row.
"""

from entobot.core.secrets import Entropy, keyed_digest, same, unb64u
from entobot.signin.model import CHALLENGE_LIFE_MS

_RANDOM_BYTES, _TIME_BYTES, _MAC_BYTES = 16, 8, 24
SIZE_BYTES = _RANDOM_BYTES + _TIME_BYTES + _MAC_BYTES


class Challenges:
    """Each is random, tells when it ends, and is good for one `purpose` only, by a MAC under `key`."""

    def __init__(self, key: bytes, entropy: Entropy) -> None:
        self._key = key
        self._entropy = entropy

    def new(self, purpose: str, now_ms: int) -> bytes:
        head = self._entropy.bytes(_RANDOM_BYTES) + (now_ms + CHALLENGE_LIFE_MS).to_bytes(_TIME_BYTES, "big")
        return head + self._mac(purpose, head)

    def end_ms(self, challenge: bytes, purpose: str, now_ms: int) -> int | None:
        """When it ends; None for one that is over, for another purpose, or none of ours."""
        head, mac = challenge[: SIZE_BYTES - _MAC_BYTES], challenge[SIZE_BYTES - _MAC_BYTES :]
        if len(challenge) != SIZE_BYTES or not same(mac, self._mac(purpose, head)):
            return None
        ends_ms = int.from_bytes(head[_RANDOM_BYTES:], "big")
        return ends_ms if now_ms < ends_ms <= now_ms + CHALLENGE_LIFE_MS else None

    def _mac(self, purpose: str, head: bytes) -> bytes:
        return keyed_digest(self._key, purpose.encode() + b"\0" + head)[:_MAC_BYTES]


def read_challenge(text: str) -> bytes:
    """Of base64url; empty for what is none."""
    try:
        return unb64u(text)
    except (ValueError, UnicodeEncodeError):
        return b""
