"""The rig itself: it forgets what was not synced, keeps what was, and is an ordinary file system until then."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rigs import power

pytestmark = pytest.mark.skipif(power.missing() is not None, reason=str(power.missing()))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[power.Disk]:
    with power.Disk(tmp_path) as disk:
        yield disk


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def after_a_cut(disk: power.Disk) -> dict[str, bytes]:
    disk.cut()
    disk.mount()
    return {path.name: path.read_bytes() for path in disk.path.iterdir() if path.is_file()}


def test_bytes_that_were_not_synced_are_gone_and_the_synced_ones_stay(disk: power.Disk) -> None:
    file = disk.path / "file"
    with file.open("wb") as opened:
        opened.write(b"a" * 10_000)
        opened.flush()
        os.fsync(opened.fileno())
        opened.write(b"b" * 10_000)
        opened.flush()
        sync(disk.path)
        assert file.stat().st_size == 20_000
        assert file.read_bytes() == b"a" * 10_000 + b"b" * 10_000
    assert after_a_cut(disk) == {"file": b"a" * 10_000}


def test_a_file_that_was_made_shorter_has_no_old_bytes_when_it_grows_again(disk: power.Disk) -> None:
    file = disk.path / "file"
    file.write_bytes(b"a" * 9000)
    sync(file)
    sync(disk.path)
    os.truncate(file, 5000)
    os.truncate(file, 9000)
    assert file.read_bytes() == b"a" * 5000 + bytes(4000)
    sync(file)
    os.truncate(file, 100)
    assert after_a_cut(disk) == {"file": b"a" * 5000 + bytes(4000)}


def test_a_name_is_gone_when_its_folder_was_not_synced(disk: power.Disk) -> None:
    (disk.path / "kept").write_bytes(b"")
    sync(disk.path)
    (disk.path / "lost").write_bytes(b"synced, but nobody knows its name")
    sync(disk.path / "lost")
    assert list(after_a_cut(disk)) == ["kept"]


def test_a_rename_that_was_not_synced_is_taken_back_and_so_is_what_it_replaced(disk: power.Disk) -> None:
    for name in ("one", "two"):
        (disk.path / name).write_text(name)
        sync(disk.path / name)
    sync(disk.path)
    (disk.path / "one").rename(disk.path / "two")
    assert (disk.path / "two").read_text() == "one"
    assert after_a_cut(disk) == {"one": b"one", "two": b"two"}
    (disk.path / "one").rename(disk.path / "two")
    sync(disk.path)
    assert after_a_cut(disk) == {"two": b"one"}


def test_a_removal_that_was_not_synced_is_taken_back_and_folders_follow_the_same_rule(disk: power.Disk) -> None:
    (disk.path / "file").write_text("text")
    sync(disk.path / "file")
    sync(disk.path)
    (disk.path / "file").unlink()
    (disk.path / "folder").mkdir()
    assert after_a_cut(disk) == {"file": b"text"}
    assert not (disk.path / "folder").exists()
    (disk.path / "folder").mkdir()
    sync(disk.path)
    (disk.path / "file").unlink()
    (disk.path / "folder").rmdir()
    sync(disk.path)
    assert after_a_cut(disk) == {}
    assert not (disk.path / "folder").exists()


def test_a_kernel_that_writes_back_early_keeps_some_pages_in_no_order(tmp_path: Path) -> None:
    with power.Disk(tmp_path, seed=7, written_back=0.5) as disk:
        file = disk.path / "file"
        with file.open("wb", buffering=0) as opened:
            sync(disk.path)
            for number in range(64):
                opened.write(bytes([number + 1]) * 4096)
        kept = after_a_cut(disk)["file"]
        pages = [kept[at] == at // 4096 + 1 for at in range(0, len(kept), 4096)]
        assert 10 < sum(pages) < 54
        assert False in pages[: len(pages) - 1], "a hole before a page that was kept"


@pytest.mark.parametrize(("fault", "number"), [("full", errno.ENOSPC), ("read-only", errno.EROFS)])
def test_a_disk_that_takes_nothing_refuses_until_it_is_healed(
    disk: power.Disk, fault: power.Fault, number: int
) -> None:
    file = disk.path / "file"
    file.write_bytes(b"a")
    disk.fail(fault)
    with pytest.raises(OSError) as refused, file.open("r+b", buffering=0) as opened:
        opened.write(b"b" * 5000)
    assert refused.value.errno == number
    disk.heal()
    file.write_bytes(b"b" * 5000)
    assert file.stat().st_size == 5000


def test_a_sync_that_fails_has_dropped_what_it_should_have_synced(disk: power.Disk) -> None:
    file = disk.path / "file"
    file.write_bytes(b"old")
    sync(file)
    sync(disk.path)
    file.write_bytes(b"new")
    disk.fail("no-sync")
    with pytest.raises(OSError):
        sync(file)
    disk.heal()
    sync(file)
    assert after_a_cut(disk) == {"file": b"old"}
