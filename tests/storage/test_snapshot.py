"""A copy of a SQLite file is of one moment, however others write meanwhile."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from entobot.core.errors import StartupRefused
from entobot.storage import snapshot
from entobot.storage.migrations import HEAD, upgrade_sqlite


def test_what_is_committed_while_it_is_copied_is_left_out_and_does_not_make_it_begin_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source.db"
    with closing(sqlite3.connect(source)) as writer:
        writer.execute("PRAGMA journal_mode=WAL")
        writer.execute("CREATE TABLE one (n INTEGER, pad TEXT)")
        writer.execute("CREATE TABLE two (n INTEGER, pad TEXT)")
        writer.executemany("INSERT INTO one VALUES (?, ?)", [(n, "x" * 4000) for n in range(50)])
        writer.executemany("INSERT INTO two VALUES (?, ?)", [(n, "x" * 4000) for n in range(50)])
        writer.commit()
        steps: list[int] = []

        def write_both(done: int, _: int) -> None:
            assert len(steps) < 1000, "it began anew"
            steps.append(done)
            for table in ("one", "two"):
                writer.execute(f"INSERT INTO {table} VALUES (?, ?)", (1000 + len(steps), "y" * 4000))
            writer.commit()

        monkeypatch.setattr(snapshot, "PAGES_AT_ONCE", 1)
        snapshot.take_snapshot(source, tmp_path / "copy.db", write_both)
        assert steps == sorted(steps)
        assert len(steps) > 50, "others wrote in between"
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        assert (
            copy.execute("SELECT count(*) FROM one").fetchone() == copy.execute("SELECT count(*) FROM two").fetchone()
        )
        assert copy.execute("SELECT count(*) FROM one").fetchone() == (50,)
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("copy")) == ["copy.db"]


def test_contents_are_counted_and_what_is_no_database_of_ours_is_refused(tmp_path: Path) -> None:
    upgrade_sqlite(tmp_path / "ours.db")
    found = snapshot.contents(tmp_path / "ours.db")
    assert (found.schema, found.tables["devices"], found.head) == (HEAD, 0, None)
    assert "alembic_version" not in found.tables
    (tmp_path / "text").write_text("hello " * 1000)
    for path in (tmp_path / "text", tmp_path / "missing"):
        with pytest.raises(StartupRefused, match="no database of Entobot"):
            snapshot.contents(path)


def test_a_damaged_page_is_found(tmp_path: Path) -> None:
    path = tmp_path / "ours.db"
    upgrade_sqlite(path)
    assert snapshot.integrity_fault(path) == ""
    with closing(sqlite3.connect(path)) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'users'").fetchone()
    data = bytearray(path.read_bytes())
    data[4096 * (root - 1) : 4096 * root] = bytes(4096)
    path.write_bytes(data)
    assert snapshot.integrity_fault(path)
