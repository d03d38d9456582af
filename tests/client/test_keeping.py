"""What a client keeps on disk: its identity and its journal; and what it shows before it signs."""

import asyncio
import json
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from entobot.client.approvals import read_action, shown
from entobot.client.events import Approval
from entobot.client.identity import Identity, IdentityFile
from entobot.client.journal import Journal, JournalTaken, MemoryJournal, Pending, Position, SqliteJournal
from entobot.client.keys import DeviceKey
from entobot.client.reach import OriginReach
from entobot.client.requests import Requests
from entobot.client.trust import Trust
from entobot.core.errors import Code, Problem, StartupRefused
from entobot.core.secrets import sha256_b64u
from tests.support.process import ROOT
from tests.support.time import ManualClock, SeededEntropy


def identity() -> Identity:
    trust = Trust(pin="p" * 43, authority=Path("ca.crt"))
    return Identity("https://g:1", DeviceKey.generate(), trust, "dev", "usr", ("chat",), "ent_rt_x", "token", 7)


def test_an_identity_is_kept_whole_and_for_its_owner_alone(tmp_path: Path) -> None:
    store = IdentityFile(tmp_path / "folder" / "d.json")
    assert store.load() is None
    kept = identity()
    store.save(kept)
    found = store.load()
    assert found is not None
    assert found.key.thumbprint == kept.key.thumbprint
    assert {n: getattr(found, n) for n in Identity.__slots__ if n != "key"} == {
        n: getattr(kept, n) for n in Identity.__slots__ if n != "key"
    }
    file = tmp_path / "folder" / "d.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o644)
    with pytest.raises(StartupRefused, match="open to others"):
        store.load()


@pytest.mark.parametrize("origin", ["http://gateway.example", "ftp://x", "gateway.example:18790", "https://"])
def test_nothing_is_spoken_unencrypted_beyond_this_machine(origin: str) -> None:
    with pytest.raises(ValueError, match="https"):
        OriginReach(origin, Trust())


def journals(folder: Path) -> list[Journal]:
    return [MemoryJournal(), SqliteJournal(folder / "j.db")]


@pytest.mark.parametrize("kind", [0, 1], ids=["memory", "sqlite"])
def test_a_journal_holds_commands_in_their_order_and_the_position(tmp_path: Path, kind: int) -> None:
    journal = journals(tmp_path)[kind]
    commands = [Pending(f"id-{n}", "message.send", '{"content": "ü"}', n, n + 9) for n in (3, 1, 2)]
    for command in commands:
        journal.add(command)
    journal.add(commands[0])
    assert journal.position() is None
    journal.move(Position("s", 4))
    journal.move(Position("s", 3))
    journal.remove("id-1")
    journal.remove("unknown")
    assert journal.pending() == [commands[0], commands[2]]
    assert journal.position() == Position("s", 3)
    journal.close()


def test_a_journal_file_outlives_the_process_is_private_and_is_for_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    journal = SqliteJournal(path)
    journal.add(Pending("id", "message.send", "{}", 0, 1))
    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {0o600}
    with pytest.raises(JournalTaken):
        SqliteJournal(path)
    journal.close()
    again = SqliteJournal(path)
    assert [command.id for command in again.pending()] == ["id"]
    again.close()


def approval(**args: Any) -> Approval:
    action = json.dumps({"approval_id": "a", "args": args, "run_id": "r", "tool": "note"}, separators=(",", ":"))
    return Approval("a", "r", "c", action, sha256_b64u(action), "a harmless title", "low", "t", "t")


def test_an_action_is_shown_whole_with_what_would_deceive_the_eye_made_visible() -> None:
    text = shown(read_action(approval(text="safe\u202eexe.\x1b[2J", path="/a\u200bb")))
    assert "\u202e" not in text
    assert "\x1b" not in text
    assert "\\u202e" in text
    assert "\\u200b" in text


def test_an_action_that_is_not_the_hashed_one_or_of_another_approval_is_not_shown() -> None:
    good = approval(text="milk")
    changed = Approval("a", "r", "c", good.action.replace("milk", "poison"), good.action_sha256, "t", "low", "t", "t")
    moved = Approval("b", "r", "c", good.action, good.action_sha256, "t", "low", "t", "t")
    for bad in (changed, moved):
        with pytest.raises(Problem) as refusal:
            read_action(bad)
        assert refusal.value.code is Code.HASH_MISMATCH


def test_the_library_loads_nothing_of_the_gateway_and_the_command_line_nothing_of_the_library() -> None:
    of_gateway = {
        "fastapi",
        "pydantic",
        "sqlalchemy",
        "starlette",
        "typer",
        "uvicorn",
        "entobot.gateway",
        "entobot.web",
    }
    assert _loaded_by("import entobot.client.client, entobot.client.history") & of_gateway == set()
    assert _loaded_by("import entobot.cli") & {"httpx", "picows", "rich.progress", "entobot.client.client"} == set()


def _loaded_by(program: str) -> set[str]:
    code = f"import sys; {program}; print(*sys.modules)"
    environment = {"PYTHONPATH": str(ROOT / "src"), "PATH": "/usr/bin:/bin"}
    told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return set(told.stdout.split())


async def test_who_gives_up_waiting_for_another_process_s_refresh_neither_blocks_nor_keeps_the_lock(
    tmp_path: Path,
) -> None:
    file = tmp_path / "d.json"
    mine, theirs = IdentityFile(file), IdentityFile(file)
    due = replace(identity(), access_token="")
    mine.save(due)
    requests = Requests(due, mine, OriginReach(due.origin, due.trust), ManualClock(), SeededEntropy())
    held = theirs.try_lock()
    assert held is not None
    with held:
        assert mine.try_lock() is None
        waiting = asyncio.create_task(requests.refresh())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    after = theirs.try_lock()
    assert after is not None
    after.__exit__(None, None, None)
