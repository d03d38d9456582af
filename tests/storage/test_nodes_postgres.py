"""Two nodes write one PostgreSQL: their units are isolated from each other like those of one."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
from sqlalchemy import Column, Integer, MetaData, Table, insert
from sqlalchemy.util import await_only

from entobot.core.errors import Code, Problem
from entobot.storage.database import Database, Transaction
from entobot.storage.database_postgres import PostgresDatabase
from tests.contracts.test_database import ADD, SET, amount, things
from tests.support.postgres import PostgresServer
from tests.support.stores import create_postgres_tables, postgres_database

Nodes = tuple[Database, Database]

numbers = Table("numbers", MetaData(), Column("number", Integer, primary_key=True, autoincrement=False))


@pytest.fixture
async def nodes(postgres: PostgresServer) -> AsyncIterator[Nodes]:
    name = postgres.new_database()
    create_postgres_tables(postgres, name, things.metadata)
    create_postgres_tables(postgres, name, numbers.metadata)
    pair = (postgres_database(postgres.url(name)), postgres_database(postgres.url(name)))
    for node in pair:
        await node.start()
    yield pair
    for node in pair:
        await node.stop()


def retries(node: Database) -> float:
    """How often units of it were run again because the other was first."""
    assert isinstance(node, PostgresDatabase)
    return node._lanes[0]._meters.conflicts.value


async def test_of_many_concurrent_check_then_writes_exactly_one_wins(nodes: Nodes) -> None:
    await nodes[0].write(lambda tx: tx.run(ADD, {"name": "prize", "amount": 0}))

    def take(tx: Transaction) -> bool:
        if amount(tx, "prize") != 0:
            return False
        tx.run(SET, {"which": "prize", "to": 1})
        return True

    winners = await asyncio.gather(*(nodes[n % 2].write(take) for n in range(50)))
    assert sum(winners) == 1


async def test_a_number_that_the_other_node_gave_out_meanwhile_is_no_error(nodes: Nodes) -> None:
    """The server calls it a unique violation, not a conflict, although the unit has looked before."""
    await nodes[0].write(lambda tx: tx.run(ADD, {"name": "head", "amount": 0}))
    for node in nodes:  # neither has noticed yet that there are two, so they do not take turns
        assert isinstance(node, PostgresDatabase)
        node._shared.health.is_shared = False

    def number_next(tx: Transaction) -> int:
        number = (amount(tx, "head") or 0) + 1
        if not others:
            others.append(await_only(nodes[0].write(other_next)))
        tx.run(insert(numbers), {"number": number})
        tx.run(SET, {"which": "head", "to": number})
        return number

    def other_next(tx: Transaction) -> int:
        others.append(0)
        others.append(number_next(tx))
        return others[-1]

    others: list[int] = []
    assert await nodes[1].write(number_next) == 2
    assert others[1] == 1
    assert retries(nodes[0]) == 0
    assert retries(nodes[1]) == 1


async def test_a_row_that_is_there_already_is_an_error_and_not_tried_for_ever(nodes: Nodes) -> None:
    await nodes[0].write(lambda tx: tx.run(ADD, {"name": "a", "amount": 1}))
    with pytest.raises(asyncpg.UniqueViolationError):
        await nodes[1].write(lambda tx: tx.run(ADD, {"name": "a", "amount": 2}))


async def test_increments_of_both_are_not_lost_and_are_announced_in_order(nodes: Nodes) -> None:
    await nodes[0].write(lambda tx: tx.run(ADD, {"name": "count", "amount": 0}))
    heard: tuple[list[int], list[int]] = ([], [])

    async def increment(node: int) -> None:
        def unit(tx: Transaction) -> None:
            number = (amount(tx, "count") or 0) + 1
            tx.run(SET, {"which": "count", "to": number})
            tx.after_commit(lambda: heard[node].append(number))

        await nodes[node].write(unit)
        await asyncio.sleep(0)

    async def some(node: int) -> None:
        for _ in range(20):
            await increment(node)

    await asyncio.gather(some(0), some(1), some(0), some(1))
    assert await nodes[0].read(lambda tx: amount(tx, "count")) == 80
    assert sorted(heard[0] + heard[1]) == list(range(1, 81))
    assert all(one == sorted(one) for one in heard)


async def test_two_units_that_each_read_what_the_other_writes_do_not_both_pass(nodes: Nodes) -> None:
    def leave(tx: Transaction, mine: str, other: str) -> bool:
        if amount(tx, other) == 0:
            return False
        tx.run(SET, {"which": mine, "to": 0})
        return True

    for turn in range(10):
        left, right = f"left {turn}", f"right {turn}"
        for name in (left, right):
            await nodes[0].write(lambda tx, n=name: tx.run(ADD, {"name": n, "amount": 1}))
        passed = await asyncio.gather(
            nodes[0].write(lambda tx, a=left, b=right: leave(tx, a, b)),
            nodes[1].write(lambda tx, a=left, b=right: leave(tx, b, a)),
        )
        assert sorted(passed) == [False, True]


async def test_what_one_has_acknowledged_the_other_reads_at_once(nodes: Nodes) -> None:
    for number in range(20):
        name = str(number)
        await nodes[number % 2].write(lambda tx, n=name: tx.run(ADD, {"name": n, "amount": 1}))
        assert await nodes[(number + 1) % 2].read(lambda tx, n=name: amount(tx, n)) == 1


async def test_a_text_that_postgresql_cannot_hold_is_the_callers_mistake(nodes: Nodes) -> None:
    with pytest.raises(Problem) as problem:
        await nodes[0].write(lambda tx: tx.run(ADD, {"name": "a\0b", "amount": 1}))
    assert problem.value.code is Code.INVALID
    await nodes[0].write(lambda tx: tx.run(ADD, {"name": "ab", "amount": 1}))
