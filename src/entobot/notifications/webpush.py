"""Web Push: messages encrypted for one subscription (RFC 8291) and signed as this gateway (VAPID, RFC 8292)."""

import struct

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jwt
from joserfc.jwk import ECKey

from entobot.core.secrets import Entropy, b64u, unb64u

CURVE = ec.SECP256R1()
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of P-256 (SEC 2, §2.4.2)."""
POINT_BYTES = 65
AUTH_BYTES = 16
SALT_BYTES = 16
RECORD_BYTES = 4096
"""What every push service must take (RFC 8030 §7.2)."""
HEADER_BYTES = SALT_BYTES + 4 + 1 + POINT_BYTES
MAX_PLAIN_BYTES = RECORD_BYTES - HEADER_BYTES - 17
"""One byte ends the text, sixteen authenticate it."""
SIZES = (512, 1024, 2048, MAX_PLAIN_BYTES)
"""Texts are padded to one of these: the push service does not see how much was said."""


class KeysRefused(ValueError):  # noqa: N818  reads as what happened
    """The keys of a subscription are none; the text says which and why."""


class VapidKey:
    """The key by which push services know this gateway. It comes from the gateway's own secret: kept, backed up and
    shared by nodes with it. Another one would end every subscription.
    """

    def __init__(self, secret: bytes) -> None:
        """`secret`: 32 bytes for this purpose alone."""
        wide = HKDFExpand(hashes.SHA256(), 48, b"vapid p-256").derive(secret)
        number = int.from_bytes(wide, "big") % (ORDER - 1) + 1  # FIPS 186-5, A.2.1: 128 extra bits
        self._private = ec.derive_private_key(number, CURVE)
        self._jwk = ECKey.import_key(self._private)
        self.public = b64u(_point(self._private.public_key()))
        """As `applicationServerKey` wants it: base64url of the uncompressed point."""

    def authorization(self, audience: str, subject: str, expires_at_s: int) -> str:
        """The header for one push service: `audience` is its origin, `subject` whom it may write to."""
        claims = {"aud": audience, "exp": expires_at_s, "sub": subject}
        token = jwt.encode({"typ": "JWT", "alg": "ES256"}, claims, self._jwk)
        return f"vapid t={token}, k={self.public}"


def check_keys(p256dh: str, auth: str) -> None:
    """Raises KeysRefused."""
    _keys(p256dh, auth)


def encrypt(text: bytes, p256dh: str, auth: str, entropy: Entropy) -> bytes:
    """The body of a push message: one `aes128gcm` record (RFC 8188). Raises KeysRefused, ValueError for a long text."""
    room = next((size for size in SIZES if len(text) <= size), None)
    if room is None:
        raise ValueError("the text is too long for a push")
    receiver, secret = _keys(p256dh, auth)
    sender = ec.derive_private_key(int.from_bytes(entropy.bytes(48), "big") % (ORDER - 1) + 1, CURVE)
    shared = sender.exchange(ec.ECDH(), receiver)
    sender_point = _point(sender.public_key())
    salt = entropy.bytes(SALT_BYTES)
    keying = _hkdf(secret, shared, b"WebPush: info\0" + _point(receiver) + sender_point, 32)
    key = _hkdf(salt, keying, b"Content-Encoding: aes128gcm\0", 16)
    nonce = _hkdf(salt, keying, b"Content-Encoding: nonce\0", 12)
    padded = text + b"\x02" + bytes(room - len(text))
    sealed = AESGCM(key).encrypt(nonce, padded, None)
    return salt + struct.pack("!LB", RECORD_BYTES, POINT_BYTES) + sender_point + sealed


def _keys(p256dh: str, auth: str) -> tuple[ec.EllipticCurvePublicKey, bytes]:
    try:
        point, secret = unb64u(p256dh), unb64u(auth)
    except ValueError:
        raise KeysRefused("keys.p256dh and keys.auth are base64url without padding") from None
    if len(secret) != AUTH_BYTES:
        raise KeysRefused(f"keys.auth has {AUTH_BYTES} bytes")
    if len(point) != POINT_BYTES:
        raise KeysRefused(f"keys.p256dh is an uncompressed point of P-256: {POINT_BYTES} bytes")
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(CURVE, point), secret
    except ValueError:
        raise KeysRefused("keys.p256dh is no point of P-256") from None


def _point(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def _hkdf(salt: bytes, secret: bytes, info: bytes, length: int) -> bytes:
    return HKDF(hashes.SHA256(), length, salt, info).derive(secret)
