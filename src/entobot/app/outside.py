"""Agents that run elsewhere, in the running gateway: they ask for approvals, wait for what was decided, speak MCP, and
have answers posted to them.
"""

from datetime import timedelta

from entobot.accounts.people import People
from entobot.app.ground import Ground
from entobot.app.notifying import Notifying
from entobot.app.periodic import Periodic
from entobot.app.posting import Posting
from entobot.approvals import http_requests
from entobot.approvals.requests import Requests
from entobot.approvals.service import Approvals
from entobot.audit.service import Audit
from entobot.bus.waiting import Waiting
from entobot.core import topics
from entobot.devices.service import Devices
from entobot.mcp.http import McpDoor
from entobot.web.routes import Api


class Outside:
    def __init__(
        self, ground: Ground, approvals: Approvals, devices: Devices, people: People, audit: Audit, notifying: Notifying
    ) -> None:
        self._ground = ground
        self._waiting = Waiting(ground.bus, topics.CONTROL_APPROVALS)
        self.requests = Requests(approvals, ids=ground.ids, devices=devices, callbacks=notifying.callbacks)
        self._posting = Posting(ground, audit, notifying.callbacks, notifying.questions, self.requests)
        self._mcp = McpDoor(ground.clock)
        devices.on_end.append(self.requests.end_of_device)
        people.on_leaving.append(self.requests.end_all)

    def add_routes(self, api: Api) -> None:
        http_requests.add_routes(api, self.requests, self._ground.database, self._ground.clock, self._waiting)
        self._mcp.add_routes(api)
        self._posting.add_routes(api)

    def start(self, periodic: Periodic) -> None:
        self._posting.start(periodic)
        periodic.every(timedelta(hours=1), self._forget)

    async def stop(self) -> None:
        """Who waits is answered now."""
        self._waiting.stop()
        await self._mcp.stop()
        await self._posting.stop()

    async def _forget(self) -> None:
        await self.requests.forget(self._ground.database, self._ground.clock.now_ms())
