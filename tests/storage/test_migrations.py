"""What happens to a database file at start."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from entobot.core.errors import StartupRefused
from entobot.storage.migrations import HEAD, upgrade_sqlite, version


def test_a_new_file_is_made_at_the_present_version_whatever_its_name(tmp_path: Path) -> None:
    path = tmp_path / "a folder 100%" / "gate way.db"
    path.parent.mkdir()
    upgrade_sqlite(path)
    upgrade_sqlite(path)
    assert version(path) == HEAD


def test_a_file_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "entobot.db"
    upgrade_sqlite(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    before = path.read_bytes()
    with pytest.raises(StartupRefused, match="newer Entobot"):
        upgrade_sqlite(path)
    assert path.read_bytes() == before
