"""Notifications of the running gateway: posted by features and by others, decided about, sent."""

import asyncio
import logging
from collections.abc import Sequence
from datetime import timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from entobot.accounts.people import People
from entobot.accounts.service import Accounts
from entobot.app.cluster import who_lives
from entobot.app.ground import Ground
from entobot.app.periodic import Periodic
from entobot.audit.service import Audit
from entobot.core import topics
from entobot.core.clock import to_ms
from entobot.devices.model import Platform, Status
from entobot.devices.service import Devices
from entobot.gateway.commands import Command
from entobot.gateway.hub import Hub
from entobot.notifications import commands, http
from entobot.notifications.channel import Outlet
from entobot.notifications.model import Channel
from entobot.notifications.router import Router
from entobot.notifications.sending import Sender, Sending
from entobot.notifications.service import Limits, Notifications
from entobot.storage.database import StorageFailed, Transaction
from entobot.stream.service import Stream
from entobot.web.routes import Api

log = logging.getLogger("entobot.notifications")

LOOK_EVERY = timedelta(seconds=1)
SWEEP_EVERY = timedelta(seconds=5)


class Notifying:
    """`service` is what features above post to. Looks at what is due when a bell rings, and every second."""

    def __init__(self, ground: Ground, audit: Audit, accounts: Accounts, stream: Stream, devices: Devices) -> None:
        self._ground = ground
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
        outlets: dict[Channel, Outlet] = {}
        self._router = Router(
            self.service,
            database=ground.database,
            clock=ground.clock,
            ids=ground.ids,
            meters=ground.meters,
            channels=frozenset(outlets),
            is_seen=self._is_seen,
            who_is_connected=self._who_is_connected,
            zone_of=Zones().find,
        )
        self._sender = Sender(
            outlets,
            Sending(
                node_id=ground.node_id,
                alive=who_lives(ground),
                origin=ground.origin,
                name=lambda: ground.name,
                allows_content=settings.content,
            ),
            database=ground.database,
            clock=ground.clock,
            entropy=ground.entropy,
            meters=ground.meters,
        )
        self._is_running = False
        self._is_rung_again = False
        self._task: asyncio.Task[None] | None = None
        ground.bus.subscribe(topics.WORK_NOTIFICATIONS, self._rung)

    # -- for the composition root

    def add_routes(self, api: Api) -> None:
        http.add_routes(api, self.service)

    def commands(self) -> list[Command]:
        return commands.commands(self.service)

    def follow(self, people: People, hub: Hub) -> None:
        """What ends with a person, and who is connected here."""
        people.on_leaving.append(self.service.end_all)
        self.service.is_here = lambda user_id: user_id in hub.user_ids

    def start(self, periodic: Periodic) -> None:
        self._is_running = True
        periodic.every(LOOK_EVERY, self._look, at_once=True)
        periodic.every(SWEEP_EVERY, self._sweep, at_once=True)
        periodic.every(timedelta(hours=1), self._forget)

    async def stop(self) -> None:
        """What is being sent stays `sent`; the next start says what became of it."""
        self._is_running = False
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


def _zone(name: str) -> tzinfo | None:
    """Blocks."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None
