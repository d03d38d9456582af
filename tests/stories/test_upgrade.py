"""Before an upgrade the operator is told what would happen; after one, an older program leaves the store alone."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import create_engine

from entobot.app.upgrading import pending
from entobot.storage.migrations import HEAD
from entobot.storage.migrations.upgrade import alembic_config
from tests.support.postgres import PostgresServer
from tests.support.process import GatewayProcess

ON_EVERY_STORE = True

SetVersion = Callable[[str], object]


@pytest.fixture
def set_version(gateway: GatewayProcess, request: pytest.FixtureRequest, store_kind: str) -> SetVersion:
    """Writes another schema version into the gateway's store."""
    if store_kind == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres")
        name = gateway.environment["ENTOBOT_STORAGE__URL"].partition("?")[0].rpartition("/")[2]
        return lambda to: server.execute(f"UPDATE alembic_version SET version_num = '{to}'", database=name)

    def write(to: str) -> None:
        with closing(sqlite3.connect(gateway.home / "entobot.db")) as database, database:
            database.execute("UPDATE alembic_version SET version_num = ?", (to,))

    return write


@pytest.mark.parametrize("newer", ["9999", "zzzz"])
def test_a_store_of_a_newer_version_is_refused_by_all_and_the_way_out_is_told(
    gateway: GatewayProcess, set_version: SetVersion, tmp_path: Path, newer: str
) -> None:
    gateway.stop()
    set_version(newer)
    target = str(tmp_path / "file")
    for arguments in (
        ("up",),
        ("db", "migrate"),
        ("backup", target, "--unencrypted"),
        ("upgrade-check",),
    ):
        done = gateway.cli(*arguments)
        said = done.stdout + done.stderr
        assert done.returncode == 1, (arguments, said)
        assert f"schema {newer}, made by a newer Entobot" in said, (arguments, said)
        assert "Start the newer version again" in said
        assert "restore FILE" in said
    checked = gateway.cli("db", "check")
    assert (checked.returncode, "FAIL  schema" in checked.stdout) == (1, True), checked.stdout
    assert not Path(target).exists()
    set_version(HEAD)
    gateway.start()


def test_the_doctor_says_why_a_gateway_over_a_newer_store_does_not_start(
    gateway: GatewayProcess, set_version: SetVersion, store_kind: str
) -> None:
    gateway.stop()
    set_version("9999")
    done = gateway.cli("doctor")
    if store_kind == "sqlite":
        assert (done.returncode, "made by a newer Entobot" in done.stdout) == (1, True), done.stdout
    set_version(HEAD)


def test_without_a_migration_there_is_nothing_to_fear(gateway: GatewayProcess) -> None:
    found = gateway.ask("upgrade-check")
    assert (found["safe"], found["schema"], found["migrations"]) == (True, HEAD, [])


def test_with_one_a_young_backup_is_wanted(gateway: GatewayProcess, set_version: SetVersion, tmp_path: Path) -> None:
    gateway.stop()
    set_version("0002")
    before = gateway.cli("upgrade-check", "--json")
    found = json.loads(before.stdout)
    assert (before.returncode, found["safe"], found["schema"]) == (1, False, "0002")
    assert [step["revision"] for step in found["migrations"]] == [f"{n:04}" for n in range(3, int(HEAD) + 1)], (
        "in the order in which they run"
    )
    assert all(step["title"] for step in found["migrations"])
    assert "make a backup" in found["problems"][0]

    file = tmp_path / "file"
    made = gateway.cli("backup", str(file), "--unencrypted", "--no-verify")
    assert made.returncode == 0, made.stderr
    after = gateway.cli("upgrade-check")
    assert (after.returncode, "It is safe" in after.stdout) == (0, True), after.stdout

    record = gateway.home / "backup.json"
    last = json.loads(record.read_text())
    record.write_text(json.dumps(last | {"made_at_ms": last["made_at_ms"] - 25 * 3600_000}))
    assert gateway.cli("upgrade-check").returncode == 1
    record.write_text(json.dumps(last))
    file.unlink()
    gone = gateway.cli("upgrade-check")
    assert (gone.returncode, "not there any more" in gone.stdout) == (1, True), gone.stdout


def test_an_unknown_version_has_no_steps_and_a_known_one_those_after_it(store_kind: str) -> None:
    assert pending("zzzz") is None
    assert pending(HEAD) == []
    steps = pending("0001")
    assert steps is not None
    assert steps[0].revision == "0002"
    assert steps[-1].revision == HEAD


def test_a_store_of_an_older_version_is_backed_up_and_restored_into_this_one(
    gateway: GatewayProcess, store_kind: str, tmp_path: Path
) -> None:
    if store_kind != "sqlite":
        pytest.skip("the copy that is checked is one of SQLite")
    gateway.stop()
    path = gateway.home / "entobot.db"
    path.unlink()
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config = alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
        connection.exec_driver_sql("INSERT INTO users VALUES ('usr_01M800WHG3FGW35VSRS91WFTTR', 'owner', 'owner', 1)")
        connection.exec_driver_sql(
            "INSERT INTO stream_heads (user_id, stream_id, seq) VALUES ('usr_01M800WHG3FGW35VSRS91WFTTR', 'str_1', 0)"
        )
    engine.dispose()
    (gateway.home / "audit.head").unlink(missing_ok=True)
    made = gateway.ask("backup", str(tmp_path / "file"), "--unencrypted")
    assert made["manifest"]["db_schema"] == "0002"
    assert made["checked"] is not None
    shutil.rmtree(gateway.home)
    done = gateway.cli("restore", str(tmp_path / "file"), "--yes")
    assert done.returncode == 0, done.stderr
    gateway.start()
    assert gateway.ask("audit", "verify")["ok"]
    assert gateway.ask("upgrade-check")["schema"] == HEAD
