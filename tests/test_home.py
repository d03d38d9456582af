"""The data folder is private, locked by one gateway, and keeps what was chosen once."""

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from entobot.core.errors import StartupRefused
from entobot.home import Home, Purpose, create_private, read_private, write_private
from tests.support.time import SeededEntropy


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "data")
    home.prepare()
    return home


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_folders_are_for_the_owner_alone(home: Home) -> None:
    assert [mode(path) for path in (home.path, home.keys, home.tls, home.workspace)] == [0o700] * 4


def test_a_folder_open_to_others_is_tightened_and_told(home: Home) -> None:
    home.path.chmod(0o755)
    home.tls.chmod(0o770)
    said = Home(home.path).prepare()
    assert (mode(home.path), mode(home.tls)) == (0o700, 0o700)
    assert len(said) == 2
    assert "0755" in said[0]


def test_a_file_that_is_no_key_is_tightened_and_told(home: Home) -> None:
    (home.path / "entobot.toml").write_text("")
    assert mode(home.path / "entobot.toml") == 0o600, "the umask of prepare"
    (home.path / "entobot.toml").chmod(0o644)
    assert "entobot.toml" in Home(home.path).prepare()[0]
    assert mode(home.path / "entobot.toml") == 0o600


@pytest.mark.parametrize("folder", ["keys", "tls"])
def test_a_key_that_others_could_read_refuses_and_names_the_fix(home: Home, folder: str) -> None:
    key = home.path / folder / "some.key"
    write_private(key, b"key")
    key.chmod(0o640)
    with pytest.raises(StartupRefused, match="chmod 600"):
        home.prepare()
    assert mode(key) == 0o640


def test_a_link_among_the_keys_refuses(home: Home, tmp_path: Path) -> None:
    write_private(tmp_path / "elsewhere", b"key")
    (home.keys / "server.key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StartupRefused, match=r"server\.key"):
        home.prepare()
    with pytest.raises(StartupRefused, match=r"server\.key"):
        home.server_keys(SeededEntropy())


def test_a_file_in_place_of_the_folder_refuses(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(StartupRefused, match="no folder"):
        Home(tmp_path / "data").prepare()


def test_what_belongs_to_somebody_else_refuses(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(StartupRefused, match="belongs to user"):
        home.prepare()


def test_files_are_made_private_whatever_the_umask(home: Home) -> None:
    os.umask(0)
    write_private(home.path / "a", b"1")
    create_private(home.path / "b", b"1")
    home.lock().release()
    assert [mode(home.path / name) for name in ("a", "b", "gateway.lock")] == [0o600] * 3


def test_files_of_libraries_are_private_after_prepare(home: Home) -> None:
    home.database.touch(0o666)
    assert mode(home.database) == 0o600


def test_writing_replaces_the_whole_file_and_leaves_nothing_beside_it(home: Home) -> None:
    for data in (b"a long first text", b"short"):
        write_private(home.path / "a", data)
        assert read_private(home.path / "a") == data
    assert sorted(path.name for path in home.path.iterdir() if path.is_file()) == ["a"]


def test_a_write_that_fails_leaves_the_old_file(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    write_private(home.path / "a", b"old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="space"):
        write_private(home.path / "a", b"new")
    assert read_private(home.path / "a") == b"old"
    assert [path.name for path in home.path.iterdir() if path.is_file()] == ["a"]


def test_what_is_not_there_is_none(home: Home) -> None:
    assert read_private(home.path / "a") is None


def test_reading_refuses_what_others_could_read(home: Home) -> None:
    write_private(home.path / "a", b"1")
    (home.path / "a").chmod(0o604)
    with pytest.raises(StartupRefused, match="chmod 600"):
        read_private(home.path / "a")


def test_reading_a_pipe_refuses_instead_of_waiting(home: Home) -> None:
    os.mkfifo(home.path / "a", 0o600)
    with pytest.raises(StartupRefused, match="regular"):
        read_private(home.path / "a")


def test_of_many_that_create_one_file_exactly_one_wins(home: Home) -> None:
    assert create_private(home.path / "a", b"first")
    assert not create_private(home.path / "a", b"second")
    assert read_private(home.path / "a") == b"first"


def test_a_second_gateway_is_refused_with_the_process_that_has_the_folder(home: Home) -> None:
    program = "import sys; from pathlib import Path; from entobot.home import Home; Home(Path(sys.argv[1])).lock(); print('locked', flush=True); sys.stdin.read()"
    # -c drops the lock object at once: the descriptor alone must hold the folder.
    with subprocess.Popen(
        [sys.executable, "-c", program, str(home.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
    ) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "locked\n"
            with pytest.raises(StartupRefused, match=f"process {other.pid}"):
                home.lock()
        finally:
            other.kill()
    home.lock().release()


def test_a_released_folder_can_be_locked_again(home: Home) -> None:
    with home.lock(), pytest.raises(StartupRefused, match=str(os.getpid())):
        home.lock()
    lock = home.lock()
    lock.release()
    lock.release()
    home.lock().release()


def test_the_server_key_is_made_once_and_kept(home: Home) -> None:
    first = home.server_keys(SeededEntropy("one"))
    second = Home(home.path).server_keys(SeededEntropy("two"))
    assert [first.key(purpose) for purpose in Purpose] == [second.key(purpose) for purpose in Purpose]
    assert mode(home.keys / "server.key") == 0o600


def test_every_purpose_has_a_key_of_its_own(home: Home) -> None:
    keys = home.server_keys(SeededEntropy())
    made = [keys.key(purpose) for purpose in Purpose]
    assert len({*made, read_private(home.keys / "server.key")}) == len(Purpose) + 1
    assert {len(key) for key in made} == {32}


def test_gateways_starting_at_once_agree_on_one_server_key(home: Home) -> None:
    keys: list[bytes] = []
    barrier = threading.Barrier(8)

    def start(number: int) -> None:
        entropy = SeededEntropy(str(number))
        barrier.wait()
        keys.append(home.server_keys(entropy).key(Purpose.AUDIT))

    threads = [threading.Thread(target=start, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 8
    assert len(set(keys)) == 1


def test_a_damaged_server_key_refuses(home: Home) -> None:
    write_private(home.keys / "server.key", b"short")
    with pytest.raises(StartupRefused, match="damaged"):
        home.server_keys(SeededEntropy())


def test_a_lost_server_key_refuses_while_a_database_depends_on_it(home: Home) -> None:
    write_private(home.database, b"rows")
    with pytest.raises(StartupRefused, match="Restore it"):
        home.server_keys(SeededEntropy())
    assert not (home.keys / "server.key").exists()


def test_a_key_is_not_printed(home: Home) -> None:
    keys = home.server_keys(SeededEntropy())
    assert repr(keys.key(Purpose.AUDIT)) not in repr(keys) + str(vars(home))


def test_the_public_url_is_chosen_once(home: Home) -> None:
    assert home.find_public_url() is None
    assert home.public_url(lambda: "https://192.0.2.1:18790") == "https://192.0.2.1:18790"
    assert Home(home.path).public_url(lambda: "https://192.0.2.99:18790") == "https://192.0.2.1:18790"
    assert mode(home.state_file) == 0o600


@pytest.mark.parametrize("text", [b"{", b"[]", b"\xff"])
def test_a_damaged_state_file_refuses(home: Home, text: bytes) -> None:
    write_private(home.state_file, text)
    with pytest.raises(StartupRefused, match=r"state\.json"):
        home.find_public_url()
