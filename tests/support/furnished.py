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


def make_tables(path: Path) -> None:
    """As `upgrade_sqlite`, which takes a process of its own; a file that is there is left alone."""
    if not path.exists():
        path.touch(mode=0o600)
        path.write_bytes(_tables())


def may_be_furnished(home: Path) -> bool:
    """Whether nothing but settings is there, and they say nothing about the store."""
    found = list(home.iterdir()) if home.exists() else []
    return all(file.name == "entobot.toml" and "storage" not in file.read_text() for file in found)


def furnish(home: Path) -> None:
    """Make the data folder `home`, or fill one that has settings only; its gateway starts without making its tables."""
    for folder in (home, home / "keys"):
        if not folder.exists():
            folder.mkdir(mode=0o700, parents=True)
    make_tables(home / "entobot.db")
    key = home / "keys" / "server.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(32))
