"""Questions of the running gateway: put to people by programs, told by notifications, waited for."""

from datetime import timedelta

from entobot.accounts.people import People
from entobot.accounts.service import Accounts
from entobot.app.ground import Ground
from entobot.app.periodic import Periodic
from entobot.audit.service import Audit
from entobot.bus.waiting import Waiting
from entobot.callbacks.service import Callbacks
from entobot.core import topics
from entobot.devices.service import Devices
from entobot.gateway.commands import Command
from entobot.notifications.service import Notifications
from entobot.questions import commands, http
from entobot.questions.service import Questions
from entobot.stream.service import Stream
from entobot.web.routes import Api

SWEEP_EVERY = timedelta(seconds=15)


class Asking:
    def __init__(
        self,
        ground: Ground,
        audit: Audit,
        accounts: Accounts,
        stream: Stream,
        devices: Devices,
        notifications: Notifications,
    ) -> None:
        self._ground = ground
        self.callbacks = Callbacks(ids=ground.ids, bus=ground.bus, settings=ground.settings.callbacks)
        devices.on_end.append(self.callbacks.end_of_device)
        self._waiting = Waiting(ground.bus, topics.CONTROL_QUESTIONS)
        self.service = Questions(
            ids=ground.ids,
            stream=stream,
            bus=ground.bus,
            audit=audit,
            accounts=accounts,
            notifications=notifications,
            callbacks=self.callbacks,
            guard=devices.guard,
        )

    def add_routes(self, api: Api) -> None:
        http.add_routes(api, self.service, self._ground.database, self._ground.clock, self._waiting)

    def commands(self) -> list[Command]:
        return commands.commands(self.service)

    def follow(self, people: People) -> None:
        people.on_leaving.append(self.service.end_all)

    def start(self, periodic: Periodic) -> None:
        periodic.every(SWEEP_EVERY, self._expire)
        periodic.every(timedelta(hours=1), self._forget)

    def stop(self) -> None:
        """Who waits is answered now."""
        self._waiting.stop()

    async def _expire(self) -> None:
        await self.service.expire(self._ground.database, self._ground.clock.now_ms())

    async def _forget(self) -> None:
        await self.service.forget(self._ground.database, self._ground.clock.now_ms())
