"""Devices under load while something strikes their gateway again and again; what their histories say at the end."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from entobot.client.history import Violation
from entobot.client.reach import Reach
from tests.rigs.campaign import Campaign
from tests.support.fleet import Fleet
from tests.support.operator import Operator
from tests.support.progress import Progress

ROOMY = {
    "ENTOBOT_LIMITS__REQUESTS_BURST": "100000",
    "ENTOBOT_LIMITS__FRAMES_BURST": "100000",
    "ENTOBOT_LIMITS__UNAUTHENTICATED_PER_ADDRESS": "200",
    "ENTOBOT_LIMITS__OPENING_PER_ADDRESS": "200",
    "ENTOBOT_LOG__LEVEL": "error",
}
"""Limits that a load from one address does not meet."""
Strike = Callable[[], Awaitable[None]]
Kept = TypeVar("Kept")


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
        fleet = Fleet(self.campaign.random, self.folder, self.reaches)
        try:
            await fleet.pair(self.operator, list(self.users), self.each)
            await fleet.connect()
            return await struck(self.campaign, fleet, self.faults, self.between, strike)
        finally:
            await fleet.close()


class Load(Protocol[Kept]):
    """Devices that are connected. `settle` ends what they do, and returns what the gateway has then."""

    progress: Progress

    def begin(self) -> None: ...
    async def settle(self) -> Kept: ...
    def check(self, kept: Kept, /) -> list[Violation]: ...


async def struck(
    campaign: Campaign, load: Load[Any], faults: int, between: tuple[int, int], strike: Strike
) -> list[Violation]:
    """Broken promises after so many strikes, between two of them so many messages that are acknowledged."""
    progress = load.progress
    load.begin()
    for fault in range(faults):
        await progress.until(progress.acknowledged + campaign.random.randrange(*between))
        await asyncio.sleep(campaign.random.random() * 0.03)  # anywhere between two messages
        await strike()
        campaign.faults += 1
        campaign.progress(f"{fault + 1} of {faults}, {progress.acknowledged:,} acknowledged")
    await progress.until(progress.acknowledged + between[0])
    return _tally(campaign, progress, load.check(await load.settle()))


def _tally(campaign: Campaign, progress: Progress, violations: list[Violation]) -> list[Violation]:
    campaign.operations = progress.acknowledged
    campaign.worst_stall_s = progress.worst_stall_s
    for violation in violations:
        if "lost" in violation.promise or "skipped" in violation.promise or "resumed" in violation.promise:
            campaign.lost += 1
        elif "once" in violation.promise or "twice" in violation.promise or "one result" in violation.promise:
            campaign.duplicated += 1
        else:
            campaign.out_of_order += 1
    return violations
