"""Fixtures for every test: a real database on disk, and time and ids under control."""

import asyncio
import os
import secrets
import sys
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any, TextIO

import pytest
from hypothesis import HealthCheck, settings

from entobot.core.ids import RandomIds
from entobot.storage.database import Database
from tests.rigs import network
from tests.rigs.campaign import campaign, seed_of, summary
from tests.support.hangs import told
from tests.support.loop_guard import loop_guard
from tests.support.order import dealt
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.process import GatewayProcess
from tests.support.stores import Databases, new_database, on_postgres
from tests.support.time import ManualClock, SeededEntropy

__all__ = ["campaign", "loop_guard"]

STDERR: pytest.StashKey[TextIO] = pytest.StashKey()
LAID: pytest.StashKey[ExitStack] = pytest.StashKey()

# A busy machine makes no test wrong.
settings.register_profile("untimed", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

# Hundreds of gateways are started as processes: each would compile all of its modules anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--store", choices=["sqlite", "postgres"], default="sqlite", help="What `database` is.")
    parser.addoption(
        "--chaos-seed", dest="chaos_seed", type=int, help="Choose the faults of campaigns as that run did."
    )


def pytest_configure(config: pytest.Config) -> None:
    GatewayProcess.is_forked = True
    config.stash[STDERR] = os.fdopen(os.dup(sys.stderr.fileno()), "w")  # what a test writes is captured
    if config.option.chaos_seed is None:
        config.option.chaos_seed = secrets.randbelow(1_000_000)


def pytest_sessionstart(session: pytest.Session) -> None:
    session.config.stash[LAID] = ExitStack()
    if workers := getattr(session.config.option, "numprocesses", None):
        session.config.stash[LAID].enter_context(network.laid(workers))


def pytest_sessionfinish(session: pytest.Session) -> None:
    session.config.stash[LAID].close()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if worker := getattr(config, "workerinput", None):
        items[:] = dealt(items, worker["workercount"])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    ended_after_s = float(item.config.getini("faulthandler_timeout") or 0.0)
    with told(item.nodeid, ended_after_s * 0.9, item.config.stash[STDERR]) if ended_after_s else nullcontext():
        return (yield)


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[STDERR].close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    reports = [
        report
        for several in terminalreporter.stats.values()
        for report in several
        if isinstance(report, pytest.TestReport) and report.when == "call"
    ]
    if lines := summary(reports, seed_of(config)):
        terminalreporter.section("campaigns")
        for line in lines:
            terminalreporter.line(line)


@pytest.fixture(autouse=True)
def own_umask() -> Iterator[None]:
    """A gateway in this process sets it; what a later test builds for another user must not depend on that."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def entropy() -> SeededEntropy:
    return SeededEntropy()


@pytest.fixture
def ids(clock: ManualClock, entropy: SeededEntropy) -> RandomIds:
    return RandomIds(clock, entropy)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One server for all tests of this process; each makes databases of its own."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def store_kind(request: pytest.FixtureRequest) -> str:
    """`sqlite` or `postgres`. Modules that set `ON_EVERY_STORE` run on both."""
    return str(getattr(request, "param", None) or request.config.getoption("store"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "store_kind" in metafunc.fixturenames and getattr(metafunc.module, "ON_EVERY_STORE", False):
        metafunc.parametrize("store_kind", ["sqlite", "postgres"], indirect=True)


@pytest.fixture(scope="session")
def databases(postgres: PostgresServer) -> Databases:
    return Databases(postgres)


@pytest.fixture(autouse=True)
def _store(request: pytest.FixtureRequest, store_kind: str) -> Iterator[None]:
    with on_postgres(request.getfixturevalue("databases")) if store_kind == "postgres" else nullcontext():
        yield


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = new_database(tmp_path)
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
