"""The archive: a tar stream of regular files, the manifest last. Written by us, read as if by an enemy."""

import hashlib
import io
import os
import shutil
import tarfile
from pathlib import Path
from typing import BinaryIO

from entobot.backup import manifest as manifests
from entobot.backup.manifest import Manifest, Member
from entobot.core.errors import StartupRefused
from entobot.home import FILE_MODE, FOLDER_MODE

ROOM_BYTES = 16 * 1024**2
"""Left free on the disk that is extracted to."""
CHUNK_BYTES = 1024 * 1024
MAX_MANIFEST_BYTES = 64 * 1024**2
FILES = frozenset(
    {manifests.SQLITE_MEMBER, manifests.POSTGRES_MEMBER, "audit.head", "entobot.toml", "state.json", "terminal.json"}
)
FOLDERS = frozenset({"keys", "tls", "workspace"})


class _Hashing:
    def __init__(self, inner: BinaryIO) -> None:
        self._inner = inner
        self.digest = hashlib.sha256()

    def read(self, count: int = -1) -> bytes:
        data = self._inner.read(count)
        self.digest.update(data)
        return data


class Writer:
    """`add_…` in any order, then `finish`, once."""

    def __init__(self, target: BinaryIO) -> None:
        self._tar = tarfile.open(fileobj=target, mode="w|", format=tarfile.PAX_FORMAT)  # noqa: SIM115  closed by `finish`
        self.members: list[Member] = []

    def add_bytes(self, name: str, data: bytes) -> None:
        self._add(name, io.BytesIO(data), len(data), FILE_MODE)

    def add_file(self, name: str, path: Path, mode: int = FILE_MODE) -> None:
        """A file that nobody changes meanwhile."""
        with path.open("rb") as file:
            self._add(name, file, os.fstat(file.fileno()).st_size, mode)

    def _add(self, name: str, file: BinaryIO, size: int, mode: int) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mode = size, mode
        source = _Hashing(file)
        self._tar.addfile(info, source)  # pyright: ignore[reportArgumentType]  it reads, and nothing else is asked of it
        self.members.append(Member(name, size, source.digest.hexdigest()))

    def finish(self, manifest: Manifest) -> None:
        data = manifests.encode(manifest)
        info = tarfile.TarInfo(manifests.NAME)
        info.size, info.mode = len(data), FILE_MODE
        self._tar.addfile(info, io.BytesIO(data))
        self._tar.close()


def extract(source: BinaryIO, folder: Path) -> Manifest:
    """Write every member below `folder`, which is empty, and compare each with the manifest.

    Raises StartupRefused for anything that `Writer` does not write: links, devices, names that lead elsewhere,
    duplicates, what is missing, altered or too much.
    """
    found: dict[str, Member] = {}
    manifest: Manifest | None = None
    try:
        with tarfile.open(fileobj=source, mode="r|") as tar:
            for info in tar:
                if manifest is not None:
                    raise StartupRefused(f"The archive goes on after its manifest, with {info.name!r}.")
                if info.name == manifests.NAME:
                    manifest = _read_manifest(tar, info)
                    continue
                _check_name(info)
                if info.name in found:
                    raise StartupRefused(f"The archive holds {info.name!r} twice.")
                found[info.name] = _extract(tar, info, folder)
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise StartupRefused(f"This is no whole backup of Entobot: {error}.") from None
    except OSError as error:
        raise StartupRefused(f"{folder} cannot be written: {error.strerror or error}.") from None
    if manifest is None:
        raise StartupRefused("This is no whole backup of Entobot: it ends without a manifest.")
    _compare(manifest, found)
    return manifest


def _read_manifest(tar: tarfile.TarFile, info: tarfile.TarInfo) -> Manifest:
    file = tar.extractfile(info) if _is_plain(info) and info.size <= MAX_MANIFEST_BYTES else None
    if file is None:
        raise StartupRefused("This is no backup of Entobot: its manifest is no plain file.")
    return manifests.decode(file.read())


def _is_plain(info: tarfile.TarInfo) -> bool:
    return info.isreg() and not info.issparse()


def _check_name(info: tarfile.TarInfo) -> None:
    parts = info.name.split("/")
    is_ours = info.name in FILES if len(parts) == 1 else parts[0] in FOLDERS
    if not is_ours or not _is_plain(info) or any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise StartupRefused(f"This was not made by 'entobot backup': it holds {info.name!r}. Nothing was restored.")


def _extract(tar: tarfile.TarFile, info: tarfile.TarInfo, folder: Path) -> Member:
    source = tar.extractfile(info)
    assert source is not None, "a regular file"
    if shutil.disk_usage(folder).free < info.size + ROOM_BYTES:
        raise StartupRefused(f"{folder} has no room for {info.name} ({info.size // 1024**2} MiB).")
    path = folder / info.name
    path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    mode = FILE_MODE | (info.mode & 0o100 if info.name.startswith("workspace/") else 0)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    digest = hashlib.sha256()
    with os.fdopen(descriptor, "wb") as file:
        while data := source.read(CHUNK_BYTES):
            digest.update(data)
            file.write(data)
        file.flush()
        os.fsync(descriptor)
    return Member(info.name, path.stat().st_size, digest.hexdigest())


def _compare(manifest: Manifest, found: dict[str, Member]) -> None:
    told = {one.name: one for one in manifest.members}
    if told != found or len(told) != len(manifest.members):
        names = sorted(name for name in told.keys() | found.keys() if told.get(name) != found.get(name))
        raise StartupRefused(f"The archive is not what its manifest says: {', '.join(names[:5])}.")
