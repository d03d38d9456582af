from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.pairing.gatehouse import Gatehouse
from tests.pairing.phones import NewPhone
from tests.support.time import ManualClock, SeededEntropy


@pytest.fixture
async def gate(tmp_path: Path, clock: ManualClock, entropy: SeededEntropy) -> AsyncIterator[Gatehouse]:
    gate = await Gatehouse.open(tmp_path, clock, entropy)
    yield gate
    await gate.close()


@pytest.fixture
def phone() -> NewPhone:
    return NewPhone()


@pytest.fixture
def thief() -> NewPhone:
    return NewPhone(name="Mallory's phone")
