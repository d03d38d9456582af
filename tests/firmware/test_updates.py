"""What a board takes of a release, and when its loader goes back: with releases that the gateway's own code signed."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from entobot.updates.manifest import Malformed, check_path
from entobot.updates.signing import files_of, make_release, public_text
from entobot_board.checking import checked
from entobot_board.clock import Clock, day_ms_of
from entobot_board.outcomes import Unfit
from entobot_board.settings import Settings, Wrong
from entobot_board.update import Updates
from tests.firmware.boards import SAID
from tests.firmware.network import Time
from tests.firmware.programs import FIRMWARE, interpreter

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
CREATED = "2026-11-20T09:30:00Z"
UPDATE: dict[str, Any] = {"type": "sensor", "keys": [public_text(KEY)]}


class Restarted(BaseException):
    pass


def restart() -> None:
    raise Restarted


def tell(updates: Updates) -> None:
    """The gateway acknowledged what there was to say."""
    said = updates.unsaid()
    assert said is not None
    updates.was_said(said)


class Bench:
    """A board's folder, and what lies on its flash."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.time = Time()
        (folder / "app_a").mkdir()
        self.runs(version="1.0.0", counter=5, release_id="rel_0")

    def runs(self, **said: Any) -> None:
        (self.folder / "app_a" / "release.json").write_text(json.dumps(said))

    def updates(self, **wanted: Any) -> Updates:
        clock = Clock(self.time.ticks, self.time.difference, self.time.sleep)
        return Updates(str(self.folder), UPDATE | wanted, clock, restart)

    def why_not(self, key: Ed25519PrivateKey = KEY, change: tuple[str, str] = ("", ""), **said: Any) -> str:
        """Why a release is not taken; empty: it is."""
        told: dict[str, Any] = {"type": "sensor", "version": "1.1.0", "counter": 6, "created": CREATED}
        data = make_release([("main.py", b"x" * 9), ("lib/a.py", b"")], key, **(told | said))
        envelope = data[:-9].decode().replace(*change).encode() if change[0] else data[:-9]
        updates = self.updates()
        offered = {
            "release_id": "rel_1",
            "version": "1.1.0",
            "envelope_bytes": len(envelope),
            "size": len(envelope) + 9,
        }
        updates.take(json.dumps(offered).encode())
        try:
            checked(envelope, updates, Settings(SAID | {"update": UPDATE}), lambda: day_ms_of("2026-11-21T00:00:00Z"))
        except Unfit as error:
            return str(error)
        return ""


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_release_for_this_board_by_its_key_is_taken(bench: Bench) -> None:
    assert bench.why_not() == ""
    assert bench.why_not(counter=5) == ""
    assert bench.why_not(minimum_version="1.0.0") == ""
    assert bench.why_not(expires="2026-11-21T00:00:00Z") == ""


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"key": OTHER}, "a key that this board does not trust"),
        ({"key": OTHER, "change": (public_text(OTHER), public_text(KEY))}, "its signature is wrong"),
        ({"change": ('\\"counter\\":6', '\\"counter\\":7')}, "its signature is wrong"),
        ({"change": ("sensor", "sensox")}, "its signature is wrong"),
        ({"change": ('{"manifest"', '{"manifesto"')}, "it is no release"),
        ({"change": ("entobot", "ontobot")}, "it is no release"),
        ({"change": ("}", "")}, "it is no release"),
        ({"type": "pump"}, "boards of the type pump"),
        ({"counter": 4}, "its counter is lower"),
        ({"version": "1.2.0"}, "it is the version 1.2.0"),
        ({"minimum_version": "1.0.1"}, "it needs 1.0.1, and 1.0.0 runs"),
        ({"expires": "2026-11-20T23:59:59Z"}, "it expired at"),
    ],
)
def test_everything_else_is_not(bench: Bench, said: dict[str, Any], why: str) -> None:
    assert why in bench.why_not(**said)


def test_what_went_back_is_not_tried_again_and_says_why(bench: Bench) -> None:
    back = {"release_id": "rel_1", "reason": "it broke"}
    (bench.folder / "slot.json").write_text(json.dumps({"slot": "a", "good": True, "back": back}))
    updates = bench.updates()
    offer = {"release_id": "rel_1", "version": "1.1.0", "envelope_bytes": 9, "size": 99}
    updates.take(json.dumps(offer).encode())
    assert updates.unsaid() == {"release_id": "rel_1", "state": "rolled_back", "reason": "it broke"}
    assert (updates.offer, updates.is_due()) == (None, False)
    updates.take(json.dumps(offer | {"release_id": "rel_2"}).encode())
    for _ in range(2):
        tell(updates)
    assert updates.is_due()


@pytest.mark.parametrize("payload", [b"", b"[]", b"5", b"{}", b'{"release_id": 5}', b"\xff"])
def test_an_offer_that_is_none_changes_nothing(bench: Bench, payload: bytes) -> None:
    updates = bench.updates()
    updates.take(payload)
    assert (updates.offer, updates.unsaid()) == (None, None)


def test_an_offer_outlives_a_restart_until_it_is_done(bench: Bench) -> None:
    offer = {"release_id": "rel_1", "version": "1.1.0", "envelope_bytes": 9, "size": 99}
    bench.updates().take(json.dumps(offer).encode())
    updates = bench.updates()
    assert not updates.is_due()
    tell(updates)
    assert updates.is_due()
    with pytest.raises(Restarted):
        updates.begin()
    assert bench.updates().is_due()
    updates.later()
    again = bench.updates()
    tell(again)
    assert not again.is_due()
    bench.time.sleep(600_000)
    assert again.is_due()
    again.fail("no room")
    last = bench.updates()
    assert not last.is_due()
    last.was_said({"release_id": "rel_1", "state": "failed", "reason": "no room"})
    assert bench.updates().offer is None


def test_a_trial_is_good_after_it_was_connected_for_a_while_and_over_when_it_never_was(bench: Bench) -> None:
    marker = {"slot": "b", "good": False, "tries": 1, "from": "a", "release_id": "rel_1", "counter": 5}
    (bench.folder / "slot.json").write_text(json.dumps(marker))
    (bench.folder / "app_b").mkdir()
    (bench.folder / "app_b" / "release.json").write_text('{"version": "1.1.0", "counter": 6, "release_id": "rel_1"}')
    updates = bench.updates()
    updates.look(is_connected=True)
    bench.time.sleep(29_999)
    updates.look(is_connected=True)
    updates.look(is_connected=False)  # it counts anew
    updates.look(is_connected=True)
    assert (updates.is_trial, updates.floor()) == (True, 5)
    bench.time.sleep(30_000)
    updates.look(is_connected=True)
    assert (updates.is_trial, updates.floor()) == (False, 6)
    (bench.folder / "slot.json").write_text(json.dumps(marker))
    updates = bench.updates()
    bench.time.sleep(900_001)
    with pytest.raises(Restarted):
        updates.look(is_connected=False)


def start(folder: Path, name: str = "cpython") -> subprocess.CompletedProcess[str]:
    command = [*interpreter(name), str(FIRMWARE / "slots" / "main.py"), str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


ENDS = ["raise RuntimeError('boom')", "import os; os._exit(9)", "import nothing", "def", "pass"]


@pytest.mark.parametrize("program", ENDS)
def test_the_loader_goes_back_after_three_starts_however_they_end(tmp_path: Path, program: str) -> None:
    for slot, text in (("a", "print('old')"), ("b", program)):
        (tmp_path / f"app_{slot}").mkdir()
        (tmp_path / f"app_{slot}" / "main.py").write_text(text)
    marker = tmp_path / "slot.json"
    marker.write_text(json.dumps({"slot": "b", "good": False, "from": "a", "release_id": "rel_1", "counter": 5}))
    for _ in range(3):
        assert start(tmp_path).returncode != 0
    done = start(tmp_path)
    assert (done.returncode, done.stdout) == (0, "old\n")
    found = json.loads(marker.read_text())
    assert (found["slot"], found["good"], found["counter"]) == ("a", True, 5)
    assert found["back"]["release_id"] == "rel_1"
    assert ("boom" in found["back"]["reason"]) == ("boom" in program)
    assert start(tmp_path).stdout == "old\n"


def put_on_trial(folder: Path, program: str) -> Path:
    for slot, text in (("a", "print('old')"), ("b", program)):
        (folder / f"app_{slot}").mkdir()
        (folder / f"app_{slot}" / "main.py").write_text(text)
    (folder / "slot.json").write_text(json.dumps({"slot": "b", "good": False, "from": "a", "release_id": "rel_1"}))
    return folder / "slot.json"


GOOD = "import sys; open(sys.argv[1] + '/slot.json', 'w').write('{\"slot\": \"b\", \"good\": true}')\n"


@pytest.mark.parametrize("name", ["micropython", "cpython"])
def test_a_release_that_became_good_stays_so_when_it_fails_days_later(tmp_path: Path, name: str) -> None:
    marker = put_on_trial(tmp_path, GOOD + "raise RuntimeError('boom')")
    done = start(tmp_path, name)
    assert done.returncode == 1
    assert "boom" in done.stdout + done.stderr
    assert json.loads(marker.read_text()) == {"slot": "b", "good": True}


@pytest.mark.parametrize("name", ["micropython", "cpython"])
def test_a_release_that_ends_by_itself_on_trial_has_failed(tmp_path: Path, name: str) -> None:
    marker = put_on_trial(tmp_path, "print('new')")
    for n in (1, 2, 3):
        done = start(tmp_path, name)
        assert (done.returncode, done.stdout) == (75, "new\non trial: it ended by itself\n")
        assert json.loads(marker.read_text())["tries"] == n
    assert start(tmp_path, name).stdout == "old\n"
    assert json.loads(marker.read_text())["back"]["reason"] == "it ended by itself"


def test_a_loader_that_can_write_nothing_starts_what_there_is(tmp_path: Path) -> None:
    put_on_trial(tmp_path, "print('new')\nraise SystemExit(3)")
    (tmp_path / "slot.json.new").mkdir()  # so that nothing is written there
    done = start(tmp_path)
    assert (done.returncode, done.stdout) == (3, "new\n")


def test_a_release_that_is_good_may_end_by_itself(tmp_path: Path) -> None:
    put_on_trial(tmp_path, GOOD)
    assert start(tmp_path).returncode == 0


@pytest.mark.parametrize("marker", [None, "", "5", "{}", '{"slot": "c", "good": true}', '{"slot": "b", "good": false}'])
def test_a_marker_that_is_none_means_the_first_slot(tmp_path: Path, marker: str | None) -> None:
    (tmp_path / "app_a").mkdir()
    (tmp_path / "app_a" / "main.py").write_text("print('old')")
    if marker is not None:
        (tmp_path / "slot.json").write_text(marker)
    assert start(tmp_path).stdout == "old\n"


BAD = ["../main.py", "/main.py", "a/../b", "a..b", "a//b", ".git/x", "a/.b", "a.", "a\\b", "c:x", "ä.py", "", "a b", "x" * 40,
       "a/b/c/d/e.py", "settings.json", "Credentials.json", "release.json", "a./b"]  # fmt: skip


@pytest.mark.parametrize("path", BAD)
def test_no_file_of_a_release_lies_outside_of_its_slot_or_is_the_board_s_own(path: str) -> None:
    with pytest.raises(Malformed):
        check_path(path)


def test_links_and_secrets_are_not_signed(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("x")
    (tmp_path / ".hidden").write_text("x")
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "main.pyc").write_text("x")
    assert files_of(tmp_path) == [("main.py", b"x")]
    (tmp_path / "link.py").symlink_to("/etc/passwd")
    with pytest.raises(Malformed, match=r"'link\.py' is a link"):
        files_of(tmp_path)
    (tmp_path / "link.py").unlink()
    (tmp_path / "settings.json").write_text("{}")
    with pytest.raises(Malformed, match="keeps for itself"):
        files_of(tmp_path)


def test_settings_for_updates_need_a_type_and_keys() -> None:
    for update in ({"type": "sensor"}, {"keys": ["x"]}, {"type": "sensor", "keys": []}):
        with pytest.raises(Wrong, match="update has the type"):
            Settings(SAID | {"update": update})


def test_an_offer_says_nothing_of_what_the_board_has_done(bench: Bench) -> None:
    """A gateway that was taken over said that the other slot was empty: what stood there stayed beside a release."""
    said = {"release_id": "rel_1", "version": "1.1.0", "envelope_bytes": 9, "size": 99}
    updates = bench.updates()
    updates.take(json.dumps(said | {"begun": True, "is_told": True, "failed": "x", "has_tried": True}).encode())
    assert updates.offer == said
    assert not updates.is_due()
