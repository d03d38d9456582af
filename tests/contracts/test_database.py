"""The contract of the Database port, run on every adapter."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, Text, bindparam, create_engine, insert, select, update

from entobot.storage.database import Chain, Database, StorageFailed, Transaction, Unit, metadata
from entobot.storage.database_sqlite import SqliteDatabase
from tests.support.postgres import PostgresServer
from tests.support.stores import create_postgres_tables, postgres_database

things = Table("things", MetaData(), Column("name", Text, primary_key=True), Column("amount", Integer, nullable=False))

ADD = insert(things)
GET = select(things.c.amount).where(things.c.name == bindparam("which"))
SET = update(things).where(things.c.name == bindparam("which")).values(amount=bindparam("to"))


def create_things(path: Path) -> None:
    engine = create_engine(f"sqlite:///{path}")
    things.metadata.create_all(engine)
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgres"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    if request.param == "sqlite":
        adapter = SqliteDatabase(tmp_path / "things.db", create_things)
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        name = server.new_database()
        create_postgres_tables(server, name, things.metadata)
        adapter = postgres_database(server.url(name, is_local=True))
    await adapter.start()
    yield adapter
    await adapter.stop()


def amount(tx: Transaction, name: str) -> int | None:
    row = tx.first(GET, {"which": name})
    return None if row is None else row["amount"]


async def test_a_write_is_seen_by_the_next_read(store: Database) -> None:
    await store.write(lambda tx: tx.run(ADD, {"name": "a", "amount": 1}))
    assert await store.read(lambda tx: amount(tx, "a")) == 1


async def test_a_failing_unit_rolls_back_alone(store: Database) -> None:
    def fail(tx: Transaction) -> None:
        tx.run(ADD, {"name": "bad", "amount": 1})
        raise ValueError("mine")

    results = await asyncio.gather(
        store.write(lambda tx: tx.run(ADD, {"name": "good", "amount": 1})),
        store.write(fail),
        store.write(lambda tx: tx.run(ADD, {"name": "also good", "amount": 2})),
        return_exceptions=True,
    )
    assert isinstance(results[1], ValueError)
    names = [await store.read(lambda tx, n=n: amount(tx, n)) for n in ("good", "bad", "also good")]
    assert names == [1, None, 2]


async def test_of_many_concurrent_check_then_writes_exactly_one_wins(store: Database) -> None:
    await store.write(lambda tx: tx.run(ADD, {"name": "prize", "amount": 0}))

    def take(tx: Transaction) -> bool:
        if amount(tx, "prize") != 0:
            return False
        tx.run(SET, {"which": "prize", "to": 1})
        return True

    winners = await asyncio.gather(*(store.write(take) for _ in range(100)))
    assert sum(winners) == 1


async def test_concurrent_increments_are_not_lost(store: Database) -> None:
    await store.write(lambda tx: tx.run(ADD, {"name": "count", "amount": 0}))

    def increment(tx: Transaction) -> None:
        tx.run(SET, {"which": "count", "to": (amount(tx, "count") or 0) + 1})

    await asyncio.gather(*(store.write(increment) for _ in range(200)))
    assert await store.read(lambda tx: amount(tx, "count")) == 200


async def test_after_commit_runs_on_the_loop_in_commit_order_and_before_write_returns(store: Database) -> None:
    await store.write(lambda tx: tx.run(ADD, {"name": "count", "amount": 0}))
    heard: list[int] = []
    returned: list[int] = []

    def unit(tx: Transaction) -> int:
        number = (amount(tx, "count") or 0) + 1
        tx.run(SET, {"which": "count", "to": number})
        tx.after_commit(lambda: heard.append(number if asyncio.get_running_loop() is loop else -1))
        return number

    async def write(key: str) -> None:
        number = await store.write(unit, key)
        assert number in heard
        returned.append(number)

    loop = asyncio.get_running_loop()
    await asyncio.gather(*(write("" if n % 2 else "one") for n in range(40)))
    assert heard == list(range(1, 41))
    assert sorted(returned) == heard


async def test_units_of_one_key_run_in_the_order_in_which_they_were_given(store: Database) -> None:
    await store.write(lambda tx: tx.run(ADD, {"name": "last", "amount": -1}))

    def unit(number: int) -> Callable[[Transaction], int | None]:
        def run(tx: Transaction) -> int | None:
            before = amount(tx, "last")
            if number % 7 == 3:
                raise ValueError(number)
            tx.run(SET, {"which": "last", "to": number})
            return before

        return run

    found = await asyncio.gather(*(store.write(unit(n), "one") for n in range(100)), return_exceptions=True)
    good = [n for n in range(100) if n % 7 != 3]
    assert [found[n] for n in good] == [-1, *good[:-1]]
    assert all(isinstance(found[n], ValueError) for n in range(100) if n not in good)


async def test_two_units_that_each_read_what_the_other_writes_do_not_both_pass(store: Database) -> None:
    """Write skew: each is right by itself, both together are not."""
    for turn in range(10):
        names = [f"left {turn}", f"right {turn}"]
        for name in names:
            await store.write(lambda tx, n=name: tx.run(ADD, {"name": n, "amount": 1}))

        def leave(tx: Transaction, mine: str, other: str) -> bool:
            if amount(tx, other) == 0:
                return False
            tx.run(SET, {"which": mine, "to": 0})
            return True

        left = await asyncio.gather(
            store.write(lambda tx, n=names: leave(tx, n[0], n[1])),
            store.write(lambda tx, n=names: leave(tx, n[1], n[0])),
        )
        assert sorted(left) == [False, True]


async def test_after_commit_is_not_called_for_a_failed_unit(store: Database) -> None:
    heard: list[str] = []

    def fail(tx: Transaction) -> None:
        tx.after_commit(lambda: heard.append("told"))
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await store.write(fail)
    assert heard == []


async def test_a_read_unit_cannot_write(store: Database) -> None:
    with pytest.raises(StorageFailed):
        await store.read(lambda tx: tx.run(ADD, {"name": "x", "amount": 1}))
    assert await store.read(lambda tx: amount(tx, "x")) is None


async def test_a_unit_that_fails_alone_leaves_nothing(store: Database) -> None:
    def fail(tx: Transaction) -> None:
        tx.run(ADD, {"name": "a", "amount": 1})
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await store.write(fail)
    await store.write(lambda tx: tx.run(ADD, {"name": "b", "amount": 1}))
    assert [await store.read(lambda tx, n=n: amount(tx, n)) for n in ("a", "b")] == [None, 1]


async def test_reads_that_run_together_each_see_what_was_acknowledged_before_them(store: Database) -> None:
    await store.write(lambda tx: tx.run(ADD, {"name": "a", "amount": 0}))
    stale: list[tuple[int, int | None]] = []
    is_over = False

    async def keep_reading() -> None:
        while not is_over:
            await store.read(lambda tx: amount(tx, "a"))

    busy = [asyncio.create_task(keep_reading()) for _ in range(8)]
    for number in range(1, 100):
        await store.write(lambda tx, n=number: tx.run(SET, {"which": "a", "to": n}))
        found = await store.read(lambda tx: amount(tx, "a"))
        if found != number:
            stale.append((number, found))
    is_over = True
    await asyncio.gather(*busy)
    assert stale == []


async def test_a_read_that_fails_costs_those_beside_it_nothing(store: Database) -> None:
    def fail(tx: Transaction) -> None:
        raise ValueError("mine")

    await store.write(lambda tx: tx.run(ADD, {"name": "a", "amount": 1}))
    found = await asyncio.gather(
        *(store.read(fail if n % 2 else lambda tx: amount(tx, "a")) for n in range(20)), return_exceptions=True
    )
    assert found[::2] == [1] * 10
    assert all(isinstance(error, ValueError) for error in found[1::2])


async def test_a_cancelled_caller_does_not_undo_its_commit(store: Database) -> None:
    task = asyncio.create_task(store.write(lambda tx: tx.run(ADD, {"name": "kept", "amount": 1}), "one"))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await store.write(lambda _: None, "one")
    assert await store.read(lambda tx: amount(tx, "kept")) == 1


async def test_the_store_says_what_a_commit_survives(store: Database) -> None:
    assert store.durability().survives_power_cut


async def test_a_stopped_store_refuses(store: Database) -> None:
    await store.stop()
    with pytest.raises(StorageFailed):
        await store.write(lambda _: None)


def test_every_table_is_declared_once() -> None:
    assert len({table.name for table in metadata.sorted_tables}) == len(metadata.sorted_tables)


LISTED = select(things.c.name).where(things.c.name.in_(["a", "b"]), things.c.amount >= bindparam("least"))


async def test_a_statement_may_mix_a_constant_list_with_parameters(store: Database) -> None:
    for name, value in (("a", 1), ("b", 2), ("c", 3)):
        await store.write(lambda tx, n=name, v=value: tx.run(ADD, {"name": n, "amount": v}))
    for least, expected in ((1, ["a", "b"]), (2, ["b"])):
        rows = await store.read(lambda tx, least=least: [row["name"] for row in tx.rows(LISTED, {"least": least})])
        assert sorted(rows) == expected


async def test_a_forgotten_parameter_is_an_error_each_time(store: Database) -> None:
    for _ in range(2):
        with pytest.raises(KeyError):
            await store.read(lambda tx: tx.rows(LISTED, {}))


# -- writes that may wait for the end of the transaction


async def test_what_is_added_is_seen_by_every_later_statement(store: Database) -> None:
    def unit(tx: Transaction) -> list[int | None]:
        tx.add(ADD, {"name": "a", "amount": 1})
        found = [amount(tx, "a")]
        tx.add(SET, {"which": "a", "to": 2})
        tx.add_latest(SET, "a", {"which": "a", "to": 3})
        tx.add_latest(SET, "a", {"which": "a", "to": 4})
        return [*found, amount(tx, "a")]

    assert await store.write(unit) == [1, 4]
    assert await store.read(lambda tx: amount(tx, "a")) == 4


async def test_what_is_added_is_there_although_nobody_looks(store: Database) -> None:
    def adding(name: str) -> Unit[None]:
        return lambda tx: tx.add(ADD, {"name": name, "amount": 1})

    await asyncio.gather(*(store.write(adding(str(n)), is_small=bool(n % 3)) for n in range(50)))
    assert [await store.read(lambda tx, n=n: amount(tx, str(n))) for n in range(50)] == [1] * 50


async def test_a_failing_unit_takes_what_it_added_with_it(store: Database) -> None:
    def fail(tx: Transaction) -> None:
        tx.add(ADD, {"name": "bad", "amount": 1})
        raise ValueError("mine")

    def fail_late(tx: Transaction) -> None:
        tx.add(ADD, {"name": "late", "amount": 1})
        assert amount(tx, "late") == 1
        fail(tx)

    units = [lambda tx: tx.add(ADD, {"name": "good", "amount": 1}), fail, fail_late]
    await asyncio.gather(*(store.write(unit, is_small=True) for unit in units), return_exceptions=True)
    names = [await store.read(lambda tx, n=n: amount(tx, n)) for n in ("good", "bad", "late")]
    assert names == [1, None, None]


async def test_a_row_that_cannot_be_added_costs_its_own_unit_only(store: Database) -> None:
    for _ in range(4):  # the first commits show how fast the disk is
        await store.write(lambda _: None)
    await store.write(lambda tx: tx.run(ADD, {"name": "taken", "amount": 1}))

    def adding(name: str) -> Unit[None]:
        return lambda tx: tx.add(ADD, {"name": name, "amount": 2})

    names = ("a", "taken", "b")
    found = await asyncio.gather(*(store.write(adding(n), is_small=True) for n in names), return_exceptions=True)
    assert [isinstance(one, BaseException) for one in found] == [False, True, False]
    assert [await store.read(lambda tx, n=n: amount(tx, n)) for n in names] == [2, 1, 2]


async def test_small_units_and_others_are_committed_in_the_order_they_came(store: Database) -> None:
    await store.write(lambda tx: tx.run(ADD, {"name": "last", "amount": 0}))

    def unit(n: int) -> Unit[int | None]:
        def run(tx: Transaction) -> int | None:
            before = amount(tx, "last")
            tx.add(SET, {"which": "last", "to": n})
            return before

        return run

    found = await asyncio.gather(*(store.write(unit(n), "last", is_small=n % 5 != 0) for n in range(1, 60)))
    assert found == list(range(59))


async def test_what_is_remembered_is_what_stands(store: Database) -> None:
    """Where an adapter remembers at all, a unit that fails has told it nothing."""

    def count(tx: Transaction) -> int | None:
        return None if tx.memory is None else tx.memory.get("count")

    def tell(n: int, *, fails: bool) -> Unit[None]:
        def run(tx: Transaction) -> None:
            if tx.memory is not None:
                tx.memory.put("count", n)
            if fails:
                raise ValueError("mine")

        return run

    await asyncio.gather(*(store.write(tell(n, fails=n == 2), is_small=True) for n in range(3)), return_exceptions=True)
    assert await store.write(count) in (None, 1)


async def test_units_are_settled_without_a_task(store: Database) -> None:
    written: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    store.submit_write(
        lambda tx: tx.run(ADD, {"name": "a", "amount": 1}), lambda result, error: written.set_result((result, error))
    )
    assert await written == (1, None)
    read: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    store.submit_read(lambda tx: amount(tx, "a"), lambda result, error: read.set_result((result, error)))
    assert await read == (1, None)


def submitted(store: Database, units: list[Unit[object]], chain: Chain) -> list[asyncio.Future[BaseException | None]]:
    told = [asyncio.get_running_loop().create_future() for _ in units]
    for unit, future in zip(units, told, strict=True):
        store.submit_write(unit, lambda _, error, future=future: future.set_result(error), "one", chain)
    return told


def put(name: str, *, is_refused: bool = False) -> Unit[object]:
    def unit(tx: Transaction) -> None:
        tx.run(ADD, {"name": name, "amount": 1})
        if is_refused:
            raise ValueError(name)

    return unit


async def test_of_a_chain_nothing_is_kept_behind_what_was_not(store: Database) -> None:
    chain = Chain()
    units = [put(str(number), is_refused=number == 3) for number in range(6)]
    told = await asyncio.gather(*submitted(store, units, chain))
    later = await submitted(store, [put("later")], chain)[0]
    assert [type(error) for error in (*told, later)] == [type(None)] * 3 + [ValueError] + [StorageFailed] * 3
    await asyncio.gather(*submitted(store, [put("of another")], Chain()))
    await store.write(put("of none"), "one")
    stored = await store.read(lambda tx: [row["name"] for row in tx.rows(select(things.c.name))])
    assert sorted(stored) == ["0", "1", "2", "of another", "of none"]


async def test_a_row_that_cannot_be_added_ends_its_own_chain_only(store: Database) -> None:
    await store.write(put("taken"))

    def added(name: str) -> Unit[object]:
        return lambda tx: tx.add(ADD, {"name": name, "amount": 1})

    broken = submitted(store, [added("a"), added("taken"), added("b")], Chain())
    whole = submitted(store, [added("c"), added("d")], Chain())
    told = await asyncio.gather(*broken, *whole)
    assert [error is None for error in told] == [True, False, False, True, True]
    stored = await store.read(lambda tx: [row["name"] for row in tx.rows(select(things.c.name))])
    assert sorted(stored) == ["a", "c", "d", "taken"]


async def test_a_unit_that_raises_settles_with_its_own_exception(store: Database) -> None:
    def fail(_: Transaction) -> None:
        raise ValueError("mine")

    for submit in (store.submit_write, store.submit_read):
        settled: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        submit(fail, lambda _, error, settled=settled: settled.set_result(error))
        assert str(await settled) == "mine"
