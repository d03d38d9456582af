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
_CODES = {"mosquitto": 3, "mosquitto_passwd": 1, "mosquitto_pub": 1, "mosquitto_sub": 1}
"""What it ends with then, where that is not 0."""


def environment() -> dict[str, str]:
    """For programs that are scripts: what they import lies beside them."""
    modules = UNPACKED / "usr" / "lib" / "python3" / "dist-packages"
    return {**os.environ, "PYTHONPATH": str(modules), "PYTHONDONTWRITEBYTECODE": "1"}


def found(name: str) -> str | None:
    """The path of `name`, where it is here and runs."""
    folders = (*os.environ["PATH"].split(os.pathsep), "/usr/sbin", UNPACKED / "usr" / "bin", UNPACKED / "usr" / "sbin")
    path = shutil.which(name, path=os.pathsep.join(map(str, folders)))
    if path is None:
        return None
    asked = [path, _VERSION.get(name, "--version")]
    code = subprocess.run(asked, env=environment(), capture_output=True, check=False).returncode
    return path if code in (0, _CODES.get(name)) else None


def program(name: str, package: str | None = None) -> str:
    """As `found`. Skips the test, saying which Debian package is missing, where there is none."""
    path = found(name)
    if path is None:
        package = package or name
        pytest.skip(f"{name} is not here. It comes in Debian's package {package}; tools/rigs.sh unpacks most of them")
    return path


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
