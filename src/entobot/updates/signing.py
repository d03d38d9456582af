"""Release keys (Ed25519, RFC 8032) and signed releases. `make_key` and `sign_folder` need no gateway."""

import os
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from entobot.core.secrets import b64u, sha256
from entobot.updates.manifest import (
    MAX_FILES,
    MAX_RELEASE_BYTES,
    Envelope,
    FileEntry,
    Malformed,
    Manifest,
    check,
    check_path,
    envelope_bytes,
    signed_bytes,
)

_ORDER = 2**252 + 27742317777372353535851937790883648493
_PRIME = 2**255 - 19


def make_key(file: Path) -> str:
    """A new key in a file of its own, mode 0600. The public key, base64url. Raises FileExistsError."""
    key = Ed25519PrivateKey.generate()
    while public_text(key).startswith("-"):  # at a command line it would be an option
        key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as opened:
        opened.write(pem)
    return public_text(key)


def read_key(file: Path) -> Ed25519PrivateKey:
    """Raises Malformed."""
    try:
        key = load_pem_private_key(file.read_bytes(), None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise Malformed(f"{file} is no release key: 'entobot updates keygen' makes one.")
    return key


def public_text(key: Ed25519PrivateKey) -> str:
    return b64u(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))


def files_of(folder: Path) -> list[tuple[str, bytes]]:
    """What a release of this folder holds, by path. Hidden files and caches are left out. Raises Malformed."""
    found: list[tuple[str, bytes]] = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if any(part.startswith(".") or part == "__pycache__" for part in name.split("/")):
            continue
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise Malformed(f"'{name}' is a link, or no plain file. A release holds plain files.")
        if path.is_dir():
            continue
        if len(found) >= MAX_FILES or path.stat().st_size > MAX_RELEASE_BYTES:
            raise Malformed(f"A release has {MAX_FILES} files and {MAX_RELEASE_BYTES // 1024} KiB at most.")
        found.append((check_path(name), path.read_bytes()))
    return found


def make_release(files: list[tuple[str, bytes]], key: Ed25519PrivateKey, **said: str | int) -> bytes:
    """`said` are the other members of the manifest. Raises Malformed."""
    entries = tuple(FileEntry(path, len(data), b64u(sha256(data))) for path, data in files)
    manifest = check(Manifest(files=entries, **said))  # pyright: ignore[reportArgumentType]  the names are the manifest's
    text = manifest.to_text()
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    head = envelope_bytes(text, public, key.sign(signed_bytes(text)))
    return head + b"".join(data for _, data in files)


def is_signed(envelope: Envelope) -> bool:
    """By the key that it names: whether that key is trusted is another question. As strict as the boards: one signature
    has one form.
    """
    if not is_usable_key(envelope.key) or int.from_bytes(envelope.signature[32:], "little") >= _ORDER:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(envelope.key).verify(envelope.signature, signed_bytes(envelope.text))
    except (InvalidSignature, ValueError):
        return False
    return True


def is_usable_key(key: bytes) -> bool:
    """A public key in its one form, and none of the few points for which anybody can make signatures."""
    y = int.from_bytes(key, "little") & ((1 << 255) - 1)
    return len(key) == 32 and y < _PRIME and y not in _SMALL_ORDER_Y


_SMALL_ORDER_Y = frozenset(
    {
        0,
        1,
        _PRIME - 1,
        2707385501144840649318225287225658788936804267575313519463743609750303402022,
        55188659117513257062467267217118295137698188065244968500265048394206261417927,
    }
)
"""Of the eight points whose order divides 8; two of them have y = 0, and four the last two values."""
