"""A release is brought into the spare slot, or left: whatever the network and the flash do, the board starts again."""

import json
from pathlib import Path
from typing import Any

import pytest

from entobot.updates.signing import make_release
from entobot_board import download, fetch, flash, settings, start
from entobot_board.clock import day_ms_of
from entobot_board.settings import Settings
from entobot_board.update import Updates
from tests.firmware.boards import SAID
from tests.firmware.test_updates import CREATED, KEY, UPDATE, Bench, Restarted, tell

FILES = [("main.py", b"x" * 5000), ("lib/a.py", b"y" * 9000)]


class Site:
    """A board that was told of a release, and the gateway that gives it."""

    def __init__(self, folder: Path) -> None:
        self.bench = Bench(folder)
        told = {"type": "sensor", "version": "1.1.0", "counter": 6, "created": CREATED}
        self.data = make_release(FILES, KEY, **told)
        size = sum(len(data) for _, data in FILES)
        offer = {"release_id": "rel_1", "version": "1.1.0", "envelope_bytes": len(self.data) - size}
        updates = self.bench.updates()
        updates.take(json.dumps(offer | {"size": len(self.data)}).encode())
        tell(updates)
        updates.keep()
        self.status = b"206"
        self.is_online = True
        self.fed = 0
        self._says = b""

    def attempt(self, buffer_kib: int = 256) -> Updates:
        """Of one start. What the next one finds."""
        updates = self.bench.updates()
        assert updates.is_due()
        with pytest.raises(Restarted):
            fetch.attempt(
                updates,
                Settings(SAID | {"update": UPDATE, "buffer_kib": buffer_kib}),
                open_link=lambda host, port, pin: self,
                ask_time=lambda: day_ms_of(CREATED),
                is_online=lambda: self.is_online,
                feed=self._feed,
                log=lambda text: None,
            )
        return self.bench.updates()

    def why_not(self, buffer_kib: int = 256) -> str:
        """What is said of the release after a start; empty where it is in place."""
        found = self.attempt(buffer_kib)
        if found.is_trial:
            return ""
        assert found.offer is not None
        assert not (self.bench.folder / "app_b").exists()
        assert not (self.bench.folder / "update.part").exists()
        return found.offer["failed"]

    def _feed(self) -> None:
        self.fed += 1
        assert self.bench.time.ms < 3600_000

    def write(self, data: bytes) -> None:
        first, last = data.split(b"bytes=")[1].split(b"\r\n")[0].split(b"-")
        head = b"HTTP/1.1 " + self.status + b" X\r\nContent-Range: bytes " + first + b"-\r\n\r\n"
        self._says = head + self.data[int(first) : int(last) + 1]

    def read(self) -> bytes | None:
        data, self._says = self._says[:512], self._says[512:]
        return data or None

    def close(self) -> None: ...


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_release_is_brought_into_the_spare_slot_and_tried(site: Site) -> None:
    assert site.why_not() == ""
    for path, data in FILES:
        assert (site.bench.folder / "app_b" / path).read_bytes() == data


def test_a_flash_that_is_full_while_a_release_is_loaded_ends_it(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: str, mode: str) -> Any:
        if path.endswith("a.py"):
            raise OSError(28, "No space left on device")
        return Path(path).open(mode)

    monkeypatch.setattr(download, "open", full, raising=False)
    assert site.why_not() == "there is no room for it on the flash"


def test_a_start_in_which_nothing_can_be_written_is_no_download_for_ever(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: str, mode: str = "r") -> Any:
        if "w" in mode:
            raise OSError(28, "No space left on device")
        return Path(path).open()

    site.status = b"503"
    with monkeypatch.context() as patch:
        patch.setattr(settings, "open", full, raising=False)
        patch.setattr(fetch, "wipe", lambda path: None)
        found = site.attempt()
    assert not found.is_due()


@pytest.mark.parametrize(
    ("free", "buffer_kib", "fits"), [(34, 4, True), (9, 4, False), (34, 256, False), (90, 256, True)]
)
def test_a_release_leaves_room_for_the_readings_that_the_buffer_may_hold(
    site: Site, monkeypatch: pytest.MonkeyPatch, free: int, buffer_kib: int, *, fits: bool
) -> None:
    monkeypatch.setattr(fetch, "room", lambda folder: free * 4096)
    assert (site.why_not(buffer_kib) == "") is fits


def test_what_the_buffer_holds_needs_no_more_room(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = site.bench.folder / "buffer"
    folder.mkdir()
    for n in range(64):
        (folder / f"{n:08d}-00000001.log").write_bytes(b"x" * 1000)
    monkeypatch.setattr(fetch, "room", lambda folder: 34 * 4096)
    assert site.why_not() == ""


def test_files_are_counted_in_the_blocks_that_they_take(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    size = sum(len(data) for _, data in FILES)
    assert [flash.blocks(n) for n in (0, 1, 4096, 4097)] == [0, 4096, 4096, 8192]
    monkeypatch.setattr(fetch, "room", lambda folder: 4 * 1024 + fetch.KEPT_BYTES + size + 2000)
    assert "no room" in site.why_not(4)


def test_a_board_without_a_network_measures_again_soon_and_loads_the_release_later(site: Site) -> None:
    site.is_online = False
    found = site.attempt()
    assert not found.is_due()
    assert site.bench.time.ms < 6 * 60_000
    assert site.fed > 1000
    tell(found)
    site.bench.time.sleep(600_000)
    assert found.is_due()


@pytest.mark.parametrize("status", [b"???", b"", b"\xff\xff\xff"])
def test_an_answer_that_is_none_is_asked_for_again_later(site: Site, status: bytes) -> None:
    site.status = status
    found = site.attempt()
    assert found.offer is not None
    assert ("failed" in found.offer, found.is_due()) == (False, False)


@pytest.mark.parametrize("said", [b"{}", b'{"server_time": 5}', b'{"server_time": "soon"}'])
def test_a_gateway_that_says_no_time_makes_no_release_unfit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(start, "ask", lambda *asked: json.loads(said))
    (tmp_path / "settings.json").write_text(json.dumps(SAID))
    with pytest.raises(OSError, match="what time"):
        start.load(str(tmp_path))._ask_time()
