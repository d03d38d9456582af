"""What a board says becomes state and history, in the commit that acknowledges its message.

On SQLite a reading costs no query: what is known of its thing stays in memory, and rows of many readings are written
together. What does not fit changes nothing but a count.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ParamSpec

from entobot.core.clock import Clock
from entobot.mqtt.model import Message
from entobot.storage.database import Transaction
from entobot.telemetry.meters import Meters
from entobot.telemetry.metrics import Metric
from entobot.things import command_store, history_store, store
from entobot.things.model import (
    MAX_NAMES,
    CommandState,
    Pace,
    Reading,
    Refusal,
    ThingStatus,
    Unfit,
)
from entobot.things.payloads import Window, read_batch, read_event, read_reading, read_result, read_status
from entobot.things.types import ThingType, type_of

ROOT = "devices"
LATE_MS = 10_000
"""What is older waited elsewhere, and something newer may have been heard before it."""
P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Known:
    """Of a thing, what each of its messages needs."""

    type: str | None
    status: ThingStatus
    every_s: int | None


@dataclass(frozen=True, slots=True)
class Bounds:
    pace: Pace
    keep_ms: int
    """No reading is older."""


OnReading = Callable[[str, Reading], None]
OnKept = Callable[[Transaction, str, str | None, Sequence[Reading], int], None]
"""A device's id, its type, what was kept, and now."""
OnStatus = Callable[[Transaction, str, ThingStatus, int], None]
OnEnd = Callable[[str], None]


def type_in(tx: Transaction, name: str | None) -> ThingType | None:
    """The type of this name, remembered where that can be."""
    if name is None:
        return None
    memory, key = tx.memory, ("thing_type", name)
    found: ThingType | None = None if memory is None else memory.get(key)
    if found is None:
        body = store.find_type(tx, name)
        if body is None:
            return None
        found = type_of(name, body)
        if memory is not None:
            memory.put(key, found)
    return found


def forget_type(tx: Transaction, name: str) -> None:
    if tx.memory is not None:
        tx.memory.forget(("thing_type", name))


def forget_thing(tx: Transaction, device_id: str) -> None:
    if tx.memory is not None:
        tx.memory.forget(("thing", device_id))


def tell_all(listeners: Sequence[Callable[P, None]], *args: P.args, **more: P.kwargs) -> None:
    for tell in listeners:
        tell(*args, **more)


class Intake:
    """`on_reading` is called after the commit, for each reading that was taken as it came; `on_kept` in the unit that keeps
    them, `on_status` in the one in which a status changes; `on_end` after the commit that ends a command, by its id.
    """

    def __init__(self, bounds: Bounds, meters: Meters, clock: Clock) -> None:
        self._bounds = bounds
        self._meters = meters
        self._clock = clock
        self._taken = meters.counter(Metric.THING_READINGS)
        self.on_reading: list[OnReading] = []
        self.on_kept: list[OnKept] = []
        self.on_status: list[OnStatus] = []
        self.on_event: list[Callable[[str, str], None]] = []
        self.on_end: list[OnEnd] = []

    def take(self, tx: Transaction, message: Message) -> None:
        """Part of the unit that stores a message. Only what a device says below its own topics is about itself."""
        levels = message.topic.split("/")
        if len(levels) < 3 or levels[0] != ROOT or levels[1] != message.device_id:
            return
        what, name = levels[2], "/".join(levels[3:])
        if what == "telemetry" and name:
            self._take(tx, message, lambda known: self._take_reading(tx, message, name, known))
        elif not name and what in ("event", "result", "status", "telemetry"):
            take = {
                "event": self._take_event,
                "result": self._take_result,
                "status": self._take_status,
                "telemetry": self._take_batch,
            }[what]
            self._take(tx, message, lambda known: take(tx, message, known))

    def _take(self, tx: Transaction, message: Message, take: Callable[[Known], None]) -> None:
        known = self._know(tx, message)
        try:
            take(known)
        except Unfit as error:
            self.refuse(tx, message.device_id, error, message.at_ms)

    def _know(self, tx: Transaction, message: Message) -> Known:
        memory, key = tx.memory, ("thing", message.device_id)
        known: Known | None = None if memory is None else memory.get(key)
        if known is None:
            found = store.find_thing(tx, message.device_id)
            if found is None:
                store.add_thing(tx, message.device_id, message.user_id, message.at_ms)
                known = Known(None, ThingStatus.NEVER, None)
            else:
                known = Known(found.type, found.status, found.every_s)
            self._remember(tx, message.device_id, known)
        return known

    def _remember(self, tx: Transaction, device_id: str, known: Known) -> None:
        if tx.memory is not None:
            tx.memory.put(("thing", device_id), known)

    def refuse(self, tx: Transaction, device_id: str, error: Unfit, now_ms: int) -> None:
        """Counted with the thing and in the metrics; nothing else of it is kept."""
        store.note_refused(tx, device_id, error.detail, now_ms)
        counter = self._meters.counter(Metric.THING_REFUSED, reason=error.why.value)
        tx.after_commit(counter.add)

    def _window(self, now_ms: int) -> Window:
        return Window(now_ms, now_ms - self._bounds.keep_ms)

    # -- readings

    def _take_reading(self, tx: Transaction, message: Message, name: str, known: Known) -> None:
        self._hear(tx, message.device_id, known, message.at_ms)
        one = read_reading(name, message.payload, self._window(message.at_ms))
        thing_type = type_in(tx, known.type)
        if thing_type is not None:
            thing_type.check(one)
        self._keep(tx, message.device_id, one)
        tell_all(self.on_kept, tx, message.device_id, known.type, [one], message.at_ms)
        tx.after_commit(lambda: self._told(message.device_id, [one]))

    def _take_batch(self, tx: Transaction, message: Message, known: Known) -> None:
        """Of before, perhaps: it says nothing of how the board is now."""
        batch = read_batch(message.payload, self._window(message.at_ms))
        if not history_store.know_batch(tx, message.device_id, batch.batch, message.at_ms):
            return
        thing_type = type_in(tx, known.type)
        for error in batch.unfit:
            self.refuse(tx, message.device_id, error, message.at_ms)
        kept: list[Reading] = []
        for one in batch.readings:
            try:
                if thing_type is not None:
                    thing_type.check(one)
                self._keep(tx, message.device_id, one)
                kept.append(one)
            except Unfit as error:
                self.refuse(tx, message.device_id, error, message.at_ms)
        tell_all(self.on_kept, tx, message.device_id, known.type, kept, message.at_ms)
        tx.after_commit(lambda: self._told(message.device_id, kept))

    def _keep(self, tx: Transaction, device_id: str, one: Reading) -> None:
        memory, key = tx.memory, ("thing_series", device_id, one.name)
        number: int | None = None if memory is None else memory.get(key)
        if number is None:
            number = store.find_series(tx, device_id, one.name)
            if number is None:
                if store.count_series(tx, device_id) >= MAX_NAMES:
                    raise Unfit(Refusal.TOO_MANY, f"A thing has readings of at most {MAX_NAMES} names.")
                number = store.insert_series(tx, device_id, one)
            if memory is not None:
                memory.put(key, number)
        store.set_state(tx, number, one)
        history_store.add_reading(tx, number, one)

    def _told(self, device_id: str, readings: list[Reading]) -> None:
        self._taken.add(len(readings))
        for tell in self.on_reading:
            for one in readings:
                tell(device_id, one)

    # -- status

    def status_of(self, tx: Transaction, device_id: str) -> ThingStatus | None:
        """As it is noted; None for what is no thing."""
        found = store.find_thing(tx, device_id)
        return None if found is None else found.status

    def came(self, tx: Transaction, device_id: str, now_ms: int) -> None:
        """A board connected elsewhere. Is it a thing by now, it is online."""
        found = store.find_thing(tx, device_id)
        if found is not None:
            self._hear(tx, device_id, Known(found.type, found.status, found.every_s), now_ms)

    def lost(self, tx: Transaction, device_id: str, at_ms: int, now_ms: int) -> None:
        """Its connection broke elsewhere at `at_ms`. What was heard of it since then shows that it has come again."""
        found = store.find_thing(tx, device_id)
        if (
            found is None
            or found.status not in (ThingStatus.ONLINE, ThingStatus.STALE)
            or (found.heard_ms or 0) > at_ms
        ):
            return
        if store.fall(tx, found, ThingStatus.OFFLINE, now_ms):
            self._remember(tx, device_id, Known(found.type, ThingStatus.OFFLINE, found.every_s))
            tell_all(self.on_status, tx, device_id, ThingStatus.OFFLINE, now_ms)

    def _hear(self, tx: Transaction, device_id: str, known: Known, at_ms: int) -> None:
        """Something came: it is online, and for how long that holds counts anew; unless it waited elsewhere for so long
        that it is over.
        """
        pace = self._pace(tx, known)
        stale_at_ms, offline_at_ms = at_ms + pace.stale_ms, at_ms + pace.offline_ms
        now_ms = self._clock.now_ms()
        hear = store.heard if at_ms > now_ms - LATE_MS else store.heard_then
        hear(tx, device_id, at_ms, stale_at_ms, offline_at_ms)
        if offline_at_ms <= now_ms:
            if known.status is ThingStatus.NEVER:
                self._change(tx, device_id, known, ThingStatus.OFFLINE, at_ms)
            return
        if known.status is not ThingStatus.ONLINE:
            self._change(tx, device_id, known, ThingStatus.ONLINE, at_ms)

    def _pace(self, tx: Transaction, known: Known) -> Pace:
        if known.every_s is not None:
            return Pace.of(known.every_s, self._bounds.pace)
        thing_type = type_in(tx, known.type)
        return self._bounds.pace if thing_type is None else thing_type.pace(self._bounds.pace)

    def _change(self, tx: Transaction, device_id: str, known: Known, status: ThingStatus, now_ms: int) -> None:
        if store.set_status(tx, device_id, status, now_ms):
            self._remember(tx, device_id, Known(known.type, status, known.every_s))
            for tell in self.on_status:
                tell(tx, device_id, status, now_ms)

    def _take_status(self, tx: Transaction, message: Message, known: Known) -> None:
        said = read_status(message.payload)
        if said.firmware is not None or said.every_s is not None:
            store.note_said(tx, message.device_id, said.firmware, said.every_s)
            known = Known(known.type, known.status, said.every_s if said.every_s is not None else known.every_s)
            self._remember(tx, message.device_id, known)
        if said.status is ThingStatus.ONLINE:
            self._hear(tx, message.device_id, known, message.at_ms)
        else:
            self._change(tx, message.device_id, known, ThingStatus.OFFLINE, message.at_ms)

    # -- events and results

    def _take_event(self, tx: Transaction, message: Message, known: Known) -> None:
        self._hear(tx, message.device_id, known, message.at_ms)
        happening = read_event(message.payload, self._window(message.at_ms))
        history_store.add_event(tx, message.device_id, happening)
        tx.after_commit(lambda: tell_all(self.on_event, message.device_id, happening.name))

    def _take_result(self, tx: Transaction, message: Message, known: Known) -> None:
        self._hear(tx, message.device_id, known, message.at_ms)
        found = read_result(message.payload)
        device_id, now_ms = message.device_id, message.at_ms
        if found.state is CommandState.ACCEPTED:
            is_taken = command_store.accept(tx, device_id, found.command_id, now_ms)
        else:
            is_taken = command_store.end(
                tx, device_id, found.command_id, found.state, now_ms, result=found.result, error=found.error
            )
        if not is_taken:
            raise Unfit(Refusal.COMMAND, "A result for a command that is over, or none of this thing.")
        if found.state is not CommandState.ACCEPTED:
            counter = self._meters.counter(Metric.THING_COMMANDS, state=found.state.value)
            tx.after_commit(counter.add)
            tx.after_commit(lambda: tell_all(self.on_end, found.command_id))
