"""An archive is read as if an enemy had written it: whoever knows the recipient can make one."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from entobot.backup import manifest as manifests
from entobot.backup.archive import Writer, extract
from entobot.backup.manifest import Manifest, Member
from entobot.core.errors import StartupRefused

SAID = Manifest(
    format=1,
    made_at_ms=0,
    version="1",
    gateway="g",
    origin="",
    store="sqlite",
    db_schema="0001",
    tables={},
    audit=None,
    members=[],
    left_out=[],
)
FILES = {"keys/server.key": b"k" * 32, "workspace/a/b.txt": b"note"}

Change = Callable[[tarfile.TarFile], None]


def packed(files: dict[str, bytes] = FILES) -> bytes:
    out = io.BytesIO()
    writer = Writer(out)
    for name, data in files.items():
        writer.add_bytes(name, data)
    writer.finish(manifests.with_members(SAID, writer.members))
    return out.getvalue()


def crafted(change: Change, *, after_manifest: bool = False) -> bytes:
    """A true archive, with something added to it."""
    out = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(packed())) as source,
        tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        if not after_manifest:
            change(tar)
        for info in source:
            tar.addfile(info, source.extractfile(info))
        if after_manifest:
            change(tar)
    return out.getvalue()


def added(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> Change:
    def change(tar: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, link
        tar.addfile(info, io.BytesIO())

    return change


def unpack(data: bytes, folder: Path) -> Manifest:
    folder.mkdir(exist_ok=True)
    return extract(io.BytesIO(data), folder)


def test_what_was_packed_is_unpacked_private_and_is_named_in_the_manifest(tmp_path: Path) -> None:
    manifest = unpack(packed(), tmp_path / "out")
    assert [one.name for one in manifest.members] == list(FILES)
    for name, data in FILES.items():
        assert (tmp_path / "out" / name).read_bytes() == data
        assert (tmp_path / "out" / name).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "change",
    [
        added("../outside"),
        added("keys/../../outside"),
        added("workspace/../../outside"),
        added("/tmp/outside"),
        added("workspace//x"),
        added("workspace/./x"),
        added("workspace"),
        added("other.txt"),
        added(".ssh/authorized_keys"),
        added("keys/link", tarfile.SYMTYPE, "/etc/passwd"),
        added("workspace/link", tarfile.SYMTYPE, ".."),
        added("workspace/hard", tarfile.LNKTYPE, "keys/server.key"),
        added("workspace/pipe", tarfile.FIFOTYPE),
        added("workspace/device", tarfile.CHRTYPE),
        added("workspace/folder", tarfile.DIRTYPE),
        added("manifest.json", tarfile.SYMTYPE, "/etc/passwd"),
    ],
)
def test_members_that_we_never_write_are_refused(tmp_path: Path, change: Change) -> None:
    with pytest.raises(StartupRefused, match=r"not made by|no backup"):
        unpack(crafted(change), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_link_planted_first_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "victim").write_bytes(b"untouched")
    (tmp_path / "out" / "keys").mkdir()
    (tmp_path / "out" / "keys" / "server.key").symlink_to(tmp_path / "victim")
    with pytest.raises(StartupRefused):
        unpack(packed(), tmp_path / "out")
    assert (tmp_path / "victim").read_bytes() == b"untouched"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no whole backup"),
        (b"hello" * 1000, "no whole backup"),
        (packed()[:1500], "no whole backup"),
        (packed()[:2048], "without a manifest"),
        (packed().replace(b"note", b"nota"), "not what its manifest says"),
        (crafted(added("workspace/more")), "not what its manifest says"),
        (crafted(added("keys/server.key")), "twice"),
        (crafted(added("workspace/late"), after_manifest=True), "after its manifest"),
    ],
)
def test_what_is_not_whole_or_was_altered_is_refused(tmp_path: Path, data: bytes, said: str) -> None:
    with pytest.raises(StartupRefused, match=said):
        unpack(data, tmp_path / "out")


def test_a_member_that_is_missing_is_named(tmp_path: Path) -> None:
    out = io.BytesIO()
    writer = Writer(out)
    writer.add_bytes("keys/server.key", b"k")
    told = [*writer.members, Member("entobot.db", 5, "0" * 64)]
    writer.finish(manifests.with_members(SAID, told))
    with pytest.raises(StartupRefused, match=r"entobot\.db"):
        unpack(out.getvalue(), tmp_path / "out")


def test_a_backup_of_another_format_says_which_version_reads_it(tmp_path: Path) -> None:
    with pytest.raises(StartupRefused, match=r"format 2, made by Entobot 1"):
        unpack(packed().replace(b'"format": 1', b'"format": 2'), tmp_path / "out")
