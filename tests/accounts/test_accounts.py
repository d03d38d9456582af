import asyncio

import pytest

from entobot.accounts.service import Accounts
from entobot.bus.bus_local import LocalBus
from entobot.core.errors import Code, Problem
from entobot.core.ids import Prefix, RandomIds, is_id
from entobot.core.permissions import ALL_SCOPES, Role
from entobot.storage.database_sqlite import SqliteDatabase
from entobot.stream.service import Stream

ON_EVERY_STORE = True

NOW = 1_790_000_000_000


@pytest.fixture
def stream(ids: RandomIds) -> Stream:
    return Stream(LocalBus(), ids)


@pytest.fixture
def accounts(ids: RandomIds, stream: Stream) -> Accounts:
    return Accounts(ids, stream)


async def test_the_first_start_makes_the_owner_with_an_empty_stream(
    database: SqliteDatabase, accounts: Accounts, stream: Stream
) -> None:
    owner = await database.write(lambda tx: accounts.ensure_owner(tx, NOW))
    assert is_id(owner.user_id, Prefix.USER)
    assert (owner.role, owner.created_at_ms, owner.scopes) == (Role.OWNER, NOW, ALL_SCOPES)
    assert (await database.read(lambda tx: stream.head(tx, owner.user_id))).seq == 0


async def test_every_later_start_finds_the_same_owner(database: SqliteDatabase, accounts: Accounts) -> None:
    owners = [await database.write(lambda tx, at=at: accounts.ensure_owner(tx, NOW + at)) for at in range(3)]
    assert len(set(owners)) == 1


async def test_starts_at_the_same_time_make_one_owner(database: SqliteDatabase, accounts: Accounts) -> None:
    owners = await asyncio.gather(*(database.write(lambda tx: accounts.ensure_owner(tx, NOW)) for _ in range(20)))
    assert len({owner.user_id for owner in owners}) == 1


async def test_a_user_is_found_by_id(database: SqliteDatabase, accounts: Accounts) -> None:
    owner = await database.write(lambda tx: accounts.ensure_owner(tx, NOW))
    assert await database.read(lambda tx: accounts.get_user(tx, owner.user_id)) == owner


async def test_an_unknown_user_is_not_found(database: SqliteDatabase, accounts: Accounts) -> None:
    with pytest.raises(Problem) as refused:
        await database.read(lambda tx: accounts.get_user(tx, "usr_nobody"))
    assert refused.value.code is Code.NOT_FOUND
