"""Devices under load while something strikes their gateway again and again; what their histories say at the end."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from entobot.client.history import Violation
from entobot.client.reach import Reach
from tests.rigs.campaign import Campaign
from tests.support.fleet import Fleet
from tests.support.operator import Operator

ROOMY = {
    "ENTOBOT_LIMITS__REQUESTS_BURST": "100000",
    "ENTOBOT_LIMITS__FRAMES_BURST": "100000",
    "ENTOBOT_LIMITS__UNAUTHENTICATED_PER_ADDRESS": "200",
    "ENTOBOT_LIMITS__OPENING_PER_ADDRESS": "200",
    "ENTOBOT_LOG__LEVEL": "error",
}
"""Limits that a load from one address does not meet."""
Strike = Callable[[], Awaitable[None]]


@dataclass
class Storm:
    """`between` is how many messages are acknowledged from one strike to the next, at least and at most."""

    campaign: Campaign
    folder: Path
    operator: Operator
    faults: int
    users: Sequence[str | None] = (None,)
    each: int = 2
    between: tuple[int, int] = (10, 40)
    reaches: Callable[[int], Reach | None] = lambda _: None

    async def run(self, strike: Strike) -> list[Violation]:
        """The broken promises. `strike` returns when what it broke is whole again, or is to stay broken."""
        campaign, fleet = self.campaign, Fleet(self.campaign.random, self.folder, self.reaches)
        try:
            await fleet.pair(self.operator, list(self.users), self.each)
            await fleet.connect()
            fleet.begin()
            for fault in range(self.faults):
                await fleet.until(fleet.acknowledged + campaign.random.randrange(*self.between))
                await asyncio.sleep(campaign.random.random() * 0.03)  # anywhere between two messages
                await strike()
                campaign.faults += 1
                campaign.progress(f"{fault + 1} of {self.faults}, {fleet.acknowledged:,} acknowledged")
            await fleet.until(fleet.acknowledged + self.between[0])
            stored = await fleet.settle()
            return _tally(campaign, fleet, fleet.check(stored))
        finally:
            await fleet.close()


def _tally(campaign: Campaign, fleet: Fleet, violations: list[Violation]) -> list[Violation]:
    campaign.operations = fleet.acknowledged
    campaign.worst_stall_s = fleet.worst_stall_s
    for violation in violations:
        if "lost" in violation.promise or "skipped" in violation.promise or "resumed" in violation.promise:
            campaign.lost += 1
        elif "once" in violation.promise or "twice" in violation.promise or "one result" in violation.promise:
            campaign.duplicated += 1
        else:
            campaign.out_of_order += 1
    return violations
