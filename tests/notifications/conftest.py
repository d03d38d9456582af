"""Notifications on a real database, in time that tests move, with outlets that keep what they are given."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, timedelta, tzinfo
from zoneinfo import ZoneInfo

import pytest

from entobot.accounts.model import User
from entobot.accounts.service import Accounts
from entobot.audit.service import Audit
from entobot.bus.bus_local import LocalBus
from entobot.core.ids import Prefix, RandomIds
from entobot.core.permissions import ALL_SCOPES, Role
from entobot.core.principal import Principal
from entobot.notifications import attempt_store, place_store, store
from entobot.notifications.channel import Answer, Outcome, Outlet, Parcel
from entobot.notifications.model import Attempt, Channel, Note, Notification, Place
from entobot.notifications.router import Router
from entobot.notifications.rules import Rules
from entobot.notifications.sending import Sender, Sending
from entobot.notifications.service import Limits, Notifications
from entobot.storage.database import Database, Transaction
from entobot.stream.service import Stream
from entobot.telemetry.meters import Meters
from tests.support.loop_guard import LoopGuard
from tests.support.time import ManualClock, SeededEntropy

BERLIN = ZoneInfo("Europe/Berlin")


class Kept:
    """An outlet that keeps what it takes. `answers` are what the next parcels get instead of being accepted."""

    service = "kept"

    def __init__(self, channel: Channel, *, is_repeatable: bool) -> None:
        self.channel = channel
        self.is_repeatable = is_repeatable
        self.parcels: list[Parcel] = []
        self.answers: list[Answer] = []

    async def send(self, parcel: Parcel) -> Answer:
        self.parcels.append(parcel)
        return self.answers.pop(0) if self.answers else Answer(Outcome.ACCEPTED)


ADDRESSES = {Channel.EMAIL: "ada@example.org", Channel.SMS: "+14155550123"}


class House:
    """Everything of one gateway that notifications need. `nodes` are those that live, `here` who is connected."""

    def __init__(self, database: Database, clock: ManualClock, ids: RandomIds) -> None:
        self.database, self.clock, self.ids = database, clock, ids
        self.entropy = SeededEntropy("house")
        self.bus = LocalBus()
        self.stream = Stream(self.bus, ids)
        self.accounts = Accounts(ids, self.stream)
        self.audit = Audit(ids=ids, entropy=self.entropy, signer=None, head_file=None)
        self.meters = Meters()
        self.nodes = {"nod_a", "nod_b"}
        self.here: set[str] = set()
        self.acknowledged: dict[str, int] = {}
        self.allows_content = False
        self.limits = Limits()
        self.push = Kept(Channel.PUSH, is_repeatable=True)
        self.email = Kept(Channel.EMAIL, is_repeatable=False)
        self.outlets: dict[Channel, Outlet] = {Channel.PUSH: self.push, Channel.EMAIL: self.email}
        self.service = self.make_service()
        self.owner = Principal("", ALL_SCOPES)

    def make_service(self) -> Notifications:
        return Notifications(
            database=self.database,
            clock=self.clock,
            ids=self.ids,
            audit=self.audit,
            accounts=self.accounts,
            stream=self.stream,
            bus=self.bus,
            guard=lambda tx, principal: None,
            meters=self.meters,
            limits=self.limits,
        )

    def router(self) -> Router:
        return Router(
            self.service,
            database=self.database,
            clock=self.clock,
            ids=self.ids,
            meters=self.meters,
            channels=frozenset(self.outlets),
            is_seen=lambda tx, user_id, seq: self.acknowledged.get(user_id, 0) >= seq,
            who_is_connected=self._who,
            zone_of=self._zone,
        )

    async def _who(self, user_ids: Sequence[str]) -> frozenset[str]:
        return frozenset(self.here & set(user_ids))

    async def _zone(self, name: str) -> tzinfo | None:
        return {"UTC": UTC, "Europe/Berlin": BERLIN}.get(name)

    def sender(self, node_id: str = "nod_a") -> Sender:
        at = Sending(
            node_id=node_id,
            alive=lambda tx: frozenset(self.nodes),
            origin="https://gate.example",
            name=lambda: "Kitchen",
            allows_content=self.allows_content,
        )
        return Sender(
            self.outlets, at, database=self.database, clock=self.clock, entropy=self.entropy, meters=self.meters
        )

    async def turn(self, node_id: str = "nod_a") -> None:
        """What a node does each second."""
        await self.router().look()
        sender = self.sender(node_id)
        await sender.sweep()
        await sender.look()

    async def after(self, duration: timedelta) -> None:
        self.clock.advance(duration.total_seconds())
        await self.turn()

    async def add_person(self, login: str, role: Role = Role.MEMBER) -> str:
        user = User(self.ids.new(Prefix.USER), login, role, self.clock.now_ms(), login)
        await self.database.write(lambda tx: self.accounts.insert(tx, user))
        return user.user_id

    async def add_place(
        self, channel: Channel = Channel.PUSH, user_id: str = "", device_id: str | None = None
    ) -> Place:
        place = Place(
            place_id=self.ids.new(Prefix.NOTIFICATION_PLACE),
            user_id=user_id or self.owner.user_id,
            channel=channel,
            address=ADDRESSES.get(channel, "https://push.example/one"),
            device_id=device_id,
            p256dh="",
            auth="",
            name="",
            is_confirmed=True,
            created_at_ms=self.clock.now_ms(),
        )
        await self.database.write(lambda tx: place_store.insert_place(tx, place))
        return place

    async def use(self, rules: Rules) -> None:
        await self.database.write(lambda tx: place_store.put_rules(tx, self.owner.user_id, rules))

    async def post(self, title: str = "Dinner", **more: object) -> Notification:
        note = replace(Note(self.owner.user_id, "notice", title), **more)  # pyright: ignore[reportArgumentType]  names of fields
        now_ms = self.clock.now_ms()
        return await self.database.write(lambda tx: self.service.post(tx, note, now_ms))

    async def now(self, one: Notification) -> Notification | None:
        return await self.database.read(lambda tx: store.find(tx, one.notification_id))

    async def state(self, one: Notification) -> str:
        found = await self.now(one)
        return "gone" if found is None else found.state

    async def attempts(self, one: Notification) -> list[Attempt]:
        return await self.database.read(lambda tx: attempt_store.attempts_of(tx, one.notification_id))

    async def tried(self, one: Notification) -> list[tuple[str, str]]:
        return [(attempt.channel, attempt.state) for attempt in await self.attempts(one)]

    async def events(self, kind: str) -> list[str]:
        def unit(tx: Transaction) -> list[str]:
            return [one.event for one in self.stream.after(tx, self.owner.user_id, 0) if f'"{kind}"' in one.event]

        return await self.database.read(unit)


@pytest.fixture(autouse=True)
def _nothing_blocks(loop_guard: LoopGuard) -> None:  # pyright: ignore[reportUnusedFunction]  taken by pytest
    """Files, names and TLS stay off the event loop."""


@pytest.fixture
async def house(database: Database, clock: ManualClock, ids: RandomIds) -> House:
    house = House(database, clock, ids)
    user = await database.write(lambda tx: house.accounts.ensure_owner(tx, clock.now_ms()))
    house.owner = Principal(user.user_id, ALL_SCOPES)
    return house
