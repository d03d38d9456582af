"""The folder that tools may use, and no step outside it.

Every path is walked one component at a time from the folder's own descriptor, with O_NOFOLLOW: `..`, absolute paths
and symbolic links are refused by construction, not by comparing names, so a link that is swapped in meanwhile is
refused too. Only regular files with a single name and plain folders are opened; nothing blocks on a FIFO or device.
"""

import errno
import os
import stat
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MAX_PATH_CHARACTERS = 1024
MAX_COMPONENTS = 32
MAX_NAME_BYTES = 200
PART_SUFFIX = ".entobot-part"

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


class PathRefused(Exception):  # noqa: N818  reads as what happened
    """The path leaves the workspace or names no ordinary file. The text is safe to show."""


@dataclass(frozen=True, slots=True)
class Entry:
    """`kind` is `file`, `folder`, `link` (never followed) or `other`; `size_bytes` counts for files."""

    name: str
    kind: str
    size_bytes: int


class Workspace:
    """Blocking file calls: use it from a tool's thread."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def list(self, path: str, max_entries: int) -> tuple[list[Entry], bool]:
        """Entries of a folder by name, and whether there are more."""
        with self._folder(_components(path, may_be_root=True), create=False) as folder:
            names = sorted(os.listdir(folder))  # noqa: PTH208  a descriptor, not a path
            shown = [_entry(folder, name) for name in names[:max_entries]]
        return [entry for entry in shown if entry is not None], len(names) > max_entries

    def read(self, path: str, max_bytes: int) -> bytes:
        *folders, name = _components(path)
        with self._folder(folders, create=False) as folder, _opened(folder, name, os.O_RDONLY) as file:
            size = _checked_file(file, path)
            if size > max_bytes:
                raise PathRefused(f"{path!r} has {size} bytes; {max_bytes} can be read.")
            return _read_all(file, max_bytes)

    def write(self, path: str, data: bytes) -> None:
        """Replace the file as a whole: after a crash it holds either the old or the new bytes."""
        *folders, name = _components(path)
        with self._folder(folders, create=True) as folder:
            mode = _mode_of_existing(folder, name, path)
            part = f".{name}{PART_SUFFIX}"
            _remove(folder, part)
            with _opened(folder, part, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as file:
                os.fchmod(file, mode)
                _write_all(file, data)
                os.fsync(file)
            os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)
            os.fsync(folder)

    def append(self, path: str, data: bytes) -> None:
        *folders, name = _components(path)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        with self._folder(folders, create=True) as folder, _opened(folder, name, flags) as file:
            _checked_file(file, path)
            _write_all(file, data)
            os.fsync(file)

    @contextmanager
    def _folder(self, components: "list[str]", *, create: bool) -> Generator[int]:
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The root itself may be a link that the operator made; below it none is followed.
        current = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for component in components:
                following = _step(current, component, create=create)
                os.close(current)
                current = following
            yield current
        finally:
            os.close(current)


def check_path(path: str, *, may_be_root: bool = False) -> None:
    """Raises PathRefused for what cannot be a path in the workspace, whatever is in there."""
    _components(path, may_be_root=may_be_root)


def _components(path: str, *, may_be_root: bool = False) -> list[str]:
    if may_be_root and path in ("", "."):
        return []
    if len(path) > MAX_PATH_CHARACTERS or "\x00" in path:
        raise PathRefused("The path is too long or holds a NUL character.")
    if path.startswith("/"):
        raise PathRefused(f"{path!r} is absolute; paths are relative to the workspace.")
    components = path.removesuffix("/").split("/")
    for component in components:
        if component in ("", ".", ".."):
            raise PathRefused(f"{path!r} has a step that is empty, '.' or '..'.")
        if len(component.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES or component.endswith(PART_SUFFIX):
            raise PathRefused(f"{path!r} has a name that cannot be used.")
    if len(components) > MAX_COMPONENTS:
        raise PathRefused(f"{path!r} is too deep.")
    return components


def _step(parent: int, component: str, *, create: bool) -> int:
    if create:
        try:
            os.mkdir(component, mode=0o700, dir_fd=parent)
        except FileExistsError:
            pass
        except OSError as error:
            raise _refusal(error, component) from None
    try:
        return os.open(component, _FOLDER, dir_fd=parent)
    except (OSError, ValueError) as error:
        raise _refusal(error, component) from None


@contextmanager
def _opened(folder: int, name: str, flags: int) -> Generator[int]:
    try:
        file = os.open(name, flags | _FILE, mode=0o600, dir_fd=folder)
    except (OSError, ValueError) as error:
        raise _refusal(error, name) from None
    try:
        yield file
    finally:
        os.close(file)


def _checked_file(file: int, path: str) -> int:
    found = os.fstat(file)
    if not stat.S_ISREG(found.st_mode):
        raise PathRefused(f"{path!r} is not an ordinary file.")
    if found.st_nlink > 1:
        raise PathRefused(f"{path!r} is also known under another name, which may lie outside the workspace.")
    return found.st_size


def _mode_of_existing(folder: int, name: str, path: str) -> int:
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return 0o600
    except (OSError, ValueError) as error:
        raise _refusal(error, path) from None
    if not stat.S_ISREG(found.st_mode):
        raise PathRefused(f"{path!r} is not an ordinary file.")
    return stat.S_IMODE(found.st_mode) & 0o777


def _remove(folder: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _refusal(error, name) from None


def _entry(folder: int, name: str) -> Entry | None:
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:  # removed meanwhile
        return None
    kinds = ((stat.S_ISREG, "file"), (stat.S_ISDIR, "folder"), (stat.S_ISLNK, "link"))
    kind = next((kind for is_kind, kind in kinds if is_kind(found.st_mode)), "other")
    return Entry(name, kind, found.st_size)


def _read_all(file: int, max_bytes: int) -> bytes:
    chunks: list[bytes] = []
    left = max_bytes
    while left > 0 and (chunk := os.read(file, min(left, 65536))):
        chunks.append(chunk)
        left -= len(chunk)
    return b"".join(chunks)


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _refusal(error: OSError | ValueError, name: str) -> PathRefused:
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.ENOENT:
        return PathRefused(f"{name!r} does not exist.")
    if number in (errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.EISDIR, errno.EMLINK):
        return PathRefused(f"{name!r} is a link or not of the kind that is needed here.")
    return PathRefused(f"{name!r} cannot be opened.")
