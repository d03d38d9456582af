"""Agencies at work, closed after the test."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.agency import Agency
from tests.support.loop_guard import LoopGuard
from tests.support.time import ManualClock, SeededEntropy

Opener = Callable[..., Awaitable[Agency]]


@pytest.fixture
async def open_agency(tmp_path: Path, clock: ManualClock, entropy: SeededEntropy) -> AsyncIterator[Opener]:
    """Opens agencies on one data folder: the second is the first after a restart."""
    opened: list[Agency] = []

    async def start(*, works: bool = True, **parts: Any) -> Agency:
        agency = Agency(tmp_path, clock, entropy, **parts)
        await agency.open(works=works)
        opened.append(agency)
        return agency

    yield start
    for agency in opened:
        await agency.close()


@pytest.fixture
async def agency(open_agency: Opener) -> Agency:
    return await open_agency()


@pytest.fixture(autouse=True)
def _nothing_blocks(loop_guard: LoopGuard) -> None:  # pyright: ignore[reportUnusedFunction]  taken by pytest
    """Nothing here may block the loop."""
