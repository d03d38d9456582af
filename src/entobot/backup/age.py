"""What is used of pyrage, which comes without types: age (age-encryption.org/v1) by recipients or a passphrase."""

from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, NewType, cast

from entobot.core.errors import StartupRefused

MAGIC = b"age-encryption.org/v1\n"
MIN_PASSPHRASE_CHARACTERS = 16
MAX_PASSPHRASE_BYTES = 1024**3
"""Of what a passphrase seals: the library does that in memory."""

Recipient = NewType("Recipient", object)
Identity = NewType("Identity", object)

_age = cast("Any", import_module("pyrage"))


class Damaged(Exception):  # noqa: N818  reads as what was found
    """Not decrypted to its end: altered, cut off, or nothing for these keys."""


def parse_recipients(texts: tuple[str, ...]) -> list[Recipient]:
    """Raises StartupRefused for what is no `age1…`."""
    found: list[Recipient] = []
    for text in texts:
        try:
            found.append(_age.x25519.Recipient.from_str(text.strip()))
        except _age.RecipientError:
            raise StartupRefused(
                f"'{text}' is no age recipient: it begins with age1. 'entobot backup key FILE' makes one."
            ) from None
    return found


def new_identity() -> tuple[Identity, Recipient]:
    made = _age.x25519.Identity.generate()
    return Identity(made), Recipient(made.to_public())


def text_of(key: Identity | Recipient) -> str:
    return str(key)


def read_identities(path: Path) -> list[Identity]:
    """The `AGE-SECRET-KEY-1…` lines of a file. Raises StartupRefused."""
    lines = [line.strip() for line in _read(path).splitlines()]
    found: list[Identity] = []
    for line in lines:
        if line and not line.startswith("#"):
            try:
                found.append(_age.x25519.Identity.from_str(line))
            except _age.IdentityError:
                raise StartupRefused(f"{path} holds a line that is no age identity (AGE-SECRET-KEY-1…).") from None
    if not found:
        raise StartupRefused(f"{path} holds no age identity (AGE-SECRET-KEY-1…).")
    return found


def read_passphrase(path: Path) -> str:
    """The first line of a file. Raises StartupRefused when it is short: it is guessed at away from this gateway."""
    first = (_read(path).splitlines() or [""])[0].strip()
    if len(first) < MIN_PASSPHRASE_CHARACTERS:
        raise StartupRefused(
            f"The passphrase in {path} has {len(first)} characters; {MIN_PASSPHRASE_CHARACTERS} are the least. "
            "Whoever gets the file can guess without limit."
        )
    return first


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise StartupRefused(f"{path} cannot be read ({why}).") from None


def seal(plain: BinaryIO, target: BinaryIO, recipients: list[Recipient]) -> None:
    """From stream to stream."""
    _age.encrypt_io(plain, target, recipients)


def open_sealed(sealed: BinaryIO, target: BinaryIO, identities: list[Identity]) -> None:
    """From stream to stream. Raises Damaged, also after having written a part."""
    try:
        _age.decrypt_io(sealed, target, identities)
    except (_age.DecryptError, OSError) as error:
        raise Damaged(str(error)) from None


def seal_with_passphrase(plain: bytes, passphrase: str) -> bytes:
    return cast("bytes", _age.passphrase.encrypt(plain, passphrase))


def open_with_passphrase(sealed: bytes, passphrase: str) -> bytes:
    """Raises Damaged."""
    try:
        return cast("bytes", _age.passphrase.decrypt(sealed, passphrase))
    except _age.DecryptError as error:
        raise Damaged(str(error)) from None
