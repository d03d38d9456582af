"""Updates of boards in the running gateway: their routes, what boards say of them, and the look at what runs."""

from datetime import timedelta

from entobot.app.ground import Ground
from entobot.app.periodic import Periodic
from entobot.audit.service import Audit
from entobot.devices.service import Devices
from entobot.things.service import Things
from entobot.updates import http
from entobot.updates.rolling import Rollouts
from entobot.updates.service import Updates
from entobot.web.routes import Api

LOOK_EVERY = timedelta(seconds=2)


class Updating:
    def __init__(self, ground: Ground, audit: Audit, devices: Devices, things: Things) -> None:
        self._ground = ground
        self.service = Updates(
            database=ground.database, clock=ground.clock, ids=ground.ids, audit=audit, guard=devices.guard
        )
        self.rollouts = Rollouts(
            database=ground.database,
            clock=ground.clock,
            ids=ground.ids,
            audit=audit,
            devices=devices,
            things=things,
            guard=devices.guard,
            meters=ground.meters,
        )
        self.service.on_key_removed.append(self.rollouts.key_removed)
        devices.on_end.append(self.rollouts.forget)

    def add_routes(self, api: Api) -> None:
        http.add_routes(api, self.service, self.rollouts, self._ground.database, self._ground.clock)

    def start(self, periodic: Periodic) -> None:
        periodic.every(LOOK_EVERY, self._look_at_rollouts)

    async def _look_at_rollouts(self) -> None:
        await self.rollouts.look()
