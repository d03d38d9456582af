"""Public keys of devices: EC P-256 JWKs (RFC 7517), their thumbprints (RFC 7638), and what they signed."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, cast

from cryptography.hazmat.primitives.asymmetric import ec

from entobot.core.secrets import b64u, sha256_b64u, unb64u
from entobot.devices import jws
from entobot.devices.jws import SignatureRefused

__all__ = ["KeyRefused", "PublicKey", "SignatureRefused", "parse_public_jwk", "parse_stored_key", "verify_compact"]

_MEMBERS = frozenset({"kty", "crv", "x", "y"})
_COORDINATE_BYTES = 32
_COORDINATE_CHARACTERS = 43
_CACHED_KEYS = 4096


class KeyRefused(ValueError):  # noqa: N818  reads as what happened
    """Not a public P-256 JWK as the protocol wants it. The text is safe to show."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A point on P-256. Made by `parse_public_jwk` or `from_point` only, so that every value is a valid key."""

    x: str
    y: str
    thumbprint: str
    point: ec.EllipticCurvePublicKey = field(compare=False, repr=False)

    @staticmethod
    def from_point(point: ec.EllipticCurvePublicKey) -> "PublicKey":
        numbers = point.public_numbers()
        x, y = (b64u(value.to_bytes(_COORDINATE_BYTES, "big")) for value in (numbers.x, numbers.y))
        return PublicKey(x, y, sha256_b64u(_canonical(x, y)), point)

    def to_jwk(self) -> dict[str, str]:
        return {"kty": "EC", "crv": "P-256", "x": self.x, "y": self.y}

    @property
    def canonical(self) -> str:
        """The JSON text whose SHA-256 is the thumbprint (RFC 7638 §3)."""
        return _canonical(self.x, self.y)


def parse_public_jwk(obj: object) -> PublicKey:
    """The key in `obj`, which has exactly the members `kty crv x y`. Raises KeyRefused."""
    if not isinstance(obj, Mapping):
        raise KeyRefused("The public key is not a JSON object.")
    jwk = cast("Mapping[str, object]", obj)
    if _MEMBERS.symmetric_difference(jwk):
        raise KeyRefused("The public key must have exactly the members kty, crv, x, y, and no private ones.")
    if jwk["kty"] != "EC" or jwk["crv"] != "P-256":
        raise KeyRefused('The public key must be of kty "EC" and crv "P-256".')
    x, y = jwk["x"], jwk["y"]
    if not isinstance(x, str) or not isinstance(y, str):
        raise KeyRefused("The key's x and y must be text.")
    return _load(x, y)


def verify_compact(
    text: str, key: PublicKey, *, typ: str, header_members: frozenset[str], max_bytes: int
) -> dict[str, Any]:
    """The payload of a compact JWS (ES256) by `key`, whose header has exactly `header_members`.

    Numbers in the payload are integers. Raises SignatureRefused.
    """
    return jws.verify(jws.parse_compact(text, typ=typ, header_members=header_members, max_bytes=max_bytes), key.point)


@lru_cache(maxsize=_CACHED_KEYS)
def _load(x: str, y: str) -> PublicKey:
    """Checking that a point is on the curve costs more than a database read; devices come back with the same one."""
    if len(x) != _COORDINATE_CHARACTERS or len(y) != _COORDINATE_CHARACTERS:
        raise KeyRefused("The key's x and y must be 32 bytes each.")
    try:
        point = ec.EllipticCurvePublicNumbers(
            int.from_bytes(unb64u(x), "big"), int.from_bytes(unb64u(y), "big"), ec.SECP256R1()
        ).public_key()
    except ValueError:
        raise KeyRefused("The key is not canonical base64url, or not a point on P-256.") from None
    return PublicKey(x, y, sha256_b64u(_canonical(x, y)), point)


def _canonical(x: str, y: str) -> str:
    return f'{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}'


def parse_stored_key(canonical: str) -> PublicKey:
    """The key that was stored as `PublicKey.canonical`."""
    return parse_public_jwk(json.loads(canonical))
