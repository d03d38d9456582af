"""No step outside the workspace."""

import os
import socket
from pathlib import Path

import pytest

from entobot.agents.workspace import PathRefused, Workspace

SECRET = "pssst"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A workspace with a tempting neighbourhood."""
    root = tmp_path / "ws"
    (root / "sub").mkdir(parents=True)
    (root / "inside.txt").write_text("inside")
    (tmp_path / "secret.txt").write_text(SECRET)
    (tmp_path / "ws-evil").mkdir()
    (tmp_path / "ws-evil" / "x.txt").write_text(SECRET)
    (root / "link.txt").symlink_to(tmp_path / "secret.txt")
    (root / "link-in.txt").symlink_to("inside.txt")
    (root / "link-dir").symlink_to(tmp_path / "ws-evil")
    (root / "dangling").symlink_to(tmp_path / "made-by-write.txt")
    os.link(tmp_path / "secret.txt", root / "hard.txt")
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "sock"))
    return root


@pytest.fixture
def workspace(root: Path) -> Workspace:
    return Workspace(root)


OUT = [
    "",
    ".",
    "..",
    "../secret.txt",
    "../ws-evil/x.txt",
    "sub/../../secret.txt",
    "sub/../inside.txt",
    "./inside.txt",
    "/etc/passwd",
    "//etc/passwd",
    "sub//x",
    "sub/./x",
    "link.txt",
    "link-in.txt",
    "link-dir/x.txt",
    "dangling",
    "fifo",
    "sock",
    "sub",
    "inside.txt/x",
    "hard.txt",
    "a\x00b",
    "x" * 300,
    "/".join(["d"] * 40),
    "\ud800",
]


@pytest.mark.parametrize("path", OUT)
def test_what_leads_out_or_is_no_plain_file_is_not_read(workspace: Workspace, path: str) -> None:
    with pytest.raises(PathRefused) as refusal:
        workspace.read(path, 1000)
    assert SECRET not in str(refusal.value)


@pytest.mark.parametrize("path", [p for p in OUT if p != "hard.txt"])
def test_what_leads_out_or_is_no_plain_file_is_not_written(root: Path, workspace: Workspace, path: str) -> None:
    before = {p.relative_to(root.parent): p.lstat().st_mtime_ns for p in root.parent.rglob("*") if not p.is_dir()}
    with pytest.raises(PathRefused):
        workspace.write(path, b"x")
    after = {p.relative_to(root.parent): p.lstat().st_mtime_ns for p in root.parent.rglob("*") if not p.is_dir()}
    assert after == before


@pytest.mark.parametrize("path", ["link.txt", "dangling", "fifo", "hard.txt", "../secret.txt"])
def test_what_leads_out_is_not_appended_to(root: Path, workspace: Workspace, path: str) -> None:
    with pytest.raises(PathRefused):
        workspace.append(path, b"x")
    assert (root.parent / "secret.txt").read_text() == SECRET
    assert not (root.parent / "made-by-write.txt").exists()


def test_writing_over_a_second_name_of_a_file_outside_leaves_that_file_alone(root: Path, workspace: Workspace) -> None:
    workspace.write("hard.txt", b"new")
    assert (root.parent / "secret.txt").read_text() == SECRET
    assert (root / "hard.txt").read_text() == "new"


@pytest.mark.parametrize("path", ["..", "link-dir", "/", "sub/..", "inside.txt", "fifo"])
def test_only_folders_inside_are_listed(workspace: Workspace, path: str) -> None:
    with pytest.raises(PathRefused):
        workspace.list(path, 10)


def test_a_folder_that_becomes_a_link_meanwhile_is_not_followed(root: Path, workspace: Workspace) -> None:
    (root / "sub").rmdir()
    (root / "sub").symlink_to(root.parent / "ws-evil")
    with pytest.raises(PathRefused):
        workspace.read("sub/x.txt", 1000)
    with pytest.raises(PathRefused):
        workspace.write("sub/new.txt", b"x")
    assert not (root.parent / "ws-evil" / "new.txt").exists()


def test_a_device_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(PathRefused):
        Workspace(Path("/dev")).read("zero", 10)
    with pytest.raises(PathRefused):
        Workspace(Path("/dev")).append("null", b"x")


def test_files_are_written_read_and_listed(root: Path, workspace: Workspace) -> None:
    workspace.write("new/deep/file.txt", b"hello")
    assert workspace.read("new/deep/file.txt", 1000) == b"hello"
    assert (root / "new").stat().st_mode & 0o777 == 0o700
    assert (root / "new/deep/file.txt").stat().st_mode & 0o777 == 0o600
    entries, is_cut = workspace.list("new/deep", 10)
    assert [(e.name, e.kind, e.size_bytes) for e in entries] == [("file.txt", "file", 5)]
    assert not is_cut
    kinds = {entry.name: entry.kind for entry in workspace.list(".", 100)[0]}
    assert kinds["link.txt"] == "link"
    assert kinds["sub"] == "folder"
    assert kinds["fifo"] == "other"


def test_a_rewritten_file_keeps_its_mode_and_leaves_nothing_beside_it(root: Path, workspace: Workspace) -> None:
    (root / "inside.txt").chmod(0o640)
    workspace.write("inside.txt", b"again")
    assert (root / "inside.txt").stat().st_mode & 0o777 == 0o640
    assert not list(root.glob(".*"))


def test_a_file_beyond_the_limit_is_not_read(workspace: Workspace) -> None:
    workspace.write("big.txt", b"x" * 1001)
    with pytest.raises(PathRefused):
        workspace.read("big.txt", 1000)


def test_a_long_folder_is_cut(workspace: Workspace) -> None:
    for number in range(5):
        workspace.write(f"many/{number}", b"")
    entries, is_cut = workspace.list("many", 3)
    assert ([entry.name for entry in entries], is_cut) == (["0", "1", "2"], True)


def test_a_workspace_is_made_private_when_it_is_missing(tmp_path: Path) -> None:
    Workspace(tmp_path / "new").write("a", b"x")
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
