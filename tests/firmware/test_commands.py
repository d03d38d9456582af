"""Commands in number: each is done once, and what is remembered of them stays small."""

from pathlib import Path
from typing import Any

import pytest

from entobot_board import commands
from tests.firmware.test_parts import Door, command


def test_no_command_is_done_twice_however_many_were_not_answered_yet(tmp_path: Path) -> None:
    door = Door(tmp_path)
    for n in range(32):
        door.commands.take(command(f"cmd_{n}"))
        door.commands.step()
    for start in range(3):
        for n in range(32):
            door.commands.take(command(f"cmd_{n}"))
            door.commands.step()
        assert (start, door.opened) == (start, 32)
        door.restart()
    assert len({result["opened"] for _, result in door.said()}) == 32


def test_a_flood_that_was_refused_lets_no_command_be_done_again(tmp_path: Path) -> None:
    door = Door(tmp_path)
    door.commands.take(command("cmd_1"))
    door.commands.step()
    door.said()
    for n in range(200):
        door.commands.take(command(f"cmd_f{n}"))
        if n >= 8:
            assert [state for state, _ in door.said()] == ["failed"]
    door.commands.take(command("cmd_1"))
    assert door.said() == [("done", {"opened": 1})]
    for _ in range(20):
        door.commands.step()
    assert door.opened == 9


def test_a_command_that_was_refused_is_not_done_before_that_is_told(tmp_path: Path) -> None:
    """The line broke before its answer was acknowledged, and the gateway sends it again."""
    door = Door(tmp_path)
    for n in range(9):
        door.commands.take(command(f"cmd_{n}"))
    for _ in range(9):
        door.commands.step()
    door.commands.take(command("cmd_8"))
    door.commands.step()
    assert door.opened == 8
    assert [state for state, _ in door.said()].count("failed") == 1


def test_64_commands_are_known_after_they_were_told_and_their_results_take_no_room(tmp_path: Path) -> None:
    door = Door(tmp_path)
    done: list[str] = []

    def long(args: dict[str, Any]) -> str:
        done.append("x" * 3000)
        return done[-1]

    def restart() -> None:
        door.restart()
        door.commands.handlers["open"] = long

    restart()
    ids = [f"cmd_{n:026}" for n in range(100)]
    for one in ids:
        door.commands.take(command(one))
        door.commands.step()
        assert door.said() == [("done", done[-1])]
    restart()
    door.said()
    assert Path(door.path).stat().st_size < 8192
    for one in ids[-64:]:
        door.commands.take(command(one))
        door.commands.step()
        assert door.said() == [("done", None)]
    assert len(done) == 100


def test_results_that_nobody_takes_fill_no_memory(tmp_path: Path) -> None:
    door = Door(tmp_path)
    door.commands.handlers["open"] = lambda args: "x" * 4000
    for n in range(8):
        door.commands.take(command(f"cmd_{n}"))
        door.commands.step()
    assert Path(door.path).stat().st_size < 10_000
    told = door.said()
    assert [state for state, _ in told] == ["done"] * 2 + ["failed"] * 6
    assert told[-1][1] == "it was done, and there is no memory for its result"


def test_more_answers_than_a_gateway_lets_wait_are_not_kept(tmp_path: Path) -> None:
    door = Door(tmp_path)
    for n in range(1000):
        door.commands.take(command(f"cmd_{n}", "burn"))
    assert len(door.said()) == commands.UNSAID


def test_commands_that_do_not_fit_into_memory_stop_no_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(path: str) -> dict[str, Any]:
        raise MemoryError

    monkeypatch.setattr(commands, "read", no_room)
    door = Door(tmp_path)
    door.commands.take(command("cmd_1"))
    door.commands.step()
    assert door.said() == [("done", {"opened": 1})]


def test_a_command_that_a_full_flash_cannot_remember_is_not_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: str, said: dict[str, Any]) -> None:
        raise OSError(28, "No space left on device")

    door = Door(tmp_path)
    door.commands.take(command("cmd_1"))
    monkeypatch.setattr(commands, "write", full)
    door.commands.step()
    door.commands.take(command("cmd_2"))
    door.commands.step()
    assert door.said() == [("done", {"opened": 1}), ("failed", "the board has no room to remember it")]


def test_a_command_is_written_twice_and_a_refused_one_never(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    write = commands.write

    def count(path: str, said: dict[str, Any]) -> None:
        written.append(path)
        write(path, said)

    monkeypatch.setattr(commands, "write", count)
    door = Door(tmp_path)
    for n in range(5):
        for _ in range(3):
            door.commands.take(command(f"cmd_{n}"))
            door.commands.step()
            door.said()
            door.commands.take(command(f"cmd_r{n}", "burn"))
    assert len(written) == 10


def test_what_earlier_firmware_remembered_is_known(tmp_path: Path) -> None:
    (tmp_path / "commands.json").write_text(
        '{"known": [["cmd_1", {"command_id": "cmd_1", "state": "done"}], ["cmd_2", null]]}'
    )
    door = Door(tmp_path)
    for n in (1, 2):
        door.commands.take(command(f"cmd_{n}"))
        door.commands.step()
    assert door.opened == 0
    assert [state for state, _ in door.said()] == ["done", "failed"]
