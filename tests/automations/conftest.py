"""Rules over the things of one gateway, on a real database, and whoever makes them."""

import json
from collections.abc import AsyncIterator
from datetime import tzinfo
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from entobot.accounts.model import User
from entobot.automations.doing import Doer
from entobot.automations.rules import Rule, body_of
from entobot.automations.service import Automations
from entobot.automations.trying import Tried, Trying
from entobot.automations.watching import Watcher, Zones
from entobot.core.ids import Prefix
from entobot.core.permissions import ROLE_SCOPES, Role
from entobot.core.principal import Principal
from entobot.devices.model import Platform
from entobot.mqtt.model import Message
from entobot.notifications import store as notifications_store
from entobot.notifications.service import Limits, Notifications
from entobot.storage.database import Transaction
from entobot.telemetry.meters import Meters
from entobot.things.intake import Bounds, Intake
from entobot.things.keeping import Keep, Keeping
from entobot.things.model import Pace
from entobot.things.service import Things
from entobot.things.types import type_of
from entobot.things.waiting import Waiting
from tests.support.agency import Agency, Pocket
from tests.support.time import ManualClock, SeededEntropy

HOUR_MS = 3600_000
DAY_MS = 24 * HOUR_MS
GARAGE = {
    "readings": {"temperature": {"kind": "number", "unit": "°C"}, "label": {"kind": "text"}},
    "commands": {"light": {"risk": "none"}, "open": {"risk": "high"}},
}
NOTIFY = {"do": "notify"}
LIGHT = {"do": "command", "thing": "Garage", "command": "light"}
OPEN = {"do": "command", "thing": "Garage", "command": "open"}


async def _zone(name: str) -> tzinfo | None:
    return ZoneInfo(name) if name == "Europe/Berlin" else None


class Node:
    """What one process has of it. Several share a database."""

    def __init__(self, agency: Agency, intake: Intake, things: Things, told: Notifications) -> None:
        zones = Zones()
        self.meters = Meters()
        self.watcher = Watcher(
            ids=agency.ids, bus=agency.bus, audit=agency.audit, accounts=agency.accounts, things=things,
            approvals=agency.approvals, notifications=told, meters=self.meters, zones=zones,
            clock=agency.clock,
        )  # fmt: skip
        self.service = Automations(
            database=agency.database, clock=agency.clock, ids=agency.ids, audit=agency.audit,
            accounts=agency.accounts, things=things, conversations=agency.conversations, watcher=self.watcher,
            zones=zones, zone_of=_zone,
        )  # fmt: skip
        self.trying = Trying(self.service, things, zones)
        self.doer = Doer(
            database=agency.database, clock=agency.clock, watcher=self.watcher, things=things,
            approvals=agency.approvals, conversations=agency.conversations, notifications=told, meters=self.meters,
        )  # fmt: skip

    async def look(self) -> None:
        await self.service.look()
        await self.doer.look()


class House:
    def __init__(self, agency: Agency) -> None:
        self.agency = agency
        self.clock: Any = agency.clock
        self.database = agency.database
        self.sent: list[tuple[str, dict[str, Any]]] = []
        """(device, what was said) of each command that went to a board."""
        self.intake = Intake(Bounds(Pace(900_000, HOUR_MS), 30 * DAY_MS), Meters(), agency.clock)
        self.things = Things(
            database=agency.database, clock=agency.clock, ids=agency.ids, audit=agency.audit,
            accounts=agency.accounts, devices=agency.devices, meters=Meters(), keep_readings_ms=7 * DAY_MS,
        )  # fmt: skip
        self.things.send = self._send
        self.waiting = Waiting(agency.database, agency.bus)
        self.notifications = Notifications(
            database=agency.database, clock=agency.clock, ids=agency.ids, audit=agency.audit,
            accounts=agency.accounts, stream=agency.stream, bus=agency.bus, guard=agency.devices.guard,
            meters=Meters(), limits=Limits(),
        )  # fmt: skip
        self.keeping = Keeping(
            agency.database, agency.clock, Keep(7 * DAY_MS, 30 * DAY_MS, DAY_MS), self.intake.on_status
        )
        self.node = self.another()
        self.intake.on_kept.append(self.node.watcher.read)
        self.intake.on_status.append(self.node.watcher.changed)
        self.owner = Principal(agency.user_id, ROLE_SCOPES[Role.OWNER])

    def _send(
        self, tx: Transaction, device_id: str, user_id: str, topic: str, payload: bytes, now_ms: int, ends_at_ms: int
    ) -> None:
        assert topic == "command"
        tx.after_commit(lambda: self.sent.append((device_id, json.loads(payload))))

    def another(self) -> Node:
        return Node(self.agency, self.intake, self.things, self.notifications)

    # -- people and boards

    async def board(self, name: str, owner: Principal | None = None, type_name: str = "garage") -> str:
        by, now_ms = owner or self.owner, self.clock.now_ms()
        device_id = self.agency.ids.new(Prefix.DEVICE)

        def unit(tx: Transaction) -> None:
            self.agency.devices.register_bearer(
                tx, device_id=device_id, user_id=by.user_id, name=name, platform=Platform.IOT, app_version="",
                os_version="", scopes=frozenset(), paired_by="operator", confirm_mode="none", now_ms=now_ms,
            )  # fmt: skip
            self.things.put_type(tx, self.owner, type_of(type_name, GARAGE), now_ms)
            self.things.assign(tx, self.owner, device_id, type_name, now_ms)

        await self.database.write(unit)
        return device_id

    async def person(self, login: str, role: Role = Role.MEMBER) -> Principal:
        user = User(self.agency.ids.new(Prefix.USER), login.title(), role, self.clock.now_ms(), login)
        await self.database.write(lambda tx: self.agency.accounts.insert(tx, user))
        return Principal(user.user_id, ROLE_SCOPES[role], session_id="ses_1")

    async def phone(self) -> Pocket:
        return await self.agency.pair()

    async def say(self, device_id: str, topic: str, payload: Any, user_id: str = "usr_1") -> None:
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        message = Message(f"devices/{device_id}/{topic}", data, 1, False, device_id, user_id, self.clock.now_ms())
        await self.database.write(lambda tx: self.intake.take(tx, message))

    async def read(self, device_id: str, *values: float) -> None:
        """A second apart."""
        for value in values:
            self.clock.advance(1)
            await self.say(device_id, "telemetry/temperature", value)

    # -- rules

    async def add(self, when: dict[str, Any], *then: dict[str, Any], by: Principal | None = None, **more: Any) -> Rule:
        body = body_of({"name": "Rule", "when": when, "then": then or (NOTIFY,)} | more)
        await self.node.service.find_zones(body)
        now_ms = self.clock.now_ms()
        return await self.database.write(lambda tx: self.node.service.add(tx, by or self.owner, body, now_ms))

    async def switch(self, rule: Rule, by: Principal | None = None, *, is_on: bool) -> Rule:
        now_ms = self.clock.now_ms()
        return await self.database.write(
            lambda tx: self.node.service.switch(tx, by or self.owner, rule.automation_id, now_ms, is_on=is_on)
        )

    async def look(self) -> None:
        await self.node.look()

    async def listen(self, seconds: int) -> None:
        """And hear nothing."""
        for _ in range(seconds // 50):
            self.clock.advance(50)
            await self.keeping.look()

    async def rule(self, rule: Rule) -> Rule:
        return await self.database.read(lambda tx: self.node.service.get(tx, self.owner, rule.automation_id))

    async def fired(self, rule: Rule) -> list[tuple[str, Any, list[tuple[str, str]]]]:
        """Oldest first: the state, the value, and of each action how it stands and why."""
        found, _ = await self.database.read(lambda tx: self.node.service.history(tx, rule.automation_id, None, 100))
        return [
            (one.state.value, one.cause.value, [(done.action.state.value, done.action.outcome) for done in actions])
            for one, actions in reversed(found)
        ]

    async def values(self, rule: Rule) -> list[Any]:
        return [value for state, value, _ in await self.fired(rule) if state == "fired"]

    async def titles(self, user_id: str | None = None) -> list[str]:
        found = await self.database.read(
            lambda tx: notifications_store.all_open(tx, user_id or self.agency.user_id, 100)
        )
        return [one.title for one in found]

    async def try_(self, rule: Rule, hours: float = 24) -> Tried:
        now_ms = self.clock.now_ms()
        return await self.database.read(lambda tx: self.node.trying.run(tx, self.owner, rule, hours, now_ms))


@pytest.fixture
async def house(tmp_path: Path, clock: ManualClock, entropy: SeededEntropy) -> AsyncIterator[House]:
    clock.at_ms -= clock.at_ms % DAY_MS
    agency = Agency(tmp_path, clock, entropy)
    await agency.open(works=False)
    yield House(agency)
    await agency.close()
