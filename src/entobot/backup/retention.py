"""Delete the oldest backups of this gateway in a folder; others' files are never touched."""

import re
from pathlib import Path

from entobot.backup.making import Made, name_prefix


def thin_out(folder: Path, made: Made, keep: int) -> list[Path]:
    """Keep the newest `keep`, the one just made among them. Returns what was deleted."""
    pattern = re.compile(re.escape(name_prefix(made.manifest.gateway)) + r"[0-9]{8}T[0-9]{9}Z\.tar\.age")
    found = sorted(path for path in folder.iterdir() if pattern.fullmatch(path.name) and path != made.file)
    for left in folder.glob(f".{name_prefix(made.manifest.gateway)}*"):
        left.unlink(missing_ok=True)  # of a backup that was killed; one is made at a time
    old = found[: max(0, len(found) - (keep - 1))]
    for path in old:
        path.unlink(missing_ok=True)
    return old
