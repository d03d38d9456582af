"""Notifications of the running gateway: posted by features and by others, decided about, sent. Questions ride on them."""

import asyncio
import logging
import ssl
from collections.abc import Sequence
from datetime import timedelta, tzinfo
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from entobot.accounts.people import People
from entobot.accounts.service import Accounts
from entobot.agents.service import Agents
from entobot.app.asking import Asking
from entobot.app.cluster import who_lives
from entobot.app.ground import Ground
from entobot.app.news import tell_answer, tell_failure
from entobot.app.periodic import Periodic
from entobot.app.texting import Texts
from entobot.audit.service import Audit
from entobot.core import topics
from entobot.core.clock import to_ms
from entobot.core.errors import StartupRefused
from entobot.core.networks import Networks
from entobot.devices.model import Platform, Status
from entobot.devices.service import Devices
from entobot.gateway.commands import Command
from entobot.gateway.hub import Hub
from entobot.home import Purpose
from entobot.notifications import commands, http, http_places
from entobot.notifications.channel import Outlet
from entobot.notifications.channel_email import EmailOutlet
from entobot.notifications.channel_sms import Offer, SmsOutlet
from entobot.notifications.model import Channel
from entobot.notifications.overview import Overview
from entobot.notifications.places import Places, token_of
from entobot.notifications.push_ntfy import NtfyOutlet
from entobot.notifications.push_webpush import WebPushOutlet
from entobot.notifications.router import Router
from entobot.notifications.sending import Sender, Sending
from entobot.notifications.service import Limits, Notifications
from entobot.notifications.trying import SendCode, Trying
from entobot.notifications.webpush import VapidKey
from entobot.outgoing.guarded_http import GuardedHttp
from entobot.outgoing.mail import Mailer, MailServer
from entobot.signin.sealing import Seal
from entobot.storage.database import StorageFailed, Transaction
from entobot.stream.service import Stream
from entobot.web.certificates import this_machine
from entobot.web.routes import Api

log = logging.getLogger("entobot.notifications")

LOOK_EVERY = timedelta(seconds=1)
SWEEP_EVERY = timedelta(seconds=5)


class Notifying:
    """`service` is what features above post to. Looks at what is due when a bell rings, and every second."""

    def __init__(
        self, ground: Ground, audit: Audit, accounts: Accounts, stream: Stream, devices: Devices, texts: Texts
    ) -> None:
        self._ground = ground
        self._texts = _sms_outlet(ground, texts)
        self._settings = settings = ground.settings.notifications
        self._devices = devices
        self._stream = stream
        self.service = Notifications(
            database=ground.database,
            clock=ground.clock,
            ids=ground.ids,
            audit=audit,
            accounts=accounts,
            stream=stream,
            bus=ground.bus,
            guard=devices.guard,
            meters=ground.meters,
            limits=Limits(settings.per_sender_per_hour, settings.per_person_per_hour),
        )
        self._seal = Seal(ground.keys.key(Purpose.NOTIFICATION_TOKENS), ground.entropy)
        self._mail: EmailOutlet | None = None
        key = VapidKey(ground.keys.key(Purpose.VAPID))
        outlets = self._outlets(key)
        self._channels = frozenset(outlets)
        self.zones = zones = Zones()
        self.places = self._make_places(audit)
        devices.on_end.append(self.places.end_of_device)
        self._router = Router(
            self.service,
            database=ground.database,
            clock=ground.clock,
            ids=ground.ids,
            meters=ground.meters,
            channels=self._channels,
            is_seen=self._is_seen,
            who_is_connected=self._who_is_connected,
            zone_of=zones.find,
        )
        self._sender = self._make_sender(outlets)
        self._routes = self._make_routes(audit, zones, key.public)
        self._asking = Asking(ground, audit, accounts, stream, devices, self.service)
        self.questions, self.callbacks = self._asking.service, self._asking.callbacks
        self._is_running = False
        self._is_rung_again = False
        self._task: asyncio.Task[None] | None = None
        ground.bus.subscribe(topics.WORK_NOTIFICATIONS, self._rung)

    def _outlets(self, key: VapidKey) -> dict[Channel, Outlet]:
        at, settings = self._ground, self._settings
        for path in (settings.authority, settings.smtp_authority, settings.smtp_password_file):
            if path is not None and not path.is_file():
                raise StartupRefused(f"notifications: {path} is no file.")
        http = GuardedHttp(Networks(settings.private_networks), lambda: _tls(settings.authority))
        contact = settings.contact or at.origin
        outlets: dict[Channel, Outlet] = {
            one: WebPushOutlet(one, http, key, contact, at.clock, at.entropy)
            for one in (Channel.PUSH, Channel.UNIFIEDPUSH)
        }
        outlets[Channel.NTFY] = NtfyOutlet(http, partial(token_of, self._seal), at.clock)
        if settings.smtp_host:
            server = MailServer(
                host=settings.smtp_host,
                port=settings.port,
                security=settings.smtp_security,
                user=settings.smtp_user,
                password_file=settings.smtp_password_file,
                sender=settings.smtp_sender,
            )
            mailer = Mailer(server, lambda: _tls(settings.smtp_authority), this_machine().names[0])
            outlets[Channel.EMAIL] = self._mail = EmailOutlet(mailer, at.clock)
        if self._texts is not None:
            outlets[Channel.SMS] = self._texts
        return outlets

    def _make_places(self, audit: Audit) -> Places:
        at = self._ground
        return Places(
            database=at.database,
            clock=at.clock,
            ids=at.ids,
            entropy=at.entropy,
            audit=audit,
            guard=self._devices.guard,
            meters=at.meters,
            channels=self._channels,
            allowed=Networks(self._settings.private_networks),
            code_key=at.keys.key(Purpose.NOTIFICATION_CODES),
            seal=self._seal,
            check_number=None if self._texts is None else self._texts.check,
        )

    def _make_sender(self, outlets: dict[Channel, Outlet]) -> Sender:
        at = self._ground
        sending = Sending(
            node_id=at.node_id,
            alive=who_lives(at),
            origin=at.origin,
            name=lambda: at.name,
            allows_content=self._settings.content,
        )
        return Sender(outlets, sending, database=at.database, clock=at.clock, entropy=at.entropy, meters=at.meters)

    def _make_routes(self, audit: Audit, zones: "Zones", push_key: str) -> http_places.Routes:
        at = self._ground
        trying = Trying(
            self.places,
            self._sender,
            database=at.database,
            clock=at.clock,
            ids=at.ids,
            audit=audit,
            node_id=at.node_id,
            send_code=self._codes_by(),
        )
        return http_places.Routes(
            self.places,
            trying,
            Overview(self._sender, at.database, at.clock),
            database=at.database,
            directory=self._devices.directory,
            zone_of=zones.find,
            channels=self._channels,
            push_key=push_key,
            allows_content=self._settings.content,
            gateway=lambda: at.name,
        )

    def _codes_by(self) -> dict[Channel, SendCode]:
        by: dict[Channel, SendCode] = {} if self._mail is None else {Channel.EMAIL: self._mail.send_code}
        return by | ({} if self._texts is None else {Channel.SMS: self._texts.send_code})

    # -- for the composition root

    def add_routes(self, api: Api) -> None:
        http_places.add_routes(api, self._routes)
        http.add_routes(api, self.service)
        self._asking.add_routes(api)

    def commands(self) -> list[Command]:
        return [*commands.commands(self.service, self.places), *self._asking.commands()]

    def follow(self, people: People, hub: Hub, agents: Agents) -> None:
        """What ends with a person, who is connected here, and what others have to tell."""
        agents.on_answer.append(tell_answer(self.service))
        agents.on_failure = tell_failure(self.service)
        people.on_leaving += [self._asking.service.end_all, self.service.end_all, self.places.end_all]
        self.service.is_here = lambda user_id: user_id in hub.user_ids

    def answer_by_sms(self, offer: Offer) -> None:
        """What an SMS says so that it can be answered."""
        if self._texts is not None:
            self._texts.offer = offer

    def trouble(self, channel: Channel) -> str:
        """Why what this node sent last there was not taken; empty where it was."""
        return self._sender.troubles.get(channel, "")

    def start(self, periodic: Periodic) -> None:
        self._is_running = True
        periodic.every(LOOK_EVERY, self._look, at_once=True)
        periodic.every(SWEEP_EVERY, self._sweep, at_once=True)
        periodic.every(timedelta(hours=1), self._forget)
        self._asking.start(periodic)

    async def stop(self) -> None:
        """What is being sent stays `sent`; the next start says what became of it."""
        self._is_running = False
        self._asking.stop()
        task = self._task
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    # -- work

    def _rung(self, _topic: str, _payload: bytes) -> None:
        """Look now, and once more where somebody is looking already."""
        if self._task is not None:
            self._is_rung_again = True
        elif self._is_running:
            self._task = asyncio.get_running_loop().create_task(self._answer())

    async def _answer(self) -> None:
        try:
            self._is_rung_again = True
            while self._is_rung_again and self._is_running:
                self._is_rung_again = False
                await self._look()
        finally:
            self._task = None

    async def _look(self) -> None:
        """While the store is away nothing can be noted: a line in the log, and again at the next turn."""
        try:
            await self._router.look()
            await self._sender.look()
        except StorageFailed as failure:
            log.warning("notifications wait for the store: %s", failure)

    async def _sweep(self) -> None:
        try:
            await self._sender.sweep()
        except StorageFailed as failure:
            log.warning("notifications wait for the store: %s", failure)

    async def _forget(self) -> None:
        await self.service.forget(to_ms(self._settings.keep_for))

    def _is_seen(self, tx: Transaction, user_id: str, seq: int) -> bool:
        """Boards acknowledge what nobody reads: they do not count."""
        for device_id in self._stream.acknowledged_by(tx, user_id, seq):
            device = self._devices.find_device(tx, device_id)
            if device is not None and device.status is Status.ACTIVE and device.platform is not Platform.IOT:
                return True
        return False

    async def _who_is_connected(self, user_ids: Sequence[str]) -> frozenset[str]:
        wanted = await self._ground.database.read(
            lambda tx: {user_id: self._devices.looked_at(tx, user_id) for user_id in user_ids}
        )
        everyone = sorted({device_id for found in wanted.values() for device_id in found})
        online = await self._devices.directory.find_online(everyone)
        return frozenset(user_id for user_id, found in wanted.items() if online & set(found))


def _sms_outlet(ground: Ground, texts: Texts) -> SmsOutlet | None:
    """None also for a provider that sends nothing: a code that never arrives confirms no number."""
    outbox = texts.outbox
    return None if outbox is None or not outbox.is_real else SmsOutlet(outbox, ground.database, ground.clock)


class Zones:
    """Time zones by name, each read from the disk once, in a thread."""

    def __init__(self) -> None:
        self._known: dict[str, tzinfo | None] = {}

    async def find(self, name: str) -> tzinfo | None:
        if name not in self._known:
            if len(self._known) > 1000:
                self._known.clear()
            self._known[name] = await asyncio.to_thread(_zone, name)
        return self._known[name]


def _tls(authority: Path | None) -> ssl.SSLContext:
    """Blocks."""
    made = ssl.create_default_context(cafile=authority)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    return made


def _zone(name: str) -> tzinfo | None:
    """Blocks."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None
