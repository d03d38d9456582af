"""What is put off goes to PostgreSQL in few round trips, and nothing of it is lost, doubled or out of order."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, Text, bindparam, delete, insert, select, update

from entobot.storage import postgres_transaction
from entobot.storage.database import Transaction
from entobot.storage.database_postgres import PostgresDatabase
from entobot.storage.postgres_deferred import Deferred, Write, together
from tests.support.postgres import PostgresServer
from tests.support.stores import create_postgres_tables, postgres_database

tables = MetaData()
things = Table("things", tables, Column("name", Text, primary_key=True), Column("amount", Integer, nullable=False))
log = Table("log", tables, Column("id", Integer, primary_key=True, autoincrement=True), Column("text", Text))
heads = Table("heads", tables, Column("name", Text, primary_key=True), Column("at", Integer, nullable=False))

ADD = insert(things)
SET = update(things).where(things.c.name == bindparam("which")).values(amount=bindparam("to"))
DROP = delete(things).where(things.c.name == bindparam("which"))
NOTE = insert(log)
HEAD = insert(heads)
MOVE = update(heads).where(heads.c.name == bindparam("which")).values(at=bindparam("to"))
AMOUNTS = select(things).order_by(things.c.name)
NOTES = select(log.c.text).order_by(log.c.id)
POSITIONS = select(heads)


@pytest.fixture
async def store(postgres: PostgresServer) -> AsyncIterator[PostgresDatabase]:
    name = postgres.new_database()
    create_postgres_tables(postgres, name, tables)
    database = postgres_database(postgres.url(name, is_local=True))
    await database.start()
    yield database
    await database.stop()


class Trips:
    """Counts how often a unit waits for the server."""

    def __init__(self, real: Any) -> None:
        self.real = real
        self.count = 0

    def __call__(self, awaitable: Any) -> Any:
        self.count += 1
        return self.real(awaitable)


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> Trips:
    counting = Trips(postgres_transaction.await_only)
    monkeypatch.setattr(postgres_transaction, "await_only", counting)
    return counting


async def contents(store: PostgresDatabase) -> tuple[dict[str, int], list[str], dict[str, int]]:
    def unit(tx: Transaction) -> tuple[dict[str, int], list[str], dict[str, int]]:
        return (
            {row["name"]: row["amount"] for row in tx.rows(AMOUNTS)},
            [row["text"] for row in tx.rows(NOTES)],
            {row["name"]: row["at"] for row in tx.rows(POSITIONS)},
        )

    return await store.read(unit)


def say(tx: Transaction) -> None:
    tx.add(ADD, {"name": "a", "amount": 1})
    tx.add(NOTE, {"text": "first"})
    tx.add(HEAD, {"name": "h", "at": 1})
    tx.add(SET, {"which": "a", "to": 2})
    tx.add(NOTE, {"text": "second"})
    tx.add_latest(MOVE, "h", {"which": "h", "to": 2})
    tx.add_latest(MOVE, "h", {"which": "h", "to": 3})
    tx.add(NOTE, {"text": "third"})


async def test_writes_of_several_tables_are_one_round_trip(store: PostgresDatabase, trips: Trips) -> None:
    await store.write(say)
    assert await contents(store) == ({"a": 2}, ["first", "second", "third"], {"h": 3})
    await store.write(lambda tx: tx.run(DROP, {"which": "a"}))
    await store.write(lambda tx: tx.run(delete(heads)))
    trips.count = 0
    await store.write(say)  # everything is prepared by now
    assert trips.count == 2 + 3, "BEGIN, COMMIT, and as many as the table with the most writes has"


async def test_a_later_statement_of_the_unit_sees_what_was_put_off(store: PostgresDatabase) -> None:
    def unit(tx: Transaction) -> list[str]:
        say(tx)
        seen = [row["text"] for row in tx.rows(NOTES)]
        tx.add(NOTE, {"text": "after"})
        return seen

    assert await store.write(unit) == ["first", "second", "third"]
    assert (await contents(store))[1] == ["first", "second", "third", "after"]


@pytest.mark.parametrize("others", [0, 3])
async def test_a_write_that_fails_at_the_end_takes_its_unit_back_and_no_other(
    store: PostgresDatabase, others: int
) -> None:
    import asyncio

    await store.write(lambda tx: tx.run(ADD, {"name": "taken", "amount": 7}))

    def failing(tx: Transaction) -> None:
        tx.add(NOTE, {"text": "bad"})
        tx.add(ADD, {"name": "taken", "amount": 8})
        tx.after_commit(lambda: heard.append("bad"))

    heard: list[str] = []
    units: list[Any] = [failing, *((lambda tx, n=n: tx.add(NOTE, {"text": f"good {n}"})) for n in range(others))]
    told = await asyncio.gather(*(store.write(unit) for unit in units), return_exceptions=True)
    assert [isinstance(one, BaseException) for one in told] == [True, *[False] * others]
    assert heard == []
    amounts, notes, _ = await contents(store)
    assert (amounts, sorted(notes)) == ({"taken": 7}, [f"good {n}" for n in range(others)])


async def test_a_unit_that_raises_leaves_nothing_of_what_it_put_off(store: PostgresDatabase) -> None:
    def unit(tx: Transaction) -> None:
        say(tx)
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await store.write(unit)
    assert await contents(store) == ({}, [], {})


# -- how they are put together


def trips_of(*writes: tuple[str, str, str | None]) -> list[str]:
    deferred = Deferred()
    for table, sql, key in writes:
        deferred.add(Write(table, sql, [sql]), key)
    return [sql for sql, _ in deferred.take()]


def test_parameters_are_numbered_on() -> None:
    deferred = Deferred()
    deferred.add(Write("a", "A $1 $2 $1", [1, 2]))
    deferred.add(Write("b", "B", []))
    deferred.add(Write("c", "C $10 $1", list(range(10))))
    assert list(deferred.take()) == [("WITH w0 AS (A $1 $2 $1), w1 AS (B) C $12 $3", [1, 2, *range(10)])]
    assert not deferred
    assert list(deferred.take()) == []


def test_a_single_one_stays_as_it_is() -> None:
    assert together(("A $1",)) == "A $1"
    assert trips_of(("a", "A", None)) == ["A"]


def test_writes_of_one_table_keep_their_order() -> None:
    assert trips_of(("a", "A1", None), ("b", "B1", None), ("a", "A2", None), ("b", "B2", None), ("c", "C", None)) == [
        "WITH w0 AS (A1), w1 AS (B1) C",
        "WITH w0 AS (A2) B2",
    ]


def test_what_is_superfluous_is_left_out_and_the_newest_comes_last() -> None:
    written = trips_of(("a", "A", "k"), ("a", "B", None), ("a", "A", "k"), ("a", "A", "other"), ("a", "A", "k"))
    assert written == ["B", "A", "A"]
