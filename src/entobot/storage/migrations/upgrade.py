"""Bring a SQLite file to HEAD with Alembic; run in a process of its own, see `upgrade_sqlite`."""

import sys
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from entobot.storage.migrations import HEAD, REFUSED, version


def main(file: str) -> int:
    """The exit code; for REFUSED the reason is on standard output."""
    path = Path(file)
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    present = version(path)
    known = {revision.revision for revision in ScriptDirectory.from_config(config).walk_revisions()}
    if present is not None and present not in known:
        sys.stdout.write(
            f"{path} was made by a newer Entobot (schema {present}). Install that version again, or restore a backup."
        )
        return REFUSED
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, HEAD)
    engine.dispose()
    return 0
