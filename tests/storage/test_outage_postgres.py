"""PostgreSQL goes away in several ways: every caller is told soon, nobody is told wrong, and all goes on afterwards."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager, suppress

import asyncpg
import pytest
from sqlalchemy import Column, Integer, MetaData, Table, Text, func, insert, select

from entobot.storage import postgres_transaction, unit_queue
from entobot.storage.database import Chain, Database, StorageFailed, Transaction
from entobot.storage.postgres_durability import judge
from entobot.storage.postgres_lane import Patience
from tests.rigs.fault_proxy import FaultProxy
from tests.support.postgres import GENEROUS_S, PostgresServer, postgres_server
from tests.support.stores import create_postgres_tables, postgres_database

things = Table("things", MetaData(), Column("name", Text, primary_key=True), Column("amount", Integer, nullable=False))
ADD = insert(things)
NAMES = select(things.c.name).order_by(things.c.name)
SHORT = Patience(wait_s=1.0, run_s=3.0)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """Of this module alone: it is killed and stopped."""
    with postgres_server() as server:
        yield server


@asynccontextmanager
async def opened(
    server: PostgresServer, port: int | None = None, patience: Patience = SHORT
) -> AsyncGenerator[Database]:
    name = server.new_database()
    create_postgres_tables(server, name, things.metadata)
    database = postgres_database(server.url(name, port=port), patience)
    await database.start()
    try:
        yield database
    finally:
        await database.stop()


def add(name: str) -> Callable[[Transaction], int]:
    return lambda tx: tx.run(ADD, {"name": name, "amount": 1})


def names(tx: Transaction) -> list[str]:
    return [row["name"] for row in tx.rows(NAMES)]


async def until_well(database: Database, name: str) -> None:
    async with asyncio.timeout(GENEROUS_S):
        while True:
            with suppress(StorageFailed):
                await database.write(add(name))
                break
            await asyncio.sleep(0.05)
        while database.trouble():  # noqa: ASYNC110  it is looked at every second, in the adapter itself
            await asyncio.sleep(0.05)


async def test_a_killed_server_loses_nothing_that_was_acknowledged_and_is_used_again_by_itself(
    server: PostgresServer,
) -> None:
    async with opened(server) as database:
        acknowledged: set[str] = set()
        unknown: set[str] = set()
        is_over = False

        async def write(lane: int) -> None:
            number = 0
            while not is_over:
                number += 1
                name = f"{lane}-{number}"
                try:
                    await database.write(add(name), key=str(lane % 3))
                except StorageFailed as failure:
                    (unknown if failure.is_outcome_unknown else set[str]()).add(name)
                else:
                    acknowledged.add(name)

        writers = [asyncio.create_task(write(lane)) for lane in range(12)]
        while len(acknowledged) < 100:  # noqa: ASYNC110  the state of the test itself
            await asyncio.sleep(0.01)
        await asyncio.to_thread(server.kill)
        async with asyncio.timeout(GENEROUS_S):
            with pytest.raises(StorageFailed):
                await database.read(names)
            while not database.trouble():  # noqa: ASYNC110  see `until_well`
                await asyncio.sleep(0.05)
        await asyncio.to_thread(server.start)
        await until_well(database, "afterwards")
        is_over = True
        async with asyncio.timeout(GENEROUS_S):
            await asyncio.gather(*writers)
        stored = set(await database.read(names))
        assert acknowledged <= stored
        assert stored - acknowledged - unknown == {"afterwards"}


async def test_of_a_chain_whose_first_units_ran_out_of_time_none_is_kept_when_the_server_is_back(
    server: PostgresServer,
) -> None:
    """A board was told that its last message was stored, and not that three before it were not."""
    told: list[tuple[str, BaseException | None]] = []
    chain = Chain()
    async with opened(server) as database:
        await database.write(add("before"))
        await asyncio.to_thread(server.kill)
        async with asyncio.timeout(GENEROUS_S):
            submitted = 0
            while not told:
                name, submitted = f"waits {submitted}", submitted + 1
                database.submit_write(add(name), lambda _, error, name=name: told.append((name, error)), "board", chain)
                await asyncio.sleep(0.02)
            await asyncio.to_thread(server.start)
            while len(told) < submitted:  # noqa: ASYNC110  the state of the test itself
                await asyncio.sleep(0.02)
        await until_well(database, "afterwards")
        assert all(isinstance(error, StorageFailed) for _, error in told)
        assert await database.read(names) == ["afterwards", "before"]


async def test_a_try_that_was_rolled_back_breaks_no_chain(server: PostgresServer) -> None:
    """The first unit was refused for the sake of the second, and the second, had it passed by then, was not."""
    chain, tries = Chain(), 0

    def fail(_: Transaction) -> None:
        raise ValueError("mine")

    def conflict(_: Transaction) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise asyncpg.SerializationError

    async with opened(server) as database:
        told = [asyncio.get_running_loop().create_future() for _ in range(3)]
        for unit, by, future in zip((add("first"), fail, conflict), (chain, chain, None), told, strict=True):
            database.submit_write(unit, lambda _, error, future=future: future.set_result(error), "board", by)
        assert [type(one) for one in await asyncio.gather(*told)] == [type(None), ValueError, type(None)]
        assert tries == 2
        assert await database.read(names) == ["first"]


async def test_slow_units_do_not_take_those_beside_them_over_the_time_of_a_transaction(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One board's batches of readings made other boards' messages fail, again with every try."""
    monkeypatch.setattr(postgres_transaction, "TOGETHER_S", 0.1)

    def slow(name: str) -> Callable[[Transaction], int]:
        def unit(tx: Transaction) -> int:
            tx.rows(select(func.pg_sleep(0.5)))
            return tx.run(ADD, {"name": name, "amount": 1})

        return unit

    async with opened(server, patience=Patience(wait_s=GENEROUS_S, run_s=3.0)) as database:
        await asyncio.gather(*(database.write(slow(str(number))) for number in range(8)))
        assert await database.read(names) == [str(number) for number in range(8)]


async def test_a_server_that_does_not_answer_holds_nobody_up_for_long(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unit_queue, "MAX_WAITING", 200)
    async with opened(server) as database:
        await database.write(add("before"))
        server.pause()
        try:
            async with asyncio.timeout(GENEROUS_S):
                told = await asyncio.gather(
                    *(database.write(add(str(n))) for n in range(300)), database.read(names), return_exceptions=True
                )
        finally:
            server.resume()
        assert all(isinstance(one, StorageFailed) for one in told)
        assert sum(unit_queue.TOO_MANY in str(one) for one in told) >= 90
        await until_well(database, "afterwards")
        assert await database.read(names) == ["afterwards", "before"]


async def test_a_commit_whose_answer_is_lost_is_said_to_be_unknown_and_looking_again_finds_it(
    server: PostgresServer,
) -> None:
    async with FaultProxy(("127.0.0.1", server.port)) as proxy, opened(server, proxy.port) as database:
        await database.write(add("before"))

        def unit(tx: Transaction) -> None:
            before = {id(pair): pair.carried for pair in proxy._pairs}
            tx.run(ADD, {"name": "told twice", "amount": 1})
            own = max(proxy._pairs, key=lambda pair: pair.carried - before.get(id(pair), pair.carried))
            # What is asked of the server still goes through, b"Q" + length + b"COMMIT\0"; what it answers does not.
            proxy.faults.reset_after = own.carried + 12

        with pytest.raises(StorageFailed) as failure:
            await database.write(unit)
        assert failure.value.is_outcome_unknown
        proxy.faults.reset_after = None
        assert await database.read(names) == ["before", "told twice"]


async def test_connections_that_were_reset_or_go_silent_are_replaced(server: PostgresServer) -> None:
    async with FaultProxy(("127.0.0.1", server.port)) as proxy, opened(server, proxy.port) as database:
        await database.write(add("1"))
        proxy.reset()
        await database.write(add("2"))  # nothing was under way: nobody needs to know
        proxy.faults.is_dead = True
        with pytest.raises(StorageFailed):
            await database.write(add("3"))
        proxy.faults.is_dead = False
        await until_well(database, "4")
        assert await database.read(names) == ["1", "2", "4"]


async def test_commits_without_their_standby_are_not_acknowledged_and_the_store_says_so(
    server: PostgresServer,
) -> None:
    async with opened(server) as database:
        await database.write(add("before"))
        server.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()")
        try:
            written = ["before"]
            with pytest.raises(StorageFailed) as failure:  # noqa: PT012  which of the writes is not known
                for number in range(10_000):  # the server takes its new settings up in its own time
                    await database.write(add(f"soon {number:04}"))
                    written.append(f"soon {number:04}")
            assert failure.value.is_outcome_unknown
            async with asyncio.timeout(GENEROUS_S):
                while "synchronous standby" not in database.trouble():  # noqa: ASYNC110  see `until_well`
                    await asyncio.sleep(0.05)
            with pytest.raises(StorageFailed, match="synchronous standby"):
                await database.write(add("refused"))
            assert await database.read(names) == written
        finally:
            server.execute("ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
        await until_well(database, "x")
        assert "refused" not in await database.read(names)


SOUND = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "synchronous_standby_names": ""}


@pytest.mark.parametrize(
    ("changed", "survives"),
    [
        ({}, True),
        ({"fsync": "off"}, False),
        ({"full_page_writes": "off"}, False),
        ({"synchronous_commit": "off"}, False),
        ({"synchronous_commit": "local"}, True),
        ({"synchronous_commit": "local", "synchronous_standby_names": "one"}, False),
        ({"synchronous_commit": "remote_apply", "synchronous_standby_names": "one"}, True),
    ],
)
def test_what_a_commit_survives_is_read_from_the_settings(changed: dict[str, str], survives: bool) -> None:
    assert judge(SOUND | changed).survives_power_cut is survives
    assert judge(SOUND | changed).detail.startswith("PostgreSQL fsync=")
