"""Rules look at what is read, in the unit that keeps it, and at the clock. Each fires once for a cause.

What a firing does is a row of the same commit, worked off later: see `doing`.
"""

import json
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, tzinfo
from functools import partial

from entobot.accounts.service import Accounts
from entobot.approvals.service import Approvals
from entobot.audit.events import AuditEvent
from entobot.audit.service import Audit
from entobot.automations import firing_store, store
from entobot.automations.model import (
    CHAIN_MS,
    FRESH_MS,
    MAX_CHAIN,
    STATUS,
    Action,
    ActionState,
    Cause,
    Firing,
    FiringState,
    Value,
    Watch,
)
from entobot.automations.model import Kind as ActionKind
from entobot.automations.rules import Rule
from entobot.automations.times import Hours, may_fire_at
from entobot.bus.bus import Bus
from entobot.core import topics
from entobot.core.clock import Clock
from entobot.core.errors import Problem
from entobot.core.ids import Ids, Prefix
from entobot.core.permissions import Scope, narrow
from entobot.notifications.model import Kind, Note, Priority
from entobot.notifications.service import Notifications
from entobot.storage.database import Transaction
from entobot.telemetry.meters import Meters
from entobot.telemetry.metrics import Metric
from entobot.things.model import Reading, ThingStatus
from entobot.things.service import Reach, Seen, Things

KNOWN = ("automations",)
AT_ONCE = 50
LOOPED = (
    f"It fired more than {MAX_CHAIN} times in a row, each time within two minutes of what it or another rule had "
    "commanded: it seems to set itself off. Change it, then switch it on."
)


class Zones:
    """Time zones that were found; units do not look them up, since that reads a file."""

    def __init__(self) -> None:
        self._known: dict[str, tzinfo] = {"UTC": UTC}

    def put(self, name: str, zone: tzinfo) -> None:
        self._known[name] = zone

    def find(self, name: str) -> tzinfo | None:
        return self._known.get(name)


@dataclass(frozen=True, slots=True)
class _Known:
    """The rules that look at things, by device or type, and those of a type whose makers see all things."""

    rules: Mapping[str, Sequence[Rule]]
    seeing_all: frozenset[str]

    def at(self, device_id: str, type_name: str | None) -> list[Rule]:
        if not self.rules:
            return []
        return [*self.rules.get(device_id, ()), *self.rules.get(f"type {type_name}", ())]

    def sees_all(self, rule: Rule) -> bool:
        return rule.automation_id in self.seeing_all


class Watcher:
    def __init__(
        self,
        *,
        ids: Ids,
        bus: Bus,
        audit: Audit,
        accounts: Accounts,
        things: Things,
        approvals: Approvals,
        notifications: Notifications,
        meters: Meters,
        zones: Zones,
        clock: Clock,
    ) -> None:
        self._clock = clock
        self._ids = ids
        self._bus = bus
        self._audit = audit
        self._accounts = accounts
        self._things = things
        self._approvals = approvals
        self._notifications = notifications
        self._meters = meters
        self._zones = zones

    # -- what is read

    def read(
        self, tx: Transaction, device_id: str, type_name: str | None, readings: Sequence[Reading], now_ms: int
    ) -> None:
        """Of readings that were kept in this unit. Old ones are history only; of a batch the oldest counts first.

        `now_ms` may be earlier, where a message waited elsewhere.
        """
        rules = self._rules(tx, device_id, type_name, {one.name for one in readings})
        if not rules:
            return
        now_ms = max(now_ms, self._clock.now_ms())
        for one in sorted(readings, key=lambda reading: reading.at_ms):
            if one.at_ms < now_ms - FRESH_MS:
                continue
            for rule in rules:
                if rule.body.when.reading == one.name:
                    self._look(tx, rule, device_id, one.value, min(one.at_ms, now_ms), now_ms)

    def changed(self, tx: Transaction, device_id: str, status: ThingStatus, now_ms: int) -> None:
        """In the unit in which a thing's status changes. `now_ms` as of `read`."""
        now_ms = max(now_ms, self._clock.now_ms())
        for rule in self._rules(tx, device_id, self._things.type_name(tx, device_id), {STATUS}):
            self._look(tx, rule, device_id, status.value, now_ms, now_ms)

    def _rules(self, tx: Transaction, device_id: str, type_name: str | None, looked_at: Container[str]) -> list[Rule]:
        """Of those that look at a type, the ones of whoever sees this thing: others would look in vain."""
        known = self._known(tx)
        looking = store.looking_at(tx, device_id, type_name) if known is None else known.at(device_id, type_name)
        found = [rule for rule in looking if rule.body.when.looked_at in looked_at]
        if all(rule.type is None for rule in found):
            return found
        owner = self._things.owner_of(tx, device_id)
        sees_all = partial(self._sees_all, tx) if known is None else known.sees_all
        return [rule for rule in found if rule.type is None or rule.user_id == owner or sees_all(rule)]

    def _known(self, tx: Transaction) -> "_Known | None":
        memory = tx.memory
        if memory is None:
            return None
        known: _Known | None = memory.get(KNOWN)
        if known is None:
            rules: dict[str, list[Rule]] = {}
            for rule in store.looking(tx):
                rules.setdefault(rule.device_id or f"type {rule.type}", []).append(rule)
            of_types = [rule for some in rules.values() for rule in some if rule.type is not None]
            known = _Known(rules, frozenset(one.automation_id for one in of_types if self._sees_all(tx, one)))
            memory.put(KNOWN, known)
        return known

    def _sees_all(self, tx: Transaction, rule: Rule) -> bool:
        return Reach.of(rule.user_id, self.scopes_of(tx, rule)).sees_all

    def forget(self, tx: Transaction) -> None:
        """Rules have changed, or what their makers may see."""
        if tx.memory is not None:
            tx.memory.forget(KNOWN)

    def _look(self, tx: Transaction, rule: Rule, device_id: str, value: Value, at_ms: int, now_ms: int) -> None:
        before = store.find_watch(tx, rule.automation_id, device_id)
        after = (before or Watch()).next(rule.body.when.condition, value, at_ms)
        if after == before:
            return
        if before is not None and after == replace(before, seen_ms=after.seen_ms):
            store.note_seen(tx, rule.automation_id, device_id, after.seen_ms)
            return
        store.put_watch(tx, rule.automation_id, device_id, after)
        if after.is_due(now_ms):
            self._due(tx, rule, device_id, after, now_ms)

    # -- what is due

    def has_work(self, tx: Transaction, now_ms: int) -> bool:
        return bool(store.due(tx, now_ms, 1) or store.due_watches(tx, now_ms, 1))

    def sweep(self, tx: Transaction, now_ms: int) -> bool:
        """Fire what held for long enough, and what it is time for. Whether more may be left."""
        watches = store.due_watches(tx, now_ms, AT_ONCE)
        for automation_id, device_id, watch in watches:
            rule = store.find_rule(tx, automation_id)
            if rule is None or not rule.is_on:
                store.rest_watches(tx, automation_id)
            else:
                self._due(tx, rule, device_id, watch, now_ms)
        rules = store.due(tx, now_ms, AT_ONCE)
        for rule in rules:
            self._time(tx, rule, now_ms)
        return AT_ONCE in (len(watches), len(rules))

    def _hours(self, rule: Rule) -> Hours | None:
        """Raises LookupError for a zone that was not looked up yet."""
        only = rule.body.only
        if only is None:
            return None
        zone = self._zones.find(only.zone)
        if zone is None:
            raise LookupError(only.zone)
        return only.hours(zone)

    def _due(self, tx: Transaction, rule: Rule, device_id: str, watch: Watch, now_ms: int) -> None:
        try:
            hours = self._hours(rule)
        except LookupError:  # each look finds the zones first; where there is none, others have their turn
            store.put_watch(tx, rule.automation_id, device_id, watch.later(now_ms + 1000))
            return
        current = store.find_rule(tx, rule.automation_id)
        if current is None or not current.is_on:
            store.rest_watches(tx, rule.automation_id)
            return
        at_ms = may_fire_at(now_ms, hours, current.fired_at_ms, rule.pause_ms)
        if at_ms > now_ms:
            store.put_watch(tx, rule.automation_id, device_id, watch.later(at_ms))
            return
        if not store.take_watch(tx, rule.automation_id, device_id, watch, now_ms):
            return
        seen = self._seen(tx, rule, device_id)
        if seen is None and rule.type is not None:
            return  # somebody else's, as are all of this type that its maker does not see
        if store.fire(tx, rule, now_ms):
            self._fire(tx, rule, self._cause(rule, device_id, seen, watch), now_ms, is_seen=seen is not None)
        else:
            store.put_watch(tx, rule.automation_id, device_id, watch.later(now_ms + rule.pause_ms))

    def _seen(self, tx: Transaction, rule: Rule, device_id: str) -> Seen | None:
        """As whoever made the rule sees it now."""
        try:
            return self._things.view(tx, Reach.of(rule.user_id, self.scopes_of(tx, rule)), device_id)
        except Problem:
            return None

    def scopes_of(self, tx: Transaction, rule: Rule) -> frozenset[Scope]:
        """What a rule may do now: what it was made with, as far as its person holds it still."""
        user = self._accounts.find(tx, rule.user_id)
        return narrow(rule.scopes, frozenset() if user is None else user.scopes)

    def _cause(self, rule: Rule, device_id: str, seen: Seen | None, watch: Watch) -> Cause:
        when = rule.body.when
        if seen is None:
            return Cause(watch.since_ms, device_id, reading=when.reading or "")
        if when.status is not None:
            return Cause(watch.since_ms, device_id, seen.name, value=watch.value)
        unit = seen.unit_of(when.looked_at)
        return Cause(watch.since_ms, device_id, seen.name, when.looked_at, watch.value, unit)

    def _time(self, tx: Transaction, rule: Rule, now_ms: int) -> None:
        zone = self._zones.find(rule.body.when.zone)
        try:
            hours = self._hours(rule)
        except LookupError:
            return
        if zone is None or rule.next_at_ms is None:
            return
        schedule = rule.body.when.schedule(zone)
        if not store.move_on(tx, rule, schedule.after(now_ms)):
            return
        last_ms = max(rule.next_at_ms, schedule.last(now_ms))
        cause = Cause(last_ms, has_missed=last_ms > rule.next_at_ms)
        if hours is not None and not hours.are_open(last_ms):
            return
        if now_ms - last_ms > rule.body.when.grace_minutes * 60_000:
            self._note(tx, rule, FiringState.MISSED, cause, now_ms)
        elif store.fire(tx, rule, last_ms):  # not when it was looked: a pause as long as the period would miss it
            self._fire(tx, rule, cause, now_ms)

    # -- firing

    def _fire(self, tx: Transaction, rule: Rule, cause: Cause, now_ms: int, *, is_seen: bool = True) -> None:
        if not is_seen:
            self._note(tx, rule, FiringState.REFUSED, cause, now_ms)
            return
        depth = 0
        if cause.device_id is not None:
            before = firing_store.depth_of(tx, cause.device_id, now_ms - CHAIN_MS)
            depth = 0 if before is None else before + 1
        if depth > MAX_CHAIN:
            self._note(tx, rule, FiringState.LOOPED, cause, now_ms, depth)
            self.switch_off(tx, rule, LOOPED, now_ms)
            return
        firing = self._note(tx, rule, FiringState.FIRED, cause, now_ms, depth)
        if firing is None:
            return
        for position, then in enumerate(rule.body.then):
            action = Action(
                action_id=self._ids.new(Prefix.ACTION),
                firing_id=firing.firing_id,
                automation_id=rule.automation_id,
                position=position,
                kind=ActionKind(then.do),
                body=json.dumps(then.model_dump(exclude_defaults=True), ensure_ascii=False),
                state=ActionState.QUEUED,
                made_at_ms=now_ms,
                depth=depth,
                device_id=then.thing,
            )
            firing_store.insert_action(tx, action)
        if rule.body.commands:
            facts = {"firing_id": firing.firing_id, "depth": depth}
            self._audit.record(tx, AuditEvent.AUTOMATION_FIRED, now_ms=now_ms, subject=rule.automation_id, facts=facts)
        self.ring(tx)

    def _note(
        self, tx: Transaction, rule: Rule, state: FiringState, cause: Cause, now_ms: int, depth: int = 0
    ) -> Firing | None:
        """A row of the history; None where the rule has fired for this cause."""
        one = Firing(self._ids.new(Prefix.FIRING), rule.automation_id, rule.user_id, state, cause, now_ms, depth)
        if not firing_store.insert_firing(tx, one):
            return None
        counter = self._meters.counter(Metric.AUTOMATION_FIRINGS, state=state.value)
        tx.after_commit(counter.add)
        return one

    def ring(self, tx: Transaction) -> None:
        """Have somebody look once this is committed."""
        tx.after_commit(lambda: self._bus.publish(topics.WORK_AUTOMATIONS, replaces=True))

    # -- off

    def rest(self, tx: Transaction, automation_id: str, why: str, now_ms: int) -> None:
        """Off: nothing more fires, and nobody is asked for what it wanted."""
        store.switch(tx, automation_id, is_on=False, why_off=why, next_at_ms=None)
        store.rest_watches(tx, automation_id)
        for action in firing_store.asked_of_rule(tx, automation_id):
            self._approvals.cancel_for_run(tx, action.action_id, now_ms)
        self.forget(tx)
        self.ring(tx)

    def switch_off(self, tx: Transaction, rule: Rule, why: str, now_ms: int, *, is_told: bool = True) -> None:
        """By the gateway itself. Whoever made the rule is told."""
        self.rest(tx, rule.automation_id, why, now_ms)
        facts = {"is_on": False, "why": why}
        self._audit.record(tx, AuditEvent.AUTOMATION_SWITCHED, now_ms=now_ms, subject=rule.automation_id, facts=facts)
        if is_told:
            note = Note(
                rule.user_id,
                Kind.NOTICE,
                "An automation was switched off",
                body=f"{rule.body.name}: {why}",
                priority=Priority.NORMAL,
                link=f"/automations/{rule.automation_id}",
                sender=rule.automation_id,
            )
            self._notifications.post(tx, note, now_ms)


def zones_of(rules: Iterable[Rule]) -> frozenset[str]:
    """The zones of these rules."""
    return frozenset(name for rule in rules for name in rule.body.zones)
