"""Secrets that have to be read again, sealed under a key that is not in the database."""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from entobot.core.secrets import Entropy

NONCE_BYTES = 12


class Seal:
    """AES-256-GCM under `key`, 32 bytes, with random nonces. What was sealed about one thing opens for no other."""

    def __init__(self, key: bytes, entropy: Entropy) -> None:
        self._cipher = AESGCM(key)
        self._entropy = entropy

    def close(self, about: str, plain: bytes) -> bytes:
        nonce = self._entropy.bytes(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plain, about.encode())

    def open(self, about: str, sealed: bytes) -> bytes | None:
        """None for what was not sealed by this key about this."""
        try:
            return self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], about.encode())
        except (InvalidTag, ValueError):
            return None
