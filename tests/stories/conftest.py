"""Stories run a real gateway process, driven as its users drive it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.postgres import PostgresServer
from tests.support.process import GatewayProcess


@pytest.fixture
def gateway(request: pytest.FixtureRequest, tmp_path: Path, store_kind: str) -> Iterator[GatewayProcess]:
    environment: dict[str, str] = {}
    if store_kind == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres")
        environment["ENTOBOT_STORAGE__URL"] = server.url(server.furnished_database())
    process = GatewayProcess(tmp_path / "home", environment=environment).start()
    yield process
    process.close()


@pytest.fixture(scope="module")
def shared_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """One gateway for stories that do not disturb one another."""
    process = GatewayProcess(tmp_path_factory.mktemp("shared") / "home").start()
    yield process
    process.close()
