"""Units that wait for a connection: in order, bounded in number and in time; those of one key one after another."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from entobot.storage.database import Chain, StorageFailed, Unit
from entobot.storage.job import Job

MAX_WAITING = 8192
TOO_MANY = "too many units wait for the database"


class QueuedJob(Job):
    """`settle` tells the unit's caller the outcome."""

    __slots__ = ("collisions", "deadline_s", "future", "key")

    def __init__(
        self, unit: Unit[Any], key: str, deadline_s: float, future: "asyncio.Future[Any]", chain: Chain | None = None
    ) -> None:
        super().__init__(unit, chain)
        self.key = key
        self.deadline_s = deadline_s
        self.future = future
        self.collisions = 0

    def settle(self) -> None:
        if self.future.done():  # its caller was cancelled, or told that it took too long; what was committed stands
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)

    def fail(self, failure: StorageFailed) -> None:
        self.end(failure)
        self.settle()


class _Line:
    """Jobs that go one after another: those of one key, or a single one without."""

    __slots__ = ("jobs", "key")

    def __init__(self, job: QueuedJob) -> None:
        self.key = job.key
        self.jobs = deque((job,))


class UnitQueue:
    """Taken by several lanes. Jobs of one key are handed to one lane at a time, in their order."""

    def __init__(self, max_together: int) -> None:
        self._max_together = max_together
        self._ready: deque[_Line] = deque()
        self._of_key: dict[str, _Line] = {}
        self._idle: list[asyncio.Future[None]] = []
        """The lane that worked last is woken first: no more connections are opened than are needed."""
        self.is_closed = False
        self.count = 0

    def put(self, job: QueuedJob) -> None:
        """Raises StorageFailed when too many wait already."""
        if self.count >= MAX_WAITING:
            raise StorageFailed(TOO_MANY)
        self.count += 1
        line = self._of_key.get(job.key) if job.key else None
        if line is not None:
            line.jobs.append(job)
            return
        line = _Line(job)
        if job.key:
            self._of_key[job.key] = line
        self._offer(line)

    async def take(self) -> list[QueuedJob]:
        """The next jobs for one transaction, in order; empty once the queue is closed and nothing is left."""
        while True:
            taken: list[QueuedJob] = []
            while self._ready and len(taken) < self._max_together:
                line = self._ready.popleft()
                room = self._max_together - len(taken)
                own = [line.jobs.popleft() for _ in range(min(len(line.jobs), room))]
                if not own:
                    self._of_key.pop(line.key, None)  # all of them ran out of time
                taken += own
            if taken or self.is_closed:
                self.count -= len(taken)
                return taken
            waiter = asyncio.get_running_loop().create_future()
            self._idle.append(waiter)
            await waiter

    def done(self, jobs: list[QueuedJob]) -> None:
        """What was taken is settled: the next jobs of its keys may be taken."""
        for key in {job.key for job in jobs if job.key}:
            line = self._of_key[key]
            if line.jobs:
                self._offer(line)
            else:
                del self._of_key[key]

    def expire(self, now_s: float, failure: Callable[[], StorageFailed]) -> None:
        """Fail the jobs whose time is over; each line is in order of submission."""
        for line in (*self._of_key.values(), *self._ready):
            while line.jobs and line.jobs[0].deadline_s <= now_s:
                self.count -= 1
                line.jobs.popleft().fail(failure())

    def close(self) -> None:
        """What waits is still handed out; then every `take` returns empty."""
        self.is_closed = True
        for waiter in self._idle:
            if not waiter.done():
                waiter.set_result(None)
        self._idle.clear()

    def _offer(self, line: _Line) -> None:
        self._ready.append(line)
        while self._idle:
            waiter = self._idle.pop()
            if not waiter.done():
                waiter.set_result(None)
                return
