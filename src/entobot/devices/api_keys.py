"""Machine keys: prefix + ULID (26) + `_` + secret (43) + checksum (6). Pure. See docs/protocol.md §3.

An API key begins with `ent_key_`. Other kinds have a prefix of their own, so that none is taken for another.

The parts are found by their lengths: the secret's alphabet holds `_` itself. The checksum lets a mistyped or cut key
be refused without asking anybody, and lets scanners of source code tell a key from a look-alike; it is no secret.
"""

import binascii
from dataclasses import dataclass

from entobot.core.ids import Prefix, is_ulid
from entobot.core.permissions import ALL_SCOPES, Scope
from entobot.core.secrets import Entropy, b64u, keyed_digest, random_secret, same, unb64u

API_KEY_PREFIX = "ent_key_"
SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class KeyKind:
    """`prefix` is that of the key, `id_prefix` that of its id."""

    prefix: str
    id_prefix: Prefix

    @property
    def ulid_end(self) -> int:
        return len(self.prefix) + 26

    @property
    def checksum_at(self) -> int:
        return self.ulid_end + 1 + 43

    @property
    def length(self) -> int:
        return self.checksum_at + 6


API_KEY = KeyKind(API_KEY_PREFIX, Prefix.API_KEY)
LENGTH = API_KEY.length

API_KEY_SCOPES = ALL_SCOPES - {Scope.APPROVE, Scope.PAIR, Scope.SETTINGS, Scope.USERS_MANAGE}
"""What a key may hold at most: it is a bearer secret, so it neither decides, nor lets in, nor changes the gateway."""
DEFAULT_API_KEY_SCOPES = frozenset({Scope.CHAT})


class KeyMalformed(Exception):  # noqa: N818  reads as what happened
    """The text is no API key of any gateway."""


class ApiKeys:
    """Mints and recognises keys of one kind. Only `digest` is ever stored."""

    def __init__(self, server_key: bytes, entropy: Entropy, kind: KeyKind = API_KEY) -> None:
        self._server_key = server_key
        self._entropy = entropy
        self._kind = kind

    def mint(self, key_id: str) -> str:
        """A new key. `key_id` is an id of the kind, told to whoever reads the key."""
        ulid = key_id.removeprefix(self._kind.id_prefix)
        return write_key(ulid, random_secret(self._entropy, SECRET_BYTES), self._kind)

    def digest(self, key: str) -> str:
        """HMAC-SHA-256 of the whole key, base64url. 256 random bits need no slow hash."""
        return b64u(keyed_digest(self._server_key, key.encode("ascii")))


def write_key(ulid: str, secret: str, kind: KeyKind = API_KEY) -> str:
    body = f"{kind.prefix}{ulid}_{secret}"
    return body + checksum(body)


def checksum(body: str) -> str:
    """CRC-32/ISO-HDLC of the ASCII text, as 4 big-endian bytes in base64url."""
    return b64u(binascii.crc32(body.encode("ascii")).to_bytes(4, "big"))


def parse_key(text: str, kind: KeyKind = API_KEY) -> str:
    """The key's id. Asks nobody whether the key exists. Raises KeyMalformed."""
    if len(text) != kind.length or not text.isascii() or not text.startswith(kind.prefix):
        raise KeyMalformed
    ulid, separator = text[len(kind.prefix) : kind.ulid_end], text[kind.ulid_end]
    shown, signed = text[kind.checksum_at :], text[: kind.checksum_at]
    if separator != "_" or not is_ulid(ulid) or not same(checksum(signed), shown):
        raise KeyMalformed
    try:
        unb64u(text[kind.ulid_end + 1 : kind.checksum_at])
    except ValueError:
        raise KeyMalformed from None
    return kind.id_prefix + ulid
