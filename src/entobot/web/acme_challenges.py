"""Showing an authority that a name is ours: over HTTP, in a TLS handshake, or in DNS."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from entobot.core.clock import Clock
from entobot.core.secrets import sha256
from entobot.home import write_private
from entobot.web.acme_words import Present
from entobot.web.tls import TlsFiles

HOOK_WITHIN = timedelta(minutes=5)
"""For one call of a DNS hook, which returns when the record can be seen."""
MAX_SAID_CHARACTERS = 300
_ACME_IDENTIFIER = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")


class Presenter(Protocol):
    async def present(self, wanted: Present) -> str:
        """Returns when it can be seen; what went wrong, empty when nothing did."""
        ...

    async def withdraw(self, wanted: Present) -> None:
        """Best effort."""
        ...


class Http01:
    """`answers` are what the plain port says, by token."""

    def __init__(self) -> None:
        self.answers: dict[str, str] = {}

    async def present(self, wanted: Present) -> str:
        self.answers[wanted.token] = wanted.value
        return ""

    async def withdraw(self, wanted: Present) -> None:
        self.answers.pop(wanted.token, None)


class TlsAlpn01:
    """`use` is handed the certificate to show whoever asks for `acme-tls/1`, and None afterwards (RFC 8737)."""

    def __init__(self, folder: Path, clock: Clock, use: Callable[[TlsFiles | None], None]) -> None:
        self._file = folder / ".acme-challenge.pem"
        self._clock = clock
        self._use = use

    async def present(self, wanted: Present) -> str:
        pem = challenge_certificate(wanted.name, wanted.value, self._clock.now_ms())
        await asyncio.to_thread(write_private, self._file, pem)
        self._use(TlsFiles(self._file, self._file))
        return ""

    async def withdraw(self, wanted: Present) -> None:  # noqa: ARG002  the port's signature
        self._use(None)
        self._file.unlink(missing_ok=True)


def challenge_certificate(name: str, key_authorization: str, now_ms: int) -> bytes:
    """PEM of a certificate, signed by itself, and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "acme-tls-alpn-01")])
    digest = b"\x04\x20" + sha256(key_authorization.encode("ascii"))  # DER: OCTET STRING of 32 bytes
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.UnrecognizedExtension(_ACME_IDENTIFIER, digest), critical=True)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


class DnsHook:
    """Runs `hook add NAME VALUE` and `hook remove NAME VALUE`: no shell, no input, a bounded time."""

    def __init__(self, hook: Path, within: timedelta = HOOK_WITHIN) -> None:
        self._hook = hook
        self._within_s = within.total_seconds()

    async def present(self, wanted: Present) -> str:
        return await self._run("add", wanted)

    async def withdraw(self, wanted: Present) -> None:
        await self._run("remove", wanted)

    async def _run(self, verb: str, wanted: Present) -> str:
        name = f"_acme-challenge.{wanted.name}"
        try:
            process = await asyncio.create_subprocess_exec(
                str(self._hook),
                verb,
                name,
                wanted.value,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            return f"{self._hook} cannot be run: {error.strerror}."
        try:
            async with asyncio.timeout(self._within_s):
                _, said = await process.communicate()
        except TimeoutError:
            return f"'{self._hook} {verb}' did not end within {self._within_s:.0f} s."
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode == 0:
            return ""
        text = said.decode(errors="replace").strip()[-MAX_SAID_CHARACTERS:]
        return f"'{self._hook} {verb}' ended with {process.returncode}: {text or 'it said nothing'}"
