"""Compact JWS (RFC 7515 §3.1) with ES256, read strictly: canonical base64url, no duplicate members, integers only.

ES256 itself is `cryptography`'s; the framing is ours because the libraries' readers accept duplicate members.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, cast

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from entobot.core.secrets import b64u, unb64u

ALG = "ES256"
_ECDSA = ec.ECDSA(SHA256())
_HALF = 32


class SignatureRefused(Exception):  # noqa: N818  reads as what happened
    """Not a well-formed JWS of the kind asked for, or not signed by that key. The text is safe to show."""


@dataclass(frozen=True, slots=True)
class Compact:
    """A JWS taken apart, its signature not checked yet. `payload_part` is still encoded: verify first."""

    header: dict[str, Any]
    payload_part: str
    signed: bytes
    signature: bytes


def parse_compact(text: str, *, typ: str, header_members: frozenset[str], max_bytes: int) -> Compact:
    """Take `text` apart and check its header: exactly `header_members`, `alg` ES256, `typ` as given.

    Raises SignatureRefused.
    """
    if len(text) > max_bytes:
        raise SignatureRefused(f"it is longer than {max_bytes} bytes")
    if not text.isascii():
        raise SignatureRefused("it is not ASCII text")
    parts = text.split(".")
    if len(parts) != 3:
        raise SignatureRefused("it is not three parts joined by dots")
    header = _read_json(_decode(parts[0]))
    if header_members.symmetric_difference(header):
        raise SignatureRefused(f"its header must hold exactly {', '.join(sorted(header_members))}")
    if header["alg"] != ALG:
        raise SignatureRefused(f"its alg must be {ALG}")
    if header["typ"] != typ:
        raise SignatureRefused(f"its typ must be {typ}")
    signature = _decode(parts[2])
    if len(signature) != 2 * _HALF:
        raise SignatureRefused(f"its signature is not {2 * _HALF} bytes")
    return Compact(header, parts[1], f"{parts[0]}.{parts[1]}".encode("ascii"), signature)


def verify(compact: Compact, key: ec.EllipticCurvePublicKey) -> dict[str, Any]:
    """The payload as strict JSON, once the signature stands. Raises SignatureRefused."""
    r = int.from_bytes(compact.signature[:_HALF], "big")
    s = int.from_bytes(compact.signature[_HALF:], "big")
    try:
        key.verify(encode_dss_signature(r, s), compact.signed, _ECDSA)
    except InvalidSignature:
        raise SignatureRefused("it was not signed by this key, or was changed") from None
    return _read_json(_decode(compact.payload_part))


def sign(header: Mapping[str, str], payload: Mapping[str, object], key: ec.EllipticCurvePrivateKey) -> str:
    """A compact JWS; `alg` is added to `header`."""
    text = f"{_write(dict(header) | {'alg': ALG})}.{_write(payload)}"
    r, s = decode_dss_signature(key.sign(text.encode("ascii"), _ECDSA))
    return f"{text}.{b64u(r.to_bytes(_HALF, 'big') + s.to_bytes(_HALF, 'big'))}"


def _write(value: Mapping[str, object]) -> str:
    return b64u(json.dumps(value, separators=(",", ":")).encode("ascii"))


def _read_json(data: bytes) -> dict[str, Any]:
    """The JSON object in `data`. Raises SignatureRefused."""
    try:
        text = data.decode("utf-8")
        value: object = json.loads(
            text, object_pairs_hook=_without_duplicates, parse_float=_refuse_number, parse_constant=_refuse_number
        )
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode("utf-8")  # raises on a lone surrogate
    except RecursionError:
        raise SignatureRefused("it is nested too deeply") from None
    except ValueError:
        raise SignatureRefused("it does not hold strict JSON (UTF-8, no duplicate members, whole numbers)") from None
    if not isinstance(value, dict):
        raise SignatureRefused("it does not hold a JSON object")
    return cast("dict[str, Any]", value)


def _decode(part: str) -> bytes:
    try:
        return unb64u(part)
    except ValueError:
        raise SignatureRefused("it is not canonical base64url") from None


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("duplicate member")
    return found


def _refuse_number(text: str) -> NoReturn:
    raise ValueError(f"not a whole number: {text}")
