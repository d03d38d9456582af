"""Topics that boards are refused: each is counted, and the audit log has the first of a device, then how many came."""

from collections.abc import Sequence

from entobot.app.ground import Ground
from entobot.audit.events import AuditEvent, Outcome
from entobot.audit.model import Fact
from entobot.audit.service import Audit
from entobot.mqtt.model import Action
from entobot.signin.refusals import Refusals, Refused
from entobot.storage.database import StorageFailed, Transaction
from entobot.telemetry.log import RefusalLog, get_logger

MAX_SHOWN = 256
"""Characters of a topic."""


class Denials:
    def __init__(self, ground: Ground, audit: Audit) -> None:
        self._database = ground.database
        self._clock = ground.clock
        self._audit = audit
        self._log = RefusalLog(get_logger("mqtt"), ground.clock, ground.meters)
        self._noted = Refusals()
        self._first: list[tuple[Refused, str, str]] = []

    def note(self, device_id: str, action: Action, text: str, rule: str) -> None:
        shown = text[:MAX_SHOWN]
        self._log.refused(f"mqtt_{action}", device_id=device_id, topic=shown, rule=rule)
        first = self._noted.note(device_id, "", str(action), self._clock.now_ms())
        if first is not None:
            self._first.append((first, shown, rule))

    def dropped(self) -> None:
        """A message that a full queue did not take."""
        self._log.refused("mqtt_queue_full")

    async def settle(self) -> None:
        """Write what is to be told by now."""
        now_ms = self._clock.now_ms()
        found = [*self._first, *((refused, "", "") for refused in self._noted.take_due(now_ms))]
        self._first = []
        if not found:
            return
        try:
            await self._database.write(lambda tx: self._tell(tx, found, now_ms))
        except StorageFailed:
            self._first = [*found, *self._first]

    def _tell(self, tx: Transaction, found: Sequence[tuple[Refused, str, str]], now_ms: int) -> None:
        for refused, topic, rule in found:
            facts: dict[str, Fact] = {"action": refused.reason, "count": refused.count}
            if rule:
                facts["rule"] = rule
            self._audit.record(
                tx,
                AuditEvent.DEVICE_TOPIC_DENIED,
                now_ms=now_ms,
                outcome=Outcome.DENIED,
                subject=refused.user_id,
                facts=facts,
                personal={"topic": topic} if topic else None,  # a board's own words
            )
