"""Signed checkpoints of the log: C2SP tlog-checkpoint in a C2SP signed note, Ed25519. Pure.

A note is a text, an empty line, and signature lines `— <key name> <base64(key hash ‖ signature)>`.
"""

import base64
import binascii
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from entobot.core.secrets import sha256

ED25519 = b"\1"
MAX_NOTE_CHARACTERS = 65_536
MAX_SIGNATURES = 100
_DASH = "\N{EM DASH} "


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key by its name. Text: `<name>+<8 hexadecimal digits>+<base64(0x01 ‖ key)>`."""

    name: str
    public: bytes

    @property
    def hash(self) -> bytes:
        return sha256(self.name.encode() + b"\n" + ED25519 + self.public)[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.hash.hex()}+{_b64(ED25519 + self.public)}"

    @classmethod
    def parse(cls, text: str) -> "VerifierKey":
        """Raises ValueError for anything that is no Ed25519 verifier key."""
        parts = text.strip().split("+", 2)
        if len(parts) != 3 or not _is_name(parts[0]):
            raise ValueError("a verifier key is <name>+<hash>+<base64>")
        data = _unb64(parts[2])
        if len(data) != 33 or data[:1] != ED25519:
            raise ValueError("not an Ed25519 key")
        key = cls(parts[0], data[1:])
        if key.hash.hex() != parts[1]:
            raise ValueError("the key's hash does not fit it")
        return key

    def verifies(self, text: str, signature: bytes) -> bool:
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text.encode())
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The log `origin` had `size` entries, whose tree has the root `root` (see `tree.Frontier`)."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        return f"{self.origin}\n{self.size}\n{_b64(self.root)}\n"

    @classmethod
    def parse(cls, text: str) -> "Checkpoint":
        """Raises ValueError. Further lines are extensions, which are signed and not looked at."""
        lines = text.split("\n")
        if len(lines) < 4 or lines[-1] or not lines[0] or not lines[1].isascii() or not lines[1].isdecimal():
            raise ValueError("not a checkpoint")
        if str(int(lines[1])) != lines[1] or len(root := _unb64(lines[2])) != 32:
            raise ValueError("not a checkpoint")
        return cls(lines[0], int(lines[1]), root)


def origin_of(log_id: str) -> str:
    """The name of a log and of the key that signs it."""
    return f"entobot/audit/{log_id}"


class NoteSigner:
    """Signs under any name; the name is part of the verifier key."""

    def __init__(self, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)

    def verifier(self, name: str) -> VerifierKey:
        return VerifierKey(name, self._key.public_key().public_bytes_raw())

    def sign(self, checkpoint: Checkpoint) -> str:
        """The signed note. The key has the name of the log."""
        text, key = checkpoint.text(), self.verifier(checkpoint.origin)
        return f"{text}\n{_DASH}{key.name} {_b64(key.hash + self._key.sign(text.encode()))}\n"


def open_note(note: str, key: VerifierKey) -> Checkpoint:
    """The checkpoint that `key` signed. Raises ValueError where it did not. Other signatures are not looked at."""
    if len(note) > MAX_NOTE_CHARACTERS or "\n\n" not in note or not note.endswith("\n"):
        raise ValueError("not a signed note")
    text, _, signatures = note.rpartition("\n\n")
    text += "\n"
    lines = signatures[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise ValueError("too many signatures")
    for line in lines:
        name, separator, encoded = line.removeprefix(_DASH).partition(" ")
        if not line.startswith(_DASH) or not separator or not _is_name(name):
            raise ValueError("not a signed note")
        data = _unb64(encoded)
        if name == key.name and data[:4] == key.hash:
            if not key.verifies(text, data[4:]):
                raise ValueError("the signature is not good")
            checkpoint = Checkpoint.parse(text)
            if checkpoint.origin != key.name:
                raise ValueError("signed for another log")
            return checkpoint
    raise ValueError("not signed by this key")


def split_notes(text: str) -> Iterator[str]:
    """The notes of a file that holds one after the other, with or without empty lines between them."""
    note: list[str] = []
    is_signed = False
    for line in text.replace("\r\n", "\n").split("\n"):
        if is_signed and not line.startswith(_DASH):
            yield "\n".join(note) + "\n"
            note, is_signed = [], False
        if note or line:
            note.append(line)
            is_signed = is_signed or line.startswith(_DASH)
    if note:
        yield "\n".join(note) + "\n"


def open_notes(texts: Iterable[str], key: VerifierKey) -> list[Checkpoint]:
    """Every checkpoint in files of notes. Raises ValueError when one is not signed by `key`."""
    return [open_note(note, key) for text in texts for note in split_notes(text)]


def _is_name(text: str) -> bool:
    return bool(text) and "+" not in text and not any(character.isspace() for character in text)


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _unb64(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("not base64") from error
    if _b64(data) != text:
        raise ValueError("not canonical base64")
    return data
