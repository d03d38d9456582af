"""Signs heads of the log with a key of its own in the data folder; it is not rotated, so that old heads stay good."""

from collections.abc import Callable

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc import jws as jose
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from entobot.core.errors import StartupRefused

TYP = "entobot-audit-head+jwt"


class LocalHeadSigner:
    """See `HeadSigner`. ES256 (RFC 7518 §3.4) in compact JWS."""

    def __init__(self, key: ECKey) -> None:
        self._key = key

    @classmethod
    def open(cls, load: Callable[[], bytes | None], save: Callable[[bytes], None]) -> "LocalHeadSigner":
        """The stored key, or a new one that is stored at once. Blocks. Raises StartupRefused when it is damaged."""
        pem = load()
        if pem is None:
            pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            save(pem)
        try:
            return cls(ECKey.import_key(pem))
        except (ValueError, JoseError):
            raise StartupRefused("The audit log's key is damaged. Restore keys/audit.key from the backup.") from None

    @property
    def fingerprint(self) -> str:
        """RFC 7638 thumbprint of the public key."""
        return self._key.thumbprint()

    def sign_head(self, payload: bytes) -> str:
        return jose.serialize_compact({"alg": "ES256", "typ": TYP}, payload, self._key, algorithms=["ES256"])

    def verify_head(self, jws: str) -> bytes:
        try:
            found = jose.deserialize_compact(jws, self._key, algorithms=["ES256"])
        except (JoseError, ValueError):
            raise ValueError("not signed by this gateway") from None
        if found.headers().get("typ") != TYP:
            raise ValueError("not a head of the audit log")
        return found.payload
