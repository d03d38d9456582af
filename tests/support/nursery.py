"""Processes of `entobot` that begin with everything imported: forked from one that has done nothing else.

A gateway spends most of its start on importing, a command nearly all of its time, and the tests start two thousand of
them. What is forked is a process like any other: killed, stopped and waited for by its number.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO, NoReturn

import typer
import typer.main

ROOT = Path(__file__).parents[2]
SOURCES = f"{ROOT / 'src'}:{ROOT}"
MODULES = (
    "entobot.cli",
    "entobot.client.local",
    "httpcore",  # httpx imports it for the first request
    "pydantic.v1",  # FastAPI asks it about every parameter
    "rich.console",
    "rich.progress",
    "rich.table",
)
_MAX_MESSAGE = 1 << 20
_STATUS = struct.Struct("i")


class Forked:
    """As much of `subprocess.Popen` as the tests use. `stdout` is there where a pipe was wanted."""

    def __init__(self, pid: int, status: int, arguments: Sequence[str], stdout: IO[str] | None = None) -> None:
        self.pid = pid
        self.args = arguments
        self.stdout = stdout
        self.returncode: int | None = None
        self._status = status
        self._reading = threading.Lock()

    def poll(self) -> int | None:
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._look(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(list(self.args), timeout or 0)
        return code

    def _look(self, timeout_s: float | None) -> int | None:
        with self._reading:
            if self.returncode is None and select.select([self._status], [], [], timeout_s)[0]:
                said = os.read(self._status, _STATUS.size)
                os.close(self._status)
                self.returncode = os.waitstatus_to_exitcode(_STATUS.unpack(said)[0]) if said else -signal.SIGKILL
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Nursery:
    def __init__(self) -> None:
        self._asking = threading.Lock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _MAX_MESSAGE)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.nursery", str(theirs.fileno())],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": SOURCES},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        atexit.register(self._close)

    def start(self, arguments: Sequence[str], environment: Mapping[str, str], *, stdout: int, stderr: int) -> Forked:
        """`entobot` with these arguments and nothing but this environment, its input empty."""
        status, theirs = os.pipe()
        try:
            with Path(os.devnull).open("rb") as nothing, self._asking:
                asked = json.dumps({"arguments": list(arguments), "environment": dict(environment)}).encode()
                socket.send_fds(self._socket, [asked], [nothing.fileno(), stdout, stderr, theirs])
                pid = int(self._socket.recv(64))
        finally:
            os.close(theirs)
        return Forked(pid, status, arguments)

    def _close(self) -> None:
        self._socket.close()
        self._process.wait()


@cache
def nursery() -> Nursery:
    """Of this process of tests."""
    return Nursery()


def is_like_ours(environment: Mapping[str, str]) -> bool:
    """Whether Python itself would read the same from this environment as the nursery did."""

    def of_python(one: Mapping[str, str]) -> dict[str, str]:
        return {name: value for name, value in one.items() if name.startswith("PYTHON")}

    return of_python(environment) == of_python({**os.environ, "PYTHONPATH": SOURCES})


# -- in the nursery


def _load() -> None:
    from entobot.app.lean import load_run

    load_run()
    for module in MODULES:
        importlib.import_module(module)
    _build_command_line()
    _compile_paths()
    gc.freeze()


def _compile_paths() -> None:
    """Python keeps what patterns were compiled to."""
    from starlette.routing import compile_path

    from entobot.core.access import ROUTES

    for route in ROUTES:
        compile_path(route.partition(" ")[2])


def _build_command_line() -> None:
    """Typer reads the signatures of all commands anew for each."""
    from entobot.cli import root

    command = typer.main.get_command(root)
    typer.main.get_command = lambda _: command


def _serve(asking: socket.socket) -> list[str]:
    """Fork for each request. Returns in the child, with the arguments that were asked for; never in the nursery."""
    statuses: dict[int, int] = {}
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.set_wakeup_fd(wake)
    while True:
        readable = select.select([asking, woken], [], [])[0]
        if woken in readable:
            os.read(woken, 4096)
            _tell_ended(statuses)
        if asking not in readable:
            continue
        message, handles, _, _ = socket.recv_fds(asking, _MAX_MESSAGE, 4)
        if not message:
            os._exit(0)
        pid = os.fork()
        if pid == 0:
            for handle in (woken, wake, *statuses.values()):
                os.close(handle)
            asking.close()
            return _become(json.loads(message), handles)
        statuses[pid] = handles.pop()
        for handle in handles:
            os.close(handle)
        asking.send(str(pid).encode())


def _tell_ended(statuses: dict[int, int]) -> None:
    for pid in list(statuses):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            handle = statuses.pop(pid)
            os.write(handle, _STATUS.pack(status))
            os.close(handle)


def _become(asked: dict[str, object], handles: list[int]) -> list[str]:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, handle in enumerate(handles[:3]):
        os.dup2(handle, number)
    for handle in handles:
        os.close(handle)
    arguments, environment = asked["arguments"], asked["environment"]
    assert isinstance(arguments, list)
    assert isinstance(environment, dict)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    gc.enable()
    return arguments


def _main() -> NoReturn:
    _load()
    sys.argv[1:] = _serve(socket.socket(fileno=int(sys.argv[1])))
    runpy.run_module("entobot", run_name="__main__", alter_sys=True)
    sys.exit(0)


if __name__ == "__main__":
    _main()
