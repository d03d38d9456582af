"""Things of the running gateway: what boards say is taken, commands are brought to them, agents and people are served."""

from datetime import timedelta
from typing import TYPE_CHECKING

from entobot.agents.tools import ToolSpec
from entobot.app.denials import CommandDenials
from entobot.app.ground import Ground
from entobot.app.periodic import Periodic
from entobot.app.policies import PolicyDesk
from entobot.app.updating import Updating
from entobot.core.clock import to_ms
from entobot.mqtt import bridge_http
from entobot.mqtt.model import Message
from entobot.mqtt.topics import matches
from entobot.storage.database import Transaction
from entobot.things import http
from entobot.things.intake import Bounds, Intake
from entobot.things.keeping import Keep, Keeping
from entobot.things.model import Pace
from entobot.things.service import Things
from entobot.things.telling import is_over
from entobot.things.tools import thing_tools
from entobot.things.waiting import Waiting
from entobot.web.routes import Api

if TYPE_CHECKING:
    from entobot.app.answering import Features

LOOK_EVERY = timedelta(seconds=5)
TIDY_EVERY = timedelta(minutes=5)


class ThingDesk:
    def __init__(self, ground: Ground, features: "Features") -> None:
        settings = ground.settings.things
        self._ground = ground
        self._guard = features.devices.guard
        pace = Pace(to_ms(settings.stale_after), to_ms(settings.offline_after))
        self.intake = Intake(Bounds(pace, to_ms(settings.keep_hours)), ground.meters, ground.clock)
        self.service = Things(
            database=ground.database,
            clock=ground.clock,
            ids=ground.ids,
            audit=features.audit,
            accounts=features.accounts,
            devices=features.devices,
            meters=ground.meters,
            keep_readings_ms=to_ms(settings.keep_readings),
        )
        self.policies = PolicyDesk(ground, features, self.service.type_name)
        self.service.refusal_of = self.policies.service.refusal_of
        self._refused = CommandDenials(ground.database, ground.clock, features.audit, ground.meters)
        self.service.on_refused = self._refused.note
        keep = Keep(to_ms(settings.keep_readings), to_ms(settings.keep_hours), to_ms(settings.keep_commands))
        self._keeping = Keeping(ground.database, ground.clock, keep, self.intake.on_status)
        self.service.listens_since = lambda: self._keeping.listens_since_ms
        self._waiting = Waiting(ground.database, ground.bus)
        self.intake.on_end.append(self._waiting.tell)
        self.service.on_end.append(self._waiting.tell)
        features.devices.on_end.append(self.service.forget)
        self._updating = Updating(ground, features.audit, features.devices, self.service)

    def tools(self) -> list[ToolSpec]:
        """None where there are no boards: each tool costs a model attention."""
        if not self._ground.settings.mqtt.enabled:
            return []
        return thing_tools(self.service, self._ground.database, self._ground.clock, self._waiting)

    # -- for whoever speaks to boards

    def arrived(self, tx: Transaction, message: Message) -> None:
        self.intake.take(tx, message)
        self._updating.rollouts.arrived(tx, message)

    def subscribed(self, tx: Transaction, device_id: str, text: str, now_ms: int) -> None:
        if matches(text, f"devices/{device_id}/command"):
            self.service.send_waiting(tx, device_id, now_ms)

    def is_called_off(self, tx: Transaction, message: Message) -> bool:
        """A command that was cancelled, or ended otherwise, while it waited."""
        return matches("devices/+/command", message.topic) and is_over(tx, message.payload)

    # -- the gateway

    def add_routes(self, api: Api) -> None:
        ground = self._ground
        bridge_http.add_routes(api, ground.settings.mqtt.bridges, ground.database)
        http.add_routes(api, self.service, ground.database, ground.clock, self._waiting, self._guard)
        self.policies.add_routes(api)
        self._updating.add_routes(api)

    def start(self, periodic: Periodic) -> None:
        self.policies.start(periodic)
        periodic.every(LOOK_EVERY, self._look_at_things)
        periodic.every(LOOK_EVERY, self._refused.settle)
        periodic.every(TIDY_EVERY, self._tidy_things)
        self._updating.start(periodic)

    async def _look_at_things(self) -> None:
        await self._keeping.look()
        await self.service.expire()

    async def _tidy_things(self) -> None:
        await self._keeping.tidy()
