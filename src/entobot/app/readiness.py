"""Whether this node can do its work: asked by probes and strangers, so answered from memory most of the time."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from sqlalchemy import Text, column, select, table

from entobot.bus.bus import Bus
from entobot.core.clock import Clock
from entobot.gateway.executor import try_store
from entobot.storage.database import Database, StorageFailed, Transaction
from entobot.storage.migrations import HEAD
from entobot.telemetry.meters import Meters
from entobot.telemetry.metrics import Metric
from entobot.web.http import ACCEPTING, Check, ReadyReport
from entobot.web.listener import Listener

KEPT = timedelta(seconds=2)
"""How old an answer may be: however often it is asked for, the store is written once in this time."""
PATIENCE = timedelta(seconds=2)

_VERSION = select(column("version_num", Text)).select_from(table("alembic_version"))

Part = Callable[[], Check]
"""One check that looks at memory only."""


def parts_of(
    is_draining: Callable[[], bool], listener: Callable[[], Listener | None], is_working: Callable[[], bool], bus: Bus
) -> dict[str, Part]:
    """What a node looks at besides its store. A bus that is away makes it later, not unfit."""

    def accepting() -> Check:
        return Check(ACCEPTING, not is_draining(), "draining" if is_draining() else "")

    def rung() -> Check:
        health = bus.health()
        away_s = None if health.is_connected else health.away_s
        return Check("bus", health.is_connected, health.detail, is_vital=False, for_s=away_s)

    def listening() -> Check:
        found = listener()
        return Check("listener", found is not None and found.is_open)

    return {ACCEPTING: accepting, "bus": rung, "listener": listening, "worker": lambda: Check("worker", is_working())}


class Readiness:
    """`parts` are looked at each time; the store is tried by a commit of its own.

    A store that hangs is given `PATIENCE`; the commit that hangs stays the only one under way. `key` is this node's own
    name for the row that is tried, so that nodes are not in one another's way. What is not well is told with the time
    since it was first found so.
    """

    def __init__(self, database: Database, clock: Clock, meters: Meters, key: str, parts: dict[str, Part]) -> None:
        self._database = database
        self._clock = clock
        self._parts = parts
        self._key = key
        self._gauges = {name: meters.gauge(Metric.READY, check=name) for name in (*parts, "storage")}
        self._trial: asyncio.Task[Check] | None = None
        self._begun_s = 0.0
        self._unwell_since_s: dict[str, float] = {}

    async def report(self) -> ReadyReport:
        checks = (*(look() for look in self._parts.values()), await self._storage())
        for check in checks:
            self._gauges[check.name].set(check.is_ok)
        return ReadyReport(tuple(map(self._aged, checks)))

    def _aged(self, check: Check) -> Check:
        if check.is_ok:
            self._unwell_since_s.pop(check.name, None)
            return check
        now_s = self._clock.monotonic()
        since_s = self._unwell_since_s.setdefault(check.name, now_s)
        return check if check.for_s is not None else replace(check, for_s=now_s - since_s)

    async def _storage(self) -> Check:
        trouble = self._database.trouble()
        if trouble:
            return Check("storage", is_ok=False, detail=trouble)
        now_s = self._clock.monotonic()
        if self._trial is None or (self._trial.done() and now_s - self._begun_s >= KEPT.total_seconds()):
            self._begun_s = now_s
            self._trial = asyncio.create_task(self._try_store())
        trial = self._trial
        await asyncio.wait({trial}, timeout=max(0.0, self._begun_s + PATIENCE.total_seconds() - now_s))
        if not trial.done():
            return Check("storage", is_ok=False, detail="the store does not answer")
        return trial.result()

    async def _try_store(self) -> Check:
        now_ms = self._clock.now_ms()
        key = self._key

        def unit(tx: Transaction) -> str:
            try_store(tx, key, now_ms)
            row = tx.first(_VERSION)
            return "" if row is None else str(row["version_num"])

        try:
            version = await self._database.write(unit)
        except StorageFailed as failure:
            return Check("storage", is_ok=False, detail=str(failure))
        except Exception as error:  # noqa: BLE001  whatever it is, it is no readiness, and its text may hold anything
            return Check("storage", is_ok=False, detail=f"the store cannot be used ({type(error).__name__})")
        if version < HEAD:
            return Check("storage", is_ok=False, detail=f"the tables are of version {version or 'none'}, not {HEAD}")
        durability = self._database.durability()
        return Check("storage", is_ok=durability.survives_power_cut, detail=durability.detail)
