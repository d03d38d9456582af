"""The authority that issues client certificates to boards. It vouches for nothing else, and no browser trusts it.

Everything that computes with keys here is called off the event loop.
"""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from entobot.core.clock import Clock
from entobot.core.errors import Code, Problem, StartupRefused
from entobot.core.secrets import Entropy
from entobot.devices import credential_store
from entobot.signin.sealing import Seal
from entobot.storage.database import Database

AUTHORITY_LIFE = timedelta(days=7300)
_BACKDATED = timedelta(hours=1)
"""Boards' clocks are not ours."""
_ABOUT = "issuing authority"
_NAME = "Entobot device CA"
_WEAK = "Ask with a P-256 or P-384 key, or an RSA key of 2048 to 4096 bits."


@dataclass(frozen=True, slots=True)
class Authority:
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")


class Issuing:
    """The one authority of a database, made when it is first asked for, and sealed there with the server's key."""

    def __init__(self, database: Database, clock: Clock, entropy: Entropy, seal_key: bytes) -> None:
        self._database = database
        self._clock = clock
        self._entropy = entropy
        self._seal = Seal(seal_key, entropy)
        self._authority: Authority | None = None

    async def authority(self) -> Authority:
        """Makes it where there is none yet. Raises StartupRefused where it was sealed with another server key."""
        known = await self.find_authority()
        if known is None:
            made = await asyncio.to_thread(self._make)
            sealed = await self._database.write(lambda tx: credential_store.keep_authority(tx, made))
            known = self._authority = await asyncio.to_thread(self._open, sealed)
        return known

    async def find_authority(self) -> Authority | None:
        """None where it was not asked for yet: to look makes nothing. Raises StartupRefused as `authority`."""
        if self._authority is None:
            sealed = await self._database.read(credential_store.find_authority)
            if sealed is not None:
                self._authority = await asyncio.to_thread(self._open, sealed)
        return self._authority

    async def issue(self, device_id: str, request: bytes, end_ms: int) -> x509.Certificate:
        """A certificate for the key of a request (PKCS#10, DER), whatever name that asks for. Raises `invalid`."""
        authority, now_ms = await self.authority(), self._clock.now_ms()
        serial = int.from_bytes(self._entropy.bytes(19), "big") | 1
        return await asyncio.to_thread(_issue, authority, device_id, request, serial, (now_ms, end_ms))

    def _make(self) -> bytes:
        key, now = ec.generate_private_key(ec.SECP256R1()), _at(self._clock.now_ms())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _NAME)])
        certificate = (
            _builder(name, name, key.public_key(), int.from_bytes(self._entropy.bytes(19), "big") | 1)
            .not_valid_before(now - _BACKDATED)
            .not_valid_after(now + AUTHORITY_LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        plain = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return self._seal.close(_ABOUT, plain + certificate.public_bytes(serialization.Encoding.PEM))

    def _open(self, sealed: bytes) -> Authority:
        plain = self._seal.open(_ABOUT, sealed)
        if plain is None:
            raise StartupRefused("The authority of the boards' certificates is sealed with another server key.")
        key = serialization.load_pem_private_key(plain, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return Authority(key, x509.load_pem_x509_certificate(plain))


def certs_only(certificate: x509.Certificate) -> bytes:
    """PKCS#7 that holds this certificate and no signature (RFC 7030 §4.1.3), DER."""
    from cryptography.hazmat.primitives.serialization import pkcs7

    return pkcs7.serialize_certificates([certificate], serialization.Encoding.DER)


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256, hexadecimal."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def _issue(
    authority: Authority, device_id: str, request: bytes, serial: int, when: tuple[int, int]
) -> x509.Certificate:
    key = _asked_key(request)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, device_id)])
    now_ms, end_ms = when
    return (
        _builder(name, authority.certificate.subject, key, serial)
        .not_valid_before(_at(now_ms) - _BACKDATED)
        .not_valid_after(_at(end_ms))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
        .sign(authority.key, hashes.SHA256())
    )


def _asked_key(request: bytes) -> ec.EllipticCurvePublicKey | rsa.RSAPublicKey:
    """The key of a request that proves that its sender has it. Nothing else of it is used."""
    try:
        asked = x509.load_der_x509_csr(request)
        key = asked.public_key()
        is_good = _is_strong(key) and asked.is_signature_valid
    except (ValueError, UnsupportedAlgorithm):
        raise Problem(Code.INVALID, "The body is no certificate request: PKCS#10, DER, in base64.") from None
    if not is_good or not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        raise Problem(Code.INVALID, f"The request's key or signature is not taken. {_WEAK}")
    return key


def _is_strong(key: object) -> bool:
    if isinstance(key, ec.EllipticCurvePublicKey):
        return isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1)
    return isinstance(key, rsa.RSAPublicKey) and 2048 <= key.key_size <= 4096


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey, serial: int
) -> x509.CertificateBuilder:
    return x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key).serial_number(serial)


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _at(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms // 1000, UTC)
