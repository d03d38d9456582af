"""SMS of the running gateway: the provider that the settings name, the queue, and its receipts."""

import logging
import ssl
from collections.abc import Awaitable, Callable
from datetime import timedelta
from urllib.parse import urlsplit

from entobot.app.cluster import who_lives
from entobot.app.ground import Ground
from entobot.app.periodic import Periodic
from entobot.audit.service import Audit
from entobot.config_sms import SmsSettings
from entobot.core.clock import Clock
from entobot.core.errors import StartupRefused
from entobot.core.networks import is_public, plain_address
from entobot.home import Purpose
from entobot.notifications import sms_http
from entobot.notifications.channel_sms import note_outcome
from entobot.notifications.sms import SmsSender
from entobot.notifications.sms_model import Limits
from entobot.notifications.sms_numbers import known_regions
from entobot.notifications.sms_outbox import Outbox
from entobot.notifications.sms_receipts import Hear, Parts, ReceiptReader, Receipts
from entobot.notifications.sms_requests import Requests
from entobot.notifications.sms_sending import Sending
from entobot.storage.database import StorageFailed
from entobot.web.routes import Api

log = logging.getLogger("entobot.sms")

SEND_EVERY = timedelta(seconds=1)
TIDY_EVERY = timedelta(minutes=1)
MICROS = 1_000_000


class Texts:
    """`outbox` is None where the settings name no provider."""

    def __init__(self, ground: Ground, audit: Audit) -> None:
        """Raises StartupRefused for files that are not there, and countries that there are not."""
        self.outbox: Outbox | None = None
        self._sending: Sending | None = None
        self._receipts: Receipts | None = None
        settings = ground.settings.sms
        if not settings.provider:
            return
        check(settings)
        origin = receipts_origin(settings, ground.origin)
        sender, readers = sender_of(settings, origin, ground.clock)
        self.outbox = Outbox(
            sender=sender,
            limits=limits_of(settings),
            countries=settings.countries,
            ids=ground.ids,
            entropy=ground.entropy,
            audit=audit,
            meters=ground.meters,
            server_key=ground.keys.key(Purpose.SMS),
            resend_after=settings.resend_after,
        )
        self._sending = Sending(
            sender=sender,
            outbox=self.outbox,
            database=ground.database,
            clock=ground.clock,
            audit=audit,
            meters=ground.meters,
            node_id=ground.node_id,
            alive=who_lives(ground),
        )
        self._sending.on_told = note_outcome
        parts = Parts(ground.database, ground.clock, audit, ground.meters, self._sending, self.outbox, readers)
        self._receipts = Receipts(parts)

    def hear(self, text: Hear) -> None:
        """Have somebody read what people write here."""
        if self._receipts is not None:
            self._receipts.hear_text = text

    def add_routes(self, api: Api) -> None:
        sms_http.add_routes(api, lambda: self._receipts)

    def start(self, periodic: Periodic) -> None:
        if self._sending is None or self._receipts is None:
            return
        periodic.every(SEND_EVERY, _guarded(self._sending.look), at_once=True)
        periodic.every(TIDY_EVERY, _guarded(self._sending.tidy))
        periodic.every(TIDY_EVERY, _guarded(self._receipts.settle))


def _guarded(work: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    """While the store is away nothing can be claimed or noted: a line in the log, and again at the next turn."""

    async def sms() -> None:
        try:
            await work()
        except StorageFailed as failure:
            log.warning("SMS wait for the store: %s", failure)

    sms.__qualname__ = f"sms {getattr(work, '__name__', '')}".rstrip()
    return sms


def check(settings: SmsSettings) -> None:
    """Raises StartupRefused."""
    for name, path in (("secret_file", settings.secret_file), ("authority", settings.authority)):
        if path is not None and not path.is_file():
            raise StartupRefused(f"sms.{name}: {path} is no file.")
    if unknown := sorted(set(settings.countries) - known_regions()):
        raise StartupRefused(f"sms.countries: there is no country {unknown[0]}.")


def limits_of(settings: SmsSettings) -> Limits:
    return Limits(
        per_number_per_hour=settings.per_number_per_hour,
        answers_per_hour=settings.answers_per_hour,
        per_person_per_hour=settings.per_person_per_hour,
        per_day=settings.per_day,
        price_micros=round(settings.price * MICROS),
        max_cost_micros_per_day=round(settings.max_cost_per_day * MICROS),
        currency=settings.currency,
    )


def sender_of(settings: SmsSettings, origin: str, clock: Clock) -> tuple[SmsSender, dict[str, ReceiptReader]]:
    """The adapter of the provider, and what reads its receipts. `origin` is where they come, '' for nowhere."""
    if settings.provider == "console":
        from entobot.notifications.sms_console import ConsoleSms

        return ConsoleSms(), {}
    requests, file = _requests(settings), settings.secret_file
    assert file is not None, "the settings want one"
    if settings.provider == "sns":
        from entobot.notifications.sms_sns import SnsAccount, SnsSms

        account = SnsAccount(settings.account, file, settings.region, settings.sender, settings.url)
        return SnsSms(account, requests, clock), {}
    if settings.provider == "twilio":
        from entobot.notifications.sms_twilio import HOST, TwilioAccount, TwilioSms

        twilio = TwilioSms(
            TwilioAccount(settings.account, file, settings.sender, origin, settings.url or HOST), requests, clock
        )
        return twilio, {twilio.name: twilio}
    from entobot.notifications.sms_webhook import WebhookAddress, WebhookSms

    webhook = WebhookSms(WebhookAddress(settings.url, file, origin), requests, clock)
    return webhook, {webhook.name: webhook}


def receipts_origin(settings: SmsSettings, origin: str) -> str:
    """Where a provider reaches this gateway; '' where it cannot, as far as the address tells."""
    return settings.receipts_origin or ("" if is_private(origin) else origin)


def is_private(origin: str) -> bool:
    """Whether it leads to this machine or its own network, by its host: an address that is not a public one, a name
    without a dot, or a name that only one network knows.
    """
    host = urlsplit(origin).hostname or ""
    try:
        return not is_public(plain_address(host))
    except ValueError:
        return "." not in host or host.endswith((".local", ".localhost", ".internal", ".home.arpa", ".lan"))


def _requests(settings: SmsSettings) -> Requests:
    def context() -> ssl.SSLContext:
        made = ssl.create_default_context(cafile=settings.authority)
        made.minimum_version = ssl.TLSVersion.TLSv1_2
        return made

    return Requests(None if settings.url.startswith("http:") else context)
