"""Topics that boards are refused, and commands that people are: each is counted, and the audit log has the first of a
kind, then how many came.
"""

from collections.abc import Sequence

from entobot.app.ground import Ground
from entobot.audit.events import AuditEvent, Outcome
from entobot.audit.model import Fact
from entobot.audit.service import Audit
from entobot.core.clock import Clock
from entobot.core.principal import Principal
from entobot.mqtt.model import Action
from entobot.signin.refusals import Refusals, Refused
from entobot.storage.database import Database, StorageFailed, Transaction
from entobot.telemetry.log import RefusalLog, get_logger
from entobot.telemetry.meters import Meters
from entobot.things.refused import CommandRefused

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


class CommandDenials:
    """Who was refused is told before they hear of it; the same again within ten minutes is counted."""

    def __init__(self, database: Database, clock: Clock, audit: Audit, meters: Meters) -> None:
        self._database = database
        self._clock = clock
        self._audit = audit
        self._log = RefusalLog(get_logger("things"), clock, meters)
        self._noted = Refusals()
        self._untold: list[tuple[Refused, str]] = []

    async def note(self, refused: CommandRefused) -> None:
        wish, thing_id = refused.wish, refused.wish.thing.device_id
        command = wish.command if refused.is_known else ""
        self._log.refused("thing_command", thing=thing_id, user_id=wish.user_id, via=wish.via, rule=refused.rule)
        kind = " ".join((thing_id, wish.via, wish.by_device or "", command))
        first = self._noted.note(wish.user_id, "", kind, self._clock.now_ms())
        if first is not None:
            self._untold.append((first, refused.rule))
            await self._write()

    async def settle(self) -> None:
        """Write what is to be told by now."""
        self._untold += [(one, "") for one in self._noted.take_due(self._clock.now_ms())]
        await self._write()

    async def _write(self) -> None:
        found, self._untold, now_ms = self._untold, [], self._clock.now_ms()
        if not found:
            return
        try:
            await self._database.write(lambda tx: self._tell(tx, found, now_ms))
        except StorageFailed:
            self._untold = [*found, *self._untold]

    def _tell(self, tx: Transaction, found: Sequence[tuple[Refused, str]], now_ms: int) -> None:
        for refused, rule in found:
            is_one = bool(refused.user_id)  # else of many kinds together
            thing_id, via, by_device, command = refused.reason.split(" ", 3) if is_one else [""] * 4
            words = {"via": via, "command": command, "rule": rule}
            facts: dict[str, Fact] = {"count": refused.count}
            self._audit.record(
                tx,
                AuditEvent.THING_COMMAND_REFUSED,
                now_ms=now_ms,
                outcome=Outcome.DENIED,
                actor=Principal(refused.user_id, frozenset(), by_device or None) if is_one else None,
                subject=thing_id,
                facts=facts | {name: text for name, text in words.items() if text},
            )
