"""Bring the log to other systems: every entry at least once, in order, however long a receiver was away.

The log itself is the buffer: a sink has a number in the store up to which everything was taken, and what comes behind
it is read from the log in small batches. Of several nodes one sends, for as long as it lives.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from entobot.audit import store
from entobot.audit.events import AuditEvent, Outcome
from entobot.audit.model import Entry, Personal
from entobot.audit.service import Audit
from entobot.audit.sink import Sink, SinkFailed
from entobot.core.clock import Clock
from entobot.core.secrets import Entropy
from entobot.storage.database import Database, StorageFailed, Transaction
from entobot.telemetry.log import get_logger
from entobot.telemetry.meters import Meters
from entobot.telemetry.metrics import Metric

BATCH = 256
IDLE_S = 1.0
FIRST_BACKOFF_S, LAST_BACKOFF_S = 1.0, 60.0
TELL_AFTER = timedelta(minutes=1)
"""A receiver that is away for less is not worth an entry."""
TELL_AGAIN = timedelta(hours=1)

Render = Callable[[Entry, Mapping[str, Personal] | None], str]
Alive = Callable[[Transaction], frozenset[str]]

log = get_logger("audit")


@dataclass(frozen=True, slots=True)
class Outlet:
    """One configured receiver. `render` makes a record of an entry; None: it takes checkpoints and no entries."""

    name: str
    sink: Sink
    render: Render | None
    with_personal: bool = False


@dataclass(frozen=True, slots=True)
class _Batch:
    """`through`: everything up to this entry is in it. `head`: how far the log goes."""

    records: list[str]
    through: int
    head: int


class Sender:
    """Runs one outlet. `complaint` says what is wrong with it, empty while all is well."""

    def __init__(
        self,
        outlet: Outlet,
        *,
        audit: Audit,
        database: Database,
        clock: Clock,
        entropy: Entropy,
        meters: Meters,
        node_id: str,
        alive: Alive,
    ) -> None:
        self.outlet = outlet
        self._audit = audit
        self._database = database
        self._clock = clock
        self._entropy = entropy
        self._node_id = node_id
        self._alive = alive
        self._lag = meters.gauge(Metric.AUDIT_SINK_LAG, sink=outlet.name)
        self._failed = meters.counter(Metric.AUDIT_SINK_FAILURES, sink=outlet.name)
        self._again_after: int | None = None
        """While entries are sent again: behind which one."""
        self._reason = ""
        self._failing_since_s: float | None = None
        self._told_s = float("-inf")
        self._is_told = False

    async def run(self) -> None:
        """For ever. Failures are tried again, ever less often."""
        failures = 0
        try:
            while True:
                try:
                    was_full = await self.step()
                except SinkFailed as failure:
                    failures += 1
                    await self._note_failure(str(failure))
                    await asyncio.sleep(self._backoff_s(failures))
                    continue
                except StorageFailed:
                    await asyncio.sleep(IDLE_S)
                    continue
                failures = 0
                if not was_full:
                    await asyncio.sleep(IDLE_S)
        finally:
            await self.outlet.sink.close()

    async def step(self) -> bool:
        """Send what is next. Returns whether more may be waiting. Raises SinkFailed and StorageFailed."""
        cursor = await self._cursor()
        if cursor is None:
            return False
        after = cursor if self._again_after is None else min(self._again_after, cursor)
        if not self.outlet.sink.is_open:
            after = self._again_after = max(0, after - self.outlet.sink.overlap)
        batch = await self._next(after)
        if batch.records:
            await self.outlet.sink.send(batch.records)
            self._again_after = batch.through if batch.through < cursor else None
            await self._database.write(lambda tx: store.move_sink(tx, self.outlet.name, self._node_id, batch.through))
        self._lag.set(batch.head - batch.through)
        await self._note_success()
        return batch.through < batch.head and bool(batch.records)

    @property
    def complaint(self) -> str:
        if self._failing_since_s is None:
            return ""
        minutes = int((self._clock.monotonic() - self._failing_since_s) // 60)
        return f"The audit log does not reach '{self.outlet.name}' since {minutes} minutes: {self._reason}."

    async def _cursor(self) -> int | None:
        """Up to which entry this sink has everything; None while another node sends."""
        name, node_id = self.outlet.name, self._node_id
        found = await self._database.read(lambda tx: store.find_sink(tx, name), is_small=True)
        if found is not None and found.node == node_id:
            return found.seq
        return await self._database.write(lambda tx: store.claim_sink(tx, name, node_id, self._alive(tx)))

    async def _next(self, cursor: int) -> _Batch:
        render = self.outlet.render
        if render is None:
            newest = await self._audit.checkpoints.newest(self._database.read)
            size = 0 if newest is None else newest.tree.size
            return _Batch(
                [] if newest is None or size <= cursor else [newest.note], max(size, cursor), max(size, cursor)
            )

        def unit(tx: Transaction) -> tuple[int, list[dict[str, object]]]:
            head = store.find_head(tx)
            seq = 0 if head is None else head.seq
            return seq, store.raw_rows(tx, cursor, min(cursor + BATCH, seq)) if seq > cursor else []

        seq, rows = await self._database.read(unit)
        records = await asyncio.to_thread(self._rendered, rows, cursor, render)
        return _Batch(records, cursor + len(records), max(seq, cursor))

    def _rendered(self, rows: list[dict[str, object]], cursor: int, render: Render) -> list[str]:
        """What an altered entry says is not passed on: it ends the batch, and is told where it is the first."""
        records: list[str] = []
        for expected, (seq, entry, values) in enumerate(store.walked(rows), cursor + 1):
            if entry is None or seq != expected:
                if not records:
                    raise SinkFailed(f"entry {expected} was altered, run 'entobot audit verify'")
                break
            records.append(render(entry, values if self.outlet.with_personal else None))
        return records

    def _backoff_s(self, failures: int) -> float:
        """Twice as long each time, and of that between half and all of it: senders do not come back in step."""
        longest = min(LAST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** min(failures - 1, 10))
        return longest * (0.5 + int.from_bytes(self._entropy.bytes(2), "big") / 131_072)

    async def _note_failure(self, reason: str) -> None:
        now_s = self._clock.monotonic()
        self._failed.add()
        self._reason = reason
        if self._failing_since_s is None:
            self._failing_since_s = now_s
            log.warning("audit.sink_failed", sink=self.outlet.name, reason=reason)
        is_long = now_s - self._failing_since_s >= TELL_AFTER.total_seconds()
        if is_long and not self._is_told and now_s - self._told_s >= TELL_AGAIN.total_seconds():
            self._told_s, self._is_told = now_s, True
            await self._record(AuditEvent.AUDIT_SINK_FAILED, Outcome.FAILURE)

    async def _note_success(self) -> None:
        if self._failing_since_s is None:
            return
        log.info("audit.sink_recovered", sink=self.outlet.name)
        self._failing_since_s, self._reason = None, ""
        if self._is_told:
            self._is_told = False
            await self._record(AuditEvent.AUDIT_SINK_RECOVERED, Outcome.SUCCESS)

    async def _record(self, event: AuditEvent, outcome: Outcome) -> None:
        now_ms, facts = self._clock.now_ms(), {"sink": self.outlet.name}
        try:
            await self._database.write(
                lambda tx: self._audit.record(tx, event, now_ms=now_ms, outcome=outcome, facts=facts)
            )
        except StorageFailed as failure:
            log.warning("audit.not_recorded", event_name=str(event), reason=str(failure))
