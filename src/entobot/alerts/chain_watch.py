"""Whether the audit log is whole: what is new every few minutes, all of it once a day. Of several nodes one looks."""

from datetime import timedelta

from entobot.alerts import store
from entobot.alerts.service import Sight
from entobot.alerts.watching import Watching
from entobot.audit.model import Finding
from entobot.audit.verify import Mark
from entobot.core.alert_rules import RuleId
from entobot.storage.database import Transaction

DUTY = "verify"
WHOLE_EVERY = timedelta(days=1)
PAUSE_S = 0.02
"""After each page of the whole log: about a third of the time of one core at most."""


class ChainWatch:
    def __init__(self, at: Watching) -> None:
        self._alerts, self._audit = at.alerts, at.audit
        self._database, self._clock = at.database, at.clock
        self._node_id, self._alive = at.node_id, at.alive
        self._mark: Mark | None = None
        self._whole_due_s = float("-inf")

    async def look(self) -> None:
        """Nothing happens while another living node looks."""
        if not self._alerts.rules[RuleId.AUDIT_CHAIN_BROKEN].is_enabled:
            return
        duty = await self._database.write(
            lambda tx: store.claim_duty(tx, DUTY, self._node_id, self._alive(tx), 0), is_small=True
        )
        if duty is None:
            return
        finding, self._mark = await self._audit.verify_tail(self._database.read, self._mark)
        now_s = self._clock.monotonic()
        if finding is not None:
            await self._fire(finding)
        elif now_s >= self._whole_due_s:
            self._whole_due_s = now_s + WHOLE_EVERY.total_seconds()
            found = await self._audit.verify(self._database.read, pause_s=PAUSE_S)
            await (self._clear() if found.finding is None else self._fire(found.finding))

    async def _fire(self, finding: Finding) -> None:
        now_ms = self._clock.now_ms()
        sight = Sight("", "", 1, {"defect": finding.kind, "seq": finding.seq})
        await self._database.write(lambda tx: self._alerts.fire(tx, RuleId.AUDIT_CHAIN_BROKEN, sight, now_ms))

    async def _clear(self) -> None:
        """Only a walk over the whole log ends it: somebody restored what was there."""
        now_ms = self._clock.now_ms()

        def unit(tx: Transaction) -> None:
            open_one = store.find_open(tx, RuleId.AUDIT_CHAIN_BROKEN, "", "")
            if open_one is not None:
                self._alerts.clear(tx, open_one, now_ms)

        await self._database.write(unit)
