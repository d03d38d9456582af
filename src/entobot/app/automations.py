"""Automations of the running gateway: they look at what is read and at the clock, and do what they want done."""

import asyncio
import logging
from datetime import timedelta

from entobot.accounts.people import People
from entobot.app.answering import Answering, Features
from entobot.app.ground import Ground
from entobot.app.notifying import Zones as ZoneFiles
from entobot.app.periodic import Periodic
from entobot.automations import http
from entobot.automations.doing import Doer
from entobot.automations.service import Automations
from entobot.automations.trying import Trying
from entobot.automations.watching import Watcher, Zones
from entobot.core import topics
from entobot.core.clock import to_ms
from entobot.storage.database import StorageFailed
from entobot.web.routes import Api

log = logging.getLogger("entobot.automations")

LOOK_EVERY = timedelta(seconds=1)
TIDY_EVERY = timedelta(minutes=10)


class Automating:
    """Looks when a bell rings, and every second: that is how late a time is at most."""

    def __init__(
        self, ground: Ground, features: Features, answering: Answering, people: People, files: ZoneFiles
    ) -> None:
        self._ground = ground
        self._guard = features.devices.guard
        things, zones = answering.things, Zones()
        watcher = Watcher(
            ids=ground.ids,
            bus=ground.bus,
            audit=features.audit,
            accounts=features.accounts,
            things=things.service,
            approvals=answering.approvals,
            notifications=features.notifications,
            meters=ground.meters,
            zones=zones,
            clock=ground.clock,
        )
        self.service = Automations(
            database=ground.database,
            clock=ground.clock,
            ids=ground.ids,
            audit=features.audit,
            accounts=features.accounts,
            things=things.service,
            conversations=features.conversations,
            watcher=watcher,
            zones=zones,
            zone_of=files.find,
        )
        self._trying = Trying(self.service, things.service, zones)
        self._doer = Doer(
            database=ground.database,
            clock=ground.clock,
            watcher=watcher,
            things=things.service,
            approvals=answering.approvals,
            conversations=features.conversations,
            notifications=features.notifications,
            meters=ground.meters,
        )
        things.intake.on_kept.append(watcher.read)
        things.intake.on_status.append(watcher.changed)
        features.devices.on_end.append(self.service.end_of_device)
        people.on_leaving.append(self.service.end_all)
        for changed in (people.on_narrowed, people.on_raised):
            changed.append(lambda tx, _by, _user, _now: watcher.forget(tx))
        self._lock = asyncio.Lock()
        self._rung = asyncio.Event()
        for topic in (topics.WORK_AUTOMATIONS, topics.WORK_APPROVALS):
            ground.bus.subscribe(topic, lambda _topic, _payload: self._rung.set())

    def add_routes(self, api: Api) -> None:
        at = self._ground
        http.add_routes(api, self.service, self._trying, at.database, at.clock, self._guard)

    def start(self, periodic: Periodic) -> None:
        periodic.when_rung(self._rung, self._automate)
        periodic.every(LOOK_EVERY, self._automate, at_once=True)
        periodic.every(TIDY_EVERY, self._forget_firings)

    async def _automate(self) -> None:
        """While the store is away nothing can be noted: a line in the log, and again at the next turn."""
        async with self._lock:
            try:
                await self.service.look()
                await self._doer.look()
            except StorageFailed as failure:
                log.warning("automations wait for the store: %s", failure)

    async def _forget_firings(self) -> None:
        await self.service.tidy(to_ms(self._ground.settings.things.keep_firings))
