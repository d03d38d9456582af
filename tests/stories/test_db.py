"""An installation grows from SQLite to PostgreSQL: nothing is missing, devices stay paired, and mistakes are refused."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.support.files import read, upload
from tests.support.phone import connected
from tests.support.postgres import PostgresServer
from tests.support.process import GatewayProcess


async def test_a_gateway_is_moved_from_sqlite_to_postgresql_with_everything_in_it(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    url = postgres.url(postgres.new_database())
    gateway = GatewayProcess(tmp_path / "home")
    try:
        await asyncio.to_thread(gateway.start)
        device = await asyncio.to_thread(gateway.pair, "Pixel")
        large = bytes(range(256)) * 36 * 1024  # more than is copied at once
        file = await asyncio.to_thread(upload, device, "large.bin", large)
        async with connected(gateway, device) as phone:
            await phone.say("before the move", files=[file["file_id"]])
            await phone.until_event("RUN_FINISHED")
            position = {"stream": phone.frames[0]["stream"], "after": 0}
            before = [frame for frame in phone.frames if frame["type"] == "event" and "seq" in frame]
        running = await asyncio.to_thread(gateway.cli, "db", "copy", "--to", url)
        assert (running.returncode, "Stop it" in running.stderr) == (1, True)
        gateway.stop()

        told = await asyncio.to_thread(gateway.cli, "db", "copy", "--to", url.replace("entobot@", "entobot:hunter2@"))
        assert (told.returncode, "--to-file" in told.stderr) == (1, True)
        target = tmp_path / "target"
        target.write_text(url.replace("entobot@", "entobot:hunter2@"))
        copied = await asyncio.to_thread(gateway.cli, "db", "copy", "--to-file", str(target), "--json")
        assert copied.returncode == 0, copied.stderr
        assert "hunter2" not in copied.stdout + copied.stderr
        proof = json.loads(copied.stdout)
        assert {one["table"]: one["rows"] for one in proof["tables"]}["messages"] == 2
        assert proof["audit_entries"] > 0
        again = await asyncio.to_thread(gateway.cli, "db", "copy", "--to-file", str(target))
        assert (again.returncode, "not empty" in again.stderr) == (1, True)

        gateway.environment["ENTOBOT_STORAGE__URL"] = url
        checked = await asyncio.to_thread(gateway.cli, "db", "check", "--json")
        assert checked.returncode == 0, checked.stdout
        assert {finding["level"] for finding in json.loads(checked.stdout)} == {"ok"}
        await asyncio.to_thread(gateway.start)
        assert (await asyncio.to_thread(gateway.ask, "audit", "verify"))["ok"]
        async with connected(gateway, device, position) as phone:
            await phone.until(lambda frame: frame["type"] == "resume_done")
            after = [frame for frame in phone.frames if frame["type"] == "event" and "seq" in frame]
            assert [frame for frame in after if frame["seq"] >= before[0]["seq"]][: len(before)] == before
            assert await asyncio.to_thread(read, device, file) == large
            await phone.say("after the move")
            await phone.until_event("RUN_FINISHED")
    finally:
        gateway.close()


def test_a_copy_that_would_differ_is_taken_back(postgres: PostgresServer, tmp_path: Path) -> None:
    name = postgres.new_database()
    gateway = GatewayProcess(tmp_path / "home", environment={"ENTOBOT_STORAGE__URL": postgres.url(name)})
    assert gateway.cli("db", "migrate").returncode == 0
    source = GatewayProcess(tmp_path / "home", port=gateway.port).start()
    source.stop()
    postgres.execute(
        "CREATE FUNCTION other() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.name := 'Mallory'; RETURN NEW; END $$",
        "CREATE TRIGGER other BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION other()",
        database=name,
    )
    refused = gateway.cli("db", "copy")
    assert (refused.returncode, "users is not in the target" in refused.stderr) == (1, True), refused.stderr
    assert postgres.execute("SELECT count(*) AS n FROM audit_log", database=name)[0]["n"] == 0


@pytest.mark.parametrize(
    ("url", "said"), [("mysql://here/db", "postgresql://"), ("postgresql://127.0.0.1:1/x", "Check")]
)
def test_a_store_that_cannot_be_used_is_named(tmp_path: Path, url: str, said: str) -> None:
    gateway = GatewayProcess(tmp_path / "home", environment={"ENTOBOT_STORAGE__URL": url})
    done = gateway.cli("db", "check")
    assert (done.returncode, said in done.stdout + done.stderr) == (1, True)


def test_the_check_says_what_is_weak(postgres: PostgresServer, tmp_path: Path) -> None:
    name = postgres.new_database()
    postgres.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
    url = postgres.url(name)
    gateway = GatewayProcess(tmp_path / "home", environment={"ENTOBOT_STORAGE__URL": url})
    done = gateway.cli("db", "check")
    assert (done.returncode, "FAIL  durability: PostgreSQL fsync=on" in done.stdout) == (1, True), done.stdout
    gateway.start()
    try:
        assert "may lose acknowledged messages in a power cut (PostgreSQL" in gateway.banner
        assert "Set synchronous_commit to on" in gateway.banner
        assert gateway.http().get("/api/ready").status_code == 503
    finally:
        gateway.close()
