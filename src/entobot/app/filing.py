"""Files and recordings of the running gateway: kept in the database, bounded by settings and by the disk, swept."""

import asyncio
import shutil
from collections.abc import Mapping
from datetime import timedelta

from entobot.app.ground import Ground
from entobot.app.listening import make_voice
from entobot.app.news import tell_answer
from entobot.app.periodic import Periodic
from entobot.audit.service import Audit
from entobot.conversations import http as conversations_http
from entobot.conversations.service import Conversations
from entobot.core.errors import Code, Problem
from entobot.core.principal import Principal
from entobot.devices.service import Devices
from entobot.files import http
from entobot.files.meters import FileMeters
from entobot.files.model import Room
from entobot.files.service import Files
from entobot.notifications.service import Notifications
from entobot.storage.database import Transaction
from entobot.voice import http as voice_http
from entobot.web.routes import Api

SWEEP_EVERY = timedelta(minutes=10)


class Filing:
    def __init__(self, ground: Ground, audit: Audit, devices: Devices, environment: Mapping[str, str]) -> None:
        settings = ground.settings.files
        self._ground = ground
        self._devices = devices
        self.service = Files(
            ids=ground.ids,
            audit=audit,
            guard=devices.guard,
            room=Room(settings.max_bytes, settings.per_person_bytes, settings.total_bytes),
            types=settings.types,
        )
        self._voice = make_voice(ground, audit, devices, self.service, environment)

    def add_routes(self, api: Api, conversations: Conversations, notifications: Notifications) -> None:
        ground = self._ground
        voice_http.add_routes(api, self._voice)
        conversations.on_delivered = tell_answer(notifications)
        conversations_http.add_delivery(api, conversations, ground.database, ground.clock, self._title_of)
        http.add_routes(api, self.service, ground.database, ground.clock, self._check_disk, FileMeters(ground.meters))

    def _title_of(self, tx: Transaction, program: Principal) -> str:
        device = None if program.device_id is None else self._devices.find_device(tx, program.device_id)
        return "Files" if device is None else device.name

    def start(self, periodic: Periodic) -> None:
        periodic.every(SWEEP_EVERY, self._sweep_files)

    async def _sweep_files(self) -> None:
        await self.service.sweep(self._ground.database, self._ground.clock.now_ms())

    async def _check_disk(self, size: int) -> None:
        """Of a PostgreSQL server's disk nothing is known here: `files.total_bytes` bounds it."""
        if self._ground.is_shared:
            return
        free = (await asyncio.to_thread(shutil.disk_usage, self._ground.home.path)).free
        if free - size < self._ground.settings.files.keep_free_bytes:
            raise Problem(Code.STORAGE_FULL, "The gateway's disk is full. Whoever runs it can make room.")
