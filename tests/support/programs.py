"""Other people's servers and tools, the real ones: found on this machine or unpacked by tools/rigs.sh."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from tests.support.process import GENEROUS_S, ROOT

UNPACKED = ROOT / ".venv" / "rigs"
_VERSION = {
    "caddy": "version",
    "haproxy": "-v",
    "nginx": "-v",
    "pebble": "-help",
    "pebble-challtestsrv": "-help",
    "systemd-analyze": "--version",
}
"""How a program is asked whether it runs at all; the others know `--version`."""


def environment() -> dict[str, str]:
    """For programs that are scripts: what they import lies beside them."""
    modules = UNPACKED / "usr" / "lib" / "python3" / "dist-packages"
    return {**os.environ, "PYTHONPATH": str(modules), "PYTHONDONTWRITEBYTECODE": "1"}


def program(name: str, package: str | None = None) -> str:
    """The path of `name`. Skips the test, saying which Debian package is missing, where it is not here or does not run."""
    folders = (*os.environ["PATH"].split(os.pathsep), "/usr/sbin", UNPACKED / "usr" / "bin", UNPACKED / "usr" / "sbin")
    found = shutil.which(name, path=os.pathsep.join(map(str, folders)))
    if found is not None:
        asked = [found, _VERSION.get(name, "--version")]
        if subprocess.run(asked, env=environment(), capture_output=True, check=False).returncode == 0:
            return found
    pytest.skip(
        f"{name} is not here. It comes in Debian's package {package or name}; tools/rigs.sh unpacks most of them"
    )


def run(
    command: Sequence[str | Path], environment: Mapping[str, str] | None = None, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    """A program to its end, its standard output and error in one text."""
    return subprocess.run(
        list(command),
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        text=True,
        timeout=GENEROUS_S,
        check=False,
    )


@contextmanager
def running(
    command: Sequence[str], port: int, environment: Mapping[str, str] | None = None, log: Path | None = None
) -> Generator[None]:
    """A server, from the moment its port on loopback is open."""
    output: IO[bytes] | int = subprocess.PIPE if log is None else log.open("wb")
    process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
    try:
        until = time.monotonic() + GENEROUS_S
        while True:
            if process.poll() is not None:
                said = process.stdout.read() if process.stdout is not None else b"" if log is None else log.read_bytes()
                raise AssertionError(said.decode())
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert time.monotonic() < until
                time.sleep(0.05)
        yield
    finally:
        process.terminate()
        try:
            process.wait(GENEROUS_S)
        finally:
            process.kill()
            process.wait()
            for file in (process.stdout, output):
                if file is not None and not isinstance(file, int):
                    file.close()
