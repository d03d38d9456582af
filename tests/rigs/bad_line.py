"""What can happen to the line between devices and their gateway, chosen by a campaign's dice."""

import asyncio
from collections.abc import Awaitable, Callable

from tests.rigs.campaign import Campaign
from tests.rigs.fault_proxy import FaultProxy, Faults

A_WHILE_S = 0.5


class BadLine:
    """Strikes at a proxy, each chosen by the campaign's dice. Faults that only delay stay until the next strike."""

    def __init__(self, proxy: FaultProxy, campaign: Campaign) -> None:
        self._proxy = proxy
        self._dice = campaign.random
        self._kinds: list[Callable[[], Awaitable[None]]] = [
            self._reset,
            self._cut_in_mid_message,
            self._dead_for_a_while,
            self._nobody_gets_in,
            self._late_and_unsteady,
            self._slow,
        ]
        self._next: list[Callable[[], Awaitable[None]]] = []

    async def strike(self) -> None:
        """Every kind once, in some order, and again."""
        self._proxy.faults = Faults()
        if not self._next:
            self._next = self._dice.sample(self._kinds, len(self._kinds))
        await self._next.pop()()

    async def _reset(self) -> None:
        self._proxy.reset()

    async def _cut_in_mid_message(self) -> None:
        self._proxy.faults = Faults(reset_after=self._dice.randrange(2000, 20_000))
        self._proxy.reset()
        await asyncio.sleep(A_WHILE_S)
        self._proxy.faults = Faults()
        self._proxy.reset()

    async def _dead_for_a_while(self) -> None:
        self._proxy.faults = Faults(is_dead=True)
        await asyncio.sleep(A_WHILE_S)
        self._proxy.faults = Faults()
        if self._dice.random() < 0.5:  # what was under way is never delivered
            self._proxy.reset()

    async def _nobody_gets_in(self) -> None:
        self._proxy.faults = Faults(is_refusing=True)
        self._proxy.reset()
        await asyncio.sleep(A_WHILE_S)
        self._proxy.faults = Faults()

    async def _late_and_unsteady(self) -> None:
        self._proxy.faults = Faults(delay_s=0.02, jitter_s=0.05)

    async def _slow(self) -> None:
        self._proxy.faults = Faults(bytes_per_s=200_000)
