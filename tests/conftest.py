"""Fixtures for every test: a real database on disk, and time and ids under control."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from entobot.core.ids import RandomIds
from entobot.storage.database_sqlite import SqliteDatabase
from tests.support.loop_guard import loop_guard
from tests.support.stores import sqlite_database
from tests.support.time import ManualClock, SeededEntropy

__all__ = ["loop_guard"]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def entropy() -> SeededEntropy:
    return SeededEntropy()


@pytest.fixture
def ids(clock: ManualClock, entropy: SeededEntropy) -> RandomIds:
    return RandomIds(clock, entropy)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    database = sqlite_database(tmp_path)
    await database.start()
    yield database
    await database.stop()


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, Callable[[], Any]]:
    """Tests that open sockets set `ON_EVERY_LOOP` in their module and run on every loop the gateway may run on."""
    module = getattr(item, "module", None)
    if not getattr(module, "ON_EVERY_LOOP", False):
        return {"asyncio": asyncio.new_event_loop}
    from tests.support.listening import LOOPS

    return LOOPS
