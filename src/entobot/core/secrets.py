"""Randomness as a parameter, and the few things that are done with secrets: encode, digest, compare."""

import base64
import hashlib
import hmac
import os
from typing import Protocol


class Entropy(Protocol):
    def bytes(self, count: int) -> bytes:
        """`count` unpredictable bytes."""
        ...


class SystemEntropy:
    def bytes(self, count: int) -> bytes:
        return os.urandom(count)


def b64u(data: bytes) -> str:
    """base64url without padding (RFC 7515)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def unb64u(text: str) -> bytes:
    """Strict inverse of `b64u`.

    Raises ValueError for padding, foreign characters or a non-canonical tail.
    """
    raw = text.encode("ascii")
    decoded = base64.b64decode(raw + b"=" * (-len(raw) % 4), altchars=b"-_", validate=True)
    if b64u(decoded) != text:
        raise ValueError("not canonical base64url")
    return decoded


def random_secret(entropy: Entropy, size_bytes: int = 32) -> str:
    return b64u(entropy.bytes(size_bytes))


def random_digits(entropy: Entropy, count: int) -> str:
    """`count` decimal digits without modulo bias (64 extra bits make it negligible)."""
    number = int.from_bytes(entropy.bytes(count // 2 + 8), "big") % 10**count
    return str(number).zfill(count)


CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def random_code(entropy: Entropy, length: int) -> str:
    """`length` Crockford base32 characters (5 bits each)."""
    return "".join(CROCKFORD[byte & 31] for byte in entropy.bytes(length))


def normalise_code(text: str) -> str:
    """What a person typed, as the machine wrote it: upper case, no spaces or dashes, O→0, I and L→1."""
    kept = text.upper().replace(" ", "").replace("-", "")
    return kept.replace("O", "0").replace("I", "1").replace("L", "1")


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def sha256_b64u(text: str) -> str:
    """base64url(SHA-256(UTF-8 text)), the form in which hashes travel."""
    return b64u(sha256(text.encode("utf-8")))


def keyed_digest(key: bytes, data: bytes) -> bytes:
    """HMAC-SHA-256."""
    return hmac.digest(key, data, "sha256")


def same(left: bytes | str, right: bytes | str) -> bool:
    """Constant-time comparison; str is compared as UTF-8."""
    a = left.encode("utf-8") if isinstance(left, str) else left
    b = right.encode("utf-8") if isinstance(right, str) else right
    return hmac.compare_digest(a, b)
