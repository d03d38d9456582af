"""The local certificate authority, and what there is to say about any certificate.

Everything here reads files or computes with keys: call it off the event loop.
"""

import ipaddress
import plistlib
import re
import socket
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from entobot.core.errors import StartupRefused
from entobot.core.secrets import Entropy, sha256
from entobot.home import write_private
from entobot.web.addresses import lan_addresses
from entobot.web.tls import TlsFiles

AUTHORITY_LIFE = timedelta(days=3650)
LEAF_LIFE = timedelta(days=90)
_BACKDATED = timedelta(hours=1)
"""Phones' clocks are not ours."""
_AUTHORITY_NAME = "Entobot local CA"
_LOCAL_DOMAINS = ("local", "home.arpa", "localhost")
_LOCAL_NETWORKS = (
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "169.254.0.0/16",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "fc00::/7",
    "fe80::/10",
    "::1/128",
)
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Machine:
    """Under which names and addresses this machine is reached."""

    names: tuple[str, ...]
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Authority:
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate


@dataclass(frozen=True, slots=True)
class LocalTls:
    """`has_new_leaf` asks for `Listener.use_certificate`. `left_out` are names the CA may not vouch for."""

    files: TlsFiles
    authority: x509.Certificate
    leaf: x509.Certificate
    has_new_leaf: bool
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Description:
    """`local-ca` was made here; `self-signed` nobody vouches for; `issued` comes from another authority."""

    kind: Literal["local-ca", "self-signed", "issued"]
    names: tuple[str, ...]
    not_after_ms: int


def this_machine() -> Machine:
    host = socket.gethostname().lower().rstrip(".")
    short = host.partition(".")[0]
    candidates = (host, short, f"{short}.local", "localhost")
    names = [name for name in candidates if all(_LABEL.fullmatch(label) for label in name.split("."))]
    return Machine(tuple(dict.fromkeys(names)), (*lan_addresses(), "127.0.0.1", "::1"))


# making


def make_authority(machine: Machine, now_ms: int, entropy: Entropy) -> Authority:
    """A CA that can vouch for local names, private networks and this machine only, whoever steals its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    return Authority(key, _authority_certificate(key, machine, now_ms, entropy))


def _authority_certificate(
    key: ec.EllipticCurvePrivateKey, machine: Machine, now_ms: int, entropy: Entropy
) -> x509.Certificate:
    identity = sha256(_spki(key.public_key()))[:4].hex()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{_AUTHORITY_NAME} {identity}")])
    domains = dict.fromkeys((*_LOCAL_DOMAINS, *machine.names))
    networks = dict.fromkeys((*_LOCAL_NETWORKS, *(str(ipaddress.ip_network(one)) for one in machine.addresses)))
    permitted: list[x509.GeneralName] = [x509.DNSName(domain) for domain in domains]
    permitted += [x509.IPAddress(ipaddress.ip_network(network)) for network in networks]
    return (
        _builder(subject, subject, key.public_key(), now_ms=now_ms, life=AUTHORITY_LIFE, entropy=entropy)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.NameConstraints(permitted, None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def make_leaf(
    authority: Authority, public_key: ec.EllipticCurvePublicKey, machine: Machine, now_ms: int, entropy: Entropy
) -> x509.Certificate:
    """A server certificate for all of `machine`, also for what the CA's constraints make clients refuse."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Entobot gateway")])
    alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in machine.names]
    alternatives += [x509.IPAddress(ipaddress.ip_address(address)) for address in machine.addresses]
    issuer = authority.certificate
    return (
        _builder(subject, issuer.subject, public_key, now_ms=now_ms, life=LEAF_LIFE, entropy=entropy)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
        .sign(authority.key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    *,
    now_ms: int,
    life: timedelta,
    entropy: Entropy,
) -> x509.CertificateBuilder:
    now = _at(now_ms)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(int.from_bytes(entropy.bytes(19), "big") | 1)
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + life)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


# keeping


def ensure_local_tls(folder: Path, machine: Machine, now_ms: int, entropy: Entropy) -> LocalTls:
    """The machine's own certificate in `folder`, made or renewed as needed: `ca.key ca.crt leaf.key leaf.crt`.

    The leaf is renewed when a third of its life is left or the names have changed. Keys are made once and kept, so
    pins in printed QR codes stay good. Raises StartupRefused when a file is there and cannot be used.
    """
    _make_private_folder(folder)
    authority = _ensure_authority(folder, machine, now_ms, entropy)
    key = _ensure_key(folder / "leaf.key")
    served, left_out = _split_by_permission(authority.certificate, machine)
    path = folder / "leaf.crt"
    leaf = _load_certificate(path) if path.exists() else None
    is_good = leaf is not None and _is_good_leaf(leaf, authority, key, served, now_ms)
    if leaf is None or not is_good:
        leaf = make_leaf(authority, key.public_key(), served, now_ms, entropy)
        write_private(path, leaf.public_bytes(serialization.Encoding.PEM))
    return LocalTls(
        files=TlsFiles(certificate=path, key=folder / "leaf.key"),
        authority=authority.certificate,
        leaf=leaf,
        has_new_leaf=not is_good,
        left_out=left_out,
    )


def _ensure_authority(folder: Path, machine: Machine, now_ms: int, entropy: Entropy) -> Authority:
    key = _ensure_key(folder / "ca.key")
    path = folder / "ca.crt"
    if path.exists():
        certificate = _load_certificate(path)
        if _spki(certificate.public_key()) != _spki(key.public_key()):
            raise StartupRefused(f"{path} does not belong to {folder / 'ca.key'}. Restore both, or move both away.")
        if certificate.not_valid_before_utc <= _at(now_ms) <= certificate.not_valid_after_utc - LEAF_LIFE:
            return Authority(key, certificate)
    certificate = _authority_certificate(key, machine, now_ms, entropy)
    write_private(path, certificate.public_bytes(serialization.Encoding.PEM))
    return Authority(key, certificate)


def _ensure_key(path: Path) -> ec.EllipticCurvePrivateKey:
    if path.exists():
        key = _load_key(path)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise StartupRefused(f"{path} is not an elliptic-curve key. Move it away, or use TLS mode `given`.")
        return key
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write_private(path, pem)
    return key


def _is_good_leaf(
    leaf: x509.Certificate, authority: Authority, key: ec.EllipticCurvePrivateKey, machine: Machine, now_ms: int
) -> bool:
    try:
        leaf.verify_directly_issued_by(authority.certificate)
    except (ValueError, TypeError, InvalidSignature):
        return False
    life = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    return (
        _spki(leaf.public_key()) == _spki(key.public_key())
        and set(_names(leaf)) == {*machine.names, *(str(ipaddress.ip_address(one)) for one in machine.addresses)}
        and leaf.not_valid_before_utc <= _at(now_ms) <= leaf.not_valid_after_utc - life / 3
    )


def _split_by_permission(authority: x509.Certificate, machine: Machine) -> tuple[Machine, tuple[str, ...]]:
    """What the CA's constraints let it vouch for, and what not: one forbidden name would spoil the whole leaf."""
    constraints = authority.extensions.get_extension_for_class(x509.NameConstraints).value
    permitted = constraints.permitted_subtrees or []
    domains = [one.value for one in permitted if isinstance(one, x509.DNSName)]
    networks = [one.value for one in permitted if isinstance(one, x509.IPAddress)]
    names = [name for name in machine.names if any(name == one or name.endswith(f".{one}") for one in domains)]
    addresses = [
        address
        for address in machine.addresses
        if any(
            isinstance(network, ipaddress.IPv4Network | ipaddress.IPv6Network)
            and ipaddress.ip_address(address) in network
            for network in networks
        )
    ]
    left_out = [one for one in (*machine.names, *machine.addresses) if one not in names and one not in addresses]
    return Machine(tuple(names), tuple(addresses)), tuple(left_out)


def _make_private_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if stat.S_IMODE(folder.stat().st_mode) != 0o700:
        folder.chmod(0o700)


# reading


def load_given(certificate_path: Path, key_path: Path, now_ms: int) -> x509.Certificate:
    """The leaf of a certificate chain from elsewhere.

    Raises StartupRefused, saying which file and what to do, when one cannot be read, is expired or not yet valid, or
    when the two do not belong together.
    """
    leaf = _load_certificate(certificate_path)
    key = _load_key(key_path)
    if _spki(leaf.public_key()) != _spki(key.public_key()):
        raise StartupRefused(f"{key_path} is not the key of {certificate_path}. Give the pair that belongs together.")
    if leaf.not_valid_after_utc < _at(now_ms):
        raise StartupRefused(f"{certificate_path} expired on {leaf.not_valid_after_utc:%Y-%m-%d}. Renew it.")
    if leaf.not_valid_before_utc > _at(now_ms):
        start = f"{leaf.not_valid_before_utc:%Y-%m-%d}"
        raise StartupRefused(f"{certificate_path} is not valid before {start}. Check this machine's clock.")
    return leaf


def _load_certificate(path: Path) -> x509.Certificate:
    """The first certificate of a PEM file."""
    try:
        return x509.load_pem_x509_certificates(_read(path))[0]
    except ValueError:
        raise StartupRefused(f"{path} is not a PEM certificate.") from None


def _load_key(path: Path) -> PrivateKeyTypes:
    try:
        return serialization.load_pem_private_key(_read(path), password=None)
    except (ValueError, TypeError):
        raise StartupRefused(f"{path} is not an unencrypted PEM key.") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StartupRefused(f"{path} cannot be read: {error.strerror}.") from None


def spki_sha256(subject: x509.Certificate | ec.EllipticCurvePrivateKey | PublicKeyTypes) -> bytes:
    """SHA-256 of the public key (RFC 7469): the pin that survives renewals."""
    if isinstance(subject, x509.Certificate | ec.EllipticCurvePrivateKey):
        subject = subject.public_key()
    return sha256(_spki(subject))


def _spki(public_key: PublicKeyTypes) -> bytes:
    return public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def fingerprint_sha256(certificate: x509.Certificate) -> str:
    """`AB:CD:…`, as browsers and phones show it."""
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def describe(certificate: x509.Certificate) -> Description:
    return Description(
        kind=_kind(certificate),
        names=_names(certificate),
        not_after_ms=round(certificate.not_valid_after_utc.timestamp() * 1000),
    )


def _kind(certificate: x509.Certificate) -> Literal["local-ca", "self-signed", "issued"]:
    issuer = certificate.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)
    if issuer and str(issuer[0].value).startswith(_AUTHORITY_NAME):
        return "local-ca"
    return "self-signed" if certificate.issuer == certificate.subject else "issued"


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    """DNS names, then addresses."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    addresses: Iterable[object] = found.get_values_for_type(x509.IPAddress)
    return (*found.get_values_for_type(x509.DNSName), *(str(address) for address in addresses))


def mobileconfig(authority: x509.Certificate, name: str) -> bytes:
    """An iOS profile that installs the CA; the person still has to trust it in the settings."""
    der = authority.public_bytes(serialization.Encoding.DER)
    identity = authority.fingerprint(hashes.SHA256()).hex()
    certificate_payload = {
        "PayloadType": "com.apple.security.root",
        "PayloadVersion": 1,
        "PayloadIdentifier": f"io.entobot.ca.{identity[:16]}",
        "PayloadUUID": _uuid_text(identity[:32]),
        "PayloadDisplayName": f"{name}: local CA",
        "PayloadCertificateFileName": "entobot-ca.cer",
        "PayloadContent": der,
    }
    profile = {
        "PayloadType": "Configuration",
        "PayloadVersion": 1,
        "PayloadIdentifier": f"io.entobot.profile.{identity[:16]}",
        "PayloadUUID": _uuid_text(identity[32:]),
        "PayloadDisplayName": name,
        "PayloadDescription": "Lets this device open its own gateway. The CA can vouch for local names only.",
        "PayloadContent": [certificate_payload],
    }
    return plistlib.dumps(profile)


def _uuid_text(digits: str) -> str:
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:32])).upper()


def _at(now_ms: int) -> datetime:
    return datetime.fromtimestamp(now_ms / 1000, UTC)
