"""API keys: `ent_key_` + ULID (26) + `_` + secret (43) + checksum (6). Pure. See docs/protocol.md §3.

The parts are found by their lengths: the secret's alphabet holds `_` itself. The checksum lets a mistyped or cut key
be refused without asking anybody, and lets scanners of source code tell a key from a look-alike; it is no secret.
"""

import binascii

from entobot.core.ids import Prefix, is_ulid
from entobot.core.permissions import ALL_SCOPES, Scope
from entobot.core.secrets import Entropy, b64u, keyed_digest, random_secret, same, unb64u

API_KEY_PREFIX = "ent_key_"
SECRET_BYTES = 32
_ULID_END = len(API_KEY_PREFIX) + 26
_CHECKSUM_AT = _ULID_END + 1 + 43
LENGTH = _CHECKSUM_AT + 6

API_KEY_SCOPES = ALL_SCOPES - {Scope.APPROVE, Scope.PAIR, Scope.SETTINGS, Scope.USERS_MANAGE}
"""What a key may hold at most: it is a bearer secret, so it neither decides, nor lets in, nor changes the gateway."""
DEFAULT_API_KEY_SCOPES = frozenset({Scope.CHAT})


class KeyMalformed(Exception):  # noqa: N818  reads as what happened
    """The text is no API key of any gateway."""


class ApiKeys:
    """Mints and recognises keys. Only `digest` is ever stored."""

    def __init__(self, server_key: bytes, entropy: Entropy) -> None:
        self._server_key = server_key
        self._entropy = entropy

    def mint(self, key_id: str) -> str:
        """A new key. `key_id` is a `key_` id, told to whoever reads the key."""
        return write_key(key_id.removeprefix(Prefix.API_KEY), random_secret(self._entropy, SECRET_BYTES))

    def digest(self, key: str) -> str:
        """HMAC-SHA-256 of the whole key, base64url. 256 random bits need no slow hash."""
        return b64u(keyed_digest(self._server_key, key.encode("ascii")))


def write_key(ulid: str, secret: str) -> str:
    body = f"{API_KEY_PREFIX}{ulid}_{secret}"
    return body + checksum(body)


def checksum(body: str) -> str:
    """CRC-32/ISO-HDLC of the ASCII text, as 4 big-endian bytes in base64url."""
    return b64u(binascii.crc32(body.encode("ascii")).to_bytes(4, "big"))


def parse_key(text: str) -> str:
    """The key's `key_` id. Asks nobody whether the key exists. Raises KeyMalformed."""
    if len(text) != LENGTH or not text.isascii() or not text.startswith(API_KEY_PREFIX):
        raise KeyMalformed
    ulid, separator = text[len(API_KEY_PREFIX) : _ULID_END], text[_ULID_END]
    if separator != "_" or not is_ulid(ulid) or not same(checksum(text[:_CHECKSUM_AT]), text[_CHECKSUM_AT:]):
        raise KeyMalformed
    try:
        unb64u(text[_ULID_END + 1 : _CHECKSUM_AT])
    except ValueError:
        raise KeyMalformed from None
    return Prefix.API_KEY + ulid
