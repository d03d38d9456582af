"""Certificates ordered by ACME: which, when, and what is remembered of it in the data folder."""

import asyncio
from datetime import timedelta
from urllib.parse import urlsplit

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from entobot import __version__
from entobot.app.acme_failures import explain
from entobot.app.certificate import ACME_FILE, Certificate, load_acme
from entobot.app.certificate_sources import Failure
from entobot.config import Settings
from entobot.core.clock import Clock, rfc3339
from entobot.core.errors import StartupRefused
from entobot.core.secrets import Entropy, sha256_b64u
from entobot.home import Home, read_private, write_private
from entobot.web.acme_challenges import Presenter
from entobot.web.acme_order import OrderFailed, order, renewal_window
from entobot.web.acme_words import Failed, Job
from entobot.web.renewal import Life, Wish, renewal_ms, retry_ms

ACCOUNT_FILE = "acme-account.key"
STATE_FILE = "acme.json"
ASK_AGAIN = timedelta(hours=6)
"""How often the authority is asked when to renew, where it says nothing (RFC 9773 §4.3.2)."""


class Memory(msgspec.Struct):
    """A restart must not begin anew with orders that fail. `wanted` is a digest of what is ordered, and how."""

    wanted: str = ""
    failures: int = 0
    retry_ms: int = 0
    held_off_ms: int = 0
    """The authority's own word: nobody orders before, asked or not."""
    error: str = ""
    error_at_ms: int = 0


class Acme:
    """A `Source`. The key of the certificate is the local authority's leaf key: links pin it, and it stays."""

    every = timedelta(seconds=15)

    def __init__(self, home: Home, settings: Settings, clock: Clock, entropy: Entropy, presenter: Presenter) -> None:
        self._home = home
        self._settings = settings
        self._clock = clock
        self._entropy = entropy
        self._presenter = presenter
        acme = settings.acme
        parts = (acme.directory, acme.challenge, acme.profile, acme.eab_kid, acme.email, *settings.acme_names)
        self._wanted = sha256_b64u("\n".join(parts))
        self._memory = _recall(home, self._wanted)
        self._chance = self._draw()
        self._wish: Wish | None = None
        self._ask_again_ms = 0

    def remembered(self) -> Failure | None:
        """Of an earlier run of the gateway."""
        return Failure(self._memory.error_at_ms, self._memory.error) if self._memory.error else None

    def waits_for(self, served: Certificate) -> str:
        """That the first certificate is not there yet; else empty."""
        if served.source == "acme":
            return ""
        names, authority = ", ".join(self._settings.acme_names), urlsplit(self._settings.acme.directory).hostname
        return f"The certificate for {names} is ordered from {authority}; until it is there phones warn."

    def renews_at_ms(self, served: Certificate) -> int:
        return max(self._due_ms(served), self._memory.retry_ms)

    async def find(self, served: Certificate, *, is_asked: bool) -> Certificate | None:
        now_ms = self._clock.now_ms()
        if is_asked and now_ms < self._memory.held_off_ms:
            raise StartupRefused(self._memory.error)
        if not is_asked:
            if now_ms < self._memory.retry_ms:
                return None
            await self._ask_for_wish(served)
            if now_ms < self._due_ms(served):
                return None
        return await self._order(served)

    def _due_ms(self, served: Certificate) -> int:
        """At once for the first one, and where other names are wanted."""
        if served.source != "acme" or set(served.description.names) != set(self._settings.acme_names):
            return 0
        return renewal_ms(_life(served), self._wish, self._chance)

    async def _ask_for_wish(self, served: Certificate) -> None:
        """The authority may want a renewal earlier: it has a mistake to mend."""
        now_ms = self._clock.now_ms()
        if served.source != "acme" or now_ms < self._ask_again_ms or now_ms >= served.description.not_after_ms:
            return
        again_s = ASK_AGAIN.total_seconds()
        try:
            chain = await asyncio.to_thread(served.files.certificate.read_text, "ascii")
            window = await renewal_window(msgspec.structs.replace(self._job(), ask_about=chain))
        except (OrderFailed, OSError, StartupRefused):
            pass  # it is a hint: what was planned stays
        else:
            is_wished = window.start_ms is not None and window.end_ms is not None
            self._wish = Wish(window.start_ms or 0, window.end_ms or 0) if is_wished else None
            again_s = min(max(window.ask_again_s or again_s, 60.0), 86_400.0)
        self._ask_again_ms = now_ms + round(again_s * 1000)

    async def _order(self, served: Certificate) -> Certificate:
        try:
            csr = await asyncio.to_thread(_request, self._home, self._settings.acme_names)
            replaces = await asyncio.to_thread(served.files.certificate.read_text) if served.source == "acme" else ""
            job = msgspec.structs.replace(self._job(), csr=csr, replaces=replaces)
            chain = await order(job, self._presenter)
            found = await asyncio.to_thread(self._keep, chain)
        except OrderFailed as error:
            raise await self._failed(error.failed) from None
        except (OSError, ValueError, StartupRefused) as error:
            raise await self._failed(Failed("unexpected", str(error))) from None
        self._wish, self._ask_again_ms, self._chance = None, 0, self._draw()
        self._memory = Memory(wanted=self._wanted)
        await self._remember()
        return found

    def _keep(self, chain: str) -> Certificate:
        """In place, whole, if it is the one that was ordered."""
        leaf = x509.load_pem_x509_certificate(chain.encode())
        if leaf.public_key() != _leaf_key(self._home).public_key():
            raise StartupRefused("The authority signed another key than ours.")
        write_private(self._home.tls / ACME_FILE, chain.encode())
        found = load_acme(self._home)
        if found is None:
            raise StartupRefused("What the authority sent cannot be served.")
        return found

    async def _failed(self, failed: Failed) -> StartupRefused:
        now_ms = self._clock.now_ms()
        text = explain(failed, self._settings, now_ms)
        failures = self._memory.failures + 1
        wait_s = failed.retry_after_s
        self._memory = Memory(
            wanted=self._wanted,
            failures=failures,
            retry_ms=retry_ms(failures, now_ms, self._draw(), wait_s),
            held_off_ms=now_ms + round(wait_s * 1000) if wait_s and failed.kind == "rateLimited" else 0,
            error=text,
            error_at_ms=now_ms,
        )
        await self._remember()
        return StartupRefused(f"{text} Next try: {rfc3339(self._memory.retry_ms)}.")

    async def _remember(self) -> None:
        data = msgspec.json.encode(self._memory) + b"\n"
        await asyncio.to_thread(write_private, self._home.tls / STATE_FILE, data)

    def _job(self) -> Job:
        acme = self._settings.acme
        key = ""
        if acme.eab_key_file is not None:
            try:
                key = acme.eab_key_file.read_text("ascii").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise StartupRefused(f"acme.eab_key_file: {acme.eab_key_file} cannot be read ({error}).") from None
        return Job(
            directory=acme.directory,
            account_key=str(self._home.tls / ACCOUNT_FILE),
            user_agent=f"entobot/{__version__}",
            challenge=acme.challenge,
            email=acme.email,
            profile=acme.profile,
            authority=None if acme.authority is None else str(acme.authority),
            eab_kid=acme.eab_kid,
            eab_key=key,
        )

    def _draw(self) -> float:
        return int.from_bytes(self._entropy.bytes(6), "big") / 2**48


def _life(served: Certificate) -> Life:
    return Life(served.not_before_ms, served.description.not_after_ms)


def _leaf_key(home: Home) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(read_private(home.tls / "leaf.key") or b"", password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey), "the local authority made it"
    return key


def _request(home: Home, names: tuple[str, ...]) -> str:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])] if len(names[0]) <= 64 else [])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
    request = builder.add_extension(alternatives, critical=False).sign(_leaf_key(home), hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode("ascii")


def _recall(home: Home, wanted: str) -> Memory:
    """Failures of an order that is another one now do not count."""
    try:
        data = read_private(home.tls / STATE_FILE)
        found = Memory() if data is None else msgspec.json.decode(data, type=Memory)
    except (msgspec.DecodeError, StartupRefused):
        found = Memory()
    return found if found.wanted == wanted else Memory(wanted=wanted)
