"""Alerts on a real database, with a log that tests write, and channels that keep what they are told."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest

from entobot.accounts.service import Accounts
from entobot.alerts import store
from entobot.alerts.channel import ChannelFailed, Notice
from entobot.alerts.level_watch import LevelWatch, Read, Reading
from entobot.alerts.log_watch import LogWatch
from entobot.alerts.model import Message, watched
from entobot.alerts.sending import Outlet, Sender
from entobot.alerts.service import Alerts, Sight, Told
from entobot.alerts.watching import Watching
from entobot.audit.events import AuditEvent
from entobot.audit.service import Audit
from entobot.bus.bus_local import LocalBus
from entobot.config_alerts import AlertRule
from entobot.core.alert_rules import RuleId, Severity
from entobot.core.ids import RandomIds
from entobot.core.permissions import ALL_SCOPES
from entobot.core.principal import Principal
from entobot.storage.database import Database, Transaction
from entobot.stream.service import Stream
from entobot.telemetry.meters import Meters
from tests.support.loop_guard import LoopGuard
from tests.support.time import ManualClock, SeededEntropy

MINUTE_S = 60.0


class Kept:
    """A channel that keeps what it takes, and refuses while `refuses` says why."""

    place = "kept"

    def __init__(self) -> None:
        self.notices: list[Notice] = []
        self.refuses = ""

    async def send(self, notice: Notice) -> None:
        if self.refuses:
            raise ChannelFailed(self.refuses)
        self.notices.append(notice)

    @property
    def headlines(self) -> list[str]:
        return [one.headline for one in self.notices]


class Yard:
    """Everything of one gateway that alerts need. `nodes` are those that live."""

    def __init__(self, database: Database, clock: ManualClock, ids: RandomIds) -> None:
        self.database, self.clock, self.ids = database, clock, ids
        self.entropy = SeededEntropy("yard")
        self.stream = Stream(LocalBus(), ids)
        self.accounts = Accounts(ids, self.stream)
        self.audit = Audit(ids=ids, entropy=self.entropy, signer=None, head_file=None)
        self.nodes = {"nod_a"}
        self.kept = Kept()
        self.numbers: dict[RuleId, float] = {}

    async def owner(self) -> Principal:
        user = await self.database.write(lambda tx: self.accounts.ensure_owner(tx, self.clock.now_ms()))
        return Principal(user.user_id, ALL_SCOPES)

    def alerts(self, rules: Sequence[AlertRule] = (), channels: Mapping[str, Severity] | None = None) -> Alerts:
        return Alerts(
            database=self.database,
            clock=self.clock,
            ids=self.ids,
            audit=self.audit,
            accounts=self.accounts,
            stream=self.stream,
            guard=lambda tx, principal: None,
            meters=Meters(),
            rules=watched(rules),
            channels={"kept": Severity.INFO} if channels is None else channels,
        )

    def watching(self, node_id: str = "nod_a", alerts: Alerts | None = None) -> Watching:
        alive = lambda _: frozenset(self.nodes)  # noqa: E731  a port, not worth a name
        return Watching(alerts or self.alerts(), self.audit, self.database, self.clock, node_id, alive)

    def log_watch(self, node_id: str = "nod_a", alerts: Alerts | None = None) -> LogWatch:
        return LogWatch(self.watching(node_id, alerts))

    def level_watch(self, node: str = "here", alerts: Alerts | None = None) -> LevelWatch:
        return LevelWatch(
            alerts=alerts or self.alerts(),
            database=self.database,
            clock=self.clock,
            node=node,
            reads={rule: self._read(rule) for rule in RuleId},
        )

    def _read(self, rule: RuleId) -> Read:
        return lambda: Reading(self.numbers[rule], {}) if rule in self.numbers else None

    def sender(self, node_id: str = "nod_a", per_hour: int = 100) -> Sender:
        return Sender(
            Outlet("kept", "test", self.kept, per_hour),
            database=self.database,
            clock=self.clock,
            ids=self.ids,
            entropy=self.entropy,
            meters=Meters(),
            gateway="Kitchen",
            origin="https://gate.example",
            node_id=node_id,
            alive=lambda _: frozenset(self.nodes),
        )

    async def record(self, event: AuditEvent, subject: str = "", count: int = 1, **facts: Any) -> None:
        for _ in range(count):
            now_ms = self.clock.now_ms()
            await self.database.write(
                lambda tx, at=now_ms: self.audit.record(tx, event, now_ms=at, subject=subject, facts=facts)
            )

    async def fire(self, rule: RuleId = RuleId.DISK_LOW, node: str = "here", subject: str = "") -> None:
        alerts = self.alerts()
        now_ms = self.clock.now_ms()
        await self.database.write(lambda tx: alerts.fire(tx, rule, Sight(subject, node, 1, {}), now_ms))

    async def listed(self) -> list[Told]:
        """Oldest first."""
        page = await self.alerts().find_page(None, is_open=False, cursor=None, limit=200)
        return list(reversed(page.rows))

    async def states(self) -> list[tuple[str, str, str]]:
        return [(one.alert.rule, one.alert.subject, one.alert.state) for one in await self.listed()]

    async def messages(self) -> list[Message]:
        def unit(tx: Transaction) -> list[Message]:
            return [
                message for one in store.page(tx, None, None, 200) for message in store.messages_of(tx, one.alert_id)
            ]

        return await self.database.read(unit)

    def later(self, duration: timedelta) -> None:
        self.clock.advance(duration.total_seconds())


@pytest.fixture(autouse=True)
def _nothing_blocks(loop_guard: LoopGuard) -> None:  # pyright: ignore[reportUnusedFunction]  taken by pytest
    """Files, names and TLS stay off the event loop."""


@pytest.fixture
async def yard(database: Database, clock: ManualClock, ids: RandomIds) -> Yard:
    yard = Yard(database, clock, ids)
    await yard.owner()
    return yard
