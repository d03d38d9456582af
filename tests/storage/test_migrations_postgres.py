"""What happens to a PostgreSQL database at start."""

import asyncio
from collections.abc import Iterator

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine

from entobot.core.errors import StartupRefused
from entobot.storage.database import metadata
from entobot.storage.migrations import HEAD
from entobot.storage.migrations.postgres import check_server, upgrade_postgres
from entobot.storage.postgres_connection import PostgresAddress
from tests.storage.test_migrations import upgrade_to
from tests.support.postgres import PostgresServer
from tests.support.stores import load_tables


@pytest.fixture
def empty(postgres: PostgresServer) -> Iterator[str]:
    name = postgres.new_database()
    yield name
    postgres.drop_database(name)


async def test_many_nodes_that_start_at_once_make_the_tables_that_the_stores_declare(
    postgres: PostgresServer, empty: str
) -> None:
    load_tables()
    address = PostgresAddress(postgres.url(empty))
    await asyncio.gather(*(upgrade_postgres(address) for _ in range(3)))
    await upgrade_postgres(address)

    def differences(connection: Connection) -> object:
        context = MigrationContext.configure(connection)
        assert context.get_current_revision() == HEAD
        return compare_metadata(context, metadata)

    engine = create_async_engine("postgresql+asyncpg://", async_creator=address.connect)
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await engine.dispose()
    rows = postgres.execute(
        "SELECT DISTINCT coalesce(collation_name, '?') AS it FROM information_schema.columns "
        "WHERE table_schema = 'public' AND data_type = 'text'",
        database=empty,
    )
    assert [row["it"] for row in rows] == ["C"]


async def test_results_of_commands_outlive_the_change_of_their_key(postgres: PostgresServer, empty: str) -> None:
    address = PostgresAddress(postgres.url(empty))
    engine = create_async_engine("postgresql+asyncpg://", async_creator=address.connect)
    async with engine.begin() as connection:
        await connection.run_sync(lambda it: upgrade_to("0002", it))
    await engine.dispose()
    postgres.execute("INSERT INTO command_results VALUES ('dev_1', '01', '\\x00', '\\x01', 7)", database=empty)
    await upgrade_postgres(address)
    (row,) = postgres.execute("SELECT * FROM command_results", database=empty)
    assert (row["device_id"], row["command_id"], row["result"], row["at_ms"]) == ("dev_1", "01", b"\x01", 7)
    keys = postgres.execute(
        "SELECT pg_get_constraintdef(oid) AS it FROM pg_constraint WHERE conname = 'command_results_pkey'",
        database=empty,
    )
    assert [key["it"] for key in keys] == ["PRIMARY KEY (command_id, device_id)"]


async def test_people_of_before_get_logins(postgres: PostgresServer, empty: str) -> None:
    address = PostgresAddress(postgres.url(empty))
    engine = create_async_engine("postgresql+asyncpg://", async_creator=address.connect)
    async with engine.begin() as connection:
        await connection.run_sync(lambda it: upgrade_to("0003", it))
    await engine.dispose()
    postgres.execute(
        "INSERT INTO users VALUES ('usr_A', 'First', 'owner', 1), ('usr_B', 'Guest', 'member', 0)", database=empty
    )
    await upgrade_postgres(address)
    rows = postgres.execute("SELECT login FROM users ORDER BY user_id", database=empty)
    assert [row["login"] for row in rows] == ["owner", "usr_b"]


async def test_a_database_of_a_newer_version_is_refused_and_left_alone(postgres: PostgresServer, empty: str) -> None:
    address = PostgresAddress(postgres.url(empty))
    await upgrade_postgres(address)
    postgres.execute("UPDATE alembic_version SET version_num = '9999'", database=empty)
    with pytest.raises(StartupRefused, match="newer Entobot"):
        await upgrade_postgres(address)
    assert postgres.execute("SELECT version_num FROM alembic_version", database=empty)[0]["version_num"] == "9999"


@pytest.mark.parametrize(("major", "encoding", "why"), [(14, "UTF8", "15 or newer"), (16, "LATIN1", "ENCODING 'UTF8'")])
def test_a_server_that_cannot_hold_the_promises_is_refused(major: int, encoding: str, why: str) -> None:
    with pytest.raises(StartupRefused, match=why):
        check_server(PostgresAddress("postgresql://here/db"), major, encoding)


async def test_a_server_that_is_not_there_is_refused_without_its_password() -> None:
    address = PostgresAddress("postgresql://me:hunter2@127.0.0.1:1/db?password=hunter2")
    with pytest.raises(StartupRefused) as refused:
        await upgrade_postgres(address)
    assert "postgresql://me@127.0.0.1:1/db" in str(refused.value)
    assert "hunter2" not in str(refused.value) + repr(address)
