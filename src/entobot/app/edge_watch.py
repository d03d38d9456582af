"""Who is at the edge: heard from its servers, compared with their lists, cut where a key does not stand any more.

Every node knows of everybody. What is done about one that came or went is done by one node, which the server picks.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

from entobot.app.edge_commands import Retelling
from entobot.app.edge_line import EdgeLine
from entobot.app.ground import Ground
from entobot.devices.machine_limits import standing_limits
from entobot.devices.seen import note_use
from entobot.devices.service import Devices
from entobot.mqtt.edge_present import Connection, Happened, Present, read_event
from entobot.mqtt.edge_words import Entrant, Unreadable
from entobot.storage.database import StorageFailed, Transaction
from entobot.telemetry.log import get_logger
from entobot.telemetry.metrics import Metric
from entobot.things.intake import Intake
from entobot.things.model import ThingStatus

GROUP = "entobot"
EVENTS = ("CONNECT", "DISCONNECT")
TICK_S = 0.25
COMPARE_S = 60.0
AT_ONCE = 200
GRACE_S = 5.0
"""Whoever is back by then was not away."""
UNHEARD_GRACE_S = 60.0
"""Of those who went while nobody listened: with their server, perhaps, and it takes them time to find another."""


class EdgeWatch:
    def __init__(
        self, ground: Ground, devices: Devices, intake: Intake, present: Present, retelling: Retelling
    ) -> None:
        self._ground = ground
        self._devices = devices
        self._intake = intake
        self._present = present
        self._retelling = retelling
        self._cut_count = ground.meters.counter(Metric.EDGE_CUT)
        self._boards = ground.meters.gauge(Metric.EDGE_BOARDS)
        self._log = get_logger("mqtt")
        self._changed: dict[str, None] = {}
        self._came: deque[Connection] = deque()
        self._went: deque[tuple[float, Happened]] = deque()

    def device_changed(self, device_id: str) -> None:
        self._changed[device_id] = None

    # -- the server

    async def begin(self, line: EdgeLine) -> None:
        """Those that changed while no gateway was connected are cut before it returns. Raises whatever the library does."""
        account = self._ground.settings.edge.account
        for event in EVENTS:
            await line.hear(f"$SYS.ACCOUNT.{account}.{event}", self._heard)
            await line.hear(f"$SYS.ACCOUNT.{account}.{event}", self._picked, group=GROUP)
        await self._compare(line)
        await self._check(line, self._present.all())

    async def run(self, line: EdgeLine) -> None:
        """While the line is open. Raises whatever its library does."""
        compare_at_s = self._ground.clock.monotonic() + COMPARE_S
        while line.is_open:
            try:
                await self._tick(line)
                if self._ground.clock.monotonic() >= compare_at_s:
                    await self._compare(line)
                    await self._check(line, self._present.all())  # keys run out, and bells of other nodes can be lost
                    compare_at_s = self._ground.clock.monotonic() + COMPARE_S
            except StorageFailed as failure:
                self._log.warning("edge.waits_for_store", error=str(failure))
            await asyncio.sleep(TICK_S)

    async def _heard(self, message: Any) -> None:
        happened = self._read(message)
        if happened is not None:
            self._present.note(happened)

    async def _picked(self, message: Any) -> None:
        happened = self._read(message)
        if happened is not None:
            self._note(happened, GRACE_S)

    def _read(self, message: Any) -> Happened | None:
        try:
            return read_event(message.data)
        except Unreadable as error:
            self._log.warning("edge.unreadable", error=str(error))
            return None

    def _note(self, happened: Happened, grace_s: float) -> None:
        if happened.ended_ms is None:
            self._came.append(happened.connection)
        else:
            self._went.append((self._ground.clock.monotonic() + grace_s, happened))

    async def _compare(self, line: EdgeLine) -> None:
        self._present.begin_comparing()
        came, went = self._present.compare(await line.connections())
        now_ms = self._ground.clock.now_ms()
        for one in came:
            self._note(Happened(one), 0)
        for one in went:
            self._note(Happened(one, now_ms, is_broken=True), UNHEARD_GRACE_S)
        await self._retelling.find()

    # -- what follows

    async def _tick(self, line: EdgeLine) -> None:
        """Raises StorageFailed; what was not done is done with the next."""
        changed = list(self._changed)
        await self._check(line, [one for device_id in changed for one in self._present.of(device_id)])
        for device_id in changed:
            self._changed.pop(device_id, None)
        await self._settle_came(line)
        await self._settle_went()
        await self._retelling.look()
        self._boards.set(len(self._present))

    async def _settle_came(self, line: EdgeLine) -> None:
        while self._came:
            some = [self._came[n] for n in range(min(len(self._came), AT_ONCE))]
            await self._check(line, some)  # a key may have been revoked since it was looked at
            await self._wake([one.entrant.device_id for one in some])
            for one in some:
                self._came.popleft()
                self._retelling.came(one.entrant.device_id)

    async def _wake(self, device_ids: Sequence[str]) -> None:
        """Most are known to be online, which costs a read."""
        find = self._intake.status_of
        asleep = await self._ground.database.read(
            lambda tx: [one for one in device_ids if find(tx, one) not in (None, ThingStatus.ONLINE)]
        )
        if not asleep:
            return
        now_ms = self._ground.clock.now_ms()

        def unit(tx: Transaction) -> None:
            for device_id in asleep:
                self._intake.came(tx, device_id, now_ms)

        await self._ground.database.write(unit)

    async def _settle_went(self) -> None:
        now_s, now_ms = self._ground.clock.monotonic(), self._ground.clock.now_ms()
        due = [(at_s, one) for at_s, one in self._went if at_s <= now_s][:AT_ONCE]
        if not due:
            return
        away = {one.connection.place for _, one in due if not self._present.has(one.connection.entrant.device_id)}

        def unit(tx: Transaction) -> None:
            for _, one in due:
                device_id, ended_ms = one.connection.entrant.device_id, one.ended_ms or now_ms
                device = self._devices.find_device(tx, device_id)
                if device is not None:
                    note_use(tx, device, ended_ms)
                if one.is_broken and one.connection.place in away:
                    self._intake.lost(tx, device_id, ended_ms, now_ms)

        await self._ground.database.write(unit)
        for one in due:
            self._went.remove(one)

    # -- who may not stay

    async def _check(self, line: EdgeLine, connections: Sequence[Connection]) -> None:
        """Cut those whose key may not come any more, or reaches other topics by now: who may comes anew."""
        now_ms = self._ground.clock.now_ms()
        for start in range(0, len(connections), AT_ONCE):
            some = connections[start : start + AT_ONCE]

            def unit(tx: Transaction, some: Sequence[Connection] = some) -> list[Connection]:
                return [one for one in some if not stands(tx, one.entrant, now_ms)]

            for one in await self._ground.database.read(unit):
                await self._cut(line, one)

    async def _cut(self, line: EdgeLine, one: Connection) -> None:
        try:
            await line.cut(one.place)
        except Exception as error:  # noqa: BLE001  whatever its library says: the server may be gone, or the line
            self._log.warning("edge.not_cut", device_id=one.entrant.device_id, error=type(error).__name__)
            self._changed[one.entrant.device_id] = None
        else:
            self._cut_count.add()


def stands(tx: Transaction, entrant: Entrant, now_ms: int) -> bool:
    """Whether who came so would be let in with the same permissions now."""
    limits = standing_limits(tx, entrant.device_id, entrant.credential_id, now_ms)
    return limits is not None and Entrant.of(entrant.device_id, entrant.credential_id, limits) == entrant
