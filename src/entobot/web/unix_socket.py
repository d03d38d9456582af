"""The local socket: only this user (or root) may talk to it, and the kernel says who is talking."""

import os
import socket
import ssl
import stat
import struct
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from entobot.core.errors import StartupRefused

MAX_PATH_BYTES = 100
"""The kernel takes 107 (Linux) or 103 (macOS)."""


@dataclass(frozen=True, slots=True)
class LocalPeer:
    uid: int
    pid: int

    @property
    def may_enter(self) -> bool:
        return self.uid in (0, os.geteuid())


def no_tls() -> ssl.SSLContext:
    """For a client's transport at a local socket, which would load all authorities otherwise: most of a command's CPU."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class SocketTaken(StartupRefused):
    code = "address_in_use"


def peer_credentials(connection: socket.socket) -> LocalPeer | None:
    """Who connected, by the kernel's word; None where it does not say."""
    try:
        if sys.platform == "linux":
            pid, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            return LocalPeer(uid=uid, pid=pid)
        if sys.platform == "darwin":
            level, peercred, peerpid = 0, 1, 2  # SOL_LOCAL, LOCAL_PEERCRED, LOCAL_PEERPID of <sys/un.h>
            _, uid = struct.unpack_from("2I", connection.getsockopt(level, peercred, 76))
            (pid,) = struct.unpack("i", connection.getsockopt(level, peerpid, 4))
            return LocalPeer(uid=uid, pid=pid)
    except OSError:
        return None
    return None


@contextmanager
def short_socket_path(path: Path, runtime_dir: Path | None = None) -> Generator[str]:
    """A name of at most 100 bytes for the socket at `path`, good while the context lasts; for bind and for connect.

    A longer path is reached through a link to its folder, in a new private folder under `runtime_dir` (hand in
    XDG_RUNTIME_DIR where there is one) or the temporary folder.
    """
    if len(os.fsencode(path)) <= MAX_PATH_BYTES:
        yield str(path)
        return
    with tempfile.TemporaryDirectory(prefix="entobot-", dir=runtime_dir) as folder:
        link = Path(folder, "d")
        link.symlink_to(path.parent.absolute(), target_is_directory=True)
        short = str(link / path.name)
        if len(os.fsencode(short)) > MAX_PATH_BYTES:
            raise StartupRefused(f"The socket's name {path.name} is too long for this system. Choose a shorter one.")
        yield short


def bind_private(path: Path, *, backlog: int, runtime_dir: Path | None = None) -> socket.socket:
    """A listening socket at `path`, mode 0600 in a folder of mode 0700 (made if missing).

    Raises SocketTaken when somebody listens there. A socket that nobody listens to is replaced.
    """
    _make_private_folder(path.parent)
    with short_socket_path(path, runtime_dir) as short:
        _remove_stale(path, short)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listening.bind(short)
            path.chmod(0o600)  # before listen(): until then nobody can connect
            listening.listen(backlog)
            listening.setblocking(False)
        except OSError as error:
            listening.close()
            raise SocketTaken(f"The local socket {path} cannot be opened: {error.strerror}.") from None
        return listening


def _make_private_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
    if status.st_uid != os.geteuid():
        raise StartupRefused(f"The folder {folder} belongs to another user. The local socket needs one of its own.")
    if stat.S_IMODE(status.st_mode) != 0o700:
        folder.chmod(0o700)


def _remove_stale(path: Path, short: str) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise SocketTaken(f"{path} exists and is not a socket. Move it away.")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(short)
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise SocketTaken(f"The local socket {path} is in use: {error.strerror}.") from None
    raise SocketTaken(f"Another gateway listens on {path}. Stop it first.")
