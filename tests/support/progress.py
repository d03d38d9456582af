"""How far a load has come, and the longest time in which it did not."""

import asyncio
from dataclasses import dataclass, field

from tests.support.process import GENEROUS_S


@dataclass
class Progress:
    acknowledged: int = 0
    worst_stall_s: float = 0.0
    """The longest time without any acknowledgement."""
    _last_s: float | None = None
    _grown: asyncio.Event = field(default_factory=asyncio.Event)

    def counted(self, messages: int) -> None:
        self.acknowledged += messages
        now_s = asyncio.get_running_loop().time()
        self.worst_stall_s = max(self.worst_stall_s, now_s - (self._last_s or now_s))
        self._last_s = now_s
        self._grown.set()

    async def until(self, acknowledged: int) -> None:
        """Returns once this many messages have been acknowledged in all. Fails when the load does not go on."""
        async with asyncio.timeout(GENEROUS_S):
            while self.acknowledged < acknowledged:
                self._grown.clear()
                await self._grown.wait()
