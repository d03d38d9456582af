"""The data folder: where everything lies, for its owner alone (folders 0700, files 0600), used by one gateway."""

import fcntl
import json
import os
import stat
import threading
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self, cast

from entobot.core.errors import StartupRefused
from entobot.core.secrets import Entropy

FOLDER_MODE = 0o700
FILE_MODE = 0o600
KEY_BYTES = 32


class Purpose(StrEnum):
    """What a key derived from the server key is for; one key never serves two purposes."""

    API_KEYS = "api keys"
    APPROVAL_CODES = "approval codes"
    AUDIT = "audit"
    AUTHENTICATORS = "authenticators"
    BUS = "bus"
    CURSORS = "cursors"
    DEVICE_CERTIFICATES = "device certificates"
    EDGE = "edge"
    ENROLMENT_KEYS = "enrolment keys"
    IDENTITY = "identity"
    INVITE_CODES = "invite codes"
    MODEL_KEYS = "model keys"
    KNOWN_BROWSERS = "known browsers"
    NOTIFICATION_CODES = "notification codes"
    NOTIFICATION_TOKENS = "notification tokens"
    PASSWORDS = "passwords"
    RECOVERY_CODES = "recovery codes"
    REFRESH_TOKENS = "refresh tokens"
    SESSIONS = "sessions"
    SIGN_IN_CHALLENGES = "sign-in challenges"
    SIGN_IN_LINKS = "sign-in links"
    SIGNING_KEYS = "signing keys"
    SMS = "sms"
    TICKETS = "tickets"
    VAPID = "vapid"


class ServerKeys:
    """Keys of this gateway for keyed digests, 32 bytes each, derived by HKDF-SHA-256 (RFC 5869)."""

    def __init__(self, master: bytes) -> None:
        self._keys = {purpose: _hkdf(master, f"entobot/v1/{purpose}".encode()) for purpose in Purpose}

    def key(self, purpose: Purpose) -> bytes:
        return self._keys[purpose]


class Lock:
    """Holds the data folder until it is released or the process ends, however it ends."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def release(self) -> None:
        """Idempotent."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


class Home:
    """Names of all files and folders. Nothing is touched before `prepare`. Every method blocks: not for the loop."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()

    @property
    def audit(self) -> Path:
        """Closed segments of the audit log; made with the first one."""
        return self.path / "audit"

    @property
    def audit_head(self) -> Path:
        return self.path / "audit.head"

    @property
    def database(self) -> Path:
        return self.path / "entobot.db"

    @property
    def keys(self) -> Path:
        return self.path / "keys"

    @property
    def lock_file(self) -> Path:
        return self.path / "gateway.lock"

    @property
    def restoring(self) -> Path:
        """Where a restore unpacks. As long as it is there, nothing else in this folder counts."""
        return self.path / "restoring"

    @property
    def socket(self) -> Path:
        return self.path / "gateway.sock"

    @property
    def state_file(self) -> Path:
        return self.path / "state.json"

    @property
    def tls(self) -> Path:
        return self.path / "tls"

    @property
    def workspace(self) -> Path:
        return self.path / "workspace"

    def prepare(self) -> list[str]:
        """Make the folders and check who can read what is there. Returns what was tightened, in sentences.

        Sets the umask of the process to 077, so that files that libraries make (the database's) are private from
        their first moment. Raises StartupRefused for keys that others could have read, and for what is not ours.
        """
        os.umask(0o077)
        self.refuse_unfinished()
        said: list[str] = []
        for folder in reversed(self.path.parents):
            if not folder.exists():
                folder.mkdir()
                _sync_folder(folder.parent)
        for folder in (self.path, self.keys, self.tls, self.workspace):
            said += private_folder(folder)
        for file in (*_files(self.keys), *_files(self.tls)):
            _check_private(file, file.stat(follow_symlinks=False))
        for file in _files(self.path):
            said += _tightened(file)
        return said

    def refuse_unfinished(self) -> None:
        """Raises StartupRefused where a restore was interrupted."""
        if self.restoring.exists():
            raise StartupRefused(
                f"A restore into {self.path} was interrupted: what is there is not whole. Run 'entobot restore' again; "
                "it begins anew."
            )

    def lock(self) -> Lock:
        """Take the folder for this process. Raises StartupRefused naming the process that has it."""
        descriptor = os.open(self.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise StartupRefused(
                f"Another gateway (process {holder}) uses {self.path}. Stop it, or set ENTOBOT_HOME to another folder."
            ) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode("ascii"))
        return Lock(descriptor)

    def server_keys(self, entropy: Entropy) -> ServerKeys:
        """The keys of this gateway; the one they come from is made at first start and kept.

        Raises StartupRefused when it is damaged, or lost while there is a database that depends on it.
        """
        path = self.keys / "server.key"
        master = read_private(path)
        if master is None:
            if self.database.exists() and self.database.stat().st_size > 0:
                raise StartupRefused(
                    f"{path} is missing, but there is a database that depends on it. Restore it from the backup. "
                    f"Without one, move {self.database} away too: every device then pairs again."
                )
            create_private(path, entropy.bytes(KEY_BYTES))
            master = read_private(path)
        if master is None or len(master) != KEY_BYTES:
            raise StartupRefused(f"{path} is damaged: it must hold {KEY_BYTES} bytes. Restore it from the backup.")
        return ServerKeys(master)

    def find_public_url(self) -> str | None:
        """The stored origin that phones use."""
        url = self._state().get("public_url")
        return url if isinstance(url, str) and url else None

    def public_url(self, choose: Callable[[], str]) -> str:
        """The stored origin; the first call stores what `choose()` returns."""
        stored = self.find_public_url()
        if stored is None:
            stored = choose()
            state = self._state() | {"public_url": stored}
            write_private(self.state_file, json.dumps(state, indent=2).encode("utf-8") + b"\n")
        return stored

    def _state(self) -> dict[str, object]:
        data = read_private(self.state_file)
        if data is None:
            return {}
        try:
            state: object = json.loads(data)
        except ValueError:
            state = None
        if not isinstance(state, dict):
            raise StartupRefused(f"{self.state_file} is damaged. Restore it, or delete it to choose anew.")
        return cast("dict[str, object]", state)


def read_private(path: Path) -> bytes | None:
    """The file's bytes, None when there is no such file.

    Raises StartupRefused when it is no regular file of this user, or when others could read or write it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StartupRefused(f"{path} cannot be read: {error.strerror}.") from None
    with os.fdopen(descriptor, "rb") as file:
        _check_private(path, os.fstat(descriptor))
        return file.read()


def write_private(path: Path, data: bytes) -> None:
    """Replace the file: after a crash there is the old or the new one, whole, and never readable by others."""
    temporary = _write_beside(path, data)
    temporary.replace(path)
    _sync_folder(path.parent)


def create_private(path: Path, data: bytes) -> bool:
    """Like `write_private`, but a file that is there stays. Of several callers at once exactly one is told True."""
    temporary = _write_beside(path, data)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink()
    _sync_folder(path.parent)
    return True


def _write_beside(path: Path, data: bytes) -> Path:
    # The folder is ours alone, so a name of this thread is enough; what a crash left under it is overwritten.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
    except OSError:
        temporary.unlink()
        raise
    return temporary


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def private_folder(folder: Path) -> list[str]:
    """Make sure that the folder is there, for its owner alone. Returns what was tightened, in sentences."""
    try:
        folder.mkdir(mode=FOLDER_MODE)
        _sync_folder(folder.parent)
    except FileExistsError:
        if not folder.is_dir():
            raise StartupRefused(f"{folder} is no folder. Move it away.") from None
    except OSError as error:
        raise StartupRefused(f"{folder} cannot be made: {error.strerror}.") from None
    status = folder.stat()
    _check_owner(folder, status)
    return _tighten(folder, status, FOLDER_MODE)


def _tightened(file: Path) -> list[str]:
    status = file.stat(follow_symlinks=False)
    _check_owner(file, status)
    return _tighten(file, status, FILE_MODE)


def _tighten(path: Path, status: os.stat_result, mode: int) -> list[str]:
    present = stat.S_IMODE(status.st_mode)
    if not present & 0o077:
        return []
    path.chmod(present & mode)
    return [f"{path} was open to others (mode {present:04o}); it is now {present & mode:04o}."]


def _check_private(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise StartupRefused(f"{path} is no regular file.")
    _check_owner(path, status)
    if status.st_mode & 0o077:
        raise StartupRefused(
            f"{path} is open to others (mode {stat.S_IMODE(status.st_mode):04o}). "
            f"If nobody else can have read it: chmod 600 '{path}'. Else replace it."
        )


def _check_owner(path: Path, status: os.stat_result) -> None:
    if status.st_uid != os.geteuid():
        raise StartupRefused(
            f"{path} belongs to user {status.st_uid}, and the gateway runs as user {os.geteuid()}. "
            "Run it as the owner, or change the owner."
        )


def _files(folder: Path) -> list[Path]:
    """Regular files and links to them; sockets are made anew by whoever listens on them."""
    return sorted(path for path in folder.iterdir() if path.is_file())


def _hkdf(master: bytes, label: bytes) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=label).derive(master)
