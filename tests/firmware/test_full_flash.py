"""A flash that is full: the board goes on, and what it keeps is handed over."""

import json
from pathlib import Path
from typing import Any

import pytest

from entobot_board import buffer, settings
from entobot_board.buffer import Buffer
from entobot_board.clock import Clock
from tests.firmware.boards import boot
from tests.firmware.network import Broker, Network, Time, Weather
from tests.firmware.test_updates import Bench


class Flash:
    """With littlefs: each file of the buffer takes a block, and there are this many."""

    def __init__(self, patch: pytest.MonkeyPatch, folder: Path, blocks: int) -> None:
        self.folder = folder
        self.blocks = blocks
        patch.setattr(buffer, "open", self.open, raising=False)

    def open(self, path: str, mode: str) -> Any:
        if "a" in mode and not Path(path).exists() and len(list(self.folder.iterdir())) >= self.blocks:
            raise OSError(28, "No space left on device")
        return Path(path).open(mode)


def test_a_board_whose_flash_is_full_keeps_the_newest_and_hands_it_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Flash(monkeypatch, tmp_path / "buffer", 4)
    time = Time()
    broker, weather = Broker(time), Weather(1)
    network = Network(broker, weather)
    weather.is_up = False
    board = boot(tmp_path, network, time)
    for number in (1, 2):  # a start is no way out
        board = boot(tmp_path, network, time, number=number)
        board.reading("count", every_s=1)(lambda: time.ms)
        for _ in range(300):
            board.step()
            time.sleep(1000)
    weather.is_up = True
    for _ in range(120):
        board.step()
        time.sleep(1000)
    kept = sorted(broker.readings.values())
    assert kept[-1] > time.ms - 10_000
    assert len(kept) > 190
    assert list((tmp_path / "buffer").iterdir()) == []
    assert [one["event"] for one in broker.events] == ["buffer_full"]


@pytest.mark.parametrize("number", [28, 5])
def test_a_reading_that_the_flash_does_not_take_is_counted_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    time = Time()
    kept = Buffer(str(tmp_path / "buffer"), 65536, "00000001", Clock(time.ticks, time.difference, time.sleep))
    kept.add("count", 1, None, 0)

    def broken(path: str, mode: str) -> Any:
        raise OSError(number, "no")

    monkeypatch.setattr(buffer, "open", broken, raising=False)
    kept.add("count", 2, None, 1)
    assert len(kept) == (0 if number == 28 else 1)  # to make room where there is none for another reason helps nobody
    assert kept.lost == (2 if number == 28 else 1)
    assert kept.first() is None


def full(path: str, mode: str = "r") -> Any:
    if "w" in mode:
        raise OSError(28, "No space left on device")
    return Path(path).open()


def test_an_offer_for_which_there_is_no_room_is_refused_and_ends_no_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    updates = Bench(tmp_path).updates()
    monkeypatch.setattr(settings, "open", full, raising=False)
    updates.take(b'{"release_id": "rel_1", "version": "1.1.0", "envelope_bytes": 9, "size": 99}')
    said = updates.unsaid()
    assert said is not None
    assert (said["state"], updates.offer) == ("failed", None)


def test_a_trial_is_good_as_soon_as_there_is_room_to_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = {"slot": "a", "good": False, "tries": 1, "from": "b", "release_id": "rel_0"}
    bench = Bench(tmp_path)
    (tmp_path / "slot.json").write_text(json.dumps(marker))
    updates = bench.updates()
    with monkeypatch.context() as patch:
        patch.setattr(settings, "open", full, raising=False)
        for _ in range(100):
            updates.look(is_connected=True)
            bench.time.sleep(1000)
        assert updates.is_trial
    for _ in range(32):
        updates.look(is_connected=True)
        bench.time.sleep(1000)
    assert json.loads((tmp_path / "slot.json").read_text())["good"]


def test_what_could_not_be_written_whole_takes_no_room(tmp_path: Path) -> None:
    path = tmp_path / "there.json"
    path.mkdir()  # so that it cannot be renamed
    with pytest.raises(OSError):
        settings.write(str(path), {"a": 1})
    assert list(tmp_path.iterdir()) == [path]
