"""A data folder as a first start leaves it, but for what a gateway makes of its own: tables, and a key for them."""

import secrets
import shutil
import tempfile
from functools import cache
from pathlib import Path

from entobot.storage.migrations import upgrade_sqlite


@cache
def _tables() -> bytes:
    """Of an empty database: made once for a process of tests, by the migrations."""
    folder = Path(tempfile.mkdtemp(prefix="entobot-tables-"))
    try:
        upgrade_sqlite(folder / "entobot.db")
        assert [file.name for file in folder.iterdir()] == ["entobot.db"], "nothing of it is in a journal"
        return (folder / "entobot.db").read_bytes()
    finally:
        shutil.rmtree(folder)


def furnish(home: Path) -> None:
    """Make the data folder `home`, whose gateway starts without making its tables."""
    for folder in (home, home / "keys"):
        folder.mkdir(mode=0o700, parents=True)
    for file, content in ((home / "entobot.db", _tables()), (home / "keys" / "server.key", secrets.token_bytes(32))):
        file.touch(mode=0o600)
        file.write_bytes(content)
