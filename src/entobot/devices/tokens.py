"""Access tokens (RFC 9068 JWTs bound by RFC 7800 `cnf`) and refresh tokens (opaque, derived, rotating)."""

import re
from dataclasses import dataclass
from typing import Any

from entobot.core.ids import ULID_PATTERN, Prefix
from entobot.core.permissions import Scope, parse_scopes, scope_text
from entobot.core.secrets import Entropy, b64u, keyed_digest, same, sha256
from entobot.devices.jws import SignatureRefused
from entobot.devices.signing import SigningKeys

ACCESS_LIFE_S = 300
ACCESS_TYP = "at+jwt"
MAX_ACCESS_BYTES = 8192
MAX_AHEAD_S = 30
"""How far another node's clock may be ahead. Expiry knows no leeway: a token lives five minutes."""

REFRESH_PREFIX = "ent_rt_"
_REFRESH = re.compile(f"{REFRESH_PREFIX}({ULID_PATTERN})_([1-9][0-9]{{0,8}})_([A-Za-z0-9_-]{{43}})")
_MAX_REFRESH_CHARACTERS = 128
_CLAIMS = frozenset({"iss", "aud", "sub", "dev", "ep", "scope", "iat", "exp", "jti", "cnf"})
_CACHED_TOKENS = 8192


class TokenRefused(Exception):  # noqa: N818  reads as what happened
    """Not a token of this gateway, or one that does not hold at this time (`is_expired`): refresh it. The text is safe to show."""

    def __init__(self, reason: str, *, is_expired: bool = False) -> None:
        super().__init__(reason)
        self.is_expired = is_expired


@dataclass(frozen=True, slots=True)
class AccessClaims:
    user_id: str
    device_id: str
    epoch: int
    scopes: frozenset[Scope]
    thumbprint: str
    jti: str
    issued_at_ms: int
    expires_at_ms: int


@dataclass(frozen=True, slots=True)
class RefreshClaims:
    family_id: str
    generation: int


class Tokens:
    """Mints and reads both kinds of token. Keeps nothing but a bounded memory of access tokens already verified."""

    def __init__(self, keys: SigningKeys, origin: str, refresh_key: bytes, entropy: Entropy) -> None:
        self._keys = keys
        self._origin = origin
        self._refresh_key = refresh_key
        self._entropy = entropy
        self._verified: dict[bytes, AccessClaims] = {}

    def mint_access(
        self, *, user_id: str, device_id: str, epoch: int, scopes: frozenset[Scope], thumbprint: str, now_ms: int
    ) -> tuple[str, str]:
        """An access token of `ACCESS_LIFE_S` seconds, and its jti."""
        jti = b64u(self._entropy.bytes(16))
        issued = now_ms // 1000
        claims: dict[str, object] = {
            "iss": self._origin,
            "aud": self._origin,
            "sub": user_id,
            "dev": device_id,
            "ep": epoch,
            "scope": scope_text(scopes),
            "iat": issued,
            "exp": issued + ACCESS_LIFE_S,
            "jti": jti,
            "cnf": {"jkt": thumbprint},
        }
        return self._keys.sign(ACCESS_TYP, claims), jti

    def verify_access(self, token: str, now_ms: int) -> AccessClaims:
        """What a token of ours says. Whether its device still exists and has its epoch is for the caller to read.

        Raises TokenRefused.
        """
        if len(token) > MAX_ACCESS_BYTES:
            raise TokenRefused("The access token is too long.")
        digest = sha256(token.encode("utf-8", "surrogatepass"))
        claims = self._verified.get(digest)
        if claims is None:
            claims = self._verify(token, now_ms)
            if len(self._verified) >= _CACHED_TOKENS:
                del self._verified[next(iter(self._verified))]
            self._verified[digest] = claims
        if now_ms >= claims.expires_at_ms:
            self._verified.pop(digest, None)
            raise TokenRefused("The access token has expired; refresh it.", is_expired=True)
        return claims

    def mint_refresh(self, family_id: str, generation: int) -> str:
        """The one refresh token of this generation: the same every time it is asked for."""
        head = f"{REFRESH_PREFIX}{family_id.removeprefix(Prefix.FAMILY)}_{generation}"
        return f"{head}_{b64u(keyed_digest(self._refresh_key, head.encode('ascii')))}"

    def read_refresh(self, token: str) -> RefreshClaims:
        """Which family and generation a refresh token is of, if it was ever ours. Raises TokenRefused."""
        match = _REFRESH.fullmatch(token) if len(token) <= _MAX_REFRESH_CHARACTERS else None
        if match is not None:
            family_id, generation = Prefix.FAMILY + match[1], int(match[2])
            if same(token, self.mint_refresh(family_id, generation)):
                return RefreshClaims(family_id, generation)
        raise TokenRefused("This is no refresh token of this gateway.")

    def _verify(self, token: str, now_ms: int) -> AccessClaims:
        try:
            payload = self._keys.verify(token, typ=ACCESS_TYP, max_bytes=MAX_ACCESS_BYTES, now_ms=now_ms)
        except SignatureRefused as error:
            raise TokenRefused(f"The access token was refused: {error}.") from None
        claims = _claims(payload)
        if payload["iss"] != self._origin or payload["aud"] != self._origin:
            raise TokenRefused("The access token is for another gateway.")
        if claims.issued_at_ms > now_ms + MAX_AHEAD_S * 1000:
            # Ours, made before the gateway's clock was set back.
            raise TokenRefused("The access token comes from the future; refresh it.", is_expired=True)
        return claims


def _claims(payload: dict[str, Any]) -> AccessClaims:
    """Strictly typed although only we sign: a wrong type here must not become a wrong decision later."""
    malformed = TokenRefused("The access token was refused: its claims are malformed.")
    if _CLAIMS.symmetric_difference(payload):
        raise malformed
    texts = [payload[name] for name in ("iss", "aud", "sub", "dev", "scope", "jti")]
    numbers = [payload[name] for name in ("ep", "iat", "exp")]
    cnf = payload["cnf"]
    if (
        not all(isinstance(text, str) for text in texts)
        or not all(type(number) is int for number in numbers)
        or not isinstance(cnf, dict)
        or not 0 < payload["exp"] - payload["iat"] <= ACCESS_LIFE_S
    ):
        raise malformed
    jkt: object = cnf.get("jkt")  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  JSON
    try:
        scopes = parse_scopes(payload["scope"])
    except ValueError:
        raise malformed from None
    if not isinstance(jkt, str):
        raise malformed
    return AccessClaims(
        payload["sub"],
        payload["dev"],
        payload["ep"],
        scopes,
        jkt,
        payload["jti"],
        payload["iat"] * 1000,
        payload["exp"] * 1000,
    )
