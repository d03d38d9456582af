"""Make a backup beside whatever runs: snapshot, archive, seal, check what was written, and only then give it its name."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from entobot import __version__
from entobot.app.backups import LastBackup, write_last
from entobot.backup import manifest as manifests
from entobot.backup.archive import Writer, extract
from entobot.backup.checking import Checked, Progress, check, open_signer, verify_audit
from entobot.backup.gathering import Gathered, gather, read_audit_head
from entobot.backup.manifest import AuditHead, Manifest
from entobot.backup.sealing import Lock, Opener, seal_to, unsealed
from entobot.config import Settings
from entobot.core.clock import Clock
from entobot.core.errors import StartupRefused
from entobot.home import FILE_MODE, Home
from entobot.storage import snapshot
from entobot.storage.migrations import refuse_newer

SCRATCH_PREFIX = ".backup-"


@dataclass(frozen=True, slots=True)
class Wish:
    """`target` None: in `folder` under a name that tells gateway and time. Both are absolute."""

    target: Path | None
    folder: Path
    lock: Lock
    is_verified: bool = True
    with_workspace: bool = True


@dataclass(frozen=True, slots=True)
class Made:
    """`checked` is None where nobody looked."""

    file: Path
    size: int
    manifest: Manifest
    checked: Checked | None


@dataclass(frozen=True, slots=True)
class Stored:
    """The store as one snapshot shows it: `file` is the archive's member `name`."""

    name: str
    file: Path
    store: manifests.Store
    contents: snapshot.Contents


async def make(home: Home, settings: Settings, wish: Wish, clock: Clock, progress: Progress) -> Made:
    """Raises StartupRefused; then there is no file, and nothing else was changed."""
    os.umask(0o077)
    home.refuse_unfinished()
    if not home.keys.is_dir():
        raise StartupRefused(f"There is no gateway in {home.path}: nothing to back up.")
    with _alone(home), _scratch(home.path) as scratch:
        head = read_audit_head(home)
        stored = await _take(home, settings, scratch, progress, is_verified=wish.is_verified)
        if head is None and stored.contents.tables.get("audit_signed_heads"):  # the very first was signed in between
            head = read_audit_head(home)
            stored.file.unlink()
            stored = await _take(home, settings, scratch, progress, is_verified=wish.is_verified)
        gathered = gather(home, settings, with_workspace=wish.with_workspace)
        if head is not None:
            gathered.small["audit.head"] = head
        made_at_ms = clock.now_ms()
        gateway = open_signer(home).fingerprint
        target = wish.target or wish.folder / file_name(gateway, made_at_ms, is_sealed=wish.lock.is_sealed)
        _check_target(target, stored.file.stat().st_size)
        said = Manifest(
            format=manifests.FORMAT,
            made_at_ms=made_at_ms,
            version=__version__,
            gateway=gateway,
            origin=settings.gateway.public_url or home.find_public_url() or "",
            store=stored.store,
            db_schema=stored.contents.schema,
            tables=stored.contents.tables,
            audit=_head(stored.contents),
            members=[],
            left_out=gathered.left_out,
        )
        return await _write(home, wish, target, said, _Source(home, stored, gathered, scratch), progress)


@dataclass(frozen=True, slots=True)
class _Source:
    home: Home
    stored: Stored
    gathered: Gathered
    scratch: Path


async def _write(home: Home, wish: Wish, target: Path, said: Manifest, source: _Source, progress: Progress) -> Made:
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    written: list[Manifest] = []
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
        with os.fdopen(descriptor, "wb") as file:
            progress("archive", 0, 0)
            opener = seal_to(lambda out: written.append(_archive(out, said, source)), file, wish.lock)
            file.flush()
            os.fsync(descriptor)
        checked = await _check_written(temporary, opener, home, progress) if wish.is_verified else None
        size = temporary.stat().st_size
        _refuse_present(target)
        temporary.rename(target)
        _sync(target.parent)
    except OSError as error:
        raise StartupRefused(f"{target} cannot be written: {error.strerror or error}.") from None
    finally:
        temporary.unlink(missing_ok=True)
    last = LastBackup(str(target), said.made_at_ms, size, said.db_schema, was_verified=checked is not None)
    write_last(home, last)
    return Made(target, size, written[0], checked)


def _archive(target: BinaryIO, said: Manifest, source: _Source) -> Manifest:
    """Runs in a thread; what it returns is the manifest as it was written."""
    writer = Writer(target)
    for name, data in source.gathered.small.items():
        writer.add_bytes(name, data)
    writer.add_file(source.stored.name, source.stored.file)
    for path in source.gathered.workspace:
        _add_from_workspace(writer, source, path)
    whole = manifests.with_members(said, writer.members)
    writer.finish(whole)
    return whole


def _add_from_workspace(writer: Writer, source: _Source, path: Path) -> None:
    """By a copy: an agent may be writing to the file."""
    copy = source.scratch / "copy"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return  # it was deleted meanwhile
    with os.fdopen(descriptor, "rb") as file, copy.open("wb") as out:
        mode = os.fstat(descriptor).st_mode
        shutil.copyfileobj(file, out)
    writer.add_file(path.relative_to(source.home.path).as_posix(), copy, FILE_MODE | (mode & 0o100))


async def _check_written(file: Path, opener: Opener, home: Home, progress: Progress) -> Checked:
    with _scratch(home.path) as scratch:
        progress("reading back", 0, 0)
        with unsealed(file, opener) as stream:
            manifest = extract(stream, scratch)
        return await check(scratch, manifest, progress)


async def check_file(file: Path, opener: Opener, place: Path, progress: Progress) -> tuple[Manifest, Checked]:
    """Unpack a backup into a scratch folder below `place`, look at everything, and remove it. Raises StartupRefused."""
    os.umask(0o077)
    with _scratch(place) as scratch:
        progress("reading", 0, 0)
        with unsealed(file, opener) as stream:
            manifest = extract(stream, scratch)
        refuse_newer(str(file), manifest.db_schema)
        return manifest, await check(scratch, manifest, progress)


async def _take(home: Home, settings: Settings, scratch: Path, progress: Progress, *, is_verified: bool) -> Stored:
    if settings.storage.url.get_secret_value():
        from entobot.app.moving import reader
        from entobot.app.store import find_address
        from entobot.storage.postgres_dump import dump

        file = scratch / manifests.POSTGRES_MEMBER
        progress("store", 0, 0)

        async def verify(connection: Any) -> None:
            if is_verified:
                await verify_audit(home, reader(connection), progress)

        found = await dump(find_address(settings.storage), file, verify)
        return Stored(manifests.POSTGRES_MEMBER, file, "postgresql", found)
    if not home.database.exists():
        raise StartupRefused(f"There is no database at {home.database}. Start the gateway once.")
    _check_room(home.path, 2 * home.database.stat().st_size)
    file = scratch / manifests.SQLITE_MEMBER
    snapshot.take_snapshot(home.database, file, partial(progress, "store"))
    found = snapshot.contents(file)
    refuse_newer(str(home.database), found.schema)
    return Stored(manifests.SQLITE_MEMBER, file, "sqlite", found)


def _head(found: snapshot.Contents) -> AuditHead | None:
    return None if found.head is None else AuditHead(found.head[0], found.head[1], found.head[2].hex())


def file_name(gateway: str, made_at_ms: int, *, is_sealed: bool) -> str:
    """Sorts by time, and tells gateways in one folder apart."""
    seconds, milliseconds = divmod(made_at_ms, 1000)
    stamp = datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%dT%H%M%S")
    return f"{name_prefix(gateway)}{stamp}{milliseconds:03}Z.tar{'.age' if is_sealed else ''}"


def name_prefix(gateway: str) -> str:
    short = "".join(one for one in gateway if one.isalnum())[:8]
    return f"entobot-{short}-"


def _refuse_present(target: Path) -> None:
    if target.exists():
        raise StartupRefused(f"{target} is there already. Name another file.")


def _check_target(target: Path, size: int) -> None:
    _refuse_present(target)
    if not target.parent.is_dir():
        raise StartupRefused(f"There is no folder {target.parent}.")
    _check_room(target.parent, size)


def _check_room(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size:
        raise StartupRefused(
            f"{folder} has {free // 1024**2} MiB free, and a backup needs about {size // 1024**2} MiB there."
        )


@contextmanager
def _alone(home: Home) -> Generator[None]:
    """One backup at a time; what a killed one left is removed."""
    descriptor = os.open(home.path / "backup.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StartupRefused("Another backup of this gateway is being made. Wait for it.") from None
        for left in home.path.glob(SCRATCH_PREFIX + "*"):
            shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _scratch(place: Path) -> Generator[Path]:
    """A private folder, gone at the end: what lies in it is not encrypted."""
    with tempfile.TemporaryDirectory(prefix=SCRATCH_PREFIX, dir=place, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
