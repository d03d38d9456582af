"""A Merkle tree over the entries' hashes (RFC 9162 §2.1), kept as its frontier. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from entobot.core.secrets import sha256

DIGEST_BYTES = 32
MAX_HASHES = 64


@dataclass(frozen=True, slots=True)
class Frontier:
    """The roots of the complete subtrees that `size` leaves make, largest first: all that growing needs."""

    size: int
    hashes: tuple[bytes, ...]

    def __post_init__(self) -> None:
        if self.size < 0 or len(self.hashes) != self.size.bit_count():
            raise ValueError(f"{len(self.hashes)} hashes are no frontier of {self.size} leaves")
        if any(len(one) != DIGEST_BYTES for one in self.hashes):
            raise ValueError("no SHA-256 digest")

    def grown(self, leaves: Iterable[bytes]) -> "Frontier":
        """With the given leaves behind the present ones."""
        size, hashes = self.size, list(self.hashes)
        for leaf in leaves:
            node, below = sha256(b"\0" + leaf), size
            while below & 1:
                node = sha256(b"\1" + hashes.pop() + node)
                below >>= 1
            hashes.append(node)
            size += 1
        return Frontier(size, tuple(hashes))

    @property
    def root(self) -> bytes:
        """The Merkle tree hash; of no leaves SHA-256 of nothing."""
        if not self.hashes:
            return sha256(b"")
        node = self.hashes[-1]
        for left in reversed(self.hashes[:-1]):
            node = sha256(b"\1" + left + node)
        return node

    def packed(self) -> bytes:
        return b"".join(self.hashes)

    @classmethod
    def unpacked(cls, size: int, data: bytes) -> "Frontier":
        """Inverse of `packed`. Raises ValueError."""
        return cls(size, tuple(data[n : n + DIGEST_BYTES] for n in range(0, len(data), DIGEST_BYTES)))


EMPTY = Frontier(0, ())
