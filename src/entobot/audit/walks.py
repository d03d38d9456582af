"""Verifications that people ask for: one at a time, with news of how far they are, ended when nobody waits any more."""

import asyncio
from collections.abc import AsyncGenerator

from entobot.audit.heads import RunUnit
from entobot.audit.model import Verification
from entobot.audit.service import Audit
from entobot.core.errors import Code, Problem

TELL_EVERY_S = 0.25


class Walks:
    """A walk costs CPU in proportion to the log: one at a time, whoever asks."""

    def __init__(self, audit: Audit, read: RunUnit) -> None:
        self._audit = audit
        self._read = read
        self._free = asyncio.Semaphore(1)

    async def run(self) -> Verification:
        """Raises `rate_limited` while another one is under way."""
        self._refuse_second()
        async with self._free:
            return await self._audit.verify(self._read)

    async def watched(self) -> AsyncGenerator[tuple[int, int] | Verification]:
        """(entries checked, entries in all) now and then, last the result. Closing it ends the walk.

        Whoever does not take the news delays nothing: the walk goes on, and what is told next is where it is then.
        Raises as `run`, before anything is told.
        """
        self._refuse_second()
        await self._free.acquire()
        at = (0, 0)

        def note(done: int, total: int) -> None:
            nonlocal at
            at = (done, total)

        walk = asyncio.get_running_loop().create_task(self._audit.verify(self._read, note), name="audit walk")
        walk.add_done_callback(lambda _: self._free.release())
        try:
            while not walk.done():
                yield at
                await asyncio.wait([walk], timeout=TELL_EVERY_S)
            yield walk.result()
        finally:
            walk.cancel()
            await asyncio.wait([walk])

    def _refuse_second(self) -> None:
        if self._free.locked():
            raise Problem(Code.RATE_LIMITED, "The log is being verified. Ask again when that is done.", retry_after_s=5)
