"""Keys and state outside the database: what was written before the power went is there, whole, under its name."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from entobot import home
from entobot.home import Home, create_private, read_private, write_private
from tests.rigs import power
from tests.support.time import SeededEntropy

pytestmark = pytest.mark.skipif(power.missing() is not None, reason=str(power.missing()))
Write = Callable[[Path, bytes], object]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[power.Disk]:
    with power.Disk(tmp_path) as disk:
        yield disk


def cut(disk: power.Disk) -> None:
    disk.cut()
    disk.mount()


@pytest.mark.parametrize("write", [write_private, create_private])
def test_a_key_that_was_written_survives_a_power_cut(disk: power.Disk, write: Write) -> None:
    path = disk.path / "some.key"
    write(path, b"key")
    cut(disk)
    assert read_private(path) == b"key"
    assert [entry.name for entry in disk.path.iterdir()] == ["some.key"]


def test_a_key_that_is_replaced_when_the_power_goes_is_the_old_or_the_new_one(disk: power.Disk) -> None:
    path = disk.path / "some.key"
    write_private(path, b"old")
    temporary = home._write_beside(path, b"new")
    cut(disk)
    assert read_private(path) == b"old"
    assert not temporary.exists()
    write_private(path, b"new")
    cut(disk)
    assert read_private(path) == b"new"


@pytest.mark.parametrize("write", [write_private, create_private])
def test_a_power_cut_shows_that_a_folder_that_is_not_synced_loses_its_key(
    disk: power.Disk, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(home, "_sync_folder", lambda folder: None)
    write(disk.path / "some.key", b"key")
    cut(disk)
    assert read_private(disk.path / "some.key") is None


def test_a_new_data_folder_survives_a_power_cut_with_its_keys(disk: power.Disk) -> None:
    folder = Home(disk.path / "srv" / "entobot")
    folder.prepare()
    keys = folder.server_keys(SeededEntropy())
    cut(disk)
    assert folder.prepare() == []
    assert folder.server_keys(SeededEntropy("another"))._keys == keys._keys
