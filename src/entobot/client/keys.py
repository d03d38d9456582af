"""A device key: EC P-256, signing ES256 (RFC 7518 §3.4)."""

import json
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from entobot.core.secrets import b64u, sha256_b64u, unb64u

COORDINATE_BYTES = 32


@dataclass(frozen=True, slots=True)
class DeviceKey:
    private: ec.EllipticCurvePrivateKey

    @classmethod
    def generate(cls) -> "DeviceKey":
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def from_text(cls, text: str) -> "DeviceKey":
        """Inverse of `to_text`. Raises ValueError."""
        return cls(ec.derive_private_key(int.from_bytes(unb64u(text), "big"), ec.SECP256R1()))

    def to_text(self) -> str:
        """The private scalar, base64url; as secret as the key."""
        return b64u(self.private.private_numbers().private_value.to_bytes(COORDINATE_BYTES, "big"))

    @property
    def jwk(self) -> dict[str, str]:
        """The public key as a JWK (RFC 7517) with exactly `kty crv x y`."""
        numbers = self.private.public_key().public_numbers()
        x, y = (b64u(n.to_bytes(COORDINATE_BYTES, "big")) for n in (numbers.x, numbers.y))
        return {"kty": "EC", "crv": "P-256", "x": x, "y": y}

    @property
    def thumbprint(self) -> str:
        """RFC 7638, base64url."""
        jwk = self.jwk
        return sha256_b64u(json.dumps({name: jwk[name] for name in ("crv", "kty", "x", "y")}, separators=(",", ":")))

    def sign_compact(self, header: dict[str, object], payload: dict[str, object]) -> str:
        """A compact JWS (RFC 7515) of `payload` under `{"alg":"ES256", **header}`."""
        signed = f"{_part({'alg': 'ES256', **header})}.{_part(payload)}"
        r, s = decode_dss_signature(self.private.sign(signed.encode("ascii"), ec.ECDSA(hashes.SHA256())))
        signature = r.to_bytes(COORDINATE_BYTES, "big") + s.to_bytes(COORDINATE_BYTES, "big")
        return f"{signed}.{b64u(signature)}"


def _part(members: dict[str, object]) -> str:
    return b64u(json.dumps(members, separators=(",", ":"), ensure_ascii=False).encode("utf-8"))
