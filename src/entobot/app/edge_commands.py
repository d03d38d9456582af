"""Commands to boards at the edge: told by QoS 0, and so again until the board answers, the command ends, or it is gone."""

from collections.abc import Callable

from entobot.app.ground import Ground
from entobot.mqtt.edge_present import Present
from entobot.storage.database import Transaction
from entobot.telemetry.metrics import Metric
from entobot.things.service import Things

AT_ONCE = 200
PAUSES_S = (0.3, 1, 2, 4, 8, 16, 32, 60)
"""Before each time that a board is told. The first is for it to subscribe; then each minute."""
OLD_MS = 30_000
"""A command without an answer since then was told by nobody, perhaps: the node that should have may be gone."""

Tell = Callable[[str, str, bytes], None]


class Retelling:
    """`tell(device_id, topic, payload)`. Boards carry out each command once, however often they hear of it."""

    def __init__(self, ground: Ground, things: Things, present: Present, tell: Tell) -> None:
        self._ground = ground
        self._things = things
        self._present = present
        self._tell = tell
        self._told_again = ground.meters.counter(Metric.EDGE_TOLD_AGAIN)
        self._due: dict[str, tuple[float, int]] = {}
        """When the board is told the next time, and how often it was."""

    def came(self, device_id: str) -> None:
        self._due[device_id] = (self._ground.clock.monotonic() + PAUSES_S[0], 0)

    def told(self, device_id: str) -> None:
        """Just now, of a command that was made."""
        _, often = self._due.get(device_id, (0.0, 1))
        if self._present.has(device_id) and often:
            self._due[device_id] = (self._ground.clock.monotonic() + PAUSES_S[1], 1)

    async def look(self) -> None:
        """Tell those whose time has come. Raises StorageFailed."""
        now_s, now_ms = self._ground.clock.monotonic(), self._ground.clock.now_ms()
        due = [(device_id, often) for device_id, (at_s, often) in self._due.items() if at_s <= now_s][:AT_ONCE]
        if not due:
            return

        def unit(tx: Transaction) -> dict[str, list[bytes]]:
            return {
                device_id: self._things.unanswered(tx, device_id, now_ms, with_accepted=often == 0)
                for device_id, often in due
            }

        found = await self._ground.database.read(unit)
        for device_id, often in due:
            if not found[device_id] or not self._present.has(device_id):
                self._due.pop(device_id, None)
                continue
            for payload in found[device_id]:
                self._tell(device_id, "command", payload)
            self._told_again.add(len(found[device_id]))
            pause_s = PAUSES_S[min(often + 1, len(PAUSES_S) - 1)]
            self._due[device_id] = (now_s + pause_s, often + 1)

    async def find(self) -> None:
        """Those that are here, and that nobody tells. Raises StorageFailed."""
        now_ms, after = self._ground.clock.now_ms(), ""
        while True:

            def unit(tx: Transaction, after: str = after) -> list[str]:
                return self._things.devices_unanswered(tx, now_ms - OLD_MS, now_ms, after, AT_ONCE)

            page = await self._ground.database.read(unit)
            for device_id in page:
                if device_id not in self._due and self._present.has(device_id):
                    self.came(device_id)
            if len(page) < AT_ONCE:
                return
            after = page[-1]
