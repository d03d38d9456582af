"""Restore a backup into an empty data folder: all of it, or nothing that a gateway would start on."""

import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from entobot.app.backups import LastRestore, write_restore
from entobot.app.offline import open_offline
from entobot.app.store import find_address
from entobot.backup import manifest as manifests
from entobot.backup.archive import FILES, FOLDERS, extract
from entobot.backup.checking import Progress, check, verify_audit
from entobot.backup.manifest import Manifest
from entobot.backup.sealing import Opener, unsealed
from entobot.backup.settling import Orders, Settled, settle
from entobot.config import Settings, StorageSettings
from entobot.core.clock import Clock
from entobot.core.errors import StartupRefused
from entobot.core.secrets import SystemEntropy
from entobot.home import FOLDER_MODE, Home
from entobot.storage.migrations import refuse_newer

OURS = frozenset({*FILES, *FOLDERS, "entobot.db-wal", "entobot.db-shm", "restored.json"})
MADE_BY_LOCKING = "gateway.lock"

Confirm = Callable[[Manifest], bool]
"""Shown what will be there; whether to go on."""


@dataclass(frozen=True, slots=True)
class Restored:
    manifest: Manifest
    settled: Settled
    audit_entries: int


async def restore(
    file: Path,
    opener: Opener,
    home: Home,
    load_settings: Callable[[Path], Settings],
    orders: Orders,
    confirm: Confirm,
    clock: Clock,
    progress: Progress,
) -> Restored | None:
    """None when `confirm` said no. Raises StartupRefused. In both cases the folder is as it was.

    Everything is unpacked into `home.restoring`, checked and settled there, and moved up at the end; a gateway starts
    on none of it while that folder is there, and the next restore clears what a killed one left.
    """
    os.umask(0o077)
    with ExitStack() as held, ExitStack() as stack:
        _enter(home, held, stack)
        scratch = Home(home.restoring)
        scratch.path.mkdir(FOLDER_MODE)
        progress("reading", 0, 0)
        with unsealed(file, opener) as archive:
            manifest = extract(archive, scratch.path)
        refuse_newer(str(file), manifest.db_schema)
        settings = load_settings(scratch.path)
        await _refuse_other_store(manifest, settings)
        await check(scratch.path, manifest, progress)
        if not confirm(manifest):
            return None
        settled, entries = await _settle(scratch, manifest, settings, orders, clock, progress)
        write_restore(scratch, LastRestore(clock.now_ms(), manifest.made_at_ms))
        _move(scratch, home)
        stack.pop_all()  # nothing is taken back any more
    return Restored(manifest, settled, entries)


def _enter(home: Home, held: ExitStack, undo: ExitStack) -> None:
    """Take the folder, and see to it that a failure leaves it as it was. Raises StartupRefused."""
    is_new = not home.path.exists()
    try:
        home.path.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise StartupRefused(f"{home.path} cannot be made: {error.strerror}.") from None
    if not home.lock_file.exists() and not home.restoring.exists():
        _refuse_used(home)  # before the lock makes a file in a folder that is none of ours
    held.enter_context(home.lock())
    if home.restoring.exists():
        _clear(home)
    _refuse_used(home)
    home.path.chmod(FOLDER_MODE)

    def leave() -> None:
        _clear(home)
        (home.path / MADE_BY_LOCKING).unlink(missing_ok=True)
        if is_new:
            home.path.rmdir()

    undo.callback(leave)


def _refuse_used(home: Home) -> None:
    """Raises StartupRefused."""
    if used := sorted(one.name for one in home.path.iterdir() if one.name not in (MADE_BY_LOCKING, "lost+found")):
        raise StartupRefused(
            f"{home.path} is not empty ({', '.join(used[:5])}). A restore needs an empty data folder: move this one away, "
            "or name another with --home."
        )


def _clear(home: Home) -> None:
    """The folder was empty when the restore began, so what bears our names is of that restore. The mark goes last."""
    for name in OURS:
        path = home.path / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    shutil.rmtree(home.restoring, ignore_errors=True)


async def _refuse_other_store(manifest: Manifest, settings: Settings) -> None:
    url = settings.storage.url.get_secret_value()
    if manifest.store == "sqlite" and url:
        raise StartupRefused(
            "The backup holds SQLite, and storage.url names a PostgreSQL. Unset it (ENTOBOT_STORAGE__URL=), restore, "
            "then 'entobot db copy' moves it there."
        )
    if manifest.store == "postgresql":
        if not url:
            raise StartupRefused(
                "The backup holds PostgreSQL: name a new, empty database by ENTOBOT_STORAGE__URL=postgresql://…"
            )
        from entobot.storage.postgres_dump import find_tool, refuse_used

        find_tool("pg_restore")
        await refuse_used(find_address(settings.storage))


async def _settle(
    scratch: Home, manifest: Manifest, settings: Settings, orders: Orders, clock: Clock, progress: Progress
) -> tuple[Settled, int]:
    storage = StorageSettings()
    if manifest.store == "postgresql":
        from entobot.storage.postgres_dump import load

        storage = settings.storage
        progress("database", 0, 0)
        dump = scratch.path / manifests.POSTGRES_MEMBER
        await load(find_address(storage), dump)
        dump.unlink()
    parts = open_offline(scratch, storage, clock, SystemEntropy())
    await parts.database.start()
    try:
        settled = await settle(parts, manifest, orders, clock)
        entries = await verify_audit(scratch, parts.database.read, progress)
    except StartupRefused as refusal:
        filled = "" if manifest.store == "sqlite" else " The database is filled now: take another new one next time."
        raise StartupRefused(f"{refusal}{filled}") from None
    finally:
        await parts.database.stop()
    return settled, entries


def _move(scratch: Home, home: Home) -> None:
    """The mark (`home.restoring`) goes last: with it everything counts."""
    for place, _, _ in os.walk(scratch.path, topdown=False):
        _sync(Path(place))
    for path in sorted(scratch.path.iterdir()):
        if path.name in OURS:
            path.rename(home.path / path.name)
    _sync(home.path)
    shutil.rmtree(scratch.path)
    _sync(home.path)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
