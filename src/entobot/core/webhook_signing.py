"""Signatures of webhooks as Standard Webhooks (standardwebhooks.com, version 1) makes them. Pure."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping

SECRET_PREFIX = "whsec_"  # noqa: S105  what secrets begin with
LEAST_SECRET_BYTES = 24
TOLERANCE_S = 300
"""A message that is older, or from the future, is a replay or a wrong clock."""
MAX_ID_CHARACTERS = 128


class NotSigned(Exception):  # noqa: N818  reads as what happened
    """Whoever sent it does not hold the secret, or sends something old. The text says which."""


def decode_secret(text: str) -> bytes:
    """What `whsec_` and base64 stand for. Raises ValueError."""
    try:
        secret = base64.b64decode(text.strip().removeprefix(SECRET_PREFIX), validate=True)
    except (ValueError, binascii.Error):
        secret = b""
    if len(secret) < LEAST_SECRET_BYTES:
        raise ValueError(f"no secret: {SECRET_PREFIX} and base64 of {LEAST_SECRET_BYTES} bytes or more")
    return secret


def signed(secret: bytes, message_id: str, at_s: int, body: bytes) -> dict[str, str]:
    """The three headers."""
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(at_s),
        "webhook-signature": f"v1,{_digest(secret, message_id, str(at_s), body)}",
    }


def verify(secret: bytes, headers: Mapping[str, str], body: bytes, now_s: int) -> str:
    """The message's id, which a repeat has as well. `headers` has lower-case names. Raises NotSigned."""
    message_id, at, given = (headers.get(f"webhook-{part}", "") for part in ("id", "timestamp", "signature"))
    if not 0 < len(message_id) <= MAX_ID_CHARACTERS or not (at.isascii() and at.isdigit() and len(at) <= 12):
        raise NotSigned("it bears no signature")
    wanted = _digest(secret, message_id, at, body).encode()
    found = [one.removeprefix("v1,") for one in given.split(" ") if one.startswith("v1,")]
    if not any(hmac.compare_digest(wanted, one.encode()) for one in found):
        raise NotSigned("its signature is not right")
    if abs(now_s - int(at)) > TOLERANCE_S:
        raise NotSigned("it is too old")
    return message_id


def _digest(secret: bytes, message_id: str, at_s: str, body: bytes) -> str:
    digest = hmac.new(secret, f"{message_id}.{at_s}.".encode() + body, hashlib.sha256).digest()
    return base64.b64encode(digest).decode()
