"""Rules on the numbers of a node: looked at again and again, each by its own judge."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from entobot.alerts import store
from entobot.alerts.model import Alert, Facts, Growth, Judge, Step, Watched
from entobot.alerts.service import Alerts, Sight
from entobot.core.alert_rules import RuleId, Watches
from entobot.core.clock import Clock, to_ms
from entobot.storage.database import Database, Transaction

NODE = "node "
GONE_AFTER = timedelta(minutes=10)
"""So long after a node last said that it is there, alerts of its own are over: nobody can tell any more."""
SAYS_SO_EVERY = timedelta(minutes=1)

Read = Callable[[], "Reading | None"]


@dataclass(frozen=True, slots=True)
class Reading:
    """A number as it is now. Of a counter: its total."""

    value: float
    facts: Facts


class LevelWatch:
    """`reads` are asked on the loop; None, or a rule that is missing: this node has no such number.

    `node` is the name that this node's alerts carry, the same after a restart.
    """

    def __init__(
        self,
        *,
        alerts: Alerts,
        database: Database,
        clock: Clock,
        node: str,
        reads: Mapping[RuleId, Read],
    ) -> None:
        self._alerts = alerts
        self._database = database
        self._clock = clock
        self._node = node
        self._reads = reads
        watched = [one for one in alerts.rules.values() if one.rule.watches in (Watches.LEVEL, Watches.METRIC)]
        self._judges = {one.id: Judge(one, 0 if _grows(one) else one.window_ms) for one in watched}
        self._growth = {one.id: Growth(one.window_ms) for one in watched if _grows(one)}
        self._said_s = float("-inf")

    async def look(self) -> None:
        """Raises StorageFailed; what begins or ends then is found again at the next look."""
        open_ones = {one.rule: one for one in await self._database.read(store.all_open) if one.node == self._node}
        steps = [
            (rule, found) for rule in self._judges if (found := self._judge(rule, open_ones.get(rule))) is not None
        ]
        is_due = self._clock.monotonic() - self._said_s >= SAYS_SO_EVERY.total_seconds()
        if steps or is_due:
            await self._database.write(lambda tx: self._write(tx, steps, open_ones))
            self._said_s = self._clock.monotonic()

    def _judge(self, rule: RuleId, open_one: Alert | None) -> tuple[Step, Reading] | None:
        judge = self._judges[rule]
        reading = self._reads[rule]() if rule in self._reads else None
        if not judge.of.is_enabled:
            return None if open_one is None else (Step.CLEAR, Reading(0, {}))
        if reading is None:
            return None
        now_ms = round(self._clock.monotonic() * 1000)
        value = self._growth[rule].of(reading.value, now_ms) if rule in self._growth else reading.value
        step = judge.step(value, now_ms, is_open=open_one is not None)
        return None if step is Step.STAY else (step, Reading(value, reading.facts))

    def _write(
        self, tx: Transaction, steps: list[tuple[RuleId, tuple[Step, Reading]]], open_ones: Mapping[RuleId, Alert]
    ) -> None:
        now_ms = self._clock.now_ms()
        store.set_duty(tx, NODE + self._node, self._node, now_ms)
        for rule, (step, reading) in steps:
            if step is Step.FIRE:
                facts = {**reading.facts, "value": round(reading.value, 3)}
                self._alerts.fire(tx, rule, Sight("", self._node, 1, facts), now_ms)
            elif rule in open_ones:
                self._alerts.clear(tx, open_ones[rule], now_ms)

    async def end_of_gone(self) -> None:
        """Alerts of nodes that nobody has heard of for a while are over."""
        gone, left = await self._database.read(self._of_gone, is_small=True)
        if gone or left:
            await self._database.write(self._end_of_gone)

    def _of_gone(self, tx: Transaction) -> tuple[list[str], list[Alert]]:
        """The duties of nodes that are gone, and the open alerts that they left."""
        known = store.duties_of(tx, NODE)
        heard_ms = self._clock.now_ms() - to_ms(GONE_AFTER)
        here = {one.node for one in known if one.number >= heard_ms} | {self._node, ""}
        left = [alert for alert in store.all_open(tx) if alert.node not in here]
        return [one.name for one in known if one.node not in here], left

    def _end_of_gone(self, tx: Transaction) -> None:
        gone, left = self._of_gone(tx)
        for name in gone:
            store.drop_duty(tx, name)
        for alert in left:
            self._alerts.clear(tx, alert, self._clock.now_ms())


def _grows(one: Watched) -> bool:
    return one.rule.watches is Watches.METRIC
