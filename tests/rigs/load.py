"""Runs `appender` in a process of its own and keeps what it said."""

import subprocess
import sys
import threading
import time
from collections.abc import Sequence

from tests.rigs.ledger import Entry, Ledger
from tests.support.process import GENEROUS_S, ROOT


class Load:
    """Appends until it is killed. `ledger` gets each acknowledgement as it comes; `worst_stall_s` is the longest silence."""

    def __init__(
        self, store: str, ledger: Ledger, *, weakened: str = "", first: int = 0, launcher: Sequence[str] = ()
    ) -> None:
        self.count = 0
        self.worst_stall_s = 0.0
        self._ledger = ledger
        options = ["--weakened", weakened, "--from", str(first)]
        self._process = subprocess.Popen(
            [*launcher, sys.executable, "-m", "tests.rigs.appender", store, *options],
            cwd=ROOT,
            env={"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def until(self, count: int) -> None:
        """Return once `count` entries were acknowledged."""
        deadline_s = time.monotonic() + GENEROUS_S
        while self.count < count:
            assert self._process.poll() is None, self._errors()
            assert time.monotonic() < deadline_s, f"{self.count} of {count} acknowledged"
            time.sleep(0.001)

    def kill(self) -> None:
        """End it; returns when its last acknowledgement is in the ledger."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        last_s = None
        for line in self._process.stdout:
            if not line.endswith(b"\n"):
                return
            now_s = time.monotonic()
            self.worst_stall_s = max(self.worst_stall_s, now_s - (last_s or now_s))
            last_s = now_s
            writer, number, seq = map(int, line.split())
            self._ledger.acknowledged.add(Entry(writer, number, seq))
            self.count += 1

    def _errors(self) -> str:
        assert self._process.stderr is not None
        return self._process.stderr.read().decode()[-4000:]
