"""Use cases of things: look at them, read their history, command them, say of which type they are."""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from entobot.accounts.service import Accounts
from entobot.approvals.model import Risk
from entobot.audit.events import AuditEvent
from entobot.audit.service import Audit
from entobot.core.clock import Clock
from entobot.core.errors import Code, Problem
from entobot.core.ids import Ids, Prefix, is_id
from entobot.core.permissions import Scope
from entobot.core.principal import Principal
from entobot.devices.model import Device
from entobot.devices.model import Status as DeviceStatus
from entobot.devices.search import CALLED_SO
from entobot.devices.service import Devices
from entobot.policies.service import Wish, built_in_refusal
from entobot.storage.database import Database, Transaction
from entobot.telemetry.meters import Meters
from entobot.telemetry.metrics import Metric
from entobot.things import command_store, history_store, store
from entobot.things.intake import forget_thing, forget_type, tell_all, type_in
from entobot.things.model import (
    MAX_WAITING,
    Command,
    CommandState,
    Happening,
    Point,
    State,
    Thing,
    ThingStatus,
    Value,
)
from entobot.things.refused import CommandRefused
from entobot.things.telling import told
from entobot.things.types import ThingType, type_of

T = TypeVar("T")

MAX_PAGE = 100
MAX_POINTS = 500
MAX_TEXTS = 200
MAX_TYPES = 200
NEWEST = "cmd_~"
AT_ONCE = 100


class Send(Protocol):
    """Bring a payload down to a device by QoS 1, in the caller's unit; it waits for sessions that are away."""

    def __call__(
        self, tx: Transaction, device_id: str, user_id: str, topic: str, payload: bytes, now_ms: int, ends_at_ms: int
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class Reach:
    """Whose things somebody sees, and may command: their own, or all. The scopes are those that are in force now."""

    user_id: str
    sees_all: bool
    commands_all: bool

    @classmethod
    def of(cls, user_id: str, scopes: frozenset[Scope]) -> "Reach":
        manages = Scope.DEVICES_MANAGE in scopes
        return cls(user_id, manages or Scope.DEVICES_READ in scopes, manages)

    def sees(self, device: Device) -> bool:
        return self.sees_all or device.user_id == self.user_id

    def commands(self, device: Device) -> bool:
        return self.commands_all or device.user_id == self.user_id


@dataclass(frozen=True, slots=True)
class Seen:
    """A thing with all that is shown of it."""

    thing: Thing
    name: str
    status: ThingStatus
    type: ThingType | None
    states: list[State]

    def title_of(self, reading: str) -> str:
        spec = None if self.type is None else self.type.readings.get(reading)
        return "" if spec is None else spec.title

    def unit_of(self, reading: str) -> str:
        spec = None if self.type is None else self.type.readings.get(reading)
        return "" if spec is None else spec.unit


@dataclass(frozen=True, slots=True)
class History:
    """`width_ms` is what one point stands for; 0 for texts, each of which is a point."""

    points: list[Point]
    width_ms: int


def _nowhere(
    tx: Transaction, device_id: str, user_id: str, topic: str, payload: bytes, now_ms: int, ends_at_ms: int
) -> None:
    """No boards by MQTT: commands wait until they expire."""


async def _untold(_: CommandRefused) -> None: ...


class Things:
    """`send` is put in by whoever speaks to boards, `refusal_of` by whoever keeps policies, `on_refused` by who logs,
    `listens_since` by who notes which things are silent. `on_cancelled` hears of whom somebody took a command back.
    """

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        ids: Ids,
        audit: Audit,
        accounts: Accounts,
        devices: Devices,
        meters: Meters,
        keep_readings_ms: int,
    ) -> None:
        self.send: Send = _nowhere
        self.refusal_of: Callable[[Transaction, Wish], str | None] = built_in_refusal
        self.on_refused: Callable[[CommandRefused], Awaitable[None]] = _untold
        self.on_end: list[Callable[[str], None]] = []
        self.on_cancelled: Callable[[str], None] = lambda _: None
        self.listens_since: Callable[[], int] = lambda: 0
        self._database = database
        self._clock = clock
        self._ids = ids
        self._audit = audit
        self._accounts = accounts
        self._devices = devices
        self._meters = meters
        self._keep_readings_ms = keep_readings_ms

    # -- who asks

    def reach_of(self, tx: Transaction, user_id: str) -> Reach:
        """Of a person, whatever they came with."""
        return Reach.of(user_id, self._accounts.get_user(tx, user_id).scopes)

    # -- looking

    def find_page(
        self, tx: Transaction, reach: Reach, after: str = "", limit: int = MAX_PAGE
    ) -> tuple[list[Seen], str | None]:
        """By device id, and where to go on. A page may be short: of devices that were revoked nothing is shown."""
        found = store.page(tx, None if reach.sees_all else reach.user_id, after, limit + 1)
        now_ms = self._clock.now_ms()
        rows = [seen for one in found[:limit] if (seen := self._see(tx, reach, one, now_ms)) is not None]
        return rows, found[limit - 1].device_id if len(found) > limit else None

    def all_of(self, tx: Transaction, reach: Reach) -> list[Seen]:
        """At most so many as one page holds."""
        return self.find_page(tx, reach)[0]

    def view(self, tx: Transaction, reach: Reach, device_id: str) -> Seen:
        """Raises `not_found`, also for somebody else's."""
        found = store.find_thing(tx, device_id) if is_id(device_id, Prefix.DEVICE) else None
        seen = None if found is None else self._see(tx, reach, found, self._clock.now_ms())
        if seen is None:
            raise _no_thing()
        return seen

    def named(self, tx: Transaction, reach: Reach, name: str) -> Seen:
        """By id, or by the device's name where only one is called so. Raises `not_found`, `invalid`."""
        if is_id(name, Prefix.DEVICE):
            return self.view(tx, reach, name)
        called = self._devices.called(tx, name.strip(), None if reach.sees_all else reach.user_id)
        rows = [store.find_thing(tx, device.device_id) for device in called]
        seen = [self._see(tx, reach, row, self._clock.now_ms()) for row in rows if row is not None]
        found = [one for one in seen if one is not None]
        if len(found) > 1 or len(called) == CALLED_SO:
            raise Problem(Code.INVALID, "Several things are called so. Name it by its id.")
        if not found:
            raise _no_thing()
        return found[0]

    def _see(self, tx: Transaction, reach: Reach, one: Thing, now_ms: int) -> Seen | None:
        device = self._devices.find_device(tx, one.device_id)
        if device is None or device.status is DeviceStatus.REVOKED or not reach.sees(device):
            return None
        states = store.states_of(tx, one.device_id)
        return Seen(one, device.name, one.status_at(now_ms, self.listens_since()), type_in(tx, one.type), states)

    def events(self, tx: Transaction, device_id: str, count: int) -> list[Happening]:
        """Newest first. Of a thing that was seen in this unit."""
        return history_store.events_of(tx, device_id, count)

    def history(self, tx: Transaction, seen: Seen, reading: str, since_ms: int, until_ms: int, points: int) -> History:
        """Oldest first, at most about `points` of them. Raises `not_found`, `invalid`."""
        state = next((one for one in seen.states if one.name == reading), None)
        if state is None:
            raise Problem(Code.NOT_FOUND, "This thing has no such reading.")
        if not since_ms < until_ms:
            raise Problem(Code.INVALID, "The history begins before it ends.")
        if isinstance(state.value, str):
            return History(history_store.texts(tx, state.series, since_ms, until_ms, min(points, MAX_TEXTS)), 0)
        width_ms = width_of(until_ms - since_ms, points)
        recent = history_store.points(tx, state.series, since_ms, until_ms, width_ms)
        if since_ms >= self._clock.now_ms() - self._keep_readings_ms:
            return History(recent, width_ms)
        first_ms = since_ms - since_ms % history_store.HOUR_MS
        hours = history_store.hour_rows(tx, state.series, first_ms, until_ms)
        return History(merged([*hours, *recent], width_ms), width_ms)

    def readings(
        self, tx: Transaction, seen: Seen, reading: str, since_ms: int, until_ms: int, count: int
    ) -> list[tuple[int, Value]]:
        """Each one that is still kept by itself, with its time: the first so many, oldest first."""
        state = next((one for one in seen.states if one.name == reading), None)
        return [] if state is None else history_store.each(tx, state, since_ms, until_ms, count)

    def owner_of(self, tx: Transaction, device_id: str) -> str:
        """Whose a thing is; empty for none."""
        found = self._devices.find_device(tx, device_id)
        return "" if found is None else found.user_id

    def type_name(self, tx: Transaction, device_id: str) -> str | None:
        """Of which type a thing is."""
        found = store.find_thing(tx, device_id)
        return None if found is None else found.type

    def of_type(self, tx: Transaction, reach: Reach, name: str) -> list[Seen]:
        """Those of a type, of the first page."""
        return [one for one in self.all_of(tx, reach) if one.thing.type == name]

    # -- for updates

    def ids_of_type(self, tx: Transaction, name: str, limit: int) -> list[str]:
        """The device ids of things of a type, at most so many."""
        return store.of_type(tx, name, limit)

    def pulse(self, tx: Transaction, device_id: str, reading: str) -> tuple[str, int | None, int | None] | None:
        """What it says that it runs, since when it is online (None: it is not), and when this reading came last."""
        found = store.find_thing(tx, device_id)
        if found is None:
            return None
        states = store.states_of(tx, device_id) if reading else []
        is_online = found.status_at(self._clock.now_ms(), self.listens_since()) is ThingStatus.ONLINE
        at_ms = next((one.at_ms for one in states if one.name == reading), None)
        return found.firmware, found.status_at_ms if is_online else None, at_ms

    # -- types

    def types(self, tx: Transaction) -> list[ThingType]:
        return [type_of(body["name"], body) for body in store.list_types(tx)]

    def get_type(self, tx: Transaction, name: str) -> ThingType:
        found = store.find_type(tx, name)
        if found is None:
            raise Problem(Code.NOT_FOUND, "There is no such type.")
        return type_of(name, found)

    def put_type(self, tx: Transaction, by: Principal, one: ThingType, now_ms: int) -> None:
        """Make or replace it; things of it are judged by the new one from now on."""
        if store.find_type(tx, one.name) is None and store.count_types(tx) >= MAX_TYPES:
            raise Problem(Code.QUOTA_EXCEEDED, f"There are {MAX_TYPES} types already. Remove some first.")
        store.put_type(tx, one.name, one.to_json(), now_ms)
        forget_type(tx, one.name)
        risks = " ".join(f"{name}:{spec.risk}" for name, spec in one.commands.items())
        self._audit.record(
            tx, AuditEvent.THING_TYPE_CHANGED, now_ms=now_ms, actor=by, subject=one.name, facts={"commands": risks}
        )

    def remove_type(self, tx: Transaction, by: Principal, name: str, now_ms: int) -> None:
        """Raises `not_found`, and `invalid` while things are of it."""
        self.get_type(tx, name)
        if not store.delete_type(tx, name):
            raise Problem(Code.INVALID, "Things are of this type. Give them another one first.")
        forget_type(tx, name)
        self._audit.record(tx, AuditEvent.THING_TYPE_REMOVED, now_ms=now_ms, actor=by, subject=name)

    def assign(self, tx: Transaction, by: Principal, device_id: str, type_name: str | None, now_ms: int) -> None:
        """Say of which type a device is; None: of none. Raises `not_found`."""
        device = self._devices.find_device(tx, device_id) if is_id(device_id, Prefix.DEVICE) else None
        reach = Reach.of(by.user_id, by.scopes)
        if device is None or device.status is DeviceStatus.REVOKED or not reach.commands(device):
            raise _no_thing()
        if type_name is not None:
            self.get_type(tx, type_name)
        store.add_thing(tx, device_id, device.user_id, now_ms)
        store.assign(tx, device_id, type_name)
        forget_thing(tx, device_id)
        facts = {"type": type_name or ""}
        self._audit.record(tx, AuditEvent.THING_TYPED, now_ms=now_ms, actor=by, subject=device_id, facts=facts)

    def begin(self, tx: Transaction, device: Device, now_ms: int) -> None:
        """A device that enrolled is a thing of its type from the start, where there is such a type."""
        if device.device_type and store.find_type(tx, device.device_type) is not None:
            store.add_thing(tx, device.device_id, device.user_id, now_ms)
            store.assign(tx, device.device_id, device.device_type)

    # -- commands

    async def carry_out(self, unit: Callable[[Transaction], T]) -> T:
        """Run a unit that may command things. A refusal is told to `on_refused` before its caller hears of it."""
        try:
            return await self._database.write(unit)
        except CommandRefused as refused:
            await self.on_refused(refused)
            raise

    def spec_of(self, seen: Seen, name: str, args: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments as the type takes them. Raises `invalid` for what it does not."""
        if seen.type is None:
            raise Problem(Code.INVALID, f"{seen.name} has no type, so it is not known what it can do. Give it one.")
        spec = seen.type.commands.get(name)
        if spec is None:
            known = ", ".join(seen.type.commands) or "none"
            raise Problem(Code.INVALID, f"{seen.name} has no such command. It has: {known}.")
        return spec.check(args)

    def risk_of(self, seen: Seen, name: str, args: Mapping[str, Any]) -> Risk | None:
        """What is at stake when no person gives this command; None: nobody need be asked. Raises `invalid`."""
        self.spec_of(seen, name, args)
        assert seen.type is not None
        return seen.type.commands[name].approval_risk

    def command(
        self, tx: Transaction, reach: Reach, seen: Seen, name: str, args: Mapping[str, Any], *, via: str,
        actor: Principal | None, now_ms: int, expires_in_s: int | None = None,
    ) -> Command:  # fmt: skip
        """Queue a command and bring it to the thing, now or when it returns. Raises CommandRefused, `invalid`,
        `quota_exceeded`. Units that call it are run by `carry_out`.
        """
        device = self._devices.get_device(tx, seen.thing.device_id)
        by_device = None if actor is None else actor.device_id
        wish = Wish(reach.user_id, reach.commands_all, via, by_device, device, name)
        why = self.refusal_of(tx, wish)
        if why is not None:
            is_known = seen.type is not None and name in seen.type.commands
            raise CommandRefused(seen.name, wish, why, is_known=is_known)
        if device.status is not DeviceStatus.ACTIVE:
            raise Problem(Code.INVALID, "This device is suspended. Reactivate it first.")
        checked = self.spec_of(seen, name, args)
        assert seen.type is not None
        if command_store.count_waiting(tx, device.device_id) >= MAX_WAITING:
            raise Problem(Code.QUOTA_EXCEEDED, f"{MAX_WAITING} commands wait for this thing. Cancel some first.")
        lasts_s = min(expires_in_s or seen.type.commands[name].expires_after_s, 7 * 24 * 3600)
        one = Command(
            command_id=self._ids.new(Prefix.COMMAND),
            device_id=device.device_id,
            user_id=reach.user_id,
            name=name,
            args=json.dumps(checked, ensure_ascii=False, separators=(",", ":")),
            via=via,
            state=CommandState.QUEUED,
            made_at_ms=now_ms,
            expires_at_ms=now_ms + lasts_s * 1000,
        )
        command_store.insert_command(tx, one)
        facts = {"command": name, "command_id": one.command_id, "via": via}
        self._audit.record(
            tx, AuditEvent.THING_COMMANDED, now_ms=now_ms, actor=actor, subject=device.device_id, facts=facts,
            personal={"args": one.args},
        )  # fmt: skip
        self._send(tx, one, device.user_id, now_ms)
        return one

    def _send(self, tx: Transaction, one: Command, user_id: str, now_ms: int) -> None:
        self.send(tx, one.device_id, user_id, "command", told(one), now_ms, one.expires_at_ms)

    def send_waiting(self, tx: Transaction, device_id: str, now_ms: int) -> None:
        """A thing subscribed to its commands anew: those that had no session to wait in are sent now."""
        device = self._devices.find_device(tx, device_id)
        for one in command_store.waiting_of(tx, device_id):
            if device is not None and one.expires_at_ms > now_ms:
                self._send(tx, one, device.user_id, now_ms)

    def unanswered(self, tx: Transaction, device_id: str, now_ms: int, *, with_accepted: bool) -> list[bytes]:
        """What a board has to be told that may not have heard it, oldest first. Nothing of a device that may not act."""
        device = self._devices.find_device(tx, device_id)
        if device is None or device.status is not DeviceStatus.ACTIVE:
            return []
        return [
            told(one)
            for one in command_store.waiting_of(tx, device_id)
            if one.expires_at_ms > now_ms and (with_accepted or one.state is CommandState.QUEUED)
        ]

    def devices_unanswered(
        self, tx: Transaction, made_before_ms: int, now_ms: int, after: str, count: int
    ) -> list[str]:
        """Whose commands nobody answered, by device id, from the one after `after` on."""
        return command_store.devices_unanswered(tx, made_before_ms, now_ms, after, count)

    def find_command(self, tx: Transaction, seen: Seen, command_id: str) -> Command:
        """Raises `not_found`."""
        found = command_store.find_command(tx, command_id)
        if found is None or found.device_id != seen.thing.device_id:
            raise Problem(Code.NOT_FOUND, "There is no such command of this thing.")
        return found

    def state_of(self, tx: Transaction, command_id: str) -> str:
        """How a command is, whoever's it is; empty where it is forgotten."""
        found = command_store.find_command(tx, command_id)
        return "" if found is None else found.state.value

    def commands_of(
        self, tx: Transaction, seen: Seen, before: str | None, limit: int
    ) -> tuple[list[Command], str | None]:
        """Newest first, and the cursor of the next page."""
        rows = command_store.commands_of(tx, seen.thing.device_id, before or NEWEST, limit + 1)
        return rows[:limit], rows[limit - 1].command_id if len(rows) > limit else None

    def cancel(self, tx: Transaction, reach: Reach, seen: Seen, command_id: str, now_ms: int) -> Command:
        """A board that was sent it may carry it out nevertheless; no other hears of it. Raises `not_found`, `forbidden`, `invalid`."""
        one = self.find_command(tx, seen, command_id)
        if not reach.commands(self._devices.get_device(tx, one.device_id)):
            raise Problem(Code.FORBIDDEN, "This is somebody else's thing.")
        if not self._end(tx, one, CommandState.CANCELLED, now_ms):
            raise Problem(Code.INVALID, "This command is over.")
        tx.after_commit(lambda: self.on_cancelled(one.device_id))
        return self.find_command(tx, seen, command_id)

    def _end(self, tx: Transaction, one: Command, state: CommandState, now_ms: int) -> bool:
        if not command_store.end(tx, one.device_id, one.command_id, state, now_ms):
            return False
        counter = self._meters.counter(Metric.THING_COMMANDS, state=state.value)
        tx.after_commit(counter.add)
        tx.after_commit(lambda: tell_all(self.on_end, one.command_id))
        return True

    async def expire(self) -> None:
        """Commands that nobody carried out in time."""
        now_ms = self._clock.now_ms()
        if not await self._database.read(lambda tx: command_store.due(tx, now_ms, 1), is_small=True):
            return

        def unit(tx: Transaction) -> None:
            for one in command_store.due(tx, now_ms, AT_ONCE):
                self._end(tx, one, CommandState.EXPIRED, now_ms)

        await self._database.write(unit)

    def forget(self, tx: Transaction, device_id: str, now_ms: int) -> None:
        """A device was suspended or revoked: what waits for it is cancelled."""
        for one in command_store.waiting_of(tx, device_id):
            self._end(tx, one, CommandState.CANCELLED, now_ms)


def width_of(span_ms: int, points: int) -> int:
    """What one point stands for: a round time, so that charts of one span show the same points again."""
    for width_s in (1, 5, 10, 30, 60, 300, 600, 1800, 3600, 3 * 3600, 6 * 3600, 24 * 3600, 7 * 24 * 3600):
        if span_ms <= width_s * 1000 * points:
            return width_s * 1000
    return 30 * 24 * 3600_000


def merged(found: list[Point], width_ms: int) -> list[Point]:
    """Points of several widths as points of one, oldest first."""
    slots: dict[int, Point] = {}
    for one in sorted(found, key=lambda point: point.at_ms):
        at_ms = one.at_ms - one.at_ms % width_ms
        before = slots.get(at_ms)
        slots[at_ms] = Point(at_ms, one.count, one.low, one.mean, one.high) if before is None else _both(before, one)
    return list(slots.values())


def _both(one: Point, other: Point) -> Point:
    count = one.count + other.count
    assert one.low is not None and one.mean is not None and one.high is not None  # noqa: PT018  texts are not merged
    assert other.low is not None and other.mean is not None and other.high is not None  # noqa: PT018
    mean = (one.mean * one.count + other.mean * other.count) / count
    return Point(one.at_ms, count, min(one.low, other.low), mean, max(one.high, other.high))


def shown(value: Value, unit: str = "") -> str:
    """For people and models: `21.5 °C`, `yes`."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = value if isinstance(value, str) else f"{value:.6g}"
    return f"{text} {unit}".strip()


def _no_thing() -> Problem:
    return Problem(Code.NOT_FOUND, "There is no such thing.")
