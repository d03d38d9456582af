"""The certificate that is served: what each TLS mode makes of its files. Blocks; call it off the event loop."""

import json
import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from entobot.config import Settings
from entobot.core.clock import rfc3339
from entobot.core.errors import StartupRefused
from entobot.core.secrets import Entropy, b64u
from entobot.home import Home
from entobot.web.certificates import (
    Description,
    describe,
    ensure_local_tls,
    fingerprint_sha256,
    load_given,
    mobileconfig,
    spki_sha256,
    this_machine,
)
from entobot.web.http import CertificateFiles
from entobot.web.tls import TlsFiles, server_context

ACME_FILE = "acme.crt"
Source = Literal["acme", "given", "local-ca"]
"""Where a certificate comes from."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """One that can be served. `public` is what phones may download about it, `spki` the pin in pairing links.

    `left_out` are names of this machine that its own authority may not vouch for.
    """

    source: Source
    files: TlsFiles
    leaf: x509.Certificate
    description: Description
    spki: str
    public: CertificateFiles
    left_out: tuple[str, ...] = ()

    @property
    def not_before_ms(self) -> int:
        return round(self.leaf.not_valid_before_utc.timestamp() * 1000)

    @property
    def fingerprint(self) -> str:
        return fingerprint_sha256(self.leaf)


def load_certificate(home: Home, settings: Settings, now_ms: int, entropy: Entropy) -> Certificate | None:
    """What is served from the start; None without TLS. Raises StartupRefused."""
    if settings.tls.mode == "off":
        return None
    if settings.tls.mode == "given":
        return load_given_files(settings, now_ms)
    if settings.tls.mode == "acme":
        if problems := missing_for_acme(settings):
            raise StartupRefused("\n".join(problems))
        return load_acme(home) or load_local(home, now_ms, entropy)
    return load_local(home, now_ms, entropy)


def missing_for_acme(settings: Settings) -> list[str]:
    """What an order would need and is not on this machine."""
    acme = settings.acme
    problems: list[str] = []
    if find_spec("acme") is None:
        problems.append("tls.mode 'acme' needs more packages: pip install 'entobot[acme]'")
    for name in ("authority", "eab_key_file", "dns_hook"):
        path: Path | None = getattr(acme, name)
        if path is not None and not path.is_file():
            problems.append(f"acme.{name}: {path} is no file.")
    if acme.dns_hook is not None and acme.dns_hook.is_file() and not os.access(acme.dns_hook, os.X_OK):
        problems.append(f"acme.dns_hook: {acme.dns_hook} may not be run. chmod +x it.")
    return problems


def load_acme(home: Home) -> Certificate | None:
    """The one that was ordered, where there is one that can be served. Its key is that of the local leaf."""
    files = TlsFiles(home.tls / ACME_FILE, home.tls / "leaf.key")
    try:
        server_context(files)
        leaf = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    except (OSError, ValueError):
        return None
    return _certificate("acme", files, leaf, None)


def load_given_files(settings: Settings, now_ms: int) -> Certificate:
    """The pair of `tls.certificate` and `tls.key`, tried as a server would use it. Raises StartupRefused."""
    tls = settings.tls
    if tls.certificate is None or tls.key is None:
        raise StartupRefused("tls.mode is 'given': set tls.certificate and tls.key to the PEM files.")
    leaf = load_given(tls.certificate, tls.key, now_ms)
    files = TlsFiles(tls.certificate, tls.key)
    try:
        server_context(files)
    except (OSError, ValueError) as error:
        raise StartupRefused(f"The certificate {tls.certificate} does not load: {error}") from None
    return _certificate("given", files, leaf, None)


def load_local(home: Home, now_ms: int, entropy: Entropy) -> Certificate:
    """The one of this machine's own authority, made or renewed as needed. Raises StartupRefused."""
    local = ensure_local_tls(home.tls, this_machine(), now_ms, entropy)
    return _certificate("local-ca", local.files, local.leaf, local.authority, local.left_out)


def _certificate(
    source: Source,
    files: TlsFiles,
    leaf: x509.Certificate,
    authority: x509.Certificate | None,
    left_out: tuple[str, ...] = (),
) -> Certificate:
    about = describe(leaf)
    spki = b64u(spki_sha256(leaf))
    return Certificate(source, files, leaf, about, spki, public_files(about, authority, spki), left_out)


def public_files(
    about: Description | None, authority: x509.Certificate | None, spki: str | None = None
) -> CertificateFiles:
    """What anybody may know of the certificate, and what a phone installs to trust a local CA."""
    description = {
        "kind": "none" if about is None else "local-ca" if authority is not None else "given",
        "ca_fingerprint": None if authority is None else fingerprint_sha256(authority),
        "not_after": None if about is None else rfc3339(about.not_after_ms),
        "names": [] if about is None else list(about.names),
        "pin": spki,
    }
    return CertificateFiles(
        description=json.dumps(description).encode(),
        ca_crt=None if authority is None else authority.public_bytes(serialization.Encoding.DER),
        ca_mobileconfig=None if authority is None else mobileconfig(authority, "Entobot"),
    )
