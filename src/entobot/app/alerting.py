"""Alerts of the running gateway: the rules are looked at, what they find is sent."""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from datetime import timedelta

from entobot.accounts.service import Accounts
from entobot.alerts import http
from entobot.alerts.chain_watch import ChainWatch
from entobot.alerts.channel import Channel
from entobot.alerts.channel_notification import NotificationChannel
from entobot.alerts.desk import Desk
from entobot.alerts.level_watch import LevelWatch
from entobot.alerts.log_watch import LogWatch
from entobot.alerts.model import watched
from entobot.alerts.sending import Outlet, Sender
from entobot.alerts.service import Alerts
from entobot.alerts.watching import Watching
from entobot.app.alert_readings import Disk, reads_of
from entobot.app.backups import Backups
from entobot.app.cluster import who_lives
from entobot.app.ground import Ground
from entobot.app.periodic import Periodic
from entobot.audit.service import Audit
from entobot.config_alerts import AlertChannel
from entobot.core.clock import Clock, to_ms
from entobot.core.errors import StartupRefused
from entobot.devices.service import Devices
from entobot.notifications.service import Notifications
from entobot.storage.database import StorageFailed
from entobot.stream.service import Stream
from entobot.web.certificates import this_machine
from entobot.web.routes import Api

log = logging.getLogger("entobot.alerts")

SEND_EVERY = timedelta(seconds=1)


class Alerting:
    def __init__(
        self,
        ground: Ground,
        audit: Audit,
        accounts: Accounts,
        stream: Stream,
        devices: Devices,
        backups: Backups,
        notifications: Notifications,
    ) -> None:
        """Raises StartupRefused for files that are not there."""
        self._ground = ground
        people = NotificationChannel(notifications, accounts, ground.database, ground.clock)
        self._settings = settings = ground.settings.alerts
        database, clock, node_id, alive = ground.database, ground.clock, ground.node_id, who_lives(ground)
        self._alerts = Alerts(
            database=database,
            clock=clock,
            ids=ground.ids,
            audit=audit,
            accounts=accounts,
            stream=stream,
            guard=devices.guard,
            meters=ground.meters,
            rules=watched(settings.rules),
            channels={one.name: one.severity for one in settings.channels},
        )
        self._senders = [
            (
                Sender(
                    Outlet(one.name, one.kind, inside or channel_of(one, clock), one.per_hour),
                    database=database,
                    clock=clock,
                    ids=ground.ids,
                    entropy=ground.entropy,
                    meters=ground.meters,
                    gateway=ground.name,
                    origin=ground.origin,
                    node_id=node_id,
                    alive=alive,
                ),
                one.severity,
            )
            for one in settings.channels
            for inside in (people if one.kind == "notification" else None,)
        ]
        self._desk = Desk(database=database, clock=clock, audit=audit, senders=self._senders)
        watching = Watching(self._alerts, audit, database, clock, node_id, alive)
        self._log_watch = LogWatch(watching)
        self._chain_watch = ChainWatch(watching)
        self._disk = Disk(ground.home.path)
        self._level_watch = LevelWatch(
            alerts=self._alerts,
            database=database,
            clock=clock,
            node=f"{this_machine().names[0]}:{ground.settings.gateway.port}",
            reads=reads_of(ground.meters, clock, self._disk, backups.complaint),
        )

    def add_routes(self, api: Api) -> None:
        http.add_routes(api, self._alerts, self._desk)

    def start(self, periodic: Periodic) -> None:
        every = periodic.every
        every(self._settings.every, self._guarded(self._look_at_rules), at_once=True)
        every(timedelta(hours=1), self._forget)
        if self._settings.verify_every:
            every(self._settings.verify_every, self._guarded(self._chain_watch.look))
        for sender, _ in self._senders:
            every(min(SEND_EVERY, self._settings.every), self._guarded(sender.look), at_once=True)

    async def _look_at_rules(self) -> None:
        await asyncio.to_thread(self._disk.look)
        await self._level_watch.look()
        await self._log_watch.look()
        await self._level_watch.end_of_gone()

    async def _forget(self) -> None:
        await self._alerts.forget(to_ms(self._settings.keep_for))

    def _guarded(self, work: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        """While the store is away nothing can be noted: a line in the log, and again at the next turn."""

        async def alerts() -> None:
            try:
                await work()
            except StorageFailed as failure:
                log.warning("alerts wait for the store: %s", failure)

        alerts.__qualname__ = f"alerts {getattr(work, '__name__', '')}".rstrip()
        return alerts


def channel_of(settings: AlertChannel, clock: Clock) -> Channel:
    """Of one that leads out of here. Raises StartupRefused for files that are not there."""
    for path in (settings.authority, settings.password_file, settings.secret_file):
        if path is not None and not path.is_file():
            raise StartupRefused(f"alerts.channels, {settings.name}: {path} is no file.")

    def context() -> ssl.SSLContext:
        made = ssl.create_default_context(cafile=settings.authority)
        made.minimum_version = ssl.TLSVersion.TLSv1_2
        return made

    if settings.kind == "email":
        from entobot.alerts.channel_email import EmailChannel
        from entobot.outgoing.mail import Mailer, MailServer

        server = MailServer(
            host=settings.host,
            port=settings.smtp_port,
            security=settings.security,
            user=settings.user,
            password_file=settings.password_file,
            sender=settings.sender,
        )
        return EmailChannel(Mailer(server, context, this_machine().names[0]), settings.to)
    from entobot.alerts.channel_webhook import WebhookChannel

    assert settings.secret_file is not None, "the settings want one"
    is_sealed = settings.url.startswith("https:")
    return WebhookChannel(settings.url, settings.secret_file, context if is_sealed else None, clock)
