"""DPoP proofs (RFC 9449): a request is signed by the device's key, for this method, address and token, just now."""

from collections.abc import Mapping
from dataclasses import dataclass

from entobot.core.clock import rfc3339
from entobot.core.errors import Code, Problem
from entobot.core.secrets import same, sha256_b64u
from entobot.devices import jws
from entobot.devices.jws import SignatureRefused
from entobot.devices.keys import KeyRefused, PublicKey, parse_public_jwk

MAX_PROOF_BYTES = 2048
MAX_JTI_CHARACTERS = 64
MAX_AGE_MS = 60_000
JTI_KEPT_MS = 180_000
"""Longer than a proof can be fresh: 60 s before its `iat` to 60 s after it."""

_TYP = "dpop+jwt"
_HEADER = frozenset({"typ", "alg", "jwk"})


@dataclass(frozen=True, slots=True)
class Proof:
    """What a valid proof shows. `jti` must still be spent, once per key, unless a server nonce bound the proof."""

    key: PublicKey
    thumbprint: str
    jti: str
    iat_ms: int


def verify_proof(
    proof: str,
    *,
    method: str,
    url: str | tuple[str, ...],
    now_ms: int,
    access_token: str | None,
    nonce: str | None,
) -> Proof:
    """Check everything about a proof but its `jti`'s single use and whose key it is.

    `url` is the address (or all the addresses) of the resource, without query, from configuration; never from Host.
    Raises Problem: `proof_required` (empty), `proof_invalid`, `proof_stale` (with `server_time`, RFC 3339).
    """
    if not proof:
        raise Problem(Code.PROOF_REQUIRED, "Send a DPoP proof, made for this request, in the header DPoP.")
    key, payload = _open(proof)
    wanted = {"htm", "htu", "jti", "iat"}
    if access_token is not None:
        wanted.add("ath")
    if nonce is not None:
        wanted.add("nonce")
    if wanted.symmetric_difference(payload):
        raise _invalid(f"its payload must hold exactly {', '.join(sorted(wanted))}")
    urls = (url,) if isinstance(url, str) else url
    if payload["htm"] != method:
        raise _invalid(f"its htm must be {method}")
    if payload["htu"] not in urls:
        raise _invalid(f"its htu must be {urls[0]}")
    if access_token is not None and not _is_same(payload["ath"], sha256_b64u(access_token)):
        raise _invalid("its ath is not the hash of the access token")
    if nonce is not None and not _is_same(payload["nonce"], nonce):
        raise _invalid("its nonce is not the one this connection was given")
    jti, iat_ms = _jti(payload["jti"]), _iat_ms(payload["iat"])
    if nonce is None and abs(now_ms - iat_ms) > MAX_AGE_MS:
        raise Problem(
            Code.PROOF_STALE,
            "The proof's iat is more than 60 s away from the gateway's clock. Correct by server_time and retry.",
            extra={"server_time": rfc3339(now_ms)},
        )
    return Proof(key, key.thumbprint, jti, iat_ms)


def _open(proof: str) -> tuple[PublicKey, Mapping[str, object]]:
    try:
        compact = jws.parse_compact(proof, typ=_TYP, header_members=_HEADER, max_bytes=MAX_PROOF_BYTES)
        key = parse_public_jwk(compact.header["jwk"])
        return key, jws.verify(compact, key.point)
    except SignatureRefused as error:
        raise _invalid(str(error)) from None
    except KeyRefused as error:
        raise Problem(Code.PROOF_INVALID, str(error)) from None


def _jti(value: object) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_JTI_CHARACTERS or not value.isprintable():
        raise _invalid(f"its jti must be 1 to {MAX_JTI_CHARACTERS} printable characters")
    return value


def _iat_ms(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**43:  # bool is an int in Python, and no time
        raise _invalid("its iat must be a whole number of seconds")
    return value * 1000


def _is_same(value: object, wanted: str) -> bool:
    return isinstance(value, str) and same(value, wanted)


def _invalid(reason: str) -> Problem:
    return Problem(Code.PROOF_INVALID, f"The DPoP proof was refused: {reason}.")
