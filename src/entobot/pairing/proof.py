"""The claim's proof of possession: a compact JWS by the key that asks to be paired. Pure.

It binds key, gateway, invite and secret together: a key cannot be claimed with by somebody who only read it, and a
proof made for one gateway or invite is of no use at another.
"""

from collections.abc import Mapping
from typing import Any

from entobot.core.clock import rfc3339
from entobot.core.errors import Code, Problem
from entobot.core.secrets import same, sha256_b64u
from entobot.devices.dpop import Proof
from entobot.devices.keys import PublicKey, SignatureRefused, verify_compact

TYPE = "entobot-pair+jwt"
MAX_BYTES = 2048
LEEWAY_MS = 60_000
"""`iat` may be that far from the gateway's clock, either way."""
MAX_JTI_CHARACTERS = 64


def verify(proof: str, key: PublicKey, *, origin: str, invite_id: str | None, secret: str, now_ms: int) -> Proof:
    """The proof, whose `jti` the caller must spend. `secret` is the invite's secret or the normalised code.

    Raises Problem: `proof_invalid`, or `proof_stale` with `server_time` (RFC 3339) when only the client's clock is wrong.
    """
    try:
        payload = verify_compact(proof, key, typ=TYPE, header_members=frozenset({"alg", "typ"}), max_bytes=MAX_BYTES)
    except SignatureRefused as error:
        raise _invalid(str(error)) from None
    expected: dict[str, str] = {"aud": origin, "sth": sha256_b64u(secret)}
    if invite_id is not None:
        expected["invite_id"] = invite_id
    if set(payload) != {*expected, "iat", "jti"}:
        raise _invalid("it needs exactly the members aud, sth, iat, jti, and invite_id for a secret")
    for name, value in expected.items():
        given = payload[name]
        if not isinstance(given, str) or not same(given, value):
            raise _invalid(f"'{name}' does not fit this request")
    jti = _jti(payload)
    return Proof(key, key.thumbprint, jti, _fresh_iat_ms(payload, now_ms))


def _jti(payload: Mapping[str, Any]) -> str:
    jti = payload["jti"]
    if not isinstance(jti, str) or not 1 <= len(jti) <= MAX_JTI_CHARACTERS or not jti.isprintable():
        raise _invalid("'jti' must be 1 to 64 printable characters")
    return jti


def _fresh_iat_ms(payload: Mapping[str, Any], now_ms: int) -> int:
    iat: object = payload["iat"]
    if type(iat) is not int:
        raise _invalid("'iat' must be a whole number of seconds")
    if abs(iat * 1000 - now_ms) > LEEWAY_MS:
        raise Problem(
            Code.PROOF_STALE,
            "The proof's time is more than a minute off. Correct the clock by server_time and try once more.",
            extra={"server_time": rfc3339(now_ms)},
        )
    return iat * 1000


def _invalid(why: str) -> Problem:
    return Problem(Code.PROOF_INVALID, f"The proof is not valid: {why}.")
