"""Use cases of roll-outs: begin, pause, go on, abort; what boards say of them; what the passing of time does.

Every step is one conditional update in the caller's unit, so it is all the same which node looks, how many look at
once, and where a process died.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import msgspec

from entobot.audit.events import AuditEvent, Outcome
from entobot.audit.service import Audit
from entobot.core.clock import Clock
from entobot.core.errors import Code, Problem
from entobot.core.ids import Ids, Prefix, is_id
from entobot.core.principal import Principal
from entobot.core.unreadable import UNREADABLE
from entobot.devices.model import Status
from entobot.devices.service import Devices
from entobot.mqtt.model import Message
from entobot.storage.database import Database, Transaction
from entobot.telemetry.meters import Meters
from entobot.telemetry.metrics import Metric
from entobot.things.service import Things
from entobot.updates import store
from entobot.updates.model import (
    BAD,
    MAX_NAMED,
    MAX_REASON_CHARACTERS,
    MAX_STAGES,
    DeviceState,
    OnDevice,
    Pulse,
    Rollout,
    Said,
    Stage,
    State,
    Step,
    Terms,
    after_said,
    after_version,
    decide,
    judge,
    plan,
)

AT_ONCE = 200
MAX_DEVICES = 10_000
MAX_SAID_BYTES = 4096
TOPIC = "update"
OFFER_MS = 24 * 3600_000
"""An offer waits so long for a board that is away; when it comes it is told again anyway."""
_MOVING = (DeviceState.INSTALLED, DeviceState.DOWNLOADING, DeviceState.OFFERED)


@dataclass(frozen=True, slots=True)
class Wanted:
    type: str
    version: str
    stages: tuple[Stage, ...]
    terms: Terms


@dataclass(frozen=True, slots=True)
class Shown:
    """A roll-out, and how many devices of each of its stages are in which state."""

    rollout: Rollout
    tallies: Mapping[int, Mapping[DeviceState, int]]


class Rollouts:
    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        ids: Ids,
        audit: Audit,
        devices: Devices,
        things: Things,
        guard: Callable[[Transaction, Principal], None],
        meters: Meters,
    ) -> None:
        self._database = database
        self._clock = clock
        self._ids = ids
        self._audit = audit
        self._devices = devices
        self._things = things
        self._guard = guard
        self._steps = {state: meters.counter(Metric.UPDATE_STEPS, state=state) for state in DeviceState}
        self._devices_in = {state: meters.gauge(Metric.ROLLOUT_DEVICES, state=state) for state in DeviceState}
        self._open_in = {state: meters.gauge(Metric.ROLLOUTS, state=state) for state in (State.RUNNING, State.PAUSED)}
        self._after: dict[tuple[str, DeviceState], str] = {}  # where the last look ended, of many

    # -- for people

    def begin(self, tx: Transaction, by: Principal, wanted: Wanted, now_ms: int) -> Rollout:
        """Bring a release to the things of its type. Raises `not_found`, `invalid`, `signature_invalid`."""
        self._guard(tx, by)
        _check(wanted)
        release = store.find_version(tx, wanted.type, wanted.version)
        if release is None:
            raise Problem(Code.NOT_FOUND, f"There is no release {wanted.version} of {wanted.type}. Add it first.")
        if store.find_key(tx, release.public_key) is None:
            raise Problem(Code.SIGNATURE_INVALID, "The key that signed this release was removed here.")
        one = Rollout(
            rollout_id=self._ids.new(Prefix.ROLLOUT),
            release_id=release.release_id,
            type=wanted.type,
            version=wanted.version,
            state=State.RUNNING,
            stage=0,
            stages=wanted.stages,
            terms=wanted.terms,
            forgiven=0,
            why="",
            made_by=by.device_id or by.user_id,
            created_at_ms=now_ms,
            stage_at_ms=now_ms,
        )
        self._place(tx, one, now_ms)
        facts = {"type": one.type, "version": one.version, "release_id": one.release_id}
        self._audit.record(tx, AuditEvent.ROLLOUT_STARTED, now_ms=now_ms, actor=by, subject=one.rollout_id, facts=facts)
        self.roll(tx, one.rollout_id, now_ms)
        return self.get(tx, one.rollout_id)

    def _place(self, tx: Transaction, one: Rollout, now_ms: int) -> None:
        tags = self._tags_of(tx, one.type)
        placed = plan(one.stages, tags, one.rollout_id)
        if not placed:
            raise Problem(Code.INVALID, f"No thing of the type {one.type} is in any of the stages.")
        if not store.add_rollout(tx, one):
            raise Problem(Code.INVALID, f"A roll-out to {one.type} is under way. Wait for its end, or abort it.")
        for device_id, stage in placed.items():
            version = self._pulse(tx, device_id, "").version
            state = DeviceState.HEALTHY if version == one.version else DeviceState.WAITING
            store.add_device(tx, OnDevice(one.rollout_id, device_id, stage, state, now_ms, "", version))

    def _tags_of(self, tx: Transaction, of_type: str) -> dict[str, Sequence[str]]:
        found: dict[str, Sequence[str]] = {}
        for device_id in self._things.ids_of_type(tx, of_type, MAX_DEVICES + 1):
            device = self._devices.find_device(tx, device_id)
            if device is not None and device.status is Status.ACTIVE:
                found[device_id] = device.tags
        if len(found) > MAX_DEVICES:
            raise Problem(Code.QUOTA_EXCEEDED, f"A roll-out reaches {MAX_DEVICES} things at most.")
        return found

    def pause(self, tx: Transaction, by: Principal, rollout_id: str, now_ms: int) -> Rollout:
        """Nothing new begins and nothing is downloaded. Raises `not_found`, `invalid`."""
        self._guard(tx, by)
        one = self.get(tx, rollout_id)
        if one.state is not State.RUNNING or not self._pause(tx, one, "somebody paused it", by, now_ms):
            raise Problem(Code.INVALID, "It does not run.")
        return self.get(tx, rollout_id)

    def resume(self, tx: Transaction, by: Principal, rollout_id: str, now_ms: int) -> Rollout:
        """Go on where it was; what failed so far does not count any more. Raises `not_found`, `invalid`."""
        self._guard(tx, by)
        one = self.get(tx, rollout_id)
        forgiven = store.tally(tx, one, now_ms).failed
        if one.state is not State.PAUSED or not store.move(tx, one, State.RUNNING, "", None, forgiven):
            raise Problem(Code.INVALID, "It is not paused.")
        release = store.find_release(tx, one.release_id)
        if release is None or store.find_key(tx, release.public_key) is None:
            raise Problem(Code.INVALID, "The key that signed this release was removed here. Abort the roll-out.")
        store.take_back(tx, rollout_id, now_ms)
        self._record(tx, AuditEvent.ROLLOUT_RESUMED, one, by, now_ms)
        self.roll(tx, rollout_id, now_ms)
        return self.get(tx, rollout_id)

    def abort(self, tx: Transaction, by: Principal, rollout_id: str, now_ms: int) -> Rollout:
        """End it for good; what was installed stays. Raises `not_found`, `invalid`."""
        self._guard(tx, by)
        one = self.get(tx, rollout_id)
        if not store.move(tx, one, State.ABORTED, one.why, now_ms, one.forgiven):
            raise Problem(Code.INVALID, "It is over.")
        self._record(tx, AuditEvent.ROLLOUT_ABORTED, one, by, now_ms)
        return self.get(tx, rollout_id)

    def get(self, tx: Transaction, rollout_id: str) -> Rollout:
        """Raises `not_found`."""
        found = store.find_rollout(tx, rollout_id) if is_id(rollout_id, Prefix.ROLLOUT) else None
        if found is None:
            raise Problem(Code.NOT_FOUND, "There is no such roll-out.")
        return found

    def show(self, tx: Transaction, principal: Principal, rollout_id: str) -> Shown:
        """Raises `not_found`."""
        self._guard(tx, principal)
        return Shown(self.get(tx, rollout_id), store.tallies(tx, rollout_id))

    def page(
        self, tx: Transaction, principal: Principal, before: str | None, limit: int
    ) -> tuple[list[Shown], str | None]:
        """Newest first, and the cursor of the next page."""
        self._guard(tx, principal)
        rows = store.page_of_rollouts(tx, before or store.LAST, limit + 1)
        shown = [Shown(one, store.tallies(tx, one.rollout_id)) for one in rows[:limit]]
        return shown, rows[limit - 1].rollout_id if len(rows) > limit else None

    def devices(
        self, tx: Transaction, principal: Principal, rollout_id: str, after: str, limit: int
    ) -> tuple[list[tuple[OnDevice, str]], str | None]:
        """With the devices' names, by id, and where to go on. Raises `not_found`."""
        self._guard(tx, principal)
        self.get(tx, rollout_id)
        rows = store.page_of_devices(tx, rollout_id, after, limit + 1)
        named = [(one, self._name(tx, one.device_id)) for one in rows[:limit]]
        return named, rows[limit - 1].device_id if len(rows) > limit else None

    def _name(self, tx: Transaction, device_id: str) -> str:
        device = self._devices.find_device(tx, device_id)
        return "" if device is None else device.name

    # -- what others do

    def key_removed(self, tx: Transaction, public_key: str, now_ms: int) -> None:
        for one in store.open_of_key(tx, public_key):
            if one.state is State.RUNNING:
                self._pause(tx, one, "the key that signed it was removed", None, now_ms)

    def forget(self, tx: Transaction, device_id: str, _now_ms: int) -> None:
        """A device was suspended or revoked: it is in no roll-out any more."""
        store.drop_device(tx, device_id)

    def arrived(self, tx: Transaction, message: Message) -> None:
        """Part of the unit that stores a message, after what it says of the thing was taken."""
        levels = message.topic.split("/")
        if len(levels) != 3 or levels[2] not in ("event", "status") or levels[1] != message.device_id:
            return
        rows = store.open_of_device(tx, message.device_id)
        if not rows or levels[0] != "devices":
            return
        found = _object(message.payload)
        for one in rows:
            rollout = self.get(tx, one.rollout_id)
            if levels[2] == "status":
                self._hear_status(tx, rollout, one, found, message)
            else:
                self._hear_event(tx, rollout, one, found, message.at_ms)

    def _hear_status(
        self, tx: Transaction, rollout: Rollout, one: OnDevice, found: Mapping[str, Any], message: Message
    ) -> None:
        version = found.get("firmware")
        if found.get("status") != "online" or not isinstance(version, str):
            return
        after = after_version(one.state, is_new=version == rollout.version)
        if after is not one.state:
            reason = f"it runs {_shown(version)} again" if after is DeviceState.ROLLED_BACK else ""
            self._change(tx, one, after, message.at_ms, reason)
        elif rollout.state is State.RUNNING and after in (DeviceState.OFFERED, DeviceState.DOWNLOADING):
            self._tell(tx, rollout, one.device_id, message.user_id, message.at_ms)  # it may have lost the offer

    def _hear_event(
        self, tx: Transaction, rollout: Rollout, one: OnDevice, found: Mapping[str, Any], now_ms: int
    ) -> None:
        data = found.get("data")
        if found.get("event") != "update" or not isinstance(data, dict):
            return
        said = cast("dict[str, Any]", data)
        state, reason = said.get("state"), said.get("reason", "")
        if said.get("release_id") != rollout.release_id or not isinstance(state, str) or not isinstance(reason, str):
            return
        if state not in frozenset(Said):
            return
        after = after_said(one.state, Said(state))
        if after is not one.state:
            self._change(tx, one, after, now_ms, _shown(reason))

    # -- what time does

    async def look(self) -> None:
        """Go on with every roll-out that runs, and measure those that are not over."""
        found = await self._database.read(store.open_now)
        for one in [one for one in found if one.state is State.RUNNING]:
            now_ms = self._clock.now_ms()
            await self._database.write(lambda tx, one=one, now_ms=now_ms: self.roll(tx, one.rollout_id, now_ms))
        await self._measure(is_any_open=bool(found))

    async def _measure(self, *, is_any_open: bool) -> None:
        states, devices = await self._database.read(store.open_tally) if is_any_open else ({}, {})
        for state, gauge in self._open_in.items():
            gauge.set(states.get(state, 0))
        for state, gauge in self._devices_in.items():
            gauge.set(devices.get(state, 0))

    def roll(self, tx: Transaction, rollout_id: str, now_ms: int) -> None:
        """One step of a roll-out: judge its devices, then pause, advance or finish it, and offer what is next."""
        one = store.find_rollout(tx, rollout_id)
        if one is None or one.state is not State.RUNNING:
            return
        for state in _MOVING:
            self._judge_some(tx, one, state, now_ms)
        match decide(one, store.tally(tx, one, now_ms)):
            case Step.PAUSE:
                self._pause(tx, one, "too many devices failed", None, now_ms)
            case Step.FINISH:
                if store.move(tx, one, State.DONE, "", now_ms, one.forgiven):
                    self._record(tx, AuditEvent.ROLLOUT_DONE, one, None, now_ms)
            case Step.ADVANCE:
                if store.advance(tx, one, now_ms):
                    further = replace(one, stage=one.stage + 1)
                    self._record(tx, AuditEvent.ROLLOUT_ADVANCED, further, None, now_ms)
                    self._offer_some(tx, further, now_ms)
            case Step.STAY:
                self._offer_some(tx, one, now_ms)

    def _judge_some(self, tx: Transaction, rollout: Rollout, state: DeviceState, now_ms: int) -> None:
        place = rollout.rollout_id, state
        rows = store.in_state(tx, *place, rollout.stage, self._after.pop(place, ""), AT_ONCE)
        if len(rows) == AT_ONCE:
            self._after[place] = rows[-1].device_id
        for one in rows:
            pulse = self._pulse(tx, one.device_id, rollout.terms.reading)
            after, reason = judge(one, pulse, rollout.terms, now_ms)
            if after is not state:
                self._change(tx, one, after, now_ms, reason)

    def _offer_some(self, tx: Transaction, rollout: Rollout, now_ms: int) -> None:
        for one in store.in_state(tx, rollout.rollout_id, DeviceState.WAITING, rollout.stage, "", AT_ONCE):
            device = self._devices.find_device(tx, one.device_id)
            if device is None or device.status is not Status.ACTIVE:
                store.drop_device(tx, one.device_id)
            elif self._pulse(tx, one.device_id, "").version == rollout.version:
                self._change(tx, one, DeviceState.INSTALLED, now_ms)
            elif self._change(tx, one, DeviceState.OFFERED, now_ms):
                self._tell(tx, rollout, one.device_id, device.user_id, now_ms)

    def _tell(self, tx: Transaction, rollout: Rollout, device_id: str, user_id: str, now_ms: int) -> None:
        release = store.find_release(tx, rollout.release_id)
        if release is None:
            return
        said = {
            "release_id": release.release_id,
            "version": release.version,
            "envelope_bytes": release.envelope_bytes,
            "size": release.size,
        }
        payload = json.dumps(said, separators=(",", ":")).encode()
        self._things.send(tx, device_id, user_id, TOPIC, payload, now_ms, now_ms + OFFER_MS)

    # -- small parts

    def _pulse(self, tx: Transaction, device_id: str, reading: str) -> Pulse:
        found = self._things.pulse(tx, device_id, reading)
        return Pulse("", None) if found is None else Pulse(*found)

    def _change(self, tx: Transaction, one: OnDevice, to: DeviceState, now_ms: int, reason: str = "") -> bool:
        if not store.change(tx, one, to, now_ms, reason):
            return False
        tx.after_commit(self._steps[to].add)
        if to in BAD:
            facts = {"rollout_id": one.rollout_id, "state": to.value}
            self._audit.record(
                tx, AuditEvent.ROLLOUT_DEVICE_FAILED, now_ms=now_ms, outcome=Outcome.FAILURE, subject=one.device_id,
                facts=facts, personal={"reason": reason},
            )  # fmt: skip
        return True

    def _pause(self, tx: Transaction, one: Rollout, why: str, by: Principal | None, now_ms: int) -> bool:
        if not store.move(tx, one, State.PAUSED, why, None, one.forgiven):
            return False
        self._record(tx, AuditEvent.ROLLOUT_PAUSED, one, by, now_ms, why=why)
        return True

    def _record(
        self, tx: Transaction, event: AuditEvent, one: Rollout, by: Principal | None, now_ms: int, why: str = ""
    ) -> None:
        facts: dict[str, str | int] = {"type": one.type, "version": one.version, "stage": one.stage + 1}
        if why:
            facts["why"] = why
        self._audit.record(tx, event, now_ms=now_ms, actor=by, subject=one.rollout_id, facts=facts)


def _check(wanted: Wanted) -> None:
    """Raises `invalid`."""
    if not 0 < len(wanted.stages) <= MAX_STAGES:
        raise Problem(Code.INVALID, f"A roll-out has 1 to {MAX_STAGES} stages.")
    before = 0
    for one in wanted.stages:
        if (one.percent is None) == (not one.tags and not one.devices):
            raise Problem(Code.INVALID, "A stage has a percentage, or tags and devices.")
        if max(len(one.tags), len(one.devices)) > MAX_NAMED:
            raise Problem(Code.INVALID, f"A stage names {MAX_NAMED} tags and devices at most.")
        if one.percent is not None:
            if not before < one.percent <= 100:
                raise Problem(Code.INVALID, "Percentages of stages grow, up to 100.")
            before = one.percent


def _object(payload: bytes) -> Mapping[str, Any]:
    """Empty for what is no JSON object: that was counted as unfit already."""
    if len(payload) > MAX_SAID_BYTES:
        return {}
    try:
        found = msgspec.json.decode(payload)
    except UNREADABLE:
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _shown(text: str) -> str:
    return "".join(c if c.isprintable() and c.isascii() else " " for c in text)[:MAX_REASON_CHARACTERS]
