"""The certificate of the running gateway: replaced without a restart, and never by one that does not hold."""

import asyncio
import logging
from collections.abc import Callable, Mapping

from entobot.app.certificate import Certificate, public_files
from entobot.app.certificate_sources import Failure, GivenFiles, LocalAuthority, Source
from entobot.app.ground import Ground
from entobot.audit.events import AuditEvent, Outcome
from entobot.audit.model import Fact
from entobot.audit.service import Audit
from entobot.core.clock import rfc3339, rfc3339_or_none
from entobot.core.errors import Code, Problem, StartupRefused
from entobot.storage.database import Transaction
from entobot.telemetry.metrics import Metric
from entobot.web.acme_challenges import DnsHook, Http01, Presenter, TlsAlpn01
from entobot.web.certificate_routes import CertificateState, LastError
from entobot.web.http import CertificateFiles, Check
from entobot.web.listener import Listener
from entobot.web.tls import TlsFiles

log = logging.getLogger("entobot.app")


class Certificates:
    """`serve` first, then `look` again and again. `on_change` hears of every certificate that is put in place."""

    def __init__(self, ground: Ground, audit: Audit, on_change: Callable[[Certificate], None]) -> None:
        self.served = ground.certificate
        self._ground = ground
        self._audit = audit
        self._on_change = on_change
        self._listener: Listener | None = None
        self._http = Http01()
        self._source = self._make_source()
        self._failure = None if self._source is None else self._source.remembered()
        self._turn = asyncio.Lock()
        self._asked: asyncio.Task[None] | None = None
        counter = ground.meters.counter
        self._counted = {one: counter(Metric.CERTIFICATE_RENEWALS, outcome=one) for one in ("failed", "ok")}
        if self.served is not None:
            ground.meters.gauge(Metric.CERTIFICATE_END).follow(self._end_s)

    @property
    def source(self) -> Source | None:
        """None without TLS."""
        return self._source

    def _make_source(self) -> Source | None:
        at, mode = self._ground, self._ground.settings.tls.mode
        if mode == "off":
            return None
        if mode == "given":
            return GivenFiles(at.settings, at.clock)
        if mode == "acme":
            from entobot.app.acme import Acme

            return Acme(at.home, at.settings, at.clock, at.entropy, self._make_presenter())
        return LocalAuthority(at.home, at.clock, at.entropy)

    def _make_presenter(self) -> Presenter:
        acme = self._ground.settings.acme
        if acme.challenge == "dns-01":
            assert acme.dns_hook is not None, "the settings want one"
            return DnsHook(acme.dns_hook)
        if acme.challenge == "tls-alpn-01":
            return TlsAlpn01(self._ground.home.tls, self._ground.clock, self._use_challenge)
        return self._http

    def _use_challenge(self, files: TlsFiles | None) -> None:
        if self._listener is not None:
            self._listener.use_challenge(files)

    @property
    def answers(self) -> Mapping[str, str]:
        """What the plain port answers an authority, by token."""
        return self._http.answers

    @property
    def public(self) -> CertificateFiles:
        return public_files(None, None) if self.served is None else self.served.public

    @property
    def is_renewing(self) -> bool:
        return self._turn.locked()

    def serve(self, listener: Listener) -> None:
        """From now on new certificates are handed to it."""
        self._listener = listener

    async def look(self) -> None:
        """Take up a new certificate, if there is one."""
        await self._look(is_asked=False)

    def ask(self) -> None:
        """The same, now and in the background: a person wants it, or has replaced the files.

        Raises Problem without TLS. While an attempt is under way there is no other.
        """
        if self._source is None:
            raise Problem(Code.INVALID, "This gateway serves no certificate: tls.mode is 'off'.")
        if not self.is_renewing and (self._asked is None or self._asked.done()):
            self._asked = asyncio.get_running_loop().create_task(self._look(is_asked=True))

    async def stop(self) -> None:
        if self._asked is not None:
            self._asked.cancel()
            await asyncio.gather(self._asked, return_exceptions=True)

    async def _look(self, *, is_asked: bool) -> None:
        if self._source is None or self.served is None or self._listener is None:
            return
        async with self._turn:
            try:
                found = await self._source.find(self.served, is_asked=is_asked)
                if found is not None:
                    self._listener.use_certificate(found.files)
            except (StartupRefused, OSError) as error:
                await self._failed(str(error))
                return
            if found is not None:
                await self._put_in_place(found)

    async def _put_in_place(self, found: Certificate) -> None:
        self.served, self._failure = found, None
        self._on_change(found)
        self._counted["ok"].add(1)
        end = rfc3339(found.description.not_after_ms)
        log.info("a new certificate is served, until %s: %s", end, ", ".join(found.description.names))
        facts = {"source": found.source, "not_after": end, "fingerprint": found.fingerprint}
        event = AuditEvent.CERTIFICATE_ISSUED if found.source == "acme" else AuditEvent.CERTIFICATE_REPLACED
        await self._record(event, Outcome.SUCCESS, facts)

    async def _failed(self, text: str) -> None:
        self._failure = Failure(self._ground.clock.now_ms(), text)
        self._counted["failed"].add(1)
        log.warning("no new certificate: %s", text)
        facts = {"mode": self._ground.settings.tls.mode, "reason": text}
        await self._record(AuditEvent.CERTIFICATE_RENEWAL_FAILED, Outcome.FAILURE, facts)

    async def _record(self, event: AuditEvent, outcome: Outcome, facts: Mapping[str, Fact]) -> None:
        now_ms = self._ground.clock.now_ms()

        def unit(tx: Transaction) -> None:
            self._audit.record(tx, event, now_ms=now_ms, outcome=outcome, facts=facts)

        await self._ground.database.write(unit)

    # what is said of it

    def _end_s(self) -> float:
        assert self.served is not None
        return self.served.description.not_after_ms / 1000

    def complaint(self) -> str:
        """What is wrong with it now, empty when nothing is."""
        if self.served is None:
            return ""
        if self.served.description.not_after_ms <= self._ground.clock.now_ms():
            since = f"The certificate ended at {rfc3339(self.served.description.not_after_ms)}."
            return since if self._failure is None else f"{since} {self._failure.text}"
        if self._failure is not None:
            return f"The last try for a new certificate failed: {self._failure.text}"
        return "" if self._source is None else self._source.waits_for(self.served)

    def check(self) -> Check:
        """For readiness, of the certificate. A bad certificate makes phones warn; the gateway works."""
        said = self.complaint()
        return Check("renewal", not said, said, is_vital=False)

    def state(self) -> CertificateState:
        served, source, failure = self.served, self._source, self._failure
        mode = self._ground.settings.tls.mode
        if served is None or source is None:
            return CertificateState(mode=mode)
        return CertificateState(
            mode=mode,
            source=served.source,
            names=list(served.description.names),
            issuer=served.leaf.issuer.rfc4514_string(),
            fingerprint=served.fingerprint,
            not_before=rfc3339(served.not_before_ms),
            not_after=rfc3339(served.description.not_after_ms),
            renews_at=rfc3339_or_none(source.renews_at_ms(served)),
            is_renewing=self.is_renewing,
            last_error=None if failure is None else LastError(at=rfc3339(failure.at_ms), detail=failure.text),
        )
