"""Stories run a real gateway process, driven as its users drive it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.process import GatewayProcess


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    process = GatewayProcess(tmp_path / "home").start()
    yield process
    process.close()


@pytest.fixture(scope="module")
def shared_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """One gateway for stories that do not disturb one another."""
    process = GatewayProcess(tmp_path_factory.mktemp("shared") / "home").start()
    yield process
    process.close()
