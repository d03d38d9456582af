"""A gateway is backed up while it works, is lost, and comes back: the phones with it, and no revoked one silently."""

import asyncio
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from entobot.core.errors import Problem
from tests.support.browser import Browser
from tests.support.files import read, upload
from tests.support.operator import Operator
from tests.support.phone import Phone, authenticate, connected, raw_socket
from tests.support.postgres import PostgresServer
from tests.support.process import GENEROUS_S, ROOMY, GatewayProcess

MEMBERS = {"entobot.db", "keys/server.key", "keys/audit.key", "keys/signing.json", "tls/ca.key", "tls/leaf.crt"}


class Keys:
    """An operator's age key pair."""

    def __init__(self, gateway: GatewayProcess, path: Path) -> None:
        self.path = path
        self.recipient = gateway.ask("backup", "key", str(path))["recipient"]


PICTURE = bytes(range(256)) * 3000
"""Two parts of a file."""


@pytest.fixture
def keys(gateway: GatewayProcess, tmp_path: Path) -> Keys:
    return Keys(gateway, tmp_path / "operator.key")


@pytest.fixture
def roomy(tmp_path: Path) -> Iterator[GatewayProcess]:
    process = GatewayProcess(tmp_path / "home", environment=ROOMY).start()
    yield process
    process.close()


async def test_a_backup_under_load_is_consistent_private_and_verified(roomy: GatewayProcess, tmp_path: Path) -> None:
    keys = await asyncio.to_thread(Keys, roomy, tmp_path / "operator.key")
    device = await asyncio.to_thread(Operator(roomy).pair, "Phone", scopes=["chat"])
    (roomy.home / "workspace" / "deep").mkdir()
    (roomy.home / "workspace" / "deep" / "note.txt").write_text("milk")
    (roomy.home / "workspace" / "link").symlink_to("/etc/passwd")
    file = tmp_path / "backup.tar.age"
    async with connected(roomy, device) as phone:
        conversation = (await phone.command("conversation.create", {}))["data"]["conversation_id"]
        await phone.say("message 0", conversation_id=conversation)
        making = asyncio.create_task(asyncio.to_thread(roomy.ask, "backup", str(file), "--recipient", keys.recipient))
        said = 1
        while not making.done():
            await phone.say(f"message {said}", conversation_id=conversation)
            said += 1
        made = await making
    assert said > 5, "there was load"
    assert file.stat().st_mode & 0o777 == 0o600
    assert made["checked"]["audit_entries"] == made["manifest"]["audit"]["entries"] > 0
    assert 1 <= made["manifest"]["tables"]["messages"] <= 2 * said
    names = {one["name"] for one in made["manifest"]["members"]}
    assert {*MEMBERS, "workspace/deep/note.txt"} <= names
    assert any("link" in one for one in made["manifest"]["left_out"])
    verified = await asyncio.to_thread(roomy.ask, "backup", "verify", str(file), "--identity", str(keys.path))
    assert verified["manifest"] == made["manifest"]
    assert [path.name for path in roomy.home.iterdir() if path.name.startswith(".backup")] == []


def test_without_a_recipient_it_says_how_and_in_the_clear_it_says_what_is_in_it(
    gateway: GatewayProcess, tmp_path: Path
) -> None:
    refused = gateway.cli("backup", str(tmp_path / "file"))
    assert (refused.returncode, "entobot backup key" in refused.stderr) == (2, True)
    assert not (tmp_path / "file").exists()
    done = gateway.cli("backup", str(tmp_path / "file"), "--unencrypted")
    assert done.returncode == 0, done.stderr
    assert "Whoever reads this file can be this gateway" in done.stderr
    with tarfile.open(tmp_path / "file") as tar:
        assert set(tar.getnames()) >= {*MEMBERS, "manifest.json"}
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600


def test_another_tool_opens_it_too(gateway: GatewayProcess, keys: Keys, tmp_path: Path) -> None:
    """The format is age and tar: a person without Entobot gets at the files."""
    pyrage: Any = import_module("pyrage")

    file = tmp_path / "file"
    assert gateway.cli("backup", str(file), "--recipient", keys.recipient).returncode == 0
    identity = pyrage.x25519.Identity.from_str(keys.path.read_text().splitlines()[-1])
    (tmp_path / "plain.tar").write_bytes(pyrage.decrypt(file.read_bytes(), [identity]))
    listed = subprocess.run(["tar", "-tf", str(tmp_path / "plain.tar")], capture_output=True, text=True, check=True)
    assert set(listed.stdout.split()) >= {*MEMBERS, "manifest.json"}


def test_a_backup_never_replaces_a_file_and_leaves_nothing_behind_when_it_fails(
    gateway: GatewayProcess, keys: Keys, tmp_path: Path
) -> None:
    there = tmp_path / "there"
    there.write_text("mine")
    done = gateway.cli("backup", str(there), "--recipient", keys.recipient)
    assert (done.returncode, there.read_text()) == (1, "mine")
    folder = tmp_path / "folder"
    folder.mkdir()
    gateway.stop()
    with closing(sqlite3.connect(gateway.home / "entobot.db")) as database, database:
        database.execute("UPDATE audit_log SET facts = '{}' WHERE seq = 1")
    done = gateway.cli("backup", str(folder / "file"), "--recipient", keys.recipient)
    assert (done.returncode, "does not verify at entry 1" in done.stderr) == (1, True), done.stderr
    assert list(folder.iterdir()) == []
    assert not (gateway.home / "backup.json").exists()
    kept = gateway.cli("backup", str(folder / "file"), "--recipient", keys.recipient, "--no-verify")
    assert kept.returncode == 0, kept.stderr


def test_a_file_that_is_cut_altered_or_for_another_key_is_refused(
    gateway: GatewayProcess, keys: Keys, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    assert gateway.cli("backup", str(file), "--recipient", keys.recipient).returncode == 0
    data = file.read_bytes()
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 1
    other = Keys(gateway, tmp_path / "other.key")
    for changed, identity, said in (
        (data[:-100], keys, "cut off"),
        (data[: len(data) // 2], keys, "cut off"),
        (bytes(flipped), keys, "altered"),
        (b"", keys, "no whole backup"),
        (data, other, "not for this key"),
    ):
        (tmp_path / "changed").write_bytes(changed)
        done = gateway.cli("backup", "verify", str(tmp_path / "changed"), "--identity", str(identity.path))
        assert (done.returncode, said in done.stderr) == (1, True), (said, done.stderr)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_backup_that_is_stopped_leaves_nothing_readable(
    gateway: GatewayProcess, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    (tmp_path / "folder").mkdir()
    program = (
        "import asyncio, os, signal, entobot.backup.making as m\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a terminal, wherever the tests run\n"
        "async def stop(*a, **k):\n"
        f"    print(*os.listdir({str(gateway.home)!r}), flush=True); os.kill(os.getpid(), {int(number)})\n"
        "    await asyncio.Event().wait()\n"
        "m.check = stop\n"
        "from entobot.cli import root\nroot()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "backup", str(tmp_path / "folder" / "file"), "--unencrypted"],
        env=gateway.environment,
        capture_output=True,
        text=True,
        timeout=2 * GENEROUS_S,
        check=False,
    )
    assert ".backup-" in done.stdout, "it was stopped while there was something to remove"
    assert done.returncode == code, done.stderr
    assert list((tmp_path / "folder").iterdir()) == []
    assert [path.name for path in gateway.home.iterdir() if path.name.startswith(".backup-")] == []


def test_two_backups_at_once_are_one(gateway: GatewayProcess, keys: Keys, tmp_path: Path) -> None:
    import fcntl

    descriptor = os.open(gateway.home / "backup.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    (gateway.home / ".backup-left").mkdir()
    done = gateway.cli("backup", str(tmp_path / "file"), "--recipient", keys.recipient)
    assert (done.returncode, "Another backup" in done.stderr) == (1, True)
    os.close(descriptor)
    assert gateway.cli("backup", str(tmp_path / "file"), "--recipient", keys.recipient).returncode == 0
    assert not (gateway.home / ".backup-left").exists()


# -- restore


class Backup:
    """A gateway that was backed up, and what became of it since."""

    def __init__(self, gateway: GatewayProcess, keys: Keys, file: Path) -> None:
        self.gateway, self.keys, self.file = gateway, keys, file
        self.made = gateway.ask("backup", str(file), "--recipient", keys.recipient)

    def restore(self, *options: str) -> subprocess.CompletedProcess[str]:
        return self.gateway.cli("restore", str(self.file), "--identity", str(self.keys.path), *options)

    def lose(self) -> None:
        """The data folder is corrupted, then gone."""
        self.gateway.kill()
        database = self.gateway.home / "entobot.db"
        database.write_bytes(os.urandom(4096) + database.read_bytes()[4096:])
        (self.gateway.home / "keys" / "server.key").unlink()
        shutil.rmtree(self.gateway.home)


async def test_after_a_loss_the_phone_comes_back_without_pairing_and_is_told_to_start_over(
    gateway: GatewayProcess, keys: Keys, tmp_path: Path
) -> None:
    device = await asyncio.to_thread(gateway.pair, "Pixel")
    async with connected(gateway, device) as phone:
        conversation = (await phone.command("conversation.create", {}))["data"]["conversation_id"]
        file = await asyncio.to_thread(upload, device, "cat.bin", PICTURE)
        await phone.say("before the backup", conversation_id=conversation, files=[file["file_id"]])
        await phone.until_event("RUN_FINISHED")
        (gateway.home / "workspace" / "notes.txt").write_text("milk")
        backup = await asyncio.to_thread(Backup, gateway, keys, tmp_path / "backup.age")
        await phone.say("after the backup", conversation_id=conversation)
        await phone.until_event("RUN_FINISHED")
        position = {"stream": phone.frames[0]["stream"], "after": phone.seen}
    access_before = device.credentials
    await asyncio.to_thread(device.refresh)  # its refresh token is newer than the backup's, twice
    await asyncio.to_thread(device.refresh)
    await asyncio.to_thread(backup.lose)

    done = await asyncio.to_thread(backup.restore, "--yes", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert access_before is not None
    assert told["devices"]["let_in"] == [access_before.device_id]
    assert (gateway.home / "workspace" / "notes.txt").read_text() == "milk"
    for path in (gateway.home, *gateway.home.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path

    await asyncio.to_thread(gateway.start)
    assert "devices revoked and people disabled after that are let in again" in " ".join(gateway.banner.split())
    async with raw_socket(gateway) as socket:  # no access token of before counts
        await authenticate(socket, device)
        assert await Phone(device, socket).closed() == 4003
    await asyncio.to_thread(device.refresh)
    async with connected(gateway, device, position) as phone:
        reset = await phone.until(lambda frame: frame["type"] in ("reset", "resume_done"))
        assert (reset["type"], reset.get("reason")) == ("reset", "stream")
        await phone.until(lambda frame: frame["type"] == "snapshot" and not frame.get("more"))
        asked = {"conversation_id": conversation}
        history = (await phone.command("conversation.history", asked))["data"]
        assert "before the backup" in json.dumps(history)
        assert "after the backup" not in json.dumps(history)
        assert await asyncio.to_thread(read, device, file) == PICTURE
        await phone.say("and on", conversation_id=conversation)
        await phone.until_event("RUN_FINISHED")
    await asyncio.to_thread(device.refresh)
    assert (await asyncio.to_thread(gateway.ask, "audit", "verify"))["ok"]
    entries = await asyncio.to_thread(gateway.ask, "audit", "list")
    restored = next(one for one in entries if one["event"] == "gateway.restored")
    assert restored["facts"]["backup_audit_entries"] == backup.made["manifest"]["audit"]["entries"]
    caught_up = [one for one in entries if one["event"] == "token.family_caught_up"]
    assert [one["facts"] for one in caught_up] == [{"stored_generation": 1, "generation": 3}]


def test_a_browser_signs_in_anew_after_a_restore_and_links_of_before_are_void(
    gateway: GatewayProcess, keys: Keys, tmp_path: Path
) -> None:
    browser = Browser(gateway)
    browser.follow(gateway.ask("users", "link", "owner")["url"])
    unused = gateway.ask("users", "link", "owner")["url"]
    backup = Backup(gateway, keys, tmp_path / "backup.age")
    assert browser.send("POST", "/api/v1/sign-out").status_code == 204
    backup.lose()
    assert backup.restore("--yes").returncode == 0
    gateway.start()
    operator = Operator(gateway)
    assert operator.query("SELECT count(*) FROM sessions") == [(0,)]
    with pytest.raises(Problem):
        browser.follow(unused)
    assert browser.follow(gateway.ask("users", "link", "owner")["url"])["login"] == "owner"


def test_devices_revoked_after_the_backup_are_named_and_stay_out_by_order(
    gateway: GatewayProcess, keys: Keys, tmp_path: Path
) -> None:
    operator = Operator(gateway)
    kept, lost = (operator.pair(name, scopes=["chat"]) for name in ("Kept", "Lost"))
    open_invite = operator.invite(scopes=["chat"])
    backup = Backup(gateway, keys, tmp_path / "backup.age")
    operator.change(lost, "revoke")
    (tmp_path / "devices.json").write_text(gateway.cli("devices", "list", "--json").stdout)
    backup.lose()

    plain = backup.restore("--yes")
    assert plain.returncode == 0, plain.stderr
    assert "let in again, because the backup cannot know" in plain.stdout
    assert plain.stdout.count(": let in again") == 2
    shutil.rmtree(gateway.home)

    done = backup.restore("--yes", "--revoke-file", str(tmp_path / "devices.json"))
    assert done.returncode == 0, done.stderr
    assert (done.stdout.count(": let in again"), done.stdout.count(": revoked")) == (1, 1)
    gateway.start()
    kept.refresh()
    with pytest.raises(Problem, match="not valid any more"):
        lost.refresh()
    with pytest.raises(Problem):  # whether it was claimed since, nobody knows
        operator.claim(gateway.new_device(), open_invite)
    revoked = next(one for one in gateway.ask("audit", "list") if one["event"] == "device.revoked")
    assert lost.credentials is not None
    assert revoked["subject"] == lost.credentials.device_id


def test_every_device_can_be_kept_out_until_it_is_let_in(gateway: GatewayProcess, keys: Keys, tmp_path: Path) -> None:
    device = Operator(gateway).pair("Phone", scopes=["chat"])
    backup = Backup(gateway, keys, tmp_path / "backup.age")
    backup.lose()
    assert backup.restore("--yes", "--suspend-devices").returncode == 0
    gateway.start()
    with pytest.raises(Problem, match="suspended"):
        device.refresh()
    Operator(gateway).change(device, "reactivate")
    device.refresh()


def test_enrolment_keys_that_were_spent_since_are_named_or_ended(
    gateway: GatewayProcess, keys: Keys, tmp_path: Path
) -> None:
    made = gateway.ask("enrolment", "create", "Greenhouse")
    backup = Backup(gateway, keys, tmp_path / "backup.age")
    assert gateway.ask("enrolment", "revoke", "Greenhouse")["state"] == "revoked"
    backup.lose()
    plain = backup.restore("--yes")
    assert f"{made['key_id']}  Greenhouse: lets boards in again, 0 of 1 so far" in plain.stdout
    shutil.rmtree(gateway.home)

    assert "Greenhouse" not in backup.restore("--yes", "--suspend-devices").stdout
    gateway.start()
    assert [row["state"] for row in gateway.ask("enrolment", "list")] == ["revoked"]


def test_a_restore_touches_no_folder_that_is_used_and_no_running_gateway(
    gateway: GatewayProcess, keys: Keys, tmp_path: Path
) -> None:
    backup = Backup(gateway, keys, tmp_path / "backup.age")
    before = {path: path.stat().st_mtime_ns for path in (gateway.home / "keys").iterdir()}
    running = backup.restore("--yes")
    assert (running.returncode, "Another gateway" in running.stderr) == (1, True), running.stderr
    gateway.stop()
    used = backup.restore("--yes")
    assert (used.returncode, "is not empty" in used.stderr) == (1, True), used.stderr
    assert {path: path.stat().st_mtime_ns for path in (gateway.home / "keys").iterdir()} == before
    foreign = tmp_path / "documents"
    foreign.mkdir()
    (foreign / "letter.txt").write_text("dear")
    refused = backup.restore("--yes", "--home", str(foreign))
    assert (refused.returncode, "letter.txt" in refused.stderr) == (1, True)
    assert [(path.name, path.read_text()) for path in foreign.iterdir()] == [("letter.txt", "dear")]
    gateway.start()


def test_a_restore_that_is_refused_or_not_wanted_leaves_nothing(
    gateway: GatewayProcess, keys: Keys, tmp_path: Path
) -> None:
    backup = Backup(gateway, keys, tmp_path / "backup.age")
    data = backup.file.read_bytes()
    new = tmp_path / "new"
    unasked = backup.restore("--home", str(new))
    assert (unasked.returncode, "+ keys/server.key" in unasked.stderr, "--yes" in unasked.stderr) == (2, True, True)
    assert not new.exists()
    new.mkdir(mode=0o700)
    backup.file.write_bytes(data[: len(data) // 2])
    cut = backup.restore("--yes", "--home", str(new))
    assert (cut.returncode, "cut off" in cut.stderr) == (1, True)
    assert list(new.iterdir()) == []
    (tmp_path / "ids").write_text("the phone that I lost\n")
    backup.file.write_bytes(data)
    wrong = backup.restore("--yes", "--home", str(new), "--revoke-file", str(tmp_path / "ids"))
    assert (wrong.returncode, "no device id" in wrong.stderr) == (1, True)
    assert list(new.iterdir()) == []


@pytest.mark.parametrize("step", ["extract", "_settle", "_move"])
def test_a_restore_killed_in_the_middle_is_no_gateway_and_is_begun_anew(
    gateway: GatewayProcess, keys: Keys, tmp_path: Path, step: str
) -> None:
    backup = Backup(gateway, keys, tmp_path / "backup.age")
    backup.lose()
    killer = (
        "import os, entobot.backup.restoring as r\n"
        f"real = r.{step}\n"
        f"def die(*a, **k):\n    {'real(*a, **k); ' if step == 'extract' else ''}os.kill(os.getpid(), 9)\n"
        f"r.{step} = die\n"
    )
    if step == "_move":  # in the middle of it: some are moved, the mark stays
        killer = (
            "import os, shutil, entobot.backup.restoring as r\n"
            "def die(*a, **k): os.kill(os.getpid(), 9)\n"
            "r.shutil.rmtree = die\n"
        )
    program = f"{killer}from entobot.cli import root\nroot()"
    arguments = ["restore", str(backup.file), "--identity", str(keys.path), "--yes"]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=gateway.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -9, done.stderr
    refused = gateway.cli("up")
    assert (refused.returncode, "interrupted" in refused.stderr) == (1, True), refused.stderr
    again = backup.restore("--yes")
    assert again.returncode == 0, again.stderr
    assert not (gateway.home / "restoring").exists()
    gateway.start()
    assert gateway.ask("audit", "verify")["ok"]


# -- on PostgreSQL


@pytest.mark.skipif(shutil.which("pg_dump") is None, reason="PostgreSQL's client tools are not installed")
async def test_on_postgresql_the_phone_comes_back_too_from_a_new_database(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    url = postgres.url(postgres.new_database())
    gateway = GatewayProcess(tmp_path / "home", environment={**ROOMY, "ENTOBOT_STORAGE__URL": url})
    try:
        await asyncio.to_thread(gateway.start)
        keys = await asyncio.to_thread(Keys, gateway, tmp_path / "operator.key")
        device = await asyncio.to_thread(gateway.pair, "Pixel")
        async with connected(gateway, device) as phone:
            conversation = (await phone.command("conversation.create", {}))["data"]["conversation_id"]
            file = await asyncio.to_thread(upload, device, "cat.bin", PICTURE)
            await phone.say("before the backup", conversation_id=conversation, files=[file["file_id"]])
            making = asyncio.create_task(asyncio.to_thread(Backup, gateway, keys, tmp_path / "backup.age"))
            said = 0
            while not making.done():
                await phone.say(f"during {said}", conversation_id=conversation)
                said += 1
            backup = await making
            position = {"stream": phone.frames[0]["stream"], "after": phone.seen}
        assert backup.made["manifest"]["store"] == "postgresql"
        assert backup.made["checked"]["rows"] == sum(backup.made["manifest"]["tables"].values())
        await asyncio.to_thread(device.refresh)
        gateway.kill()
        shutil.rmtree(gateway.home)

        verified = await asyncio.to_thread(
            gateway.ask, "backup", "verify", str(backup.file), "--identity", str(keys.path)
        )
        assert verified["checked"]["rows"] == backup.made["checked"]["rows"]
        used = await asyncio.to_thread(backup.restore, "--yes")
        assert (used.returncode, "is not empty" in used.stderr) == (1, True), used.stderr
        assert not gateway.home.exists()
        gateway.environment["ENTOBOT_STORAGE__URL"] = ""
        nowhere = await asyncio.to_thread(backup.restore, "--yes")
        assert (nowhere.returncode, "ENTOBOT_STORAGE__URL" in nowhere.stderr) == (1, True), nowhere.stderr
        new = postgres.new_database()
        gateway.environment["ENTOBOT_STORAGE__URL"] = postgres.url(new)
        done = await asyncio.to_thread(backup.restore, "--yes")
        assert done.returncode == 0, done.stderr

        await asyncio.to_thread(gateway.start)
        await asyncio.to_thread(device.refresh)
        async with connected(gateway, device, position) as phone:
            reset = await phone.until(lambda frame: frame["type"] in ("reset", "resume_done"))
            assert reset.get("reason") == "stream"
            assert await asyncio.to_thread(read, device, file) == PICTURE
            await phone.say("and on", conversation_id=conversation)
        said_before = "SELECT count(*) AS n FROM messages WHERE content = 'before the backup'"
        assert postgres.execute(said_before, database=new)[0]["n"] >= 1
        assert (await asyncio.to_thread(gateway.ask, "audit", "verify"))["ok"]
    finally:
        gateway.close()


def test_without_pg_dump_it_says_what_to_install(postgres: PostgresServer, tmp_path: Path) -> None:
    url = postgres.url(postgres.new_database())
    gateway = GatewayProcess(tmp_path / "home", environment={"ENTOBOT_STORAGE__URL": url}).start()
    try:
        gateway.environment["PATH"] = str(tmp_path)
        done = gateway.cli("backup", str(tmp_path / "file"), "--unencrypted")
        assert (done.returncode, "apt install postgresql-client" in done.stderr) == (1, True), done.stderr
        assert not (tmp_path / "file").exists()
    finally:
        gateway.close()


def test_a_backup_of_sqlite_is_not_restored_beside_a_postgresql(
    gateway: GatewayProcess, keys: Keys, tmp_path: Path
) -> None:
    backup = Backup(gateway, keys, tmp_path / "backup.age")
    backup.lose()
    gateway.environment["ENTOBOT_STORAGE__URL"] = "postgresql://127.0.0.1:1/nothing"
    done = backup.restore("--yes")
    assert (done.returncode, "holds SQLite" in done.stderr) == (1, True), done.stderr
    assert not gateway.home.exists()


def test_a_passphrase_does_too(gateway: GatewayProcess, tmp_path: Path) -> None:
    (tmp_path / "words").write_text("correct horse battery staple\n")
    options = ("--passphrase-file", str(tmp_path / "words"))
    file = str(tmp_path / "file")
    made = gateway.cli("backup", file, *options)
    assert made.returncode == 0, made.stderr
    unopened = gateway.cli("restore", file, "--yes", "--home", str(tmp_path / "new"))
    assert (unopened.returncode, "--passphrase-file" in unopened.stderr) == (1, True)
    assert not (tmp_path / "new").exists()
    done = gateway.cli("restore", file, *options, "--yes", "--home", str(tmp_path / "new"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "new" / "keys" / "server.key").read_bytes() == (gateway.home / "keys/server.key").read_bytes()
