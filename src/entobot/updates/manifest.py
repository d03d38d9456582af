"""What a release is: a signed manifest and the files that it names, in one blob. Pure.

    line 1   entobot-release-1
    line 2   {"manifest": "<JSON text>", "key": "<public key>", "signature": "<Ed25519>"}
    then     the files' bytes, in the manifest's order

The two lines are the envelope. What is signed is `signed_bytes`, short whatever the manifest holds: a board computes
SHA-512 by hand.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

from entobot.core.secrets import b64u, sha256, unb64u

MAGIC = b"entobot-release-1\n"
MAX_RELEASE_BYTES = 1024 * 1024
"""A board's flash has room for two of them."""
MAX_MANIFEST_BYTES = 4096
"""A board reads it as a whole."""
MAX_ENVELOPE_BYTES = 6144
MAX_FILES = 32
MAX_COUNTER = 2**53 - 1
PROGRAM = "main.py"
_PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}(/[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}){0,3}")
_TYPE = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_VERSION = re.compile(r"(0|[1-9]\d{0,4})\.(0|[1-9]\d{0,4})\.(0|[1-9]\d{0,4})(-[0-9A-Za-z.-]{1,20})?")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z")
_KEPT = frozenset({"release.json", "settings.json", "credentials.json", "commands.json", "update.json", "slot.json"})
"""What a board itself keeps, or a secret; no release has a file of this name at its top."""


class Malformed(Exception):  # noqa: N818  reads as what happened
    """This is no release, or none that a board can take. The text says what is wrong; it may be shown."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """`sha256` as base64url."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """`counter` only grows: a board refuses what has a lower one than it has run. `minimum_version` is what a board must
    run already; empty: anything. `expires` is when boards stop taking it; empty: never.
    """

    type: str
    version: str
    counter: int
    created: str
    files: tuple[FileEntry, ...]
    minimum_version: str = ""
    expires: str = ""

    @property
    def size(self) -> int:
        """Of the files, in bytes."""
        return sum(one.size for one in self.files)

    def to_text(self) -> str:
        """The exact text that is hashed and signed."""
        return json.dumps({"format": 1} | asdict(self), separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Envelope:
    """`text` is the manifest as it was signed; `key` the raw public key that is said to have signed it."""

    manifest: Manifest
    text: str
    key: bytes
    signature: bytes
    size: int
    """Of the envelope itself, in bytes; the files begin there."""


def version_of(text: str) -> tuple[int, int, int]:
    """Raises Malformed. What comes before a release (1.0.0-beta) counts as the release itself."""
    found = _VERSION.fullmatch(text)
    if found is None:
        raise Malformed(f"'{text[:40]}' is no version: it has three numbers, as in 1.2.0, and perhaps -beta.1.")
    return int(found[1]), int(found[2]), int(found[3])


def signed_bytes(text: str) -> bytes:
    """What the signature is over: a manifest's digest, of this purpose and no other."""
    return MAGIC + sha256(text.encode())


def check_path(path: str) -> str:
    """Below the board's slot, whatever file system it has. Raises Malformed."""
    if _PATH.fullmatch(path) is None or path.endswith(".") or "./" in path or ".." in path:
        raise Malformed(
            f"'{path[:80]}' cannot be a file of a release: letters, digits, _ . and -, four folders deep at most, "
            "nothing that begins or ends with a dot."
        )
    if path.lower() in _KEPT:
        raise Malformed(f"'{path}' is what a board keeps for itself. Take it out of the folder.")
    return path


def check(manifest: Manifest) -> Manifest:
    """Raises Malformed."""
    if _TYPE.fullmatch(manifest.type) is None:
        raise Malformed("A type has 1 to 32 of a to z, 0 to 9, _ and -, and begins with a letter.")
    version_of(manifest.version)
    if manifest.minimum_version:
        version_of(manifest.minimum_version)
    if not 0 < manifest.counter <= MAX_COUNTER:
        raise Malformed("The counter is a whole number from 1 on.")
    for name, time in (("created", manifest.created), ("expires", manifest.expires or manifest.created)):
        if _TIME.fullmatch(time) is None:
            raise Malformed(f"'{name}' is a time in UTC, as in 2026-11-20T09:30:00Z.")
    _check_files(manifest.files)
    if len(manifest.to_text().encode()) > MAX_MANIFEST_BYTES:
        raise Malformed(f"The manifest has more than {MAX_MANIFEST_BYTES} bytes. Fewer files, or shorter names.")
    return manifest


def _check_files(files: Sequence[FileEntry]) -> None:
    if not 0 < len(files) <= MAX_FILES:
        raise Malformed(f"A release has 1 to {MAX_FILES} files; this one has {len(files)}.")
    paths = [check_path(one.path).lower() for one in files]
    if PROGRAM not in paths:
        raise Malformed(f"There is no {PROGRAM} at the top: that is what a board starts.")
    if len(set(paths)) != len(paths):
        raise Malformed("Two files have the same name, but for capitals.")
    if any(path.startswith(f"{other}/") for path in paths for other in paths):
        raise Malformed("A file and a folder have the same name.")
    for one in files:
        try:
            is_digest = len(unb64u(one.sha256)) == 32
        except ValueError:
            is_digest = False
        if not is_digest or one.size < 0:
            raise Malformed(f"'{one.path}' has no size or no SHA-256.")
    if sum(one.size for one in files) + MAX_ENVELOPE_BYTES > MAX_RELEASE_BYTES:
        raise Malformed(f"The files have more than {MAX_RELEASE_BYTES // 1024} KiB together.")


def envelope_bytes(text: str, key: bytes, signature: bytes) -> bytes:
    said = {"manifest": text, "key": b64u(key), "signature": b64u(signature)}
    return MAGIC + json.dumps(said, separators=(",", ":")).encode() + b"\n"


def read_release(data: bytes) -> Envelope:
    """The envelope of a whole release, whose files are as the manifest says. The signature is for the caller to check.

    Raises Malformed.
    """
    if len(data) > MAX_RELEASE_BYTES:
        raise Malformed(f"A release has {MAX_RELEASE_BYTES // 1024} KiB at most.")
    envelope = read_envelope(data)
    if envelope.size + envelope.manifest.size != len(data):
        raise Malformed("The release is longer or shorter than its manifest says.")
    at = envelope.size
    for one in envelope.manifest.files:
        if b64u(sha256(data[at : at + one.size])) != one.sha256:
            raise Malformed(f"'{one.path}' is not what the manifest says.")
        at += one.size
    return envelope


def read_envelope(data: bytes) -> Envelope:
    """Raises Malformed."""
    if not data.startswith(MAGIC):
        raise Malformed("This is no release: 'entobot updates sign' makes one.")
    end = data.find(b"\n", len(MAGIC), MAX_ENVELOPE_BYTES)
    said = _strings(data[len(MAGIC) : end] if end >= 0 else b"", {"manifest", "key", "signature"})
    try:
        key, signature = unb64u(said["key"]), unb64u(said["signature"])
    except ValueError:
        raise Malformed("The envelope's key or signature is no base64url.") from None
    if len(key) != 32 or len(signature) != 64:
        raise Malformed("The envelope's key or signature is of the wrong length.")
    return Envelope(read_manifest(said["manifest"]), said["manifest"], key, signature, end + 1)


def read_manifest(text: str) -> Manifest:
    """Raises Malformed."""
    found = _object(text.encode())
    known = {"format", "type", "version", "counter", "created", "files", "minimum_version", "expires"}
    if set(found) != known or found["format"] != 1:
        raise Malformed("The manifest is of another format.")
    files = found["files"]
    if not isinstance(files, list) or len(cast("list[Any]", files)) > MAX_FILES:
        raise Malformed(f"A release has 1 to {MAX_FILES} files.")
    words = ("type", "version", "created", "minimum_version", "expires")
    counter = found["counter"]
    if not all(isinstance(found[word], str) for word in words) or not _is_whole(counter):
        raise Malformed("The manifest holds something of the wrong kind.")
    entries = tuple(_entry(one) for one in cast("list[Any]", files))
    return check(Manifest(counter=counter, files=entries, **{word: str(found[word]) for word in words}))


def _entry(found: Any) -> FileEntry:
    if not isinstance(found, dict):
        raise Malformed("A file of the manifest is no object.")
    members = cast("dict[str, Any]", found)
    if set(members) != {"path", "size", "sha256"} or not _is_whole(members["size"]):
        raise Malformed("A file of the manifest has a path, a size and a SHA-256.")
    if not isinstance(members["path"], str) or not isinstance(members["sha256"], str):
        raise Malformed("A file of the manifest has a path, a size and a SHA-256.")
    return FileEntry(members["path"], members["size"], members["sha256"])


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _strings(data: bytes, known: set[str]) -> Mapping[str, str]:
    found = _object(data)
    if set(found) != known or not all(isinstance(one, str) for one in found.values()):
        raise Malformed("The envelope is not whole.")
    return found


def _object(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise Malformed("The release holds no JSON where it should.") from None
    if not isinstance(found, dict):
        raise Malformed("The release holds no JSON object where it should.")
    return cast("dict[str, Any]", found)
