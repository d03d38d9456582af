"""Schema migrations (Alembic). `HEAD` is the present version; start-up skips Alembic when the file is there already."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from entobot import __version__
from entobot.core.errors import StartupRefused

HEAD = "0037"
REFUSED = 3
"""Exit code of the upgrading process: what it printed is for the operator."""


_UPGRADE = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from entobot.storage.migrations.upgrade import main
sys.exit(main(sys.argv[1]))
"""


def newer_text(where: str, present: str) -> str:
    """Why this version leaves a store alone, and the two ways out."""
    return (
        f"{where} has schema {present}, made by a newer Entobot; this is {__version__}, which knows up to {HEAD}. "
        "Nothing was changed. Start the newer version again, or restore the backup that was made before the upgrade "
        "into an empty data folder: 'entobot --home FOLDER restore FILE'. See docs/how-to/back-up.md."
    )


def refuse_newer(where: str, present: str | None) -> None:
    """Raises StartupRefused for a schema of a newer version."""
    if present is not None and present > HEAD:
        raise StartupRefused(newer_text(where, present))


def upgrade_sqlite(path: Path) -> None:
    """Bring the database file at `path` to HEAD; make it when missing.

    Raises StartupRefused when a newer version made it, and when it is damaged, no database at all or cannot be
    written: nothing is changed then.
    """
    try:
        present = version(path)
    except (sqlite3.Error, OSError) as error:
        raise StartupRefused(
            f"{path} cannot be used: {error}. Check the file's rights and the disk; if it is damaged, restore a backup."
        ) from None
    refuse_newer(str(path), present)
    if present != HEAD:
        _upgrade(path)


def version(path: Path) -> str | None:
    """The schema version of the file; None when it is missing or empty."""
    if not path.exists():
        return None
    path.open("r+b").close()  # SQLite would open it read-only without a word and fail at the first message
    with closing(sqlite3.connect(path)) as connection:
        has_table = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone()
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone() if has_table else None
    return None if row is None else str(row[0])


def upgrade_command(where: str) -> list[str]:
    """The process that upgrades, see `upgrade.main`."""
    return [sys.executable, "-P", "-c", _UPGRADE, str(Path(__file__).parents[3]), where]


def _upgrade(path: Path) -> None:
    # Alembic takes 14 MB that a gateway would hold for as long as it runs: a first start or an upgrade pays with a process.
    command = upgrade_command(str(path))
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)  # noqa: S603  nothing in it comes from outside
    if done.returncode == REFUSED:
        raise StartupRefused(done.stdout.strip())
    if done.returncode:
        raise StartupRefused(
            f"The database {path} could not be brought to schema {HEAD}:\n{done.stderr.strip()[-2000:]}"
        )
