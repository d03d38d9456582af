"""Every table there is moves to PostgreSQL, and numbers that a store gives go on after those that came along."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import BigInteger, Column, Float, Integer, LargeBinary, Table

from entobot.storage.copying import copy_all, quoted
from entobot.storage.database import metadata
from entobot.storage.migrations import upgrade_sqlite
from entobot.storage.migrations.postgres import upgrade_postgres
from entobot.storage.postgres_connection import PostgresAddress
from tests.support.postgres import PostgresServer
from tests.support.stores import load_tables

ROWS = 3


@pytest.fixture
def empty(postgres: PostgresServer) -> Iterator[str]:
    name = postgres.new_database()
    yield name
    postgres.drop_database(name)


def value(column: Column[object], row: int) -> object:
    """Another in each row; at the ends of what a column holds."""
    kind = column.type
    if isinstance(kind, BigInteger):
        return 2**53 + row
    if isinstance(kind, Integer):
        return 2**31 - 1 - row
    if isinstance(kind, Float):
        return 0.1 + row
    if isinstance(kind, LargeBinary):
        return bytes([0, 255, row])
    return f"{column.name} ü\U0001f600 {row}"


def fill(source: sqlite3.Connection, table: Table) -> None:
    names = [column.name for column in table.columns]
    holes = ", ".join("?" * len(names))
    source.executemany(
        f'INSERT INTO "{table.name}" ({", ".join(map(quoted, names))}) VALUES ({holes})',
        [[value(column, row) for column in table.columns] for row in range(ROWS)],
    )


async def test_every_table_is_copied_and_the_next_number_is_free(
    postgres: PostgresServer, empty: str, tmp_path: Path
) -> None:
    load_tables()
    file = tmp_path / "entobot.db"
    upgrade_sqlite(file)
    with closing(sqlite3.connect(file)) as source, source:
        source.execute("PRAGMA ignore_check_constraints = on")
        for table in metadata.sorted_tables:
            source.execute(f'DELETE FROM "{table.name}"')
            fill(source, table)
    address = PostgresAddress(postgres.url(empty))
    await upgrade_postgres(address)
    connection = await address.connect()
    try:
        await connection.execute("BEGIN")
        copied = await copy_all(file, connection, lambda *_: None)
        assert {one.table: one.rows for one in copied} == {table.name: ROWS for table in metadata.sorted_tables}
        numbered: list[str] = []
        for table in metadata.sorted_tables:
            for name in [column.name for column in table.columns]:
                sequence = await connection.fetchval("SELECT pg_get_serial_sequence($1, $2)", table.name, name)
                if sequence is not None:
                    numbered.append(table.name)
                    following = await connection.fetchval(f"SELECT nextval('{sequence}')")
                    highest = await connection.fetchval(f'SELECT max("{name}") FROM "{table.name}"')
                    assert following == highest + 1, table.name
        assert {"mqtt_bridge_outbox", "policies", "thing_series"} <= set(numbered), numbered
    finally:
        await connection.close()
