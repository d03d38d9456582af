"""Whom to believe at the other end of TLS: one key, one authority, or the system's. There is no way to believe all."""

import asyncio
import hashlib
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from entobot.core.secrets import b64u, same

FETCH_TIMEOUT_S = 10.0


class WrongKey(Exception):  # noqa: N818  reads as what happened
    """The gateway's TLS key is not the one that the invite named. Nothing was sent to it."""


@dataclass(frozen=True, slots=True)
class Trust:
    """Exactly one of `pin` and `authority`, or neither for the authorities of the system.

    `pin` is base64url(SHA-256) of the key's SubjectPublicKeyInfo: `g` of an invite's link. The name in the
    certificate does not matter then, its key does.
    """

    pin: str | None = None
    authority: Path | None = None

    async def context(self, host: str, port: int) -> ssl.SSLContext:
        """For a connection to this gateway. Raises WrongKey, OSError."""
        if self.pin is not None:
            return await asyncio.to_thread(_pinned, self.pin, host, port)
        return await asyncio.to_thread(_by_authority, self.authority)


def spki_sha256(certificate_pem: str) -> str:
    """The form in which invites name a key."""
    key = x509.load_pem_x509_certificate(certificate_pem.encode()).public_key()
    return b64u(hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest())


def _pinned(pin: str, host: str, port: int) -> ssl.SSLContext:
    """Look at the certificate first, then trust it and no other: OpenSSL compares it in each handshake.

    A certificate that was renewed for the same key fails that comparison; then a new context is made.
    """
    certificate = ssl.get_server_certificate((host, port), timeout=FETCH_TIMEOUT_S)
    if not same(spki_sha256(certificate), pin):
        raise WrongKey("The gateway shows another key than the one of the invite. Somebody may be between.")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False  # the key is the name
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=certificate)
    return context


def _by_authority(authority: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
