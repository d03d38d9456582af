"""A dry run: when a rule would have fired by what is stored. It is judged as it is when it runs, and nothing happens."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from entobot.automations.model import Cause, Watch
from entobot.automations.rules import Rule
from entobot.automations.service import Automations
from entobot.automations.times import Hours, may_fire_at
from entobot.automations.watching import Zones
from entobot.core.principal import Principal
from entobot.storage.database import Transaction
from entobot.things.model import Value
from entobot.things.service import Seen, Things

MAX_HOURS = 7 * 24
MAX_READINGS = 20_000
MAX_FIRED = 200
NO_HISTORY = "When things were online is not kept, so a rule about their status cannot be tried."
HOUR_MS = 3600_000


@dataclass(frozen=True, slots=True)
class Would:
    at_ms: int
    cause: Cause


@dataclass(slots=True)
class Tried:
    fired: list[Would] = field(default_factory=list[Would])
    looked_at: int = 0
    is_cut: bool = False
    note: str = ""


class Trying:
    def __init__(self, automations: Automations, things: Things, zones: Zones) -> None:
        self._automations = automations
        self._things = things
        self._zones = zones

    def run(self, tx: Transaction, by: Principal, rule: Rule, hours: float, now_ms: int) -> Tried:
        """Of a rule that is the caller's own, whose zones were looked up."""
        since_ms = now_ms - round(hours * HOUR_MS)
        if rule.body.when.status is not None:
            return Tried(note=NO_HISTORY)
        trial = _Trial(rule, self._hours(rule), now_ms)
        if rule.body.when.is_time:
            for at_ms in self._times(rule, since_ms, now_ms):
                trial.time(at_ms)
            return trial.tried
        name = rule.body.when.looked_at
        found: list[tuple[int, Value, Seen]] = []
        for seen in self._automations.seen(tx, by, rule):
            left = MAX_READINGS - len(found)
            rows = self._things.readings(tx, seen, name, since_ms, now_ms + 1, left + 1)
            trial.tried.is_cut |= len(rows) > left
            found += [(at_ms, value, seen) for at_ms, value in rows[:left]]
        for at_ms, value, seen in sorted(found, key=lambda one: one[0]):
            trial.read(at_ms, value, seen)
        trial.end()
        return trial.tried

    def _hours(self, rule: Rule) -> Hours | None:
        only = rule.body.only
        if only is None:
            return None
        zone = self._zones.find(only.zone)
        assert zone is not None, "it was looked up before the unit"
        return only.hours(zone)

    def _times(self, rule: Rule, since_ms: int, now_ms: int) -> Iterator[int]:
        zone = self._zones.find(rule.body.when.zone)
        assert zone is not None, "it was looked up before the unit"
        schedule = rule.body.when.schedule(zone)
        at_ms = schedule.after(since_ms)
        while at_ms <= now_ms:
            yield at_ms
            at_ms = schedule.after(at_ms)


class _Trial:
    """What the sweeps and units would have seen, one after the other."""

    def __init__(self, rule: Rule, hours: Hours | None, now_ms: int) -> None:
        self.tried = Tried()
        self._rule = rule
        self._hours = hours
        self._now_ms = now_ms
        self._fired_at_ms: int | None = None
        self._watches: dict[str, tuple[Watch, Seen]] = {}

    def time(self, at_ms: int) -> None:
        if may_fire_at(at_ms, self._hours, self._fired_at_ms, self._rule.pause_ms) == at_ms:
            self._fire(at_ms, Cause(at_ms))

    def read(self, at_ms: int, value: Value, seen: Seen) -> None:
        self._sweep(at_ms - 1)
        self.tried.looked_at += 1
        device_id = seen.thing.device_id
        watch = self._watches.get(device_id, (Watch(), seen))[0]
        self._watches[device_id] = (watch.next(self._rule.body.when.condition, value, at_ms), seen)
        self._sweep(at_ms)

    def end(self) -> None:
        self._sweep(self._now_ms)

    def _sweep(self, until_ms: int) -> None:
        """Fire what became due until then, the earliest first."""
        while True:
            due = [
                (watch.due_ms, device_id)
                for device_id, (watch, _) in self._watches.items()
                if watch.due_ms is not None and watch.is_due(until_ms)
            ]
            if not due:
                return
            due_ms, device_id = min(due)
            watch, seen = self._watches[device_id]
            at_ms = may_fire_at(due_ms, self._hours, self._fired_at_ms, self._rule.pause_ms)
            if at_ms > due_ms:
                self._watches[device_id] = (watch.later(at_ms), seen)
                continue
            name = self._rule.body.when.looked_at
            self._fire(due_ms, Cause(watch.since_ms, device_id, seen.name, name, watch.value, seen.unit_of(name)))
            self._watches[device_id] = (watch.fired(), seen)

    def _fire(self, at_ms: int, cause: Cause) -> None:
        self._fired_at_ms = at_ms
        if len(self.tried.fired) >= MAX_FIRED:
            self.tried.is_cut = True
        else:
            self.tried.fired.append(Would(at_ms, cause))
