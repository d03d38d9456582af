"""What the dashboard's first page shows, gathered from all features."""

from typing import TYPE_CHECKING

from entobot import __version__
from entobot.app.posture import find_weak_points, score
from entobot.app.weak_points import Topic
from entobot.core.clock import rfc3339
from entobot.devices.model import Status
from entobot.devices.search import Search, count
from entobot.nodes.membership import alive
from entobot.storage.database import Transaction
from entobot.telemetry.history import WINDOWS, History
from entobot.web import operations as routes
from entobot.web.operations import AgentBody, OverviewBody, PostureBody, WeakPointBody
from entobot.web.routes import Api

if TYPE_CHECKING:
    from entobot.app.gateway import Gateway

SAMPLE_EVERY = WINDOWS[0].step


class Desk:
    """`web.operations.Operations` of one gateway, and the samples of its metrics."""

    def __init__(self, gateway: "Gateway") -> None:
        self._gateway = gateway
        self._started_ms = gateway.ground.clock.now_ms()
        self.history = History(gateway.ground.meters)

    def add_routes(self, api: Api) -> None:
        ground = self._gateway.ground
        routes.add_routes(api, self, ground.meters, self.history, ground.recent_log, ground.clock.now_ms)

    async def sample(self) -> None:
        self.history.take(self._gateway.ground.clock.now_ms())

    async def look(self) -> None:
        await self._gateway.measuring.look()

    def posture(self) -> PostureBody:
        points = find_weak_points(self._gateway)
        rows = [
            WeakPointBody(topic=point.topic, grade=point.grade.value, what=point.what, fix=point.fix)
            for point in points
        ]
        return PostureBody(score=score(points), topics=[str(topic) for topic in Topic], points=rows)

    async def overview(self) -> OverviewBody:
        gateway, ground = self._gateway, self._gateway.ground
        report = await gateway.readiness.report()

        def unit(tx: Transaction) -> tuple[dict[str, int], int, int, int, int]:
            devices = {str(status): count(tx, Search(status=status)) for status in Status}
            counted = gateway.count(tx)
            people = gateway.accounts.count(tx)
            nodes = len(alive(tx)) if ground.is_shared else 1
            return devices, people, counted.approvals_pending, counted.conversations_awaiting, nodes

        devices, people, pending, awaiting, nodes = await ground.database.read(unit)
        return OverviewBody(
            version=__version__,
            started_at=rfc3339(self._started_ms),
            node=ground.node_id,
            nodes=nodes,
            store="postgresql" if ground.is_shared else "sqlite",
            connections=gateway.hub.connection_count,
            devices=devices,
            people=people,
            approvals_pending=pending,
            conversations_awaiting=awaiting,
            agent=AgentBody(runner_kind=gateway.bot.choice.runner_kind, model=gateway.bot.choice.model),
            is_ready=report.is_ready,
            shortcomings=report.shortcomings,
        )
