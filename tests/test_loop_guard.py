"""The guard sees each kind of blocking call on the loop, and nothing else."""

import asyncio
import hashlib
import os
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from entobot.home import read_private
from tests.support.loop_guard import ALWAYS, LoopGuard, armed

pytest_plugins = ["pytester"]


@pytest.fixture
def guard() -> Iterator[LoopGuard]:
    """Sees the test's own calls too."""
    with armed(LoopGuard(ALWAYS)) as guard:
        yield guard


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    yield connection
    connection.close()


BLOCKING: list[tuple[str, Callable[[Path], object]]] = [
    ("open", lambda folder: (folder / "file").write_text("x")),
    ("open", lambda folder: os.close(os.open(folder, os.O_RDONLY))),
    ("os.listdir", lambda folder: list(folder.iterdir())),
    ("os.mkdir", lambda folder: (folder / "new").mkdir()),
    ("sqlite3.connect", lambda _: sqlite3.connect(":memory:").close()),
    ("socket.getaddrinfo", lambda _: socket.getaddrinfo("localhost", 80)),
    ("hashlib.scrypt", lambda _: hashlib.scrypt(b"x", salt=b"y", n=2, r=1, p=1)),
    ("hashlib.pbkdf2_hmac", lambda _: hashlib.pbkdf2_hmac("sha256", b"x", b"y", 1)),
    ("time.sleep", lambda _: time.sleep(0)),
]


@pytest.mark.parametrize(("event", "block"), BLOCKING)
async def test_a_blocking_call_on_the_loop_is_seen(
    guard: LoopGuard, tmp_path: Path, event: str, block: Callable[[Path], object]
) -> None:
    block(tmp_path)
    assert [call.event for call in guard.calls] == [event]
    assert "test_loop_guard.py" in guard.report()


async def test_a_statement_on_the_loop_is_seen_although_the_connection_is_older(
    connection: sqlite3.Connection, guard: LoopGuard
) -> None:
    connection.execute("SELECT 1")
    assert [(call.event, call.target) for call in guard.calls] == [("sqlite3.execute", "SELECT 1")]


@pytest.mark.parametrize(("event", "block"), BLOCKING)
async def test_the_same_call_in_a_thread_is_not(
    guard: LoopGuard, tmp_path: Path, event: str, block: Callable[[Path], object]
) -> None:
    await asyncio.to_thread(block, tmp_path)
    assert guard.calls == []


async def test_a_statement_in_a_thread_is_not(connection: sqlite3.Connection, guard: LoopGuard) -> None:
    await asyncio.to_thread(connection.execute, "SELECT 1")
    assert guard.calls == []


def test_without_a_loop_nothing_is_seen(guard: LoopGuard, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert guard.calls == []


async def test_imports_and_tracebacks_are_permitted(guard: LoopGuard, tmp_path: Path) -> None:
    import importlib
    import linecache
    import sys
    import traceback

    sys.modules.pop("this", None)
    sys.modules.pop("colorsys", None)
    importlib.import_module("colorsys")
    linecache.clearcache()
    try:
        raise ValueError("x")  # noqa: TRY301  its traceback is what is formatted
    except ValueError:
        traceback.format_exc()
    assert guard.calls == []


async def test_a_test_may_do_by_itself_what_the_application_may_not(tmp_path: Path) -> None:
    with armed(LoopGuard()) as guard:
        (tmp_path / "file").write_text("x")
        assert guard.calls == []
        read_private(tmp_path / "file2")
    assert [call.event for call in guard.calls] == ["open"]


async def test_what_is_permitted_by_name_passes(tmp_path: Path) -> None:
    guard = LoopGuard()
    guard.permit(lambda call: call.event == "open" and str(call.target).endswith("file2"))
    with armed(guard):
        read_private(tmp_path / "file2")
        read_private(tmp_path / "file3")
    assert [str(call.target)[-5:] for call in guard.calls] == ["file3"]


def test_the_fixture_fails_a_test_that_blocked(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("from tests.support.loop_guard import loop_guard")
    pytester.makepyfile("""
        import pytest
        from pathlib import Path
        from entobot.home import read_private
        @pytest.mark.usefixtures("loop_guard")
        async def test_blocks():
            read_private(Path("nothing"))
    """)
    result = pytester.runpytest_inprocess(
        "-p",
        "asyncio",
        "-o",
        "asyncio_mode=auto",
        "-o",
        "asyncio_default_fixture_loop_scope=function",
        "-o",
        "addopts=",
    )
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*blocking calls on the event loop*", "*open*nothing*"])
