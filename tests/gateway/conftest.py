import pytest

from entobot.storage.database_sqlite import SqliteDatabase
from tests.support.gateway import World
from tests.support.time import ManualClock


@pytest.fixture
async def world(database: SqliteDatabase, clock: ManualClock) -> World:
    return await World(database, clock).start()
