"""How PostgreSQL is reached: with a password from a file, over several hosts, and never with a secret in a message."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from entobot.app.store import find_address
from entobot.bus.bus_postgres import postgres_bus
from entobot.bus.sealing import Seal
from entobot.config import StorageSettings
from entobot.core.errors import StartupRefused
from entobot.core.secrets import SystemEntropy
from entobot.storage.database_postgres import PostgresDatabase
from entobot.storage.postgres_connection import PostgresAddress
from tests.support.postgres import PostgresServer
from tests.support.process import free_port

PASSWORD = "p@ss/w?rd#1"
WRONG = "wr0ng-secret"


@pytest.fixture(scope="module")
def primary() -> Iterator[PostgresServer]:
    """Asks the role `keeper` for its password."""
    server = PostgresServer()
    rules = server.data / "pg_hba.conf"
    rules.write_text("host all keeper 127.0.0.1/32 scram-sha-256\n" + rules.read_text())
    server.start()
    server.execute(f"CREATE ROLE keeper LOGIN PASSWORD '{PASSWORD}'")
    yield server
    server.remove()


@pytest.fixture(scope="module")
def standby(primary: PostgresServer) -> Iterator[PostgresServer]:
    """Takes connections and no writes, as a standby does."""
    server = PostgresServer({"default_transaction_read_only": "on"})
    yield server.start()
    server.remove()


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text(PASSWORD + "\n")
    return path


def url(*ports: int, user: str = "keeper", options: str = "") -> str:
    return f"postgresql://{user}@{','.join(f'127.0.0.1:{port}' for port in ports)}/postgres{options}"


async def is_let_in(address: PostgresAddress) -> bool:
    connection = await address.connect()
    try:
        return await connection.fetchval("SELECT NOT pg_is_in_recovery()")
    finally:
        await connection.close()


async def _nothing(_address: PostgresAddress) -> None:
    """No schema is needed."""


async def refusal(address: PostgresAddress) -> str:
    database = PostgresDatabase(address, _nothing, SystemEntropy())
    with pytest.raises(StartupRefused) as refused:
        await database.start()
    return str(refused.value)


async def test_the_password_is_read_from_its_file_for_store_and_bus(
    primary: PostgresServer, password_file: Path
) -> None:
    address = PostgresAddress(url(primary.port), password_file)
    assert await is_let_in(address)
    seal = Seal(b"k" * 32, SystemEntropy())
    bus = postgres_bus(
        address.url, channel="c", node_id="n", seal=seal, entropy=SystemEntropy(), password_file=password_file
    )
    await bus.start()
    try:
        async with asyncio.timeout(60):
            while not bus.health().is_connected:  # noqa: ASYNC110  a connection has no event to wait for
                await asyncio.sleep(0.01)
    finally:
        await bus.stop()


async def test_a_wrong_password_is_refused_at_once_and_not_shown(primary: PostgresServer, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text(WRONG)
    said = await refusal(PostgresAddress(url(primary.port), wrong))
    assert "password authentication failed" in said
    assert WRONG not in said


async def test_of_several_hosts_the_one_that_lives_and_takes_writes_is_found(
    primary: PostgresServer, standby: PostgresServer
) -> None:
    ports = free_port(), standby.port, primary.port
    address = PostgresAddress(url(*ports, user="entobot", options="?target_session_attrs=read-write"))
    connection = await address.connect()
    try:
        assert int(await connection.fetchval("SHOW port")) == primary.port
    finally:
        await connection.close()


@pytest.mark.parametrize(("content", "why"), [(None, "No such file"), (b"", "empty"), (b"\xff\xfe", "not text")])
def test_a_password_file_that_holds_none_is_refused_before_any_server_is_waited_for(
    tmp_path: Path, content: bytes | None, why: str
) -> None:
    path = tmp_path / "password"
    if content is not None:
        path.write_bytes(content)
    settings = StorageSettings.model_validate({"url": url(1), "password_file": path})
    with pytest.raises(StartupRefused, match=f"storage.password_file.*{why}"):
        find_address(settings)


@pytest.mark.parametrize("character", "/?#")
async def test_a_password_that_is_not_encoded_is_not_shown_in_pieces(character: str) -> None:
    """It ends the part with the host, and its beginning was shown as the port."""
    said = await refusal(PostgresAddress(f"postgresql://u:topsecret{character}more@127.0.0.1/db"))
    assert "percent-encoded" in said
    assert "topsecret" not in said


@pytest.mark.parametrize("dsn", ["postgresql://u:topsecret#more@127.0.0.1/db", "postgresql://u:topsecret@h:port/db"])
async def test_a_bus_address_that_is_not_right_is_said_and_does_not_end_the_bus(dsn: str) -> None:
    seal = Seal(b"k" * 32, SystemEntropy())
    bus = postgres_bus(dsn, channel="c", node_id="n", seal=seal, entropy=SystemEntropy())
    task = asyncio.create_task(bus.start())
    try:
        async with asyncio.timeout(60):
            while "not right" not in bus.health().detail:  # noqa: ASYNC110  health is asked for
                await asyncio.sleep(0.01)
        assert "topsecret" not in bus.health().detail
    finally:
        await task
        await bus.stop()
