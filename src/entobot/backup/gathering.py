"""What of a data folder belongs into a backup beside the store, read while a gateway may be changing it."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from entobot.config import Section, Settings
from entobot.core.errors import StartupRefused
from entobot.home import Home, read_private

SMALL_FILES = ("entobot.toml", "state.json", "terminal.json")
NOT_NEEDED = frozenset(
    {
        "audit",
        "audit.head",
        "backup.json",
        "backup.lock",
        "gateway.lock",
        "gateway.sock",
        "restored.json",
        "keys",
        "tls",
        "workspace",
    }
)
TRIES = 5


@dataclass(slots=True)
class Gathered:
    """`small` by member name; of `workspace` the paths, which are read later; `left_out` in words."""

    small: dict[str, bytes]
    workspace: list[Path] = field(default_factory=list[Path])
    left_out: list[str] = field(default_factory=list[str])


def read_audit_head(home: Home) -> bytes | None:
    """To be read before the store is: the log only grows, so it then contains what this says."""
    return read_private(home.audit_head)


def gather(home: Home, settings: Settings, *, with_workspace: bool) -> Gathered:
    """Raises StartupRefused when keys are missing or change all the time."""
    for _ in range(TRIES):
        before = _small(home)
        if before == _small(home):  # a certificate and its key are replaced one after the other
            break
    else:
        raise StartupRefused(f"The keys in {home.path} change while they are read. Try again.")
    for name in ("keys/server.key", "keys/audit.key", "keys/signing.json"):
        if name not in before:
            raise StartupRefused(f"{home.path / name} is missing: there is no gateway to back up in {home.path}.")
    gathered = Gathered(before)
    gathered.left_out += _outside(home, settings)
    gathered.left_out += [str(path) for path in sorted(home.path.iterdir()) if not _is_known(path.name)]
    if with_workspace:
        gathered.workspace, links = _walk(home.workspace)
        gathered.left_out += [f"{path} (no regular file)" for path in links]
    else:
        gathered.left_out.append(str(home.workspace))
    return gathered


def _small(home: Home) -> dict[str, bytes]:
    paths = [home.path / name for name in SMALL_FILES]
    for folder in (home.keys, home.tls):
        if folder.is_dir():
            paths += sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    found = {path.relative_to(home.path).as_posix(): read_private(path) for path in paths}
    return {name: data for name, data in found.items() if data is not None}


def _is_known(name: str) -> bool:
    return name in NOT_NEEDED or name in SMALL_FILES or name.startswith((".", "entobot.db")) or name.endswith(".lock")


def _outside(home: Home, settings: Settings) -> Iterator[str]:
    """Files that the settings name and that lie elsewhere."""
    for section in type(settings).model_fields:
        for key, value in cast("Section", getattr(settings, section)):
            if isinstance(value, Path) and section != "backup" and not value.is_relative_to(home.path):
                yield f"{value} ({section}.{key})"


def _walk(folder: Path) -> tuple[list[Path], list[Path]]:
    """Regular files below `folder`, and what is neither file nor folder. Links are not followed."""
    files: list[Path] = []
    others: list[Path] = []
    for place, folders, names in os.walk(folder):
        others += [path for path in (Path(place, name) for name in folders) if path.is_symlink()]
        for name in sorted(names):
            path = Path(place, name)
            (files if stat.S_ISREG(path.lstat().st_mode) else others).append(path)
    return sorted(files), sorted(others)
