"""Write an archive through age, and read one back: streams between two threads, so that size does not matter."""

import io
import os
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

from entobot.backup import age
from entobot.core.errors import StartupRefused

Produce = Callable[[BinaryIO], None]
CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Lock:
    """For whom a backup is sealed: `recipients` (`age1…`), else `passphrase`, else nobody in particular."""

    recipients: tuple[str, ...] = ()
    passphrase: str | None = field(default=None, repr=False)

    @property
    def is_sealed(self) -> bool:
        return bool(self.recipients) or self.passphrase is not None

    def __str__(self) -> str:
        if self.recipients:
            return f"sealed for {', '.join(self.recipients)}"
        return "sealed with a passphrase" if self.is_sealed else "NOT encrypted"


@dataclass(frozen=True, slots=True)
class Opener:
    """What opens a backup; nothing is needed for one that is not encrypted."""

    identities: tuple[age.Identity, ...] = field(default=(), repr=False)
    passphrase: str | None = field(default=None, repr=False)


def seal_to(produce: Produce, target: BinaryIO, lock: Lock) -> Opener:
    """Seal what `produce` writes. Returns what opens it now: nobody may check with a key that stays elsewhere, so a
    key of this call is one more recipient. It is stored nowhere.
    """
    if lock.recipients:
        identity, recipient = age.new_identity()
        recipients = [*age.parse_recipients(lock.recipients), recipient]
        with _produced(produce) as plain:
            age.seal(plain, target, recipients)
        return Opener((identity,))
    if lock.passphrase is None:
        produce(target)
        return Opener()
    held = _Bounded()
    produce(cast("BinaryIO", held))
    target.write(age.seal_with_passphrase(held.getvalue(), lock.passphrase))
    return Opener(passphrase=lock.passphrase)


class _Bounded(io.BytesIO):
    def write(self, data: object, /) -> int:
        if self.tell() > age.MAX_PASSPHRASE_BYTES:
            raise StartupRefused("This is too large for a passphrase, which works in memory. Use --recipient.")
        return super().write(cast("bytes", data))


@contextmanager
def _produced(produce: Produce) -> Generator[BinaryIO]:
    """What `produce` writes in a thread, to be read here. Its error is raised at the end."""
    reading, writing = os.pipe()
    failed: list[BaseException] = []

    def run() -> None:
        with os.fdopen(writing, "wb", CHUNK_BYTES) as stream:
            try:
                produce(stream)
            except BaseException as error:  # noqa: BLE001  it is raised in the thread that asked
                failed.append(error)

    thread = threading.Thread(target=run, name="archive")
    thread.start()
    try:
        with os.fdopen(reading, "rb", CHUNK_BYTES) as stream:
            yield stream
    finally:
        thread.join()
        if failed:
            raise failed[0]


@contextmanager
def unsealed(source: Path, opener: Opener) -> Generator[BinaryIO]:
    """The archive in `source`, as a stream. Raises StartupRefused: without a key for it, and at the end of the block
    when it was not whole. Nothing that was read counts before the block has ended without an error.
    """
    with _open(source) as file:
        if file.read(len(age.MAGIC)) != age.MAGIC:
            file.seek(0)
            yield file
            return
        kind = file.readline(32)
        file.seek(0)
        if kind.startswith(b"-> scrypt "):
            yield io.BytesIO(_with_passphrase(file, source, opener))
            return
        if not opener.identities:
            raise StartupRefused(f"{source} is encrypted for recipients: name the file with the key by --identity.")
        with _decrypted(file, source, opener) as stream:
            yield stream


def _open(source: Path) -> BinaryIO:
    try:
        return source.open("rb")
    except OSError as error:
        raise StartupRefused(f"{source} cannot be read: {error.strerror}.") from None


def _with_passphrase(file: BinaryIO, source: Path, opener: Opener) -> bytes:
    if opener.passphrase is None:
        raise StartupRefused(f"{source} is encrypted with a passphrase: name its file by --passphrase-file.")
    try:
        return age.open_with_passphrase(file.read(), opener.passphrase)
    except age.Damaged as error:
        raise StartupRefused(_not_opened(source, error)) from None


@contextmanager
def _decrypted(file: BinaryIO, source: Path, opener: Opener) -> Generator[BinaryIO]:
    reading, writing = os.pipe()
    failed: list[age.Damaged] = []

    def run() -> None:
        with suppress(BrokenPipeError), os.fdopen(writing, "wb", CHUNK_BYTES) as stream:
            try:
                age.open_sealed(file, stream, list(opener.identities))
            except age.Damaged as error:
                failed.append(error)

    thread = threading.Thread(target=run, name="decrypt")
    thread.start()
    refusal: StartupRefused | None = None
    try:
        with os.fdopen(reading, "rb", CHUNK_BYTES) as stream:
            yield stream
            while stream.read(CHUNK_BYTES):
                pass  # what follows the archive's end is authenticated too
    except StartupRefused as error:
        refusal = error
    finally:
        thread.join()
    # A reader that gave up breaks the pipe, which is no finding; one that was cut short gave up because of this one.
    if failed and "Broken pipe" not in str(failed[0]):
        raise StartupRefused(_not_opened(source, failed[0])) from None
    if refusal is not None:
        raise refusal


def _not_opened(source: Path, error: age.Damaged) -> str:
    if "No matching keys" in str(error):
        return f"{source} is not for this key. Name the identity of a recipient that it was made for."
    return f"{source} cannot be opened ({error}): it was altered, is cut off, or the passphrase is another one."
