"""Keys of model providers as they are stored: sealed with a key from the data folder, for one address each."""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from entobot.core.secrets import Entropy

NONCE_BYTES = 12


class KeySeal:
    """AES-256-GCM under `key`, 32 bytes. What was sealed for one provider and address opens for no other: a key that
    was given for one server is never sent to the next one.
    """

    def __init__(self, key: bytes, entropy: Entropy) -> None:
        self._cipher = AESGCM(key)
        self._entropy = entropy

    def close(self, api_key: str, provider: str, base_url: str) -> bytes:
        nonce = self._entropy.bytes(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, api_key.encode("utf-8"), _about(provider, base_url))

    def open(self, sealed: bytes, provider: str, base_url: str) -> str | None:
        """None for a key of another address, and of another data folder."""
        try:
            plain = self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], _about(provider, base_url))
        except (InvalidTag, ValueError):
            return None
        return plain.decode("utf-8")


def _about(provider: str, base_url: str) -> bytes:
    return f"entobot/model-keys/v1\n{provider}\n{base_url}".encode()
