"""PostgreSQL adapter: units run in greenlets on the loop thread, over a few connections, serializable."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import asyncpg

from entobot.core.errors import StartupRefused
from entobot.core.secrets import Entropy
from entobot.storage.database import Chain, Durability, Settle, StorageFailed, Unit, settle_later
from entobot.storage.meters import LaneMeters, StoreMeters
from entobot.storage.postgres_connection import NOT_REACHED, Connection, PostgresAddress, reason
from entobot.storage.postgres_lane import Lane, Patience, Shared
from entobot.storage.postgres_watch import WRITER_NAME, Watch
from entobot.storage.unit_queue import QueuedJob, UnitQueue
from entobot.telemetry.meters import Meters

T = TypeVar("T")
Upgrade = Callable[[PostgresAddress], Awaitable[None]]

WRITERS = 1
"""All that waits goes into one transaction: several at once were slower, see docs/adr/0018."""
READERS = 4
MAX_UNITS_PER_COMMIT = 32
"""A server keeps 64 savepoints of a transaction at hand; beyond that every other reader pays."""
EXPIRE_EVERY_S = 0.5
STARTUP_WITHIN_S = 15.0
STARTUP_RETRY_S = 0.2
SESSION = {
    "plan_cache_mode": "force_generic_plan",
    # A sequential scan of a small table counts as having read all of it: every other write would be a conflict.
    "enable_seqscan": "off",
}
PASSING = (OSError, TimeoutError, asyncpg.CannotConnectNowError, asyncpg.TooManyConnectionsError)
"""What a server that is being started answers."""


class PostgresDatabase:
    """See `Database`. `upgrade` brings the schema at an address to the present version."""

    def __init__(
        self,
        address: PostgresAddress,
        upgrade: Upgrade,
        entropy: Entropy,
        meters: Meters | None = None,
        patience: Patience | None = None,
    ) -> None:
        self._address = address
        self._upgrade = upgrade
        self._writes = UnitQueue(MAX_UNITS_PER_COMMIT)
        self._reads = UnitQueue(1)
        meters = meters or Meters()
        self._meters = StoreMeters(meters)
        self._meters.waiting_reads.follow(lambda: self._reads.count)
        self._meters.waiting_writes.follow(lambda: self._writes.count)
        patience = patience or Patience()
        run_ms = int(patience.run_s * 1000)
        session = {
            **SESSION,
            # Should this node vanish, its locks do not stay behind. None of them cuts a commit short.
            "statement_timeout": str(run_ms),
            "lock_timeout": str(run_ms * 9 // 10),
            "idle_in_transaction_session_timeout": str(run_ms * 2),
        }
        writing = {**session, "application_name": WRITER_NAME}
        self._shared = Shared(
            lambda is_writer: address.connect(writing if is_writer else session), entropy, self._meters, patience
        )
        self._watch = Watch(address.connect, self._shared.health)
        self._lanes = [
            *self._make_lanes(WRITERS, LaneMeters(meters, "write"), is_writer=True),
            *self._make_lanes(READERS, LaneMeters(meters, "read"), is_writer=False),
        ]
        self._running: list[asyncio.Task[None]] = []
        self._background: list[asyncio.Task[None]] = []
        self._tasks: set[asyncio.Task[Any]] = set()

    def _make_lanes(self, count: int, meters: LaneMeters, *, is_writer: bool) -> list[Lane]:
        queue = self._writes if is_writer else self._reads
        lanes = [Lane(queue, self._shared, meters, is_writer=is_writer) for _ in range(count)]
        meters.follow(
            busy=lambda: sum(lane.is_busy for lane in lanes), idle=lambda: sum(lane.is_idle for lane in lanes)
        )
        return lanes

    async def start(self) -> None:
        connection = await self._first_connection()
        try:
            await self._upgrade(self._address)
        finally:
            await connection.close(timeout=STARTUP_WITHIN_S)
        await self._watch.look()
        self._running = [asyncio.create_task(lane.run()) for lane in self._lanes]
        self._background = [asyncio.create_task(self._expire()), asyncio.create_task(self._watch.run())]

    async def _first_connection(self) -> Connection:
        """A server that starts together with the gateway is waited for."""
        end_s = asyncio.get_running_loop().time() + STARTUP_WITHIN_S
        while True:
            try:
                return await self._address.connect()
            except (*NOT_REACHED, ValueError) as error:
                if not isinstance(error, PASSING) or asyncio.get_running_loop().time() > end_s:
                    raise StartupRefused(
                        f"{self._address} cannot be used: {reason(error)}. Check storage.url and the server."
                    ) from None
            await asyncio.sleep(STARTUP_RETRY_S)

    async def stop(self) -> None:
        lanes, self._running = self._running, []
        if not lanes:
            return
        self._writes.close()
        self._reads.close()
        _, late = await asyncio.wait(lanes, timeout=self._shared.patience.run_s)
        for task in (*late, *self._background):
            task.cancel()
        await asyncio.gather(*late, *self._background, return_exceptions=True)
        self._fail_waiting(float("inf"))

    async def write(self, unit: Unit[T], key: str = "", *, is_small: bool = False) -> T:
        del is_small  # every unit waits for the server
        return await self._write(unit, key, None)

    async def _write(self, unit: Unit[T], key: str, chain: Chain | None) -> T:
        try:
            return await self._submit(self._writes, unit, key, chain)
        except StorageFailed:
            self._meters.failed_writes.add()
            raise

    async def read(self, unit: Unit[T], *, is_small: bool = False) -> T:
        del is_small
        self._meters.reads.value += 1
        try:
            return await self._submit(self._reads, unit, "")
        except StorageFailed:
            self._meters.failed_reads.add()
            raise

    def submit_write(self, unit: Unit[T], settle: Settle[T], key: str = "", chain: Chain | None = None) -> None:
        settle_later(self._write(unit, key, chain), settle, self._tasks)

    def submit_read(self, unit: Unit[T], settle: Settle[T]) -> None:
        settle_later(self.read(unit), settle, self._tasks)

    def durability(self) -> Durability:
        return self._watch.durability

    def trouble(self) -> str:
        return self._shared.health.trouble

    async def _submit(self, queue: UnitQueue, unit: Unit[T], key: str, chain: Chain | None = None) -> T:
        loop = asyncio.get_running_loop()
        job = QueuedJob(unit, key, loop.time() + self._shared.patience.wait_s, loop.create_future(), chain)
        try:
            self._may_take(queue)
            queue.put(job)
        except StorageFailed as failure:
            job.end(failure)
            raise
        return await job.future

    def _may_take(self, queue: UnitQueue) -> None:
        """Raises StorageFailed."""
        if not self._running:
            raise StorageFailed("the database is not running")
        if queue is self._writes and self._shared.health.is_hanging:
            raise StorageFailed(self._shared.health.trouble)

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(EXPIRE_EVERY_S)
            self._fail_waiting(asyncio.get_running_loop().time())

    def _fail_waiting(self, now_s: float) -> None:
        def failure() -> StorageFailed:
            trouble = self._shared.health.trouble or "it is too slow"
            return StorageFailed(f"the database did not take the commit ({trouble})")

        for queue in (self._writes, self._reads):
            queue.expire(now_s, failure)
