"""What a backup says of itself: the last member of the archive, and the only one that is trusted to be complete."""

from typing import Literal

import msgspec

from entobot.core.errors import StartupRefused
from entobot.core.unreadable import UNREADABLE

FORMAT = 1
NAME = "manifest.json"
SQLITE_MEMBER = "entobot.db"
POSTGRES_MEMBER = "entobot.dump"

Store = Literal["sqlite", "postgresql"]


class Member(msgspec.Struct, frozen=True):
    """One file; `size` in bytes, `sha256` in hexadecimal."""

    name: str
    size: int
    sha256: str


class AuditHead(msgspec.Struct, frozen=True):
    """Where the audit log ended; `hash` in hexadecimal."""

    log_id: str
    entries: int
    hash: str


class Manifest(msgspec.Struct, frozen=True):
    """`gateway` is the RFC 7638 thumbprint of the key that signs the audit log's heads: who the gateway is.

    `db_schema` is the revision of the store, `tables` the rows of each. `left_out` names what lies in or belongs to the
    data folder and is not in the backup.
    """

    format: int
    made_at_ms: int
    version: str
    gateway: str
    origin: str
    store: Store
    db_schema: str
    tables: dict[str, int]
    audit: AuditHead | None
    members: list[Member]
    left_out: list[str]

    @property
    def size(self) -> int:
        """Bytes of all members."""
        return sum(one.size for one in self.members)


def encode(manifest: Manifest) -> bytes:
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1)


def decode(data: bytes) -> Manifest:
    """Raises StartupRefused."""
    try:
        found = msgspec.json.decode(data, type=Manifest)
    except UNREADABLE as error:
        raise StartupRefused(f"This is no backup of Entobot: its manifest cannot be read ({error}).") from None
    if found.format != FORMAT:
        raise StartupRefused(
            f"This backup has format {found.format}, made by Entobot {found.version}; this version reads {FORMAT}. "
            "Use that version."
        )
    return found


def with_members(manifest: Manifest, members: list[Member]) -> Manifest:
    return msgspec.structs.replace(manifest, members=members)
