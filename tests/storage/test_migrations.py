"""What happens to a database file at start."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import Connection, create_engine

from entobot.core.errors import StartupRefused
from entobot.storage.migrations import HEAD, upgrade_sqlite, version
from entobot.storage.migrations.upgrade import alembic_config


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


def upgrade_to(revision: str, connection: Connection) -> None:
    """The schema of an earlier version."""
    config = alembic_config()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def test_results_of_commands_outlive_the_change_of_their_key(tmp_path: Path) -> None:
    path = tmp_path / "entobot.db"
    engine = create_engine(f"sqlite:///{path}")
    rows = [(f"dev_{n % 3}", f"0{n}", b"digest", f"result {n}".encode(), n) for n in range(9)]
    with engine.begin() as connection:
        upgrade_to("0002", connection)
        for row in rows:
            connection.exec_driver_sql("INSERT INTO command_results VALUES (?, ?, ?, ?, ?)", row)
    engine.dispose()
    upgrade_sqlite(path)
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT device_id, command_id, digest, result, at_ms FROM command_results")
        assert sorted(found, key=lambda row: row[4]) == rows
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute("INSERT INTO command_results VALUES (?, ?, ?, ?, ?)", rows[0])
        tables = {
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE tbl_name LIKE 'command%'")
        }
    assert tables == {"command_results", "ix_command_results_at"}


def test_people_of_before_get_logins_and_the_first_owner_is_called_owner(tmp_path: Path) -> None:
    path = tmp_path / "entobot.db"
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        upgrade_to("0003", connection)
        for row in (("usr_B", "Later", "owner", 2), ("usr_A", "First", "owner", 1), ("usr_C", "Guest", "member", 0)):
            connection.exec_driver_sql("INSERT INTO users VALUES (?, ?, ?, ?)", row)
    engine.dispose()
    upgrade_sqlite(path)
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT user_id, login, disabled_at_ms FROM users ORDER BY user_id").fetchall()
        assert found == [("usr_A", "owner", None), ("usr_B", "usr_b", None), ("usr_C", "usr_c", None)]
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute("UPDATE users SET login = 'owner' WHERE user_id = 'usr_C'")
