"""A disk whose power can be cut: a folder served by `lossyfs` in a process of its own."""

import ctypes.util
import os
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, get_args

from tests.support.process import GENEROUS_S, ROOT

Fault = Literal["full", "read-only", "no-sync"]
FAULTS: tuple[Fault, ...] = get_args(Fault)


def missing() -> str | None:
    """What this machine lacks for power cuts."""
    if os.geteuid() != 0:
        return "power cuts need root, to mount"
    if not Path("/dev/fuse").exists():
        return "power cuts need /dev/fuse"
    if ctypes.util.find_library("fuse3") is None:
        return "power cuts need libfuse 3 (Debian: libfuse3-3)"
    return None


class Disk:
    """`path` is there from `mount` (or entering) to `cut`; after the next `mount` it holds what was synced before.

    `written_back` is the share of unsynced pages that reach the platter all the same. `is_journalled`: any sync makes
    every name durable; else a name wants a sync of its folder.
    """

    def __init__(self, folder: Path, *, seed: int = 0, written_back: float = 0.0, is_journalled: bool = False) -> None:
        self.path = folder / "disk"
        self.cuts = 0
        self.platter = folder / "platter"
        self._fault_file = folder / "platter.fault"
        self._log = folder / "disk.log"
        self._seed = seed
        self._options = ["--written-back", str(written_back), *(["--journalled"] if is_journalled else [])]
        self._process: subprocess.Popen[bytes] | None = None
        for made in (folder, self.path, self.platter):
            made.mkdir(parents=True, exist_ok=made is folder)
            made.chmod(0o755)  # PostgreSQL runs as somebody else, whatever umask a test has left

    def mount(self) -> None:
        options = ["--seed", str(self._seed + self.cuts), *self._options]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.rigs.lossyfs", str(self.platter), str(self.path), *options],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline_s = time.monotonic() + GENEROUS_S
        while not os.path.ismount(self.path):
            assert self._process.poll() is None, self._log.read_text()[-4000:]
            assert time.monotonic() < deadline_s, "the disk was not mounted"
            time.sleep(0.01)

    def cut(self) -> None:
        """The power goes. Who still uses the disk gets errors, and has to be ended by the caller before `mount`."""
        process, self._process = self._process, None
        if process is None:
            return
        self.cuts += 1
        process.kill()
        process.wait()
        subprocess.run(["umount", "--lazy", str(self.path)], check=True, capture_output=True)

    def fail(self, fault: Fault) -> None:
        """From now on, until `heal`; see `lossyfs.Fault`."""
        self._fault_file.write_text(fault, "ascii")

    def heal(self) -> None:
        self._fault_file.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        self.mount()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.cut()
