"""A file system for power cuts: what was not synced lives in this process only, and is gone when it is killed.

`python -m tests.rigs.lossyfs PLATTER MOUNT [--written-back SHARE] [--seed N] [--journalled]` serves the folder PLATTER at MOUNT by FUSE
until it is killed, which is the power cut. Worse than any real disk in two ways, never better:

- Bytes reach the platter with `fsync` of their file alone. Of the others a seeded share is written back early, page by
  page and in no order, as a kernel does when it needs memory: after the cut a file may hold its last page and not its
  first.
- Names (create, link, rename, remove) reach the platter with `fsync` of their folder alone. They are noted in
  PLATTER.names before they happen, and the next start takes back what was not synced. A name that moved between two
  folders counts as synced with either. Owner, mode and times are durable at once. With `--journalled` every `fsync`
  makes all names durable, as file systems with one journal do (ext4, XFS); PostgreSQL relies on it.

PLATTER.fault, a file with one of the words of `Fault`, makes the disk fail until it is removed.
"""

import argparse
import errno
import json
import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import mfusepy

PAGE = 4096


class Fault(StrEnum):
    FULL = "full"
    """No file grows, none is made."""
    READ_ONLY = "read-only"
    """Nothing changes any more, as after an error of the medium."""
    NO_SYNC = "no-sync"
    """`fsync` fails, and what it should have synced is gone and counts as clean: the next one succeeds."""


STATUS = ("st_atime", "st_blocks", "st_ctime", "st_gid", "st_mode", "st_mtime", "st_nlink", "st_size", "st_uid")
ROOM = ("f_bavail", "f_bfree", "f_blocks", "f_bsize", "f_favail", "f_ffree", "f_files", "f_flag", "f_frsize")


@dataclass
class Unsynced:
    """What a file holds beyond its bytes on the platter; those count up to `valid` only."""

    size: int
    valid: int
    pages: dict[int, bytearray] = field(default_factory=dict[int, bytearray])

    def truncate(self, size: int) -> None:
        if size < self.size:
            self.valid = min(self.valid, size)
            self.pages = {number: page for number, page in self.pages.items() if number * PAGE < size}
            if (page := self.pages.get(size // PAGE)) is not None:
                page[size % PAGE :] = bytes(PAGE - size % PAGE)
        self.size = size


class Names:
    """The journal of names that are not synced yet."""

    def __init__(self, platter: Path) -> None:
        self._platter = platter
        self._graves = platter.with_name(platter.name + ".graves")
        self._path = platter.with_name(platter.name + ".names")
        self._graves.mkdir(exist_ok=True)
        self._take_back()
        self._journal = self._path.open("w", encoding="utf-8")
        self._pending: list[dict[str, Any]] = []
        self._number = 0

    def note(self, act: str, path: str, other: str = "") -> None:
        """Before `act` happens: `add`, `remove`, `move` (from `path` to `other`), `add_folder`, `remove_folder`."""
        self._number += 1
        change = {"act": act, "path": path, "other": other, "number": self._number}
        self._bury(path if act == "remove" else other if act == "move" else "", self._number)
        self._pending.append(change)
        self._write(change)

    def sync(self, folder: str | None = None) -> None:
        """The names in this folder; None: all."""
        done = [one for one in self._pending if folder is None or folder in _folders(one)]
        self._pending = [one for one in self._pending if folder is not None and folder not in _folders(one)]
        for change in done:
            self._write({"done": change["number"]})
            (self._graves / str(change["number"])).unlink(missing_ok=True)

    def _bury(self, path: str, number: int) -> None:
        """Keep what a name stands for until it is sure that the name is gone."""
        full = f"{self._platter}{path}"
        if path and os.path.lexists(full) and not os.path.isdir(full):
            os.link(full, self._graves / str(number), follow_symlinks=False)

    def _write(self, line: dict[str, Any]) -> None:
        self._journal.write(json.dumps(line) + "\n")
        self._journal.flush()

    def _take_back(self) -> None:
        lines = [json.loads(line) for line in self._path.read_text("utf-8").splitlines()] if self._path.exists() else []
        done = {line["done"] for line in lines if "done" in line}
        for change in reversed([line for line in lines if "act" in line and line["number"] not in done]):
            self._undo(change)
        for grave in self._graves.iterdir():
            grave.unlink()

    def _undo(self, change: dict[str, Any]) -> None:
        path, other = f"{self._platter}{change['path']}", f"{self._platter}{change['other']}"
        grave = self._graves / str(change["number"])
        match change["act"]:
            case "add":
                Path(path).unlink(missing_ok=True)
            case "add_folder":
                shutil.rmtree(path, ignore_errors=True)
            case "remove_folder":
                Path(path).mkdir(exist_ok=True)
            case "remove" if grave.exists():
                grave.replace(path)
            case "move" if os.path.lexists(other):
                Path(other).replace(path)
                if grave.exists():
                    grave.replace(other)
            case _:
                pass


def _folders(change: dict[str, Any]) -> set[str]:
    return {os.path.dirname(path) for path in (change["path"], change["other"]) if path}


class LossyFs(mfusepy.Operations):
    """One thread serves it, so nothing here is locked."""

    use_ns = True

    def __init__(self, platter: Path, written_back: float, seed: int, *, is_journalled: bool) -> None:
        self._platter = str(platter)
        self._names = Names(platter)
        self._written_back = written_back
        self._is_journalled = is_journalled
        self._random = random.Random(seed)
        self._unsynced: dict[int, Unsynced] = {}
        self._inodes: dict[int, int] = {}
        self._fault_file = f"{platter}.fault"

    def _fault(self) -> str:
        try:
            with open(self._fault_file, encoding="ascii") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def _changing(self, *, grows: bool) -> None:
        """Raise what the disk's fault says of a change."""
        fault = self._fault()
        if fault == Fault.READ_ONLY:
            raise mfusepy.FuseOSError(errno.EROFS)
        if fault == Fault.FULL and grows:
            raise mfusepy.FuseOSError(errno.ENOSPC)

    def _full(self, path: str) -> str:
        return self._platter + path

    # -- bytes

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        self._changing(grows=True)
        self._names.note("add", path)
        handle = os.open(self._full(path), os.O_CREAT | os.O_RDWR, mode)
        self._inodes[handle] = os.fstat(handle).st_ino
        self._unsynced.pop(self._inodes[handle], None)  # the number of a file that is no more
        self._own(path)
        return handle

    def open(self, path: str, flags: int) -> int:
        if flags & os.O_ACCMODE != os.O_RDONLY:
            self._changing(grows=False)
        handle = os.open(self._full(path), os.O_RDWR)
        self._inodes[handle] = os.fstat(handle).st_ino
        return handle

    def release(self, path: str, fh: int) -> int:
        del self._inodes[fh]
        os.close(fh)
        return 0

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        unsynced = self._unsynced.get(self._inodes[fh])
        if unsynced is None:
            return os.pread(fh, size, offset)
        size = max(0, min(size, unsynced.size - offset))
        return b"".join(
            bytes(self._page(unsynced, fh, number)[begin:end]) for number, begin, end in _pages(offset, size)
        )

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        unsynced = self._change(fh)
        self._changing(grows=offset + len(data) > unsynced.size)
        at = 0
        for number, begin, end in _pages(offset, len(data)):
            page = unsynced.pages.get(number)
            if page is None:
                page = unsynced.pages[number] = self._page(unsynced, fh, number)
            page[begin:end] = data[at : at + end - begin]
            at += end - begin
            if self._random.random() < self._written_back:
                os.pwrite(fh, page, number * PAGE)
        unsynced.size = max(unsynced.size, offset + len(data))
        return len(data)

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        self._changing(grows=False)
        handle = os.open(self._full(path), os.O_RDWR)
        self._inodes[handle] = os.fstat(handle).st_ino
        self._change(handle).truncate(length)
        return self.release(path, handle)

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        if self._fault() == Fault.NO_SYNC:
            self._unsynced.pop(self._inodes[fh], None)
            raise mfusepy.FuseOSError(errno.EIO)
        unsynced = self._unsynced.pop(self._inodes[fh], None)
        if unsynced is not None:
            os.ftruncate(fh, unsynced.valid)
            for number, page in unsynced.pages.items():
                os.pwrite(fh, page, number * PAGE)
            os.ftruncate(fh, unsynced.size)
        if self._is_journalled:
            self._names.sync()
        return 0

    def flush(self, path: str, fh: int) -> int:
        return 0

    def _change(self, handle: int) -> Unsynced:
        inode = self._inodes[handle]
        if inode not in self._unsynced:
            size = os.fstat(handle).st_size
            self._unsynced[inode] = Unsynced(size, size)
        return self._unsynced[inode]

    def _page(self, unsynced: Unsynced, handle: int, number: int) -> bytearray:
        if (page := unsynced.pages.get(number)) is not None:
            return page
        there = os.pread(handle, max(0, min(PAGE, unsynced.valid - number * PAGE)), number * PAGE)
        return bytearray(there.ljust(PAGE, b"\0"))

    # -- names

    def fsyncdir(self, path: str, datasync: int, fh: int) -> int:
        self._names.sync(None if self._is_journalled else path)
        return 0

    def mkdir(self, path: str, mode: int) -> int:
        self._changing(grows=True)
        self._names.note("add_folder", path)
        os.mkdir(self._full(path), mode)
        return self._own(path)

    def rmdir(self, path: str) -> int:
        self._changing(grows=False)
        self._names.note("remove_folder", path)
        os.rmdir(self._full(path))
        return 0

    def mknod(self, path: str, mode: int, dev: int) -> int:
        self._changing(grows=True)
        self._names.note("add", path)
        os.mknod(self._full(path), mode, dev)
        return self._own(path)

    def link(self, target: str, source: str) -> int:
        self._changing(grows=True)
        self._names.note("add", target)
        os.link(self._full(source), self._full(target))
        return 0

    def symlink(self, target: str, source: str) -> int:
        self._changing(grows=True)
        self._names.note("add", target)
        os.symlink(source, self._full(target))
        return self._own(target)

    def unlink(self, path: str) -> int:
        self._changing(grows=False)
        self._names.note("remove", path)
        os.unlink(self._full(path))
        return 0

    def rename(self, old: str, new: str) -> int:
        self._changing(grows=False)
        self._names.note("move", old, new)
        os.rename(self._full(old), self._full(new))
        return 0

    def _own(self, path: str) -> int:
        user, group, _ = mfusepy.fuse_get_context()
        os.lchown(self._full(path), user, group)
        return 0

    # -- the rest passes through

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        status = os.lstat(self._full(path))
        attributes: dict[str, Any] = {name: getattr(status, name) for name in STATUS}
        attributes |= {name: getattr(status, name + "_ns") for name in ("st_atime", "st_ctime", "st_mtime")}
        if (unsynced := self._unsynced.get(status.st_ino)) is not None:
            attributes["st_size"] = unsynced.size
        return attributes

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", *os.listdir(self._full(path))]

    def readlink(self, path: str) -> str:
        return os.readlink(self._full(path))

    def access(self, path: str, amode: int) -> int:
        return 0

    def chmod(self, path: str, mode: int) -> int:
        os.chmod(self._full(path), mode)
        return 0

    def chown(self, path: str, uid: int, gid: int) -> int:
        os.lchown(self._full(path), uid, gid)
        return 0

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
        os.utime(self._full(path), ns=times or (0, 0), follow_symlinks=False)
        return 0

    def statfs(self, path: str) -> dict[str, int]:
        room = os.statvfs(self._full(path))
        return {name: getattr(room, name) for name in ROOM}

    def getxattr(self, path: str, name: str, position: int = 0) -> bytes:
        raise mfusepy.FuseOSError(errno.ENOTSUP)

    def listxattr(self, path: str) -> list[str]:
        return []


def _pages(offset: int, size: int) -> Iterator[tuple[int, int, int]]:
    """(page, first byte in it, byte after the last) of a range."""
    while size > 0:
        number, begin = divmod(offset, PAGE)
        end = min(PAGE, begin + size)
        yield number, begin, end
        offset, size = offset + end - begin, size - (end - begin)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("platter", type=Path)
    parser.add_argument("mount")
    parser.add_argument("--written-back", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--journalled", action="store_true")
    asked = parser.parse_args()
    mfusepy.FUSE(
        LossyFs(asked.platter, asked.written_back, asked.seed, is_journalled=asked.journalled),
        asked.mount,
        foreground=True,
        nothreads=True,
        allow_other=True,
        attr_timeout=0,
        entry_timeout=0,
        negative_timeout=0,
        fsname="lossyfs",
    )


if __name__ == "__main__":
    main()
