"""Refuse blocking calls on the event loop: an audit hook that notes file, database, DNS and hashing calls there.

`loop_guard` arms it around one test; the test fails at its end with every call that was seen and where it came from.
For a whole folder: `pytestmark = pytest.mark.usefixtures("loop_guard")`, or an autouse fixture that takes it.
"""

import asyncio
import hashlib
import os
import sqlite3
import sqlite3.dbapi2
import sys
import sysconfig
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

EVENTS = frozenset(
    {
        "glob.glob", "open", "os.chmod", "os.link", "os.listdir", "os.mkdir", "os.remove", "os.rename", "os.rmdir",
        "os.scandir", "os.symlink", "os.truncate", "os.utime", "shutil.copyfile", "shutil.move", "shutil.rmtree",
        "socket.getaddrinfo", "socket.gethostbyaddr", "socket.gethostbyname", "socket.getnameinfo",
        "sqlite3.connect", "tempfile.mkdtemp", "tempfile.mkstemp",
    }
)  # fmt: skip
"""What the interpreter itself reports and what blocks: files, databases, names."""

_TESTS = str(Path(__file__).parents[1]) + os.sep
_STANDARD_LIBRARY = sysconfig.get_path("stdlib") + os.sep
_MAX_FRAMES = 60
_MAX_CALLS = 50


@dataclass(frozen=True, slots=True)
class Call:
    """One blocking call that may be about to happen on a loop thread. `stack` is innermost first."""

    event: str
    target: object
    stack: tuple[tuple[str, str], ...]


Permission = Callable[[Call], bool]


def imports(call: Call) -> bool:
    """The module system reads files; heavy modules are imported off the loop by the application's own tests."""
    return any(file.startswith("<frozen importlib") for file, _ in call.stack)


def tracebacks(call: Call) -> bool:
    """Formatting a traceback reads source lines."""
    return any(file.endswith(("/linecache.py", "/traceback.py")) for file, _ in call.stack)


def open_descriptors(call: Call) -> bool:
    """Wrapping a descriptor that is already open touches no disk."""
    return call.event == "open" and isinstance(call.target, int)


def small_units(call: Call) -> bool:
    """Bounded reads and group commits on the loop, as long as they are fast: docs/adr/0021."""
    return call.event == "sqlite3.execute" and any(
        file.endswith("/storage/database_sqlite.py") and name.startswith(("_commit_here:", "_read_here:"))
        for file, name in call.stack
    )


def the_test_itself(call: Call) -> bool:
    """Calls written in a test: the nearest frame outside the standard library is in `tests/`."""
    for file, _ in call.stack:
        in_library = file.startswith(_STANDARD_LIBRARY) and "site-packages" not in file
        if not in_library and not file.startswith("<"):
            return file.startswith(_TESTS)
    return False


ALWAYS: tuple[Permission, ...] = (imports, tracebacks, open_descriptors, small_units)


@dataclass
class LoopGuard:
    permissions: tuple[Permission, ...] = (*ALWAYS, the_test_itself)
    calls: list[Call] = field(default_factory=list[Call])

    def permit(self, permission: Permission) -> None:
        """Let further calls pass, e.g. where an ADR with measurements chose them."""
        self.permissions = (*self.permissions, permission)

    def see(self, event: str, target: object) -> None:
        if len(self.calls) >= _MAX_CALLS:
            return
        call = Call(event, target, _stack(sys._getframe(2)))
        if not any(permission(call) for permission in self.permissions):
            self.calls.append(call)

    def report(self) -> str:
        return "\n".join(
            f"{call.event} {str(call.target)[:120]!r} on the event loop:\n"
            + "\n".join(f"    {file}  {name}" for file, name in call.stack if _is_telling(file))
            for call in self.calls
        )


_armed: list[LoopGuard] = []


@contextmanager
def armed(guard: LoopGuard) -> Generator[LoopGuard]:
    """Let `guard` see blocking calls, wherever a loop runs in this process. One at a time."""
    _install()
    assert not _armed, "the guard is armed already"
    _armed.append(guard)
    try:
        yield guard
    finally:
        _armed.clear()


@pytest.fixture
def loop_guard() -> Iterator[LoopGuard]:
    guard = LoopGuard()
    with armed(guard):
        yield guard
    if guard.calls:
        pytest.fail(f"blocking calls on the event loop:\n{guard.report()}", pytrace=False)


def _see(event: str, target: object) -> None:
    if _armed and asyncio._get_running_loop() is not None:
        _armed[0].see(event, target)


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _armed and event in EVENTS:
        _see(event, arguments[0] if arguments else None)


def _statement(sql: str) -> None:
    _see("sqlite3.execute", sql)


def _traced(connect: Callable[..., sqlite3.Connection]) -> Callable[..., sqlite3.Connection]:
    """Statements raise no audit event; the connection's own trace tells each, in the thread that runs it."""

    def traced(*arguments: Any, **named: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **named)
        connection.set_trace_callback(_statement)
        return connection

    return traced


def _noted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def noted(*arguments: Any, **named: Any) -> Any:
        _see(name, "")
        return function(*arguments, **named)

    return noted


def _install() -> None:
    """Once for the process: audit hooks cannot be taken out again."""
    if getattr(sys, "_entobot_loop_guard", False):
        return
    sys._entobot_loop_guard = True  # pyright: ignore[reportAttributeAccessIssue]  outlives a re-import of this module
    sys.addaudithook(_hook)
    # These block without an audit event. Modules that took them by name before this are not seen.
    for module, name in ((hashlib, "scrypt"), (hashlib, "pbkdf2_hmac"), (os, "fsync"), (time, "sleep")):
        setattr(module, name, _noted(f"{module.__name__}.{name}", getattr(module, name)))
    sqlite3.connect = sqlite3.dbapi2.connect = _traced(sqlite3.connect)
    try:
        from argon2 import low_level  # pyright: ignore[reportMissingImports]  only where people sign in by password
    except ImportError:
        return
    for name in ("hash_secret", "hash_secret_raw", "verify_secret"):
        setattr(low_level, name, _noted(f"argon2.{name}", getattr(low_level, name)))


def _stack(frame: FrameType | None) -> tuple[tuple[str, str], ...]:
    frames: list[tuple[str, str]] = []
    while frame is not None and len(frames) < _MAX_FRAMES:
        if frame.f_code.co_filename != __file__:
            frames.append((frame.f_code.co_filename, f"{frame.f_code.co_name}:{frame.f_lineno}"))
        frame = frame.f_back
    return tuple(frames)


def _is_telling(file: str) -> bool:
    return "site-packages/_pytest" not in file and "site-packages/pluggy" not in file


_install()
