"""A gateway is backed up while it works, and a file that is not whole, or not for this key, is refused."""

import asyncio
import os
import sqlite3
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.support.operator import Operator
from tests.support.phone import connected
from tests.support.process import ROOMY, GatewayProcess

MEMBERS = {"entobot.db", "keys/server.key", "keys/audit.key", "keys/signing.json", "tls/ca.key", "tls/leaf.crt"}


class Keys:
    """An operator's age key pair."""

    def __init__(self, gateway: GatewayProcess, path: Path) -> None:
        self.path = path
        self.recipient = gateway.ask("backup", "key", str(path))["recipient"]


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
