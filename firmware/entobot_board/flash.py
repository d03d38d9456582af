"""Files and folders on flash, for the slots."""

import hashlib
import os

from .pin import base64url
from .settings import BLOCK_BYTES

PIECE_BYTES = 512


def digest(path: str, between) -> str:
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while True:
            some = file.read(PIECE_BYTES)
            if not some:
                return base64url(found.digest())
            found.update(some)
            between()


def size_of(path: str) -> int:
    try:
        return os.stat(path)[6]
    except OSError:
        return 0


def blocks(size: int) -> int:
    """Bytes of flash that a file of `size` takes."""
    return (size + BLOCK_BYTES - 1) // BLOCK_BYTES * BLOCK_BYTES


def taken(folder: str) -> int:
    """Bytes of flash that the files in it take."""
    try:
        return sum([blocks(size_of(folder + "/" + name)) for name in os.listdir(folder)])
    except OSError:
        return 0


def make_folders(path: str, since: int) -> None:
    """All that `path` lies in, below its first `since` characters."""
    at = path.find("/", since)
    while at >= 0:
        try:
            os.mkdir(path[:at])
        except OSError:
            pass  # it is there
        at = path.find("/", at + 1)


def wipe(path: str) -> None:
    """A file, or a folder with all that is in it; nothing where nothing is."""
    try:
        if os.stat(path)[0] & 0x4000:
            for name in os.listdir(path):
                wipe(path + "/" + name)
            os.rmdir(path)
        else:
            os.remove(path)
    except OSError:
        pass


def room(folder: str) -> int:
    """Bytes that are free; where nobody knows, enough."""
    if not hasattr(os, "statvfs"):
        return 1 << 30
    found = os.statvfs(folder)
    return found[0] * found[3]
