"""The pin: base64url of SHA-256 over the public key that a certificate names. It outlives the certificate."""

import binascii
import hashlib


def pin_of(certificate: bytes) -> str:
    """Of a certificate in DER. Raises ValueError for what is none."""
    return base64url(hashlib.sha256(_public_key(bytes(certificate))).digest())


def base64url(data: bytes) -> str:
    return binascii.b2a_base64(data).decode().strip().replace("+", "-").replace("/", "_").rstrip("=")


def _public_key(der: bytes) -> bytes:
    """SubjectPublicKeyInfo: the seventh member of TBSCertificate, or the sixth where the version is left out."""
    at, _ = _inside(der, 0)  # Certificate
    at, _ = _inside(der, at)  # TBSCertificate
    if der[at] == 0xA0:
        at = _behind(der, at)  # version
    for _ in range(5):  # serial number, algorithm, issuer, validity, subject
        at = _behind(der, at)
    return der[at : _behind(der, at)]


def _inside(der: bytes, at: int) -> "tuple[int, int]":
    """Where the content of the element at `at` begins and ends."""
    try:
        size = der[at + 1]
        begins = at + 2
        if size & 0x80:
            count = size & 0x7F
            begins += count
            size = int.from_bytes(der[at + 2 : begins], "big")
    except IndexError:
        raise ValueError("no certificate") from None
    if begins + size > len(der):
        raise ValueError("no certificate")
    return begins, begins + size


def _behind(der: bytes, at: int) -> int:
    return _inside(der, at)[1]
