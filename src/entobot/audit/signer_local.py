"""Signs heads of the log with a key of its own in the data folder; it is not rotated, so that old heads stay good."""

from collections.abc import Callable

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from joserfc import jws as jose
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from entobot.audit.note import NoteSigner
from entobot.core.errors import StartupRefused

TYP = "entobot-audit-head+jwt"


class LocalHeadSigner:
    """See `HeadSigner`. ES256 (RFC 7518 §3.4) in compact JWS."""

    def __init__(self, key: ECKey, private: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        self._private = private

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
            private = serialization.load_pem_private_key(pem, None)
            if not isinstance(private, ec.EllipticCurvePrivateKey):
                raise ValueError("not an EC key")  # noqa: TRY004, TRY301  damaged, whatever it is
            return cls(ECKey.import_key(pem), private)
        except (ValueError, TypeError, JoseError):
            raise StartupRefused("The audit log's key is damaged. Restore keys/audit.key from the backup.") from None

    @property
    def fingerprint(self) -> str:
        """RFC 7638 thumbprint of the public key."""
        return self._key.thumbprint()

    def notes(self) -> NoteSigner:
        """Signs checkpoints, by an Ed25519 key that follows from this one: nothing more to keep and to back up."""
        scalar = self._private.private_numbers().private_value.to_bytes(32, "big")
        derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"entobot/v1/audit checkpoints")
        return NoteSigner(derived.derive(scalar))

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
