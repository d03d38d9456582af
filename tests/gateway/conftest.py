import pytest
from hypothesis import HealthCheck, settings

from entobot.storage.database_sqlite import SqliteDatabase
from tests.support.gateway import World
from tests.support.time import ManualClock

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture
async def world(database: SqliteDatabase, clock: ManualClock) -> World:
    return await World(database, clock).start()
