"""A device's side of the protocol, written with a library that the gateway does not use for it."""

import json
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from joserfc import jws
from joserfc.jwk import ECKey

from entobot.core.secrets import b64u, sha256_b64u
from entobot.devices.model import Credentials
from entobot.web.authentication import Presented

ORIGIN = "https://gateway.test:18790"


@dataclass
class Phone:
    """Holds a key and, once paired, credentials. `skew_s` is how wrong its clock is."""

    key: ECKey = field(default_factory=lambda: ECKey.generate_key("P-256", private=True))
    credentials: Credentials | None = None
    skew_s: int = 0
    proofs_made: int = 0

    @property
    def jwk(self) -> dict[str, Any]:
        return {name: self.key.as_dict(private=False)[name] for name in ("kty", "crv", "x", "y")}

    @property
    def access_token(self) -> str:
        assert self.credentials is not None
        return self.credentials.access_token

    @property
    def refresh_token(self) -> str:
        assert self.credentials is not None
        return self.credentials.refresh_token

    @property
    def credentials_device(self) -> str:
        assert self.credentials is not None
        return self.credentials.device_id

    def sign(self, header: dict[str, Any], payload: dict[str, Any]) -> str:
        return jws.serialize_compact({"alg": "ES256", **header}, json.dumps(payload), self.key, registry=ANY_HEADER)

    def claims(self, path: str, now_ms: int, method: str = "GET", **extra: Any) -> dict[str, Any]:
        self.proofs_made += 1
        return {
            "htm": method,
            "htu": ORIGIN + path,
            "jti": f"proof-{id(self)}-{self.proofs_made}",
            "iat": now_ms // 1000 + self.skew_s,
        } | extra

    def proof(self, path: str, now_ms: int, method: str = "GET", **extra: Any) -> str:
        return self.sign({"typ": "dpop+jwt", "jwk": self.jwk}, self.claims(path, now_ms, method, **extra))

    def ask(self, path: str, now_ms: int, method: str = "GET") -> Presented:
        """An ordinary authenticated request."""
        proof = self.proof(path, now_ms, method, ath=sha256_b64u(self.access_token))
        return show(path, f"DPoP {self.access_token}", proof, method=method)

    def ask_refresh(self, now_ms: int) -> Presented:
        path = "/api/v1/auth/refresh"
        return show(path, None, self.proof(path, now_ms, "POST"), method="POST")


ANY_HEADER = jws.JWSRegistry(strict_check_header=False)


def show(
    path: str, authorization: str | None, *proofs: str, method: str = "GET", has_cookie: bool = False
) -> Presented:
    return Presented(method, path, authorization, proofs, has_cookie, "192.0.2.7")


def raw_jws(header: str, payload: str, key: ECKey) -> str:
    """A correctly signed JWS over JSON text as given, however odd."""
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
    from cryptography.hazmat.primitives.hashes import SHA256

    signed = f"{b64u(header.encode())}.{b64u(payload.encode())}"
    private = key.private_key
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    r, s = decode_dss_signature(private.sign(signed.encode(), ec.ECDSA(SHA256())))
    return f"{signed}.{b64u(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"
